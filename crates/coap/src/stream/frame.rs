//! The codec of RFC 8323 section 3.2: a stream's bytes to messages and back. There
//! is no type, no message ID and no version; a length stands before each message.
//!
//! Knows the format, not what any code or option means.

use bytes::{Bytes, BytesMut};

use crate::message::{Code, Malformed, Options, PAYLOAD_MARKER, Token, tail};

/// What the lengths 13, 14 and 15 in four bits add to the bytes that follow.
const EXTENDED: [u64; 3] = [13, 269, 65_805];

/// A message on a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Method, outcome, signal or 0.00.
    pub code: Code,
    /// Ties responses to requests, and Pongs to Pings.
    pub token: Token,
    /// Its options, in order; what their numbers mean depends on the code
    /// (RFC 8323 section 5.2).
    pub options: Options,
    /// What it carries; empty for no payload.
    pub payload: Bytes,
}

/// Why a stream's bytes are no message. Nothing that follows them can be read
/// either.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// It is longer than was announced to be taken (RFC 8323 section 5.3.1).
    #[error("a message has {bytes} bytes, the longest taken here has {bytes_max}")]
    TooLong {
        /// How long it would be.
        bytes: u64,
        /// The longest that is taken.
        bytes_max: usize,
    },
    /// It has not the format of a message.
    #[error("a message cannot be read: {0}")]
    Malformed(Malformed),
}

/// What a stream's bytes begin with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// A whole message, which is taken away.
    Frame(Frame),
    /// A part of a message; at least so many bytes are missing.
    Missing(usize),
}

/// What stands before the options.
struct Head {
    code: Code,
    token_bytes: usize,
    /// Where the token begins.
    token_at: usize,
    /// The length of the whole message.
    bytes: u64,
}

impl Head {
    /// Reads the bytes before a token; none if they are not all there yet.
    fn read(input: &[u8]) -> Result<Option<Head>, FrameError> {
        let Some((&first, rest)) = input.split_first() else {
            return Ok(None);
        };
        let token_bytes = first & 0x0f;
        if usize::from(token_bytes) > Token::BYTES_MAX {
            return Err(FrameError::Malformed(Malformed::TokenLength(token_bytes)));
        }
        let short = u64::from(first >> 4);
        let (extended, add) = match short {
            13 => (1, EXTENDED[0]),
            14 => (2, EXTENDED[1]),
            15 => (4, EXTENDED[2]),
            _ => (0, short),
        };
        let Some((extension, rest)) = rest.split_at_checked(extended) else {
            return Ok(None);
        };
        let Some(code) = rest.first() else {
            return Ok(None);
        };
        let extension = extension.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let token_at = 2 + extended;
        Ok(Some(Head {
            code: Code::from_byte(*code),
            token_bytes: usize::from(token_bytes),
            token_at,
            bytes: (token_at + usize::from(token_bytes)) as u64 + extension + add,
        }))
    }
}

impl Frame {
    /// Takes a message from the front of `input`, if a whole one of at most
    /// `bytes_max` bytes is there. Its options and payload share the memory of
    /// `input`.
    ///
    /// # Errors
    /// As soon as the bytes that are there say that no message can come of them.
    pub fn take(input: &mut BytesMut, bytes_max: usize) -> Result<Taken, FrameError> {
        let Some(head) = Head::read(input)? else {
            return Ok(Taken::Missing(1));
        };
        if head.bytes > bytes_max as u64 {
            return Err(FrameError::TooLong { bytes: head.bytes, bytes_max });
        }
        let bytes = head.bytes as usize;
        if input.len() < bytes {
            return Ok(Taken::Missing(bytes - input.len()));
        }
        let frame = input.split_to(bytes).freeze();
        let rest = head.token_at + head.token_bytes;
        let token = Token::new(&frame[head.token_at..rest]).expect("its length was looked at");
        let (options, payload) = match frame.len() - rest {
            0 => (Options::EMPTY, Bytes::new()),
            _ => tail(frame.slice(rest..)).map_err(FrameError::Malformed)?,
        };
        Ok(Taken::Frame(Frame { code: head.code, token, options, payload }))
    }

    /// A message of this code without anything more.
    #[must_use]
    pub fn new(code: Code) -> Frame {
        Frame { code, token: Token::EMPTY, options: Options::EMPTY, payload: Bytes::new() }
    }

    /// The bytes of this message up to its payload, which is to follow as it is.
    ///
    /// # Panics
    /// If options and payload have more than 4 GiB together.
    #[must_use]
    pub fn encode_head(&self) -> Bytes {
        let (token, options) = (self.token.as_slice(), self.options.as_encoded());
        let length = self.length() as u64;
        let mut bytes = Vec::with_capacity(7 + token.len() + options.len());
        let short = match EXTENDED.iter().rposition(|least| length >= *least) {
            None => length as u8,
            Some(at) => 13 + at as u8,
        };
        bytes.push(short << 4 | token.len() as u8);
        match short {
            13 => bytes.push((length - EXTENDED[0]) as u8),
            14 => bytes.extend_from_slice(&((length - EXTENDED[1]) as u16).to_be_bytes()),
            15 => {
                let length = u32::try_from(length - EXTENDED[2]).expect("it is below 4 GiB");
                bytes.extend_from_slice(&length.to_be_bytes());
            }
            _ => {}
        }
        bytes.push(self.code.byte());
        bytes.extend_from_slice(token);
        bytes.extend_from_slice(options);
        if !self.payload.is_empty() {
            bytes.push(PAYLOAD_MARKER);
        }
        bytes.into()
    }

