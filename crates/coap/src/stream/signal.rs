//! Signals (RFC 8323 section 5): what the two ends of a stream tell each other
//! about the stream itself.
//!
//! Knows what each signal says, not what is done about it.

use bytes::Bytes;

use super::frame::Frame;
use crate::message::{Code, OptionNumber, Options, OptionsBuilder, Token, uint};

/// Capabilities and Settings (section 5.3).
pub const CSM: Code = Code::new(7, 1);
/// Section 5.4.
pub const PING: Code = Code::new(7, 2);
/// Section 5.4.
pub const PONG: Code = Code::new(7, 3);
/// Section 5.5.
pub const RELEASE: Code = Code::new(7, 4);
/// Section 5.6.
pub const ABORT: Code = Code::new(7, 5);

/// In a CSM (section 5.3.1).
pub const MAX_MESSAGE_SIZE: OptionNumber = OptionNumber(2);
/// In a CSM (section 5.3.2).
pub const BLOCK_WISE_TRANSFER: OptionNumber = OptionNumber(4);
/// In a Ping and a Pong (section 5.4.1).
pub const CUSTODY: OptionNumber = OptionNumber(2);
/// In an Abort (section 5.6).
pub const BAD_CSM_OPTION: OptionNumber = OptionNumber(2);

/// The longest message that everyone takes who says nothing else, in bytes; who
/// takes longer ones and knows blocks takes BERT blocks too (sections 5.3.1 and
/// 5.3.2).
pub const BASE_MESSAGE_BYTES: usize = 1152;

/// The least Max-Message-Size with which a peer is served, in bytes: an error
/// without words must fit, and blocks of 16 bytes with a few options.
pub const MESSAGE_BYTES_MIN: usize = 64;

/// What a peer has told of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capabilities {
    /// The longest message that it takes, in bytes.
    pub(crate) message_bytes_max: usize,
    /// Whether it says that it knows blocks.
    pub(crate) block_wise: bool,
}

/// An option of a signal that keeps a stream from going on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum BadOption {
    #[error("the critical option {0} of a signal is not known")]
    Unknown(OptionNumber),
    #[error(
        "a Max-Message-Size of {0} is too small to be served, the least is {MESSAGE_BYTES_MIN}"
    )]
    TooSmall(u32),
}

impl BadOption {
    fn number(self) -> OptionNumber {
        match self {
            BadOption::Unknown(number) => number,
            BadOption::TooSmall(_) => MAX_MESSAGE_SIZE,
        }
    }
}

impl Capabilities {
    /// Before a peer has told anything.
    pub(crate) const BASE: Capabilities =
        Capabilities { message_bytes_max: BASE_MESSAGE_BYTES, block_wise: false };

    /// Takes what a CSM tells; what it does not tell stays as it was. Values of a
    /// length that they must not have are ignored, as all that is elective and not
    /// understood (RFC 7252 section 5.4.3).
    pub(crate) fn learn(&mut self, options: &Options) -> Result<(), BadOption> {
        if let Some(bytes) = options.get(MAX_MESSAGE_SIZE).and_then(uint) {
            self.message_bytes_max = bytes as usize;
            if self.message_bytes_max < MESSAGE_BYTES_MIN {
                return Err(BadOption::TooSmall(bytes));
            }
        }
        self.block_wise |= options.get(BLOCK_WISE_TRANSFER).is_some_and(<[u8]>::is_empty);
        Ok(())
    }

    /// Whether it takes BERT blocks unasked.
    pub(crate) fn bert(self) -> bool {
        self.block_wise && self.message_bytes_max > BASE_MESSAGE_BYTES
    }
}

/// Looks for options of a signal that must be known and are not. No RFC defines a
/// critical one so far.
pub(crate) fn check(options: &Options) -> Result<(), BadOption> {
    match options.iter().find(|(number, _)| number.is_critical()) {
        Some((number, _)) => Err(BadOption::Unknown(number)),
        None => Ok(()),
    }
}

/// What this end tells of itself.
pub(crate) fn capabilities(message_bytes_max: usize) -> Frame {
    let mut options = OptionsBuilder::new();
    options.push_uint(MAX_MESSAGE_SIZE, u32::try_from(message_bytes_max).unwrap_or(u32::MAX));
    options.push(BLOCK_WISE_TRANSFER, &[]).expect("it is short");
    Frame { options: options.build(), ..Frame::new(CSM) }
}

/// The answer to a Ping with this token.
pub(crate) fn pong(token: Token, custody: bool) -> Frame {
    let mut options = OptionsBuilder::new();
    if custody {
        options.push(CUSTODY, &[]).expect("it is short");
    }
    Frame { token, options: options.build(), ..Frame::new(PONG) }
}

/// An Abort that says why, for people.
pub(crate) fn abort(why: Bytes) -> Frame {
    Frame { payload: why, ..Frame::new(ABORT) }
}

/// The Abort that answers an option.
pub(crate) fn abort_for(signal: Code, bad: BadOption) -> Frame {
    let mut options = OptionsBuilder::new();
    if signal == CSM {
        options.push_uint(BAD_CSM_OPTION, u32::from(bad.number().0));
    }
    Frame { options: options.build(), ..abort(bad.to_string().into()) }
}
