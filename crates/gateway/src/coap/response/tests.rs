use std::collections::VecDeque;

use ::http::HeaderValue;
use ::http::uri::PathAndQuery;
use http_body::Frame;
use proptest::prelude::*;
use tinyfaas_coap::message::{Kind, Message, MessageId, Token};
use tinyfaas_model::BodyError;

use super::*;
use crate::held::HeldBytes;

fn terms(code: Code, options: &[(OptionNumber, &[u8])]) -> Terms {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options {
        builder.push(*number, value).expect("it is short");
    }
    let message = Message {
        kind: Kind::Confirmable,
        code,
        id: MessageId(1),
        token: Token::EMPTY,
        options: builder.build(),
        payload: Bytes::new(),
    };
    Terms::new(&message, PathAndQuery::from_static("/f/items?x"))
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn status(status: u16) -> Option<StatusCode> {
    (status != 0).then(|| StatusCode::from_u16(status).expect("a status"))
}

/// The code, and each option but the payload's own format as `NUMBER=VALUE`.
fn told(answered: &Result<Response, CallError>) -> String {
    let response = match answered {
        Ok(response) => response.clone(),
        Err(error) => super::super::error::respond(error, std::time::Duration::from_secs(1)),
    };
    let mut text = response.code.to_string();
    for (number, value) in response.options.iter() {
        let number_or_text = match number {
            OptionNumber::CONTENT_FORMAT | OptionNumber::MAX_AGE => {
                tinyfaas_coap::message::uint(value).expect("a number").to_string()
            }
            _ => String::from_utf8(value.to_vec()).expect("text"),
        };
        text += &format!(" {number}={number_or_text}");
    }
    text
}

fn check(method: Code, set: u16, lines: &[(&'static str, &'static str)], expected: &str) {
    let answered = convert(status(set), &headers(lines), "hi".into(), &terms(method, &[]));
    assert_eq!(told(&answered), expected, "{method} {set} {lines:?}");
}

#[test]
fn a_reply_without_a_status_is_what_its_method_makes_it() {
    for (method, code) in [
        (Code::GET, "2.05 12=0"),
        (Code::POST, "2.05 12=0"),
        (Code::FETCH, "2.05 12=0"),
        (Code::PUT, "2.04 12=0"),
        (Code::PATCH, "2.04 12=0"),
        (Code::IPATCH, "2.04 12=0"),
        (Code::DELETE, "2.02 12=0"),
    ] {
        check(method, 0, &[], code);
    }
}

#[test]
fn statuses_of_success_are_what_they_mean_for_the_method() {
    for (method, code) in [
        (Code::GET, "2.05"),
        (Code::FETCH, "2.05"),
        (Code::POST, "2.04"),
        (Code::PUT, "2.04"),
        (Code::PATCH, "2.04"),
        (Code::IPATCH, "2.04"),
        (Code::DELETE, "2.02"),
    ] {
        for with_payload in [200, 202, 203, 206, 226] {
            check(method, with_payload, &[], &format!("{code} 12=0"));
        }
        for without in [204, 205] {
            check(method, without, &[], code);
        }
        check(method, 201, &[], "2.01 12=0");
    }
}

#[test]
fn errors_keep_their_digits_where_coap_has_them() {
    for known in [400, 401, 402, 403, 404, 405, 406, 408, 409, 412, 413, 415, 422, 429] {
        check(Code::POST, known, &[], &format!("4.{:02}", known - 400));
    }
    for unknown in [407, 410, 411, 414, 416, 418, 428, 451, 499] {
        check(Code::GET, unknown, &[], "4.00");
    }
    for known in 500..=505 {
        check(Code::GET, known, &[], &format!("5.{:02}", known - 500));
    }
    for unknown in [506, 507, 508, 511, 599, 600, 999] {
        check(Code::GET, unknown, &[], "5.00");
    }
}

#[test]
fn what_has_no_code_is_a_bad_gateway() {
    check(Code::GET, 100, &[], "5.02");
    check(Code::GET, 302, &[("location", "/g")], "5.02");
    let moved =
        convert(status(301), &headers(&[("location", "/g")]), Bytes::new(), &terms(Code::GET, &[]));
    let error = moved.expect_err("no redirects").to_string();
    assert_eq!(error, "the function redirects (301) to \"/g\", and CoAP has no redirects");
}

#[test]
fn headers_are_options() {
    let get = |lines: &[_], expected| check(Code::GET, 0, lines, expected);
    get(&[("content-type", "application/json; charset=utf-8")], "2.05 12=50");
    get(&[("content-type", "image/webp")], "2.05 12=42");
    get(&[("content-type", "application/json"), ("content-encoding", "deflate")], "2.05 12=11050");
    get(&[("etag", "\"v1\"")], "2.05 4=v1 12=0");
    get(&[("cache-control", "private, Max-Age=30")], "2.05 12=0 14=30");
    get(&[("cache-control", "max-age=\"30\""), ("cache-control", "no-store")], "2.05 12=0 14=0");
    get(&[("cache-control", "no-cache")], "2.05 12=0 14=0");
    get(&[("cache-control", "max-age=99999999999")], "2.05 12=0 14=4294967295");
    get(&[("cache-control", "max-age=soon, public")], "2.05 12=0");
    get(&[("location", "/f/1"), ("retry-after", "5")], "2.05 12=0");
    get(&[("x-other", "1"), ("content-length", "7"), ("date", "now")], "2.05 12=0");
}

#[test]
fn what_was_created_has_a_location() {
    let post = |to, expected| check(Code::POST, 201, &[("location", to)], expected);
    post("/f/items/1", "2.01 8=f 8=items 8=1 12=0");
    post("1", "2.01 8=f 8=1 12=0");
    post("/f?a=1&b=2", "2.01 8=f 12=0 20=a=1 20=b=2");
    post("http://other.example/f", "2.01 12=0");
}

#[test]
fn an_error_that_is_text_is_a_diagnosis() {
    check(Code::GET, 404, &[("content-type", "text/html; charset=utf-8")], "4.04");
    check(Code::GET, 400, &[("content-type", "application/problem+json")], "4.00 12=50");
    check(Code::GET, 503, &[("retry-after", " 5")], "5.03 14=5");
    check(Code::GET, 503, &[("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], "5.03");
    check(Code::GET, 429, &[("retry-after", "9"), ("cache-control", "max-age=1")], "4.29 14=9");
    check(Code::GET, 404, &[("cache-control", "max-age=1"), ("retry-after", "9")], "4.04 14=1");
    check(Code::GET, 404, &[("etag", "\"v1\""), ("location", "/f")], "4.04");
}

#[test]
fn a_body_without_a_type_is_judged_by_its_bytes() {
    let judge = |payload: &'static [u8], expected: &str| {
        let answered = convert(None, &HeaderMap::new(), payload.into(), &terms(Code::GET, &[]));
        assert_eq!(told(&answered), expected, "{payload:?}");
    };
    judge(b"", "2.05");
    judge("\u{e4}".as_bytes(), "2.05 12=0");
    judge(b"\xff", "2.05 12=42");
    let empty = headers(&[("content-type", "application/json")]);
    let answered = convert(None, &empty, Bytes::new(), &terms(Code::GET, &[]));
    assert_eq!(told(&answered), "2.05");
}

/// With these ETags in the request.
fn check_valid(method: Code, tags: &[&[u8]], set: u16, etag: Option<&'static str>, expected: &str) {
    let options: Vec<_> = tags.iter().map(|tag| (OptionNumber::ETAG, *tag)).collect();
    let lines: Vec<_> =
        etag.iter().map(|tag| ("etag", *tag)).chain([("cache-control", "max-age=5")]).collect();
    let answered = convert(status(set), &headers(&lines), "hi".into(), &terms(method, &options));
    assert_eq!(told(&answered), expected, "{method} {tags:?} {set} {etag:?}");
    if let Ok(response) = answered {
        assert_eq!(response.payload.is_empty(), response.code == Code::VALID);
    }
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    check_valid(Code::GET, &[b"v1"], 304, Some("\"v1\""), "2.03 4=v1 14=5");
    check_valid(Code::GET, &[b"v1"], 304, None, "2.03 4=v1 14=5");
    check_valid(Code::GET, &[b"v1", b"v2"], 304, None, "5.02");
    check_valid(Code::GET, &[], 304, None, "5.02");
    // A function that does not look.
    check_valid(Code::GET, &[b"v0", b"v1"], 0, Some("W/\"v1\""), "2.03 4=v1 14=5");
    check_valid(Code::FETCH, &[b"v1"], 200, Some("\"v1\""), "2.03 4=v1 14=5");
    check_valid(Code::GET, &[b"v1"], 200, Some("\"v2\""), "2.05 4=v2 12=0 14=5");
    check_valid(Code::GET, &[b"v1"], 201, Some("\"v1\""), "2.01 4=v1 12=0 14=5");
    check_valid(Code::POST, &[b"v1"], 0, Some("\"v1\""), "2.05 4=v1 12=0 14=5");
    check_valid(Code::PUT, &[b"v1"], 0, Some("\"v1\""), "2.04 4=v1 12=0 14=5");
}

fn check_accept(method: Code, wanted: &[u8], set: u16, kind: Option<&'static str>, expected: &str) {
    let lines: Vec<_> = kind.iter().map(|kind| ("content-type", *kind)).collect();
    let terms = terms(method, &[(OptionNumber::ACCEPT, wanted)]);
    let answered = convert(status(set), &headers(&lines), "hi".into(), &terms);
    assert_eq!(told(&answered), expected, "{method} {wanted:?} {set} {kind:?}");
}

#[test]
fn another_format_than_is_accepted_does_not_come() {
    check_accept(Code::GET, b"\x32", 0, Some("application/json"), "2.05 12=50");
    check_accept(Code::GET, b"\x32", 0, Some("text/plain"), "4.06");
    check_accept(Code::FETCH, b"\x32", 0, Some("text/plain"), "4.06");
    check_accept(Code::GET, b"", 0, Some("text/plain"), "2.05 12=0");
    // It does not say what it is, so it is not said to be another.
    check_accept(Code::GET, b"\x32", 0, None, "2.05");
    check_accept(Code::GET, b"", 0, None, "2.05 12=0");
    // What has been done is told, in whatever format.
    check_accept(Code::POST, b"\x32", 0, Some("text/plain"), "2.05 12=0");
    check_accept(Code::GET, b"\x32", 404, Some("text/plain"), "4.04");
}

async fn check_body(
    parts: &[&'static str],
    budget: usize,
    bytes_max: usize,
    expected: Result<&str, CallError>,
) {
    struct Parts(VecDeque<&'static str>);
    impl http_body::Body for Parts {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            std::task::Poll::Ready(self.0.pop_front().map(|part| match part {
                "broken" => Err(BodyError::TimedOut),
                "trailers" => Ok(Frame::trailers(HeaderMap::new())),
                part => Ok(Frame::data(part.into())),
            }))
        }
    }
    let held = HeldBytes::new(budget);
    let share = held.share();
    let body = Body::Stream(Box::pin(Parts(parts.iter().copied().collect())));
    let reply = Reply { body, ..Reply::from_bytes("") };
    let answered = respond(reply, &terms(Code::GET, &[]), &share, bytes_max).await;
    match (answered, expected) {
        (Ok(response), Ok(text)) => {
            assert_eq!(response.payload, text);
            assert!(held.taken() >= text.len());
        }
        (Err(error), Err(expected)) => assert_eq!(error, expected),
        other => panic!("{parts:?}: {other:?}"),
    }
}

#[tokio::test]
async fn a_body_is_read_to_its_end_within_its_bounds() {
    check_body(&[], 0, 0, Ok("")).await;
    check_body(&["whole"], 5, 5, Ok("whole")).await;
    check_body(&["one", "", "trailers", "two", "three"], 100, 100, Ok("onetwothree")).await;
    check_body(&["one", "two"], 100, 5, Err(ReplyError::TooLarge { limit_bytes: 5 }.into())).await;
    check_body(&["whole"], 4, 100, Err(ReplyError::NoRoom.into())).await;
    check_body(&["one", "two"], 5, 100, Err(ReplyError::NoRoom.into())).await;
    let how = "the body's sender sent nothing for too long".to_owned();
    check_body(&["one", "broken"], 9, 9, Err(InvokeError::ReplyBroken { how }.into())).await;
}

#[tokio::test]
async fn a_function_that_failed_says_so_to_people() {
    for (words, told) in [(&b"it broke"[..], "it broke"), (b"a\xffb", "a\u{fffd}b")] {
        let reply = Reply {
            failed: true,
            status: status(200),
            headers: headers(&[("content-type", "application/json")]),
            ..Reply::from_bytes(words)
        };
        let held = HeldBytes::new(99).share();
        let answered = respond(reply, &terms(Code::POST, &[]), &held, 99).await;
        let response = answered.expect("it can be told");
        assert_eq!((response.code, &response.payload[..]), (Code::new(5, 0), told.as_bytes()));
        assert!(response.options.is_empty());
    }
}

fn any_header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let known =
        "etag|content-type|content-encoding|location|cache-control|retry-after|[a-z-]{1,12}";
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..300),
        "[/?&=%.a-f0-9:#-]{0,40}".prop_map(String::into_bytes),
        "(max-age|no-store|W/)?[=\"0-9a-z,;/ +]{0,30}".prop_map(String::into_bytes),
    ];
    (known, value)
}

proptest! {
    /// Whatever a function says, something comes of it that a transport can send.
    #[test]
    fn any_reply_becomes_a_response(
        lines in proptest::collection::vec(any_header(), 0..8),
        set in 99_u16..1000,
        method in 1_u8..8,
        asked in proptest::collection::vec((0_u16..30, proptest::collection::vec(any::<u8>(), 0..9)), 0..6),
        payload in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
                headers.append(name, value);
            }
        }
        let asked: Vec<_> = asked.iter().map(|(number, value)| (OptionNumber(*number), &value[..])).collect();
        let terms = terms(Code::new(0, method), &asked);
        let set = (set > 99).then(|| StatusCode::from_u16(set).expect("a status"));
        let Ok(response) = convert(set, &headers, payload.into(), &terms) else { return Ok(()) };
        prop_assert!(response.code.is_response());
        prop_assert!(response.code != Code::CONTINUE);
        let mut seen = Vec::new();
        for (number, value) in response.options.iter() {
            let (lengths, repeats) = match number {
                OptionNumber::ETAG => (1..=8, false),
                OptionNumber::LOCATION_PATH | OptionNumber::LOCATION_QUERY => (0..=255, true),
                OptionNumber::CONTENT_FORMAT => (0..=2, false),
                OptionNumber::MAX_AGE => (0..=4, false),
                other => panic!("no reply has option {other}"),
            };
            prop_assert!(lengths.contains(&value.len()), "{number}: {value:?}");
            prop_assert!(repeats || !seen.contains(&number));
            seen.push(number);
        }
        if response.code == Code::VALID {
            prop_assert!(response.payload.is_empty() && seen.contains(&OptionNumber::ETAG));
        }
    }
}
