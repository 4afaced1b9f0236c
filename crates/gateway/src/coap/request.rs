//! A CoAP request becomes what dispatch can run.
//!
//! Owns what a function sees of it: method, path and query as in a URL, options as
//! headers. Must not know functions nor handlers. What is not read here is not
//! passed on: elective options may be left out of account (RFC 7252 section
//! 5.4.1), and the critical ones that remain are the message layer's.

use std::borrow::Cow;

use ::http::Method;
use ::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};
use ::http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tinyfaas_coap::message::{Code, Message, OptionNumber, Options, uint};
use tinyfaas_coap::{etag, formats};

use super::error::Refused;
use crate::trace;

/// In the query: run the call later. It may have any value.
const ASYNC: &[u8] = b"tinyfaas-async";

/// What does not stand for itself in any part of a URL (RFC 3986 section 2).
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The same in a segment of a path (RFC 7252 section 6.5).
const NO_SEGMENT: AsciiSet = RESERVED.remove(b'&');

/// The same in a part of a query, the ampersand among it.
const NO_QUERY: AsciiSet = RESERVED.remove(b'/').remove(b'?');

/// What a request asks for, in a function's words.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// Path and query, percent-encoded.
    pub(super) whole: PathAndQuery,
    pub(super) headers: HeaderMap,
    /// Run the call later.
    pub(super) later: bool,
}

/// What of a request its response depends on.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// Its method.
    pub(super) code: Code,
    /// Its path, for what is relative to it.
    pub(super) whole: PathAndQuery,
    options: Options,
}

/// Reads a request.
///
/// # Errors
/// Where it can be none of a function.
pub(super) fn read(message: &Message) -> Result<Asked, Refused> {
    let method = method(message.code).ok_or(Refused::BadMethod)?;
    // As many as most have; the next size is twice as large.
    let mut headers = HeaderMap::with_capacity(6);
    let mut whole = String::with_capacity(64);
    let mut query = false;
    let mut later = false;
    // They come in the order of their numbers: the path before the query.
    for (number, value) in message.options.iter() {
        match number {
            OptionNumber::URI_PATH => push_segment(&mut whole, value)?,
            OptionNumber::URI_QUERY if is_async(value) => later = true,
            OptionNumber::URI_QUERY => {
                if whole.is_empty() {
                    whole.push('/');
                }
                whole.push(if query { '&' } else { '?' });
                query = true;
                whole.extend(percent_encode(value, &NO_QUERY));
            }
            OptionNumber::URI_HOST => insert(&mut headers, HOST, value),
            OptionNumber::CONTENT_FORMAT => {
                insert_format(&mut headers, value, CONTENT_TYPE, CONTENT_ENCODING);
            }
            OptionNumber::ACCEPT => insert_format(&mut headers, value, ACCEPT, ACCEPT_ENCODING),
            OptionNumber::URI_PORT => add_port(&mut headers, value),
            OptionNumber::MAX_AGE => insert_max_age(&mut headers, value),
            _ => {}
        }
    }
    if whole.is_empty() {
        whole.push('/');
    }
    insert_conditions(&mut headers, &message.options);
    if !message.payload.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(message.payload.len()));
    }
    // There is no option for a trace: it starts here.
    trace::hand_on(&mut headers, 0, false);
    let whole = PathAndQuery::from_maybe_shared(whole).map_err(|_| Refused::LongPath)?;
    Ok(Asked { method, whole, headers, later })
}

impl Terms {
    /// Those of this request, whose path is read already.
    pub(super) fn new(message: &Message, whole: PathAndQuery) -> Self {
        Self { code: message.code, whole, options: message.options.clone() }
    }

    /// Whether it asks for a representation.
    pub(super) fn is_query(&self) -> bool {
        matches!(self.code, Code::GET | Code::FETCH)
    }

    /// The tags of what the client has (RFC 7252 section 5.10.6.2).
    pub(super) fn etags(&self) -> impl Iterator<Item = &[u8]> {
        etags(&self.options)
    }

    /// The one format that the client takes.
    pub(super) fn accept(&self) -> Option<u16> {
        format(self.options.get(OptionNumber::ACCEPT)?)
    }
}