    /// How long this message is on a stream, in bytes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let length = self.length();
        let extended = match EXTENDED.iter().rposition(|least| length as u64 >= *least) {
            None => 0,
            Some(at) => 1 << at,
        };
        2 + extended + self.token.as_slice().len() + length
    }

    /// The length of options, marker and payload.
    fn length(&self) -> usize {
        let marker = usize::from(!self.payload.is_empty());
        self.options.as_encoded().len() + marker + self.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{OptionNumber, OptionsBuilder};
    use proptest::prelude::*;

    fn whole(frame: &Frame) -> Vec<u8> {
        [&frame.encode_head()[..], &frame.payload].concat()
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let options =
            prop::collection::vec((0u16.., prop::collection::vec(any::<u8>(), 0..20)), 0..4);
        // The lengths around which the form of the header changes, and others.
        let lengths = prop_oneof![0usize..300, 65_780usize..65_830];
        let token = prop::collection::vec(any::<u8>(), 0..=8);
        (any::<u8>(), token, options, lengths).prop_map(|(code, token, options, length)| {
            let mut builder = OptionsBuilder::new();
            for (number, value) in &options {
                builder.push(OptionNumber(*number), value).unwrap();
            }
            Frame {
                code: Code::from_byte(code),
                token: Token::new(&token).unwrap(),
                options: builder.build(),
                payload: vec![code; length].into(),
            }
        })
    }

    proptest! {
        /// Whatever pieces it arrives in, and whatever stands around it.
        #[test]
        fn what_is_written_is_read(
            written in prop::collection::vec(frames(), 1..4),
            pieces in prop::collection::vec(1usize..40_000, 1..6),
        ) {
            let bytes: Vec<u8> = written.iter().flat_map(whole).collect();
            let lengths: usize = written.iter().map(Frame::encoded_bytes).sum();
            prop_assert_eq!(bytes.len(), lengths);
            let (mut input, mut read, mut rest) = (BytesMut::new(), Vec::new(), &bytes[..]);
            let mut pieces = pieces.iter().cycle();
            loop {
                match Frame::take(&mut input, 1 << 17).unwrap() {
                    Taken::Frame(frame) => read.push(frame),
                    Taken::Missing(missing) => {
                        if rest.is_empty() {
                            break;
                        }
                        // Never more than what there is to come.
                        prop_assert!(missing <= rest.len());
                        let (piece, later) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                        input.extend_from_slice(piece);
                        rest = later;
                    }
                }
            }
            prop_assert_eq!(read, written);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Taken::Frame(frame)) = Frame::take(&mut input, 64) {
                prop_assert!(frame.encoded_bytes() <= 64);
            }
        }
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let check = |bytes: &[u8], code, token: &[u8]| {
            let mut input = BytesMut::from(bytes);
            let token = Token::new(token).unwrap();
            let frame = Frame { token, ..Frame::new(code) };
            assert_eq!(Frame::take(&mut input, 64), Ok(Taken::Frame(frame.clone())));
            assert_eq!(whole(&frame), bytes);
        };
        check(&[0x01, 0x43, 0x7f], Code::VALID, &[0x7f]);
        check(&[0x01, 0xe2, 0x42], Code::new(7, 2), &[0x42]);
        check(&[0, 0], Code::EMPTY, &[]);
    }

    #[test]
    fn what_cannot_be_a_message_is_told_early() {
        let check = |bytes: &[u8], expected| {
            let mut input = BytesMut::from(bytes);
            assert_eq!(Frame::take(&mut input, 100), expected, "{bytes:?}");
        };
        let malformed = |fault| Err(FrameError::Malformed(fault));
        check(&[], Ok(Taken::Missing(1)));
        check(&[0x09], malformed(Malformed::TokenLength(9)));
        check(&[0x0f], malformed(Malformed::TokenLength(15)));
        check(&[0xd0], Ok(Taken::Missing(1)));
        check(&[0xd0, 84], Ok(Taken::Missing(1)));
        check(&[0xd0, 84, 1], Ok(Taken::Missing(97)));
        check(&[0xd0, 85, 1], Err(FrameError::TooLong { bytes: 101, bytes_max: 100 }));
        check(&[0xd1, 84, 1], Err(FrameError::TooLong { bytes: 101, bytes_max: 100 }));
        let longest = u64::from(u32::MAX) + 65_805 + 6 + 8;
        let too_long = Err(FrameError::TooLong { bytes: longest, bytes_max: 100 });
        check(&[0xf8, 255, 255, 255, 255, 1], too_long);
        check(&[0x10, 1, 0xff], malformed(Malformed::Payload));
        check(&[0x10, 1, 0xf0], malformed(Malformed::OptionHeader));
        check(&[0x10, 1, 0x0f], malformed(Malformed::OptionHeader));
        check(&[0x10, 1, 0x01], malformed(Malformed::Option));
        check(&[0x60, 1, 0xe0, 0xff, 0xff, 0xe0, 0xff, 0xff], malformed(Malformed::OptionNumber));
    }
}
