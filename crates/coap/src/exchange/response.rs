//! What an application answers, and the answers that need no application.

use bytes::Bytes;

use crate::message::{Code, OptionNumber, Options, OptionsBuilder};

/// What the application answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The outcome; of class 2, 4 or 5.
    pub code: Code,
    /// Its options.
    pub options: Options,
    /// Its payload; of an error, a sentence for people (RFC 7252 section 5.5.2).
    pub payload: Bytes,
}

impl Response {
    /// A response of its code alone.
    #[must_use]
    pub fn new(code: Code) -> Response {
        Response { code, options: Options::EMPTY, payload: Bytes::new() }
    }

    /// 5.03 that asks to come back in so many seconds (RFC 7252 section 5.9.3.4).
    #[must_use]
    pub fn unavailable(seconds: u32) -> Response {
        Response::later(Code::SERVICE_UNAVAILABLE, seconds)
    }

    /// 4.29 that asks to come back in so many seconds (RFC 8516 section 4).
    #[must_use]
    pub fn too_many(seconds: u32) -> Response {
        Response::later(Code::TOO_MANY_REQUESTS, seconds)
    }

    /// 2.03 in place of this 2.05: who has named its ETag has its payload
    /// (RFC 7252 section 5.9.1.3).
    #[must_use]
    pub fn to_valid(&self) -> Response {
        let mut options = OptionsBuilder::new();
        for number in [OptionNumber::ETAG, OptionNumber::MAX_AGE] {
            if let Some(value) = self.options.get(number) {
                options.push(number, value).expect("it was an option");
            }
        }
        Response { options: options.build(), ..Response::new(Code::VALID) }
    }

    fn later(code: Code, seconds: u32) -> Response {
        let mut options = OptionsBuilder::new();
        options.push_uint(OptionNumber::MAX_AGE, seconds);
        Response { options: options.build(), ..Response::new(code) }
    }
}
