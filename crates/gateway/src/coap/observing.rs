//! What a request wants to observe (RFC 7641).
//!
//! Owns telling observed resources apart. Must not know who observes them, nor what
//! changes.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use tinyfaas_coap::message::{
    Code, Kind, Message, MessageId, OptionNumber, Options, OptionsBuilder, Token,
};

/// A resource as its observers see it: path and query, in the format that they
/// take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource(Options);

impl Hash for Resource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_encoded().hash(state);
    }
}

impl Resource {
    /// The request by which it is had.
    pub(super) fn request(&self) -> Message {
        Message {
            kind: Kind::NonConfirmable,
            code: Code::GET,
            id: MessageId(0),
            token: Token::EMPTY,
            options: self.0.clone(),
            payload: Bytes::new(),
        }
    }
}

/// What this request wants to observe, where that can be observed: a GET whose
/// Observe is 0 (RFC 7641 section 2), and that has nothing which only one client
/// would ask.
pub(super) fn of(message: &Message) -> Option<Resource> {
    let observes = message.options.uint(OptionNumber::OBSERVE) == Some(0);
    if message.code != Code::GET || !observes || !message.payload.is_empty() {
        return None;
    }
    let mut options = OptionsBuilder::new();
    for (number, value) in message.options.iter() {
        match number {
            OptionNumber::URI_PATH | OptionNumber::URI_QUERY | OptionNumber::ACCEPT => {
                options.push(number, value).expect("it came in an option");
            }
            OptionNumber::IF_MATCH | OptionNumber::IF_NONE_MATCH => return None,
            _ => {}
        }
    }
    Some(Resource(options.build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: (OptionNumber, &[u8]) = (OptionNumber::URI_PATH, b"f");
    const QUERY: (OptionNumber, &[u8]) = (OptionNumber::URI_QUERY, b"a");
    const ACCEPT: (OptionNumber, &[u8]) = (OptionNumber::ACCEPT, b"\x32");

    fn message(code: Code, options: &[(OptionNumber, &[u8])]) -> Message {
        let mut builder = OptionsBuilder::new();
        for (number, value) in options {
            builder.push(*number, value).expect("it is short");
        }
        let options = builder.build();
        Message { code, options, ..Resource(Options::EMPTY).request() }
    }

    fn check(code: Code, more: &[(OptionNumber, &[u8])], expected: bool) {
        let options = [&[PATH, QUERY, ACCEPT, (OptionNumber::ETAG, b"x")], more].concat();
        let observed = of(&message(code, &options));
        let request = message(Code::GET, &[PATH, QUERY, ACCEPT]);
        let expected = expected.then_some(request);
        assert_eq!(observed.map(|resource| resource.request()), expected, "{code} {more:?}");
    }

    fn observe(value: &[u8]) -> (OptionNumber, &[u8]) {
        (OptionNumber::OBSERVE, value)
    }

    #[test]
    fn a_get_observes_what_anyone_would_get() {
        check(Code::GET, &[observe(b"")], true);
        check(Code::GET, &[observe(b"\0")], true);
        check(Code::GET, &[], false);
        check(Code::GET, &[observe(b"\x01")], false);
        check(Code::GET, &[observe(b"\x02")], false);
        check(Code::FETCH, &[observe(b"")], false);
        check(Code::PUT, &[observe(b"")], false);
        check(Code::GET, &[observe(b""), (OptionNumber::IF_MATCH, b"x")], false);
        let asks = message(Code::GET, &[PATH, observe(b"")]);
        assert_eq!(of(&Message { payload: "x".into(), ..asks }), None);
    }
}