/// The method by its name: those of RFC 8132 as HTTP would have them.
fn method(code: Code) -> Option<Method> {
    Some(match code {
        Code::GET => Method::GET,
        Code::POST => Method::POST,
        Code::PUT => Method::PUT,
        Code::DELETE => Method::DELETE,
        Code::PATCH => Method::PATCH,
        Code::FETCH => Method::from_bytes(b"FETCH").ok()?,
        Code::IPATCH => Method::from_bytes(b"iPATCH").ok()?,
        _ => return None,
    })
}

fn is_async(value: &[u8]) -> bool {
    value.strip_prefix(ASYNC).is_some_and(|rest| rest.is_empty() || rest[0] == b'=')
}

/// Dots would change the path wherever it is read as a URL, and must not be sent
/// (section 5.10.1).
fn push_segment(path: &mut String, segment: &[u8]) -> Result<(), Refused> {
    if segment == b"." || segment == b".." {
        return Err(Refused::DotSegment);
    }
    path.push('/');
    path.extend(percent_encode(segment, &NO_SEGMENT));
    Ok(())
}

/// A value that is none of a header is left out: it is the client's own loss.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value) {
        headers.insert(name, value);
    }
}

fn add_port(headers: &mut HeaderMap, value: &[u8]) {
    if let (Some(host), Some(port)) = (headers.get(HOST), uint(value)) {
        let host = [host.as_bytes(), b":", port.to_string().as_bytes()].concat();
        insert(headers, HOST, &host);
    }
}

fn format(value: &[u8]) -> Option<u16> {
    uint(value)?.try_into().ok()
}

fn insert_format(headers: &mut HeaderMap, value: &[u8], kind: HeaderName, coding: HeaderName) {
    let Some(number) = format(value).filter(|_| !headers.contains_key(&kind)) else { return };
    let (name, deflated) = formats::media_type(number);
    let name = match name {
        Cow::Borrowed(name) => HeaderValue::from_static(name),
        Cow::Owned(name) => HeaderValue::try_from(name).expect("it is letters, signs and digits"),
    };
    headers.insert(kind, name);
    if deflated {
        headers.insert(coding, HeaderValue::from_static("deflate"));
    }
}

/// How old a stored reply may be that the client still takes.
fn insert_max_age(headers: &mut HeaderMap, value: &[u8]) {
    if let Some(seconds) = uint(value) {
        insert(headers, CACHE_CONTROL, format!("max-age={seconds}").as_bytes());
    }
}

fn etags(options: &Options) -> impl Iterator<Item = &[u8]> {
    let fits = |tag: &&[u8]| (1..=etag::BYTES_MAX).contains(&tag.len());
    options.all(OptionNumber::ETAG).filter(fits)
}

/// RFC 7252 sections 5.10.6.2 and 5.10.8, in HTTP's words (RFC 9110 section 13.1).
fn insert_conditions(headers: &mut HeaderMap, options: &Options) {
    let mut if_match = options.all(OptionNumber::IF_MATCH).peekable();
    if if_match.peek().is_some() {
        insert(headers, IF_MATCH, list(if_match).as_bytes());
    }
    let mut if_none_match = etags(options).peekable();
    if options.get(OptionNumber::IF_NONE_MATCH).is_some() {
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    } else if if_none_match.peek().is_some() {
        insert(headers, IF_NONE_MATCH, list(if_none_match).as_bytes());
    }
}

