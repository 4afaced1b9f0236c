//! The codec of RFC 7252 section 3: a datagram to a message and back. Options and
//! payload of what is read are slices of the datagram.
//!
//! Knows the format and which of a request's options and methods can be served,
//! not what any of them asks for.

mod code;
mod options;

use std::fmt;

use bytes::Bytes;

pub use code::Code;
pub use options::{
    OPTION_VALUE_BYTES_MAX, OptionIter, OptionNumber, OptionTooLong, Options, OptionsBuilder, uint,
};

use options::OptionFault;

/// Stands before a payload (RFC 7252 section 3).
pub(crate) const PAYLOAD_MARKER: u8 = 0xff;

/// Bytes before token, options and payload.
const HEADER_BYTES: usize = 4;

/// The type of a message (RFC 7252 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Asks for an acknowledgement (section 4.2).
    Confirmable,
    /// Asks for none (section 4.3).
    NonConfirmable,
    /// Tells that a confirmable message arrived (section 4.2).
    Acknowledgement,
    /// Tells that a message arrived and could not be processed (section 4.2).
    Reset,
}

/// What a message and its acknowledgement or reset have in common
/// (RFC 7252 section 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId(pub u16);

/// What a request and its responses have in common: at most eight bytes
/// (RFC 7252 section 5.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token {
    length: u8,
    /// Zero beyond `length`.
    bytes: [u8; Token::BYTES_MAX],
}

impl Token {
    /// The longest token, in bytes.
    pub const BYTES_MAX: usize = 8;

    /// The token without bytes.
    pub const EMPTY: Token = Token { length: 0, bytes: [0; Token::BYTES_MAX] };

    /// The token of these bytes; none if they are more than eight.
    #[must_use]
    pub fn new(value: &[u8]) -> Option<Token> {
        let mut token = Token::EMPTY;
        token.bytes.get_mut(..value.len())?.copy_from_slice(value);
        token.length = value.len() as u8;
        Some(token)
    }

    /// The token's bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its type.
    pub kind: Kind,
    /// Method, outcome or 0.00.
    pub code: Code,
    /// Ties acknowledgements and resets to it.
    pub id: MessageId,
    /// Ties responses to requests.
    pub token: Token,
    /// Its options, in order.
    pub options: Options,
    /// What it carries; empty for no payload.
    pub payload: Bytes,
}

/// Why a datagram is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// Fewer than four bytes.
    #[error("it ends within the header of four bytes")]
    Header,
    /// Another version than 1 (RFC 7252 section 3).
    #[error("its version is {0}, known is 1")]
    Version(u8),
    /// A token length of 9 to 15 (RFC 7252 section 3).
    #[error("its token would have {0} bytes, allowed are 8")]
    TokenLength(u8),
    /// It ends within the token.
    #[error("it ends within its token")]
    Token,
    /// An option's delta or length is the reserved 15 (RFC 7252 section 3.1).
    #[error("an option's delta or length is the reserved 15")]
    OptionHeader,
    /// It ends within an option.
    #[error("it ends within an option")]
    Option,
    /// The option numbers pass 65,535.
    #[error("an option's number is above 65,535")]
    OptionNumber,
    /// A payload marker without payload (RFC 7252 section 3).
    #[error("a payload marker stands at its end")]
    Payload,
    /// 0.00 with more than the header (RFC 7252 section 4.1).
    #[error("it is empty (0.00), yet has more than a header")]
    NotEmpty,
    /// A class that is reserved on datagrams: 1, 3, 6 and 7 (RFC 7252 section 12.1).
    #[error("its code {0} is of a reserved class")]
    ReservedClass(Code),
}

/// What is owed to the sender of a datagram that cannot be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Due {
    /// Nothing.
    Silence,
    /// A reset with this message ID.
    Reset(MessageId),
    /// A response with this code.
    Response(Code),
}

/// A datagram that is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a datagram is not a CoAP message: {fault}")]
pub struct DecodeError {
    /// What is wrong with it.
    pub fault: Malformed,
    /// Its type and message ID, if it has so much and the right version.
    pub header: Option<(Kind, MessageId)>,
}

impl DecodeError {
    /// What its sender is owed: a reset for what could be a request or a response
    /// (RFC 7252 sections 4.2 and 4.3), nothing for an acknowledgement, a reset, or
    /// what has no readable header of version 1 (section 3).
    #[must_use]
    pub fn due(&self) -> Due {
        match self.header {
            Some((Kind::Confirmable | Kind::NonConfirmable, id)) => Due::Reset(id),
            Some((Kind::Acknowledgement | Kind::Reset, _)) | None => Due::Silence,
        }
    }
}

/// Why a well-formed request cannot be served by anyone here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unservable {
    /// A method that no RFC known here defines (RFC 7252 section 5.8).
    #[error("the method {0} is not known")]
    Method(Code),
    /// A critical option that is not known, that is repeated though it must not be,
    /// or whose value has a length it must not have (RFC 7252 sections 5.4.1, 5.4.3
    /// and 5.4.5).
    #[error("the critical option {0} is not known, or not so")]
    Option(OptionNumber),
    /// It asks for a proxy (RFC 7252 section 5.10.2).
    #[error("the option {0} asks for a proxy, which this is not")]
    Proxy(OptionNumber),
}

impl Unservable {
    /// What the sender is owed. A critical option that is not known makes a
    /// confirmable request fail with 4.02; a non-confirmable one is rejected
    /// (RFC 7252 section 5.4.1).
    #[must_use]
    pub fn due(&self, kind: Kind, id: MessageId) -> Due {
        match (self, kind) {
            (Unservable::Method(_), _) => Due::Response(Code::METHOD_NOT_ALLOWED),
            (Unservable::Option(_), Kind::NonConfirmable) => Due::Reset(id),
            (Unservable::Option(_), _) => Due::Response(Code::BAD_OPTION),
            (Unservable::Proxy(_), _) => Due::Response(Code::PROXYING_NOT_SUPPORTED),
        }
    }
}

