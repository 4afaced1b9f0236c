//! Codes: a request's method or a response's outcome, in one byte of three bits
//! class and five bits detail (RFC 7252 section 3 and 12.1).

use std::fmt;

/// A code, written as `class.detail` (2.05). Every byte is one; whether it means
/// anything is for who reads it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u8);

impl Code {
    /// 0.00: neither request nor response (RFC 7252 section 4.1).
    pub const EMPTY: Code = Code::new(0, 0);

    /// 0.01 (RFC 7252 section 5.8.1).
    pub const GET: Code = Code::new(0, 1);
    /// 0.02 (RFC 7252 section 5.8.2).
    pub const POST: Code = Code::new(0, 2);
    /// 0.03 (RFC 7252 section 5.8.3).
    pub const PUT: Code = Code::new(0, 3);
    /// 0.04 (RFC 7252 section 5.8.4).
    pub const DELETE: Code = Code::new(0, 4);
    /// 0.05 (RFC 8132 section 2).
    pub const FETCH: Code = Code::new(0, 5);
    /// 0.06 (RFC 8132 section 3).
    pub const PATCH: Code = Code::new(0, 6);
    /// 0.07 (RFC 8132 section 3).
    pub const IPATCH: Code = Code::new(0, 7);

    /// 2.01 (RFC 7252 section 5.9.1.1).
    pub const CREATED: Code = Code::new(2, 1);
    /// 2.02 (RFC 7252 section 5.9.1.2).
    pub const DELETED: Code = Code::new(2, 2);
    /// 2.03 (RFC 7252 section 5.9.1.3).
    pub const VALID: Code = Code::new(2, 3);
    /// 2.04 (RFC 7252 section 5.9.1.4).
    pub const CHANGED: Code = Code::new(2, 4);
    /// 2.05 (RFC 7252 section 5.9.1.5).
    pub const CONTENT: Code = Code::new(2, 5);
    /// 2.31: the block was taken, send the next (RFC 7959 section 2.9.1).
    pub const CONTINUE: Code = Code::new(2, 31);

    /// 4.00 (RFC 7252 section 5.9.2.1).
    pub const BAD_REQUEST: Code = Code::new(4, 0);
    /// 4.01, also an Echo challenge (RFC 7252 section 5.9.2.2, RFC 9175 section 2.2).
    pub const UNAUTHORIZED: Code = Code::new(4, 1);
    /// 4.02 (RFC 7252 section 5.9.2.3).
    pub const BAD_OPTION: Code = Code::new(4, 2);
    /// 4.03 (RFC 7252 section 5.9.2.4).
    pub const FORBIDDEN: Code = Code::new(4, 3);
    /// 4.04 (RFC 7252 section 5.9.2.5).
    pub const NOT_FOUND: Code = Code::new(4, 4);
    /// 4.05 (RFC 7252 section 5.9.2.6).
    pub const METHOD_NOT_ALLOWED: Code = Code::new(4, 5);
    /// 4.06 (RFC 7252 section 5.9.2.7).
    pub const NOT_ACCEPTABLE: Code = Code::new(4, 6);
    /// 4.08: blocks are missing (RFC 7959 section 2.9.2).
    pub const REQUEST_ENTITY_INCOMPLETE: Code = Code::new(4, 8);
    /// 4.09 (RFC 8132 section 3.4).
    pub const CONFLICT: Code = Code::new(4, 9);
    /// 4.12 (RFC 7252 section 5.9.2.8).
    pub const PRECONDITION_FAILED: Code = Code::new(4, 12);
    /// 4.13 (RFC 7252 section 5.9.2.9, RFC 7959 section 2.9.3).
    pub const REQUEST_ENTITY_TOO_LARGE: Code = Code::new(4, 13);
    /// 4.15 (RFC 7252 section 5.9.2.10).
    pub const UNSUPPORTED_CONTENT_FORMAT: Code = Code::new(4, 15);
    /// 4.22 (RFC 8132 section 3.4).
    pub const UNPROCESSABLE_ENTITY: Code = Code::new(4, 22);
    /// 4.29 (RFC 8516).
    pub const TOO_MANY_REQUESTS: Code = Code::new(4, 29);

    /// 5.00 (RFC 7252 section 5.9.3.1).
    pub const INTERNAL_SERVER_ERROR: Code = Code::new(5, 0);
    /// 5.01 (RFC 7252 section 5.9.3.2).
    pub const NOT_IMPLEMENTED: Code = Code::new(5, 1);
    /// 5.02 (RFC 7252 section 5.9.3.3).
    pub const BAD_GATEWAY: Code = Code::new(5, 2);
    /// 5.03 (RFC 7252 section 5.9.3.4).
    pub const SERVICE_UNAVAILABLE: Code = Code::new(5, 3);
    /// 5.04 (RFC 7252 section 5.9.3.5).
    pub const GATEWAY_TIMEOUT: Code = Code::new(5, 4);
    /// 5.05 (RFC 7252 section 5.9.3.6).
    pub const PROXYING_NOT_SUPPORTED: Code = Code::new(5, 5);
    /// 5.08 (RFC 8768 section 4).
    pub const HOP_LIMIT_REACHED: Code = Code::new(5, 8);

    /// The code `class.detail`.
    ///
    /// # Panics
    /// If `class` is above 7 or `detail` above 31.
    #[must_use]
    pub const fn new(class: u8, detail: u8) -> Code {
        assert!(class <= 7 && detail <= 31, "a code has 3 and 5 bits");
        Code(class << 5 | detail)
    }

    /// The code that `byte` is on the wire.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Code {
        Code(byte)
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The digit before the dot, 0 to 7.
    #[must_use]
    pub const fn class(self) -> u8 {
        self.0 >> 5
    }

    /// The digits after the dot, 0 to 31.
    #[must_use]
    pub const fn detail(self) -> u8 {
        self.0 & 0x1f
    }

    /// Whether this is 0.00.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is a method, known or not (0.01 to 0.31).
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.class() == 0 && self.0 != 0
    }

    /// Whether this is a method that RFC 7252 or RFC 8132 defines.
    #[must_use]
    pub const fn is_known_method(self) -> bool {
        self.0 >= Code::GET.0 && self.0 <= Code::IPATCH.0
    }

    /// Whether this is a response (2.xx, 4.xx, 5.xx).
    #[must_use]
    pub const fn is_response(self) -> bool {
        matches!(self.class(), 2 | 4 | 5)
    }

    /// Whether this is a response that tells of success (2.xx).
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.class() == 2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.class(), self.detail())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_code() {
        for byte in 0..=255 {
            let code = Code::from_byte(byte);
            assert_eq!(Code::new(code.class(), code.detail()), code);
            assert_eq!(code.byte(), byte);
            assert!(!(code.is_request() && code.is_response()));
        }
        assert_eq!(Code::CONTENT.byte(), 0x45);
        assert_eq!(Code::CONTINUE.to_string(), "2.31");
        assert_eq!(Code::REQUEST_ENTITY_INCOMPLETE.byte(), 0x88);
        assert!(!Code::EMPTY.is_request() && !Code::new(1, 0).is_response());
        assert!(Code::new(0, 31).is_request() && !Code::new(0, 31).is_known_method());
    }
}