/// An empty tag stands for whatever there is.
fn list<'t>(tags: impl Iterator<Item = &'t [u8]>) -> String {
    let mut list = String::new();
    for tag in tags {
        if tag.is_empty() {
            return "*".to_owned();
        }
        if !list.is_empty() {
            list.push_str(", ");
        }
        etag::to_header(tag, &mut list);
    }
    list
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tinyfaas_coap::message::{Kind, MessageId, OptionsBuilder, Token};
    use tinyfaas_model::CallTarget;

    use super::*;

    fn message(code: Code, options: &[(u16, &[u8])], payload: &'static str) -> Message {
        let mut builder = OptionsBuilder::new();
        for (number, value) in options {
            builder.push(OptionNumber(*number), value).expect("it is short");
        }
        Message {
            kind: Kind::Confirmable,
            code,
            id: MessageId(1),
            token: Token::EMPTY,
            options: builder.build(),
            payload: Bytes::from_static(payload.as_bytes()),
        }
    }

    fn headers(asked: &Asked) -> Vec<String> {
        let named = asked.headers.iter().filter(|(name, _)| *name != "traceparent");
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().expect("text"))
        };
        let mut lines: Vec<_> = named.map(line).collect();
        lines.sort();
        lines
    }

    /// The path and query, and the headers in the order of their names.
    fn check(options: &[(u16, &[u8])], whole: &str, expected: &[&str]) {
        let asked = read(&message(Code::GET, options, "")).expect("a function could be asked this");
        assert_eq!(asked.whole, whole, "{options:?}");
        assert_eq!(headers(&asked), expected, "{options:?}");
        assert_eq!(asked.headers.get_all("traceparent").iter().count(), 1);
    }

    #[test]
    fn path_and_query_are_as_in_a_url() {
        check(&[], "/", &[]);
        check(&[(11, b"f")], "/f", &[]);
        check(&[(11, b"f"), (11, b"")], "/f/", &[]);
        check(
            &[(11, b"f"), (11, b"a/b?c%"), (11, "\u{e9}".as_bytes())],
            "/f/a%2Fb%3Fc%25/%C3%A9",
            &[],
        );
        check(&[(11, b"f"), (11, b"!$&'()*+,;=:@-._~")], "/f/!$&'()*+,;=:@-._~", &[]);
        check(
            &[(11, b"f"), (15, b"a=1"), (15, b"b=x y&z"), (15, b"c/?#+")],
            "/f?a=1&b=x%20y%26z&c/?%23+",
            &[],
        );
        check(&[(11, b"f"), (15, b"")], "/f?", &[]);
        check(&[(15, b"a")], "/?a", &[]);
        check(
            &[(11, b"f"), (11, b"\xff\"<>`{}|\\^\0")],
            "/f/%FF%22%3C%3E%60%7B%7D%7C%5C%5E%00",
            &[],
        );
    }

    #[test]
    fn options_are_headers() {
        check(&[(3, b"example.org"), (7, b"\x16\x33")], "/", &["host: example.org:5683"]);
        check(&[(7, b"\x16\x33")], "/", &[]);
        check(&[(12, b"\x32")], "/", &["content-type: application/json"]);
        check(&[(12, b"")], "/", &["content-type: text/plain; charset=utf-8"]);
        check(
            &[(12, b"\x2b\x2a")],
            "/",
            &["content-encoding: deflate", "content-type: application/json"],
        );
        check(&[(12, b"\xff\xff")], "/", &["content-type: application/coap-payload;cf=65535"]);
        check(&[(12, b"\x01\0\0")], "/", &[]);
        check(&[(17, b"\x3c")], "/", &["accept: application/cbor"]);
        check(&[(17, b"\xff\xff")], "/", &["accept: application/coap-payload;cf=65535"]);
        check(&[(17, b"\x2b\x34")], "/", &["accept-encoding: deflate", "accept: application/cbor"]);
        check(&[(14, b"\x3c")], "/", &["cache-control: max-age=60"]);
        check(&[(4, b"v1"), (4, b"\0\xff")], "/", &["if-none-match: \"v1\", \"00ff\""]);
        check(&[(4, b""), (4, b"123456789")], "/", &[]);
        check(&[(1, b"\x01"), (1, b"v2")], "/", &["if-match: \"01\", \"v2\""]);
        check(&[(1, b"v1"), (1, b"")], "/", &["if-match: *"]);
        check(&[(5, b"")], "/", &["if-none-match: *"]);
        check(&[(3, b"a\nb")], "/", &[]);
        // Elective ones of no meaning to a function, known and unknown.
        check(&[(6, b""), (60, b"\x05"), (252, b"echo"), (258, b"\x02"), (2052, b"x")], "/", &[]);
    }

    #[test]
    fn methods_have_their_names() {
        for (code, name) in [
            (Code::GET, "GET"),
            (Code::POST, "POST"),
            (Code::PUT, "PUT"),
            (Code::DELETE, "DELETE"),
            (Code::FETCH, "FETCH"),
            (Code::PATCH, "PATCH"),
            (Code::IPATCH, "iPATCH"),
        ] {
            assert_eq!(read(&message(code, &[], "")).expect("known").method.as_str(), name);
        }
        assert_eq!(read(&message(Code::new(0, 8), &[], "")).err(), Some(Refused::BadMethod));
    }

    #[test]
    fn a_body_has_its_length() {
        let asked = read(&message(Code::POST, &[(60, b"\x09")], "hello")).expect("it can be run");
        assert_eq!(headers(&asked), ["content-length: 5"]);
    }

    #[test]
    fn what_is_for_the_server_is_taken_off_the_query() {
        for (query, later, left) in [
            (&["tinyfaas-async"][..], true, "/f"),
            (&["a", "tinyfaas-async=yes", "b"], true, "/f?a&b"),
            (&["tinyfaas-asynchronous"], false, "/f?tinyfaas-asynchronous"),
        ] {
            let mut options: Vec<(u16, &[u8])> = vec![(11, b"f")];
            options.extend(query.iter().map(|part| (15, part.as_bytes())));
            let asked = read(&message(Code::POST, &options, "")).expect("it can be run");
            assert_eq!((asked.later, asked.whole.as_str()), (later, left));
        }
    }

    #[test]
    fn dots_are_no_segments() {
        for dots in [&b"."[..], b".."] {
            let refused = read(&message(Code::GET, &[(11, b"f"), (11, dots)], "")).err();
            assert_eq!(refused, Some(Refused::DotSegment));
        }
        check(&[(11, b"f"), (11, b"...")], "/f/...", &[]);
    }

    #[test]
    fn a_path_that_no_url_can_have_is_refused() {
        let segment = [0xff; 255];
        let options = vec![(11, &segment[..]); 100];
        assert_eq!(read(&message(Code::GET, &options, "")).err(), Some(Refused::LongPath));
    }

    proptest! {
        /// Whatever the options, a function could be asked it, and finds again what
        /// was in them.
        #[test]
        fn any_options_can_be_read(
            options in proptest::collection::vec(
                (0_u16..300, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
            first in "[a-z]{1,8}",
        ) {
            let mut all: Vec<(u16, &[u8])> = vec![(11, first.as_bytes())];
            all.extend(options.iter().map(|(number, value)| (*number, &value[..])));
            let Ok(asked) = read(&message(Code::PUT, &all, "x")) else {
                prop_assert!(options.iter().any(|(n, v)| *n == 11 && matches!(&v[..], b"." | b"..")));
                return Ok(());
            };
            let (name, target) = CallTarget::split(&asked.whole);
            prop_assert_eq!(name, first);
            let decode = |text: &str| percent(text);
            let segments: Vec<_> = target.path().split('/').skip(1).map(decode).collect();
            let sent: Vec<_> = options.iter().filter(|(n, _)| *n == 11).map(|(_, v)| v.clone()).collect();
            if !sent.is_empty() {
                prop_assert_eq!(segments, sent);
            }
            let query: Vec<_> = target.query().split('&').map(decode).collect();
            let sent: Vec<_> = options.iter().filter(|(n, v)| *n == 15 && !is_async(v)).map(|(_, v)| v.clone()).collect();
            if !sent.is_empty() {
                prop_assert_eq!(query, sent);
            }
        }
    }

    fn percent(text: &str) -> Vec<u8> {
        let mut bytes = text.bytes();
        let mut decoded = Vec::new();
        while let Some(byte) = bytes.next() {
            decoded.push(if byte == b'%' {
                let pair = [bytes.next().expect("a digit"), bytes.next().expect("a digit")];
                u8::from_str_radix(std::str::from_utf8(&pair).expect("ASCII"), 16).expect("digits")
            } else {
                byte
            });
        }
        decoded
    }
}
