//! What a request has to do with observations (RFC 7641).
//!
//! Owns telling observed resources apart. Must not know who observes them, nor what
//! changes.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use tinyfaas_coap::message::{
    Code, Kind, Message, MessageId, OptionNumber, Options, OptionsBuilder, Token,
};

/// What a successful response means to who observes. With one about a result that
/// is still to come, it is there although the response is none of success.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Observing {
    /// Whoever asked wants to be told how this changes.
    Begin(Resource),
    /// Whoever asked wants to be told no more.
    End(Resource),
    /// This may have changed, in every format.
    Changed(Resource),
}

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
    #[cfg_attr(not(test), expect(dead_code, reason = "nobody can observe yet"))]
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

    /// The same whatever format is asked for: what a change is told of by.
    pub(super) fn in_any_format(&self) -> Self {
        let mut options = self.0.edit();
        options.remove(OptionNumber::ACCEPT);
        Self(options.build())
    }

    fn of(message: &Message) -> Self {
        let mut options = OptionsBuilder::new();
        for (number, value) in message.options.iter() {
            if matches!(
                number,
                OptionNumber::URI_PATH | OptionNumber::URI_QUERY | OptionNumber::ACCEPT
            ) {
                options.push(number, value).expect("it came in an option");
            }
        }
        Self(options.build())
    }
}

/// What this request has to do with observations of what it names, where that can
/// be observed.
pub(super) fn of(message: &Message) -> Option<Observing> {
    match message.code {
        Code::GET => match message.options.uint(OptionNumber::OBSERVE)? {
            0 => Some(Observing::Begin(Resource::of(message))),
            1 => Some(Observing::End(Resource::of(message))),
            // Any other value is as good as none (RFC 7641 section 2).
            _ => None,
        },
        Code::FETCH => None,
        _ => Some(Observing::Changed(Resource::of(message).in_any_format())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: Code, options: &[(OptionNumber, &[u8])]) -> Message {
        let mut builder = OptionsBuilder::new();
        for (number, value) in options {
            builder.push(*number, value).expect("it is short");
        }
        let options = builder.build();
        Message { code, options, ..Resource(Options::EMPTY).request() }
    }

    const PATH: (OptionNumber, &[u8]) = (OptionNumber::URI_PATH, b"f");
    const QUERY: (OptionNumber, &[u8]) = (OptionNumber::URI_QUERY, b"a");
    const ACCEPT: (OptionNumber, &[u8]) = (OptionNumber::ACCEPT, b"\x32");

    fn check(code: Code, observe: Option<&[u8]>, expected: fn(Resource) -> Option<Observing>) {
        let mut options = vec![PATH, QUERY, ACCEPT, (OptionNumber::ETAG, b"x")];
        options.extend(observe.map(|value| (OptionNumber::OBSERVE, value)));
        let resource = Resource(message(Code::GET, &[PATH, QUERY, ACCEPT]).options);
        assert_eq!(of(&message(code, &options)), expected(resource), "{code} {observe:?}");
    }

    #[test]
    fn requests_begin_end_and_change() {
        check(Code::GET, None, |_| None);
        check(Code::GET, Some(b""), |resource| Some(Observing::Begin(resource)));
        check(Code::GET, Some(b"\x01"), |resource| Some(Observing::End(resource)));
        check(Code::GET, Some(b"\x02"), |_| None);
        check(Code::FETCH, Some(b""), |_| None);
        for code in [Code::PUT, Code::POST, Code::DELETE, Code::PATCH, Code::IPATCH] {
            check(code, None, |resource| Some(Observing::Changed(resource.in_any_format())));
        }
    }

    #[test]
    fn a_resource_is_asked_for_as_it_was_observed() {
        let Some(Observing::Begin(resource)) =
            of(&message(Code::GET, &[PATH, ACCEPT, (OptionNumber::OBSERVE, b"")]))
        else {
            panic!("it observes");
        };
        let request = resource.request();
        assert_eq!(request.options, message(Code::GET, &[PATH, ACCEPT]).options);
        assert_eq!(of(&request), None);
        let any = resource.in_any_format();
        assert_eq!(any.request().options, message(Code::GET, &[PATH]).options);
    }
}