impl Message {
    /// A message of header only: an acknowledgement, a reset or a ping
    /// (RFC 7252 section 4.1).
    #[must_use]
    pub fn empty(kind: Kind, id: MessageId) -> Message {
        Message {
            kind,
            code: Code::EMPTY,
            id,
            token: Token::EMPTY,
            options: Options::EMPTY,
            payload: Bytes::new(),
        }
    }

    /// Reads a datagram. Options and payload share its memory.
    ///
    /// # Errors
    /// If it is not a message of RFC 7252 section 3, or one of a reserved class.
    /// [`DecodeError::due`] says what its sender is owed.
    pub fn decode(datagram: &Bytes) -> Result<Message, DecodeError> {
        let Some((&[first, code, high, low], rest)) = datagram.split_first_chunk() else {
            return Err(DecodeError { fault: Malformed::Header, header: None });
        };
        let version = first >> 6;
        if version != 1 {
            return Err(DecodeError { fault: Malformed::Version(version), header: None });
        }
        let kind = kind(first);
        let id = MessageId(u16::from_be_bytes([high, low]));
        let fault = |fault| DecodeError { fault, header: Some((kind, id)) };
        let code = Code::from_byte(code);
        let token_bytes = first & 0x0f;
        if usize::from(token_bytes) > Token::BYTES_MAX {
            return Err(fault(Malformed::TokenLength(token_bytes)));
        }
        if code.is_empty() && (token_bytes != 0 || !rest.is_empty()) {
            return Err(fault(Malformed::NotEmpty));
        }
        if !(code.is_empty() || code.is_request() || code.is_response()) {
            return Err(fault(Malformed::ReservedClass(code)));
        }
        let (token, rest) = rest
            .split_at_checked(usize::from(token_bytes))
            .ok_or_else(|| fault(Malformed::Token))?;
        let token = Token::new(token).expect("its length was looked at");
        let (options, payload) = if rest.is_empty() {
            (Options::EMPTY, Bytes::new())
        } else {
            tail(datagram.slice_ref(rest)).map_err(fault)?
        };
        Ok(Message { kind, code, id, token, options, payload })
    }

    /// The datagram of this message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        let kind = match self.kind {
            Kind::Confirmable => 0,
            Kind::NonConfirmable => 1,
            Kind::Acknowledgement => 2,
            Kind::Reset => 3,
        };
        let [high, low] = self.id.0.to_be_bytes();
        let first = 1 << 6 | kind << 4 | self.token.length;
        bytes.extend_from_slice(&[first, self.code.byte(), high, low]);
        bytes.extend_from_slice(self.token.as_slice());
        bytes.extend_from_slice(self.options.as_encoded());
        if !self.payload.is_empty() {
            bytes.push(PAYLOAD_MARKER);
            bytes.extend_from_slice(&self.payload);
        }
        bytes.into()
    }

    /// How many bytes [`Message::encode`] makes.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES
            + self.token.as_slice().len()
            + self.options.as_encoded().len()
            + usize::from(!self.payload.is_empty())
            + self.payload.len()
    }

    /// Looks whether this request can be served at all: its method is known, and
    /// so are its critical options, each in number and length as its RFC says.
    /// Elective options are left to who reads them.
    ///
    /// # Errors
    /// The first thing that keeps it from being served; the method comes first.
    pub fn check_request(&self) -> Result<(), Unservable> {
        if !self.code.is_known_method() {
            return Err(Unservable::Method(self.code));
        }
        let mut last = None;
        for (number, value) in self.options.iter() {
            if !number.is_critical() {
                continue;
            }
            let (lengths, repeatable) = match number {
                OptionNumber::IF_MATCH => (0..=8, true),
                OptionNumber::URI_HOST => (1..=255, false),
                OptionNumber::IF_NONE_MATCH => (0..=0, false),
                OptionNumber::URI_PORT | OptionNumber::ACCEPT => (0..=2, false),
                OptionNumber::URI_PATH | OptionNumber::URI_QUERY => (0..=255, true),
                OptionNumber::BLOCK1 | OptionNumber::BLOCK2 => (0..=3, false),
                OptionNumber::PROXY_URI | OptionNumber::PROXY_SCHEME => {
                    return Err(Unservable::Proxy(number));
                }
                _ => return Err(Unservable::Option(number)),
            };
            let repeated = !repeatable && last == Some(number);
            if repeated || !lengths.contains(&value.len()) {
                return Err(Unservable::Option(number));
            }
            last = Some(number);
        }
        Ok(())
    }
}

fn kind(first: u8) -> Kind {
    match first >> 4 & 0b11 {
        0 => Kind::Confirmable,
        1 => Kind::NonConfirmable,
        2 => Kind::Acknowledgement,
        _ => Kind::Reset,
    }
}

/// Options and payload, from what follows the token.
pub(crate) fn tail(mut rest: Bytes) -> Result<(Options, Bytes), Malformed> {
    let (options, taken) = Options::decode(&rest).map_err(|fault| match fault {
        OptionFault::Reserved => Malformed::OptionHeader,
        OptionFault::Truncated => Malformed::Option,
        OptionFault::Overflow => Malformed::OptionNumber,
    })?;
    match rest.len() - taken {
        0 => Ok((options, Bytes::new())),
        1 => Err(Malformed::Payload),
        _ => Ok((options, rest.split_off(taken + 1))),
    }
}

#[cfg(test)]
mod tests;
