//! `docs/coap.md`, held against the code: each row of its tables is so.

use std::time::Duration;

use ::http::header::{HeaderName, HeaderValue};
use ::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use tinyfaas_coap::formats;
use tinyfaas_coap::message::{
    Code, Kind, Message, MessageId, OptionNumber, Options, OptionsBuilder, Token,
};
use tinyfaas_model::{BodyError, CallTarget, InvokeError};

use super::error::{self, CallError, ReplyError};
use super::request::{self, Terms};
use super::response;

/// The rows of the table below this heading whose first column has this title.
fn rows(title: &str) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/coap.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let start = format!("| {title} |");
    let table = page.lines().skip_while(|line| !line.starts_with(&start)).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let line = line.trim_matches('|');
        line.split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>()
    };
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table of {title}");
    rows
}

/// What stands in backquotes, as name and value.
fn pairs(cell: &str) -> Vec<(&str, &str)> {
    let quoted = cell.split('`').skip(1).step_by(2);
    quoted.map(|pair| pair.split_once(": ").expect("NAME: VALUE")).collect()
}

const NAMES: [(&str, OptionNumber); 12] = [
    ("If-Match", OptionNumber::IF_MATCH),
    ("Uri-Host", OptionNumber::URI_HOST),
    ("ETag", OptionNumber::ETAG),
    ("If-None-Match", OptionNumber::IF_NONE_MATCH),
    ("Uri-Port", OptionNumber::URI_PORT),
    ("Location-Path", OptionNumber::LOCATION_PATH),
    ("Uri-Path", OptionNumber::URI_PATH),
    ("Content-Format", OptionNumber::CONTENT_FORMAT),
    ("Max-Age", OptionNumber::MAX_AGE),
    ("Uri-Query", OptionNumber::URI_QUERY),
    ("Accept", OptionNumber::ACCEPT),
    ("Location-Query", OptionNumber::LOCATION_QUERY),
];

fn is_number(number: OptionNumber) -> bool {
    matches!(
        number,
        OptionNumber::URI_PORT
            | OptionNumber::CONTENT_FORMAT
            | OptionNumber::MAX_AGE
            | OptionNumber::ACCEPT
    )
}

fn options(cell: &str) -> Options {
    let mut options = OptionsBuilder::new();
    for (name, value) in pairs(cell) {
        let (_, number) = NAMES.iter().find(|(known, _)| *known == name).expect("an option");
        if is_number(*number) {
            options.push_uint(*number, value.parse().expect("a number"));
        } else if let Some(digits) = value.strip_prefix("0x") {
            let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits");
            let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
            options.push(*number, &bytes).expect("it is short");
        } else {
            options.push(*number, value.as_bytes()).expect("it is short");
        }
    }
    options.build()
}

fn message(code: Code, options: Options) -> Message {
    Message {
        kind: Kind::Confirmable,
        code,
        id: MessageId(1),
        token: Token::EMPTY,
        options,
        payload: Bytes::new(),
    }
}

#[test]
fn a_function_sees_of_options_what_the_page_says() {
    for row in rows("options") {
        let asked = request::read(&message(Code::GET, options(&row[0]))).expect("it is valid");
        let (_, target) = CallTarget::split(&asked.whole);
        let mut expected = 1;
        for (name, value) in pairs(&row[1]) {
            let found = match name {
                "path" => target.path(),
                "query" => target.query(),
                name => {
                    expected += 1;
                    asked.headers[name].to_str().expect("text")
                }
            };
            assert_eq!(found, value, "{row:?}");
        }
        // And nothing else, but the trace.
        assert_eq!(asked.headers.len(), expected, "{row:?}: {:?}", asked.headers);
    }
}

#[test]
fn headers_of_replies_become_the_options_that_the_page_says() {
    for row in rows("header") {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs(&row[0]) {
            let name = HeaderName::try_from(name).expect("a name");
            headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        let request = message(Code::POST, Options::EMPTY);
        let terms = Terms::new(&request, "/f/items".parse().expect("a path"));
        let created = Some(StatusCode::CREATED);
        // Where there is a payload, it has some format.
        let payload = if row[0].contains("content-type") { "x".into() } else { Bytes::new() };
        let response = response::convert(created, &headers, payload, &terms).expect("it is valid");
        assert_eq!(response.options, options(&row[1]), "{row:?}");
    }
}

/// The statuses that a cell names, of those not `named` yet.
fn statuses(cell: &str, named: &[u16]) -> Vec<u16> {
    if let Some(class) = cell.strip_prefix("any other") {
        let class = class.trim().strip_suffix("xx").map(|class| class.parse::<u16>().expect("2xx"));
        let all = (200..1000).filter(|status| class.is_none_or(|class| status / 100 == class));
        return all.filter(|status| !named.contains(status)).collect();
    }
    let number = |text: &str| text.parse::<u16>().expect("a status");
    let range = |part: &str| match part.split_once(" to ") {
        Some((first, last)) => number(first)..=number(last),
        None => number(part)..=number(part),
    };
    cell.split(", ").flat_map(range).collect()
}

#[test]
fn statuses_have_the_codes_that_the_page_says() {
    let methods: [&[Code]; 4] = [
        &[Code::GET, Code::FETCH],
        &[Code::POST],
        &[Code::PUT, Code::PATCH, Code::IPATCH],
        &[Code::DELETE],
    ];
    let check = |row: &[String], status: Option<u16>| {
        for (methods, expected) in methods.iter().zip(&row[1..]) {
            for method in *methods {
                let terms = Terms::new(
                    &message(*method, options("`ETag: v1`")),
                    "/f".parse().expect("a path"),
                );
                let set = status.map(|status| StatusCode::from_u16(status).expect("a status"));
                let answered = response::convert(set, &HeaderMap::new(), Bytes::new(), &terms);
                let response =
                    answered.unwrap_or_else(|error| error::respond(&error, Duration::ZERO));
                let expected = match (expected.as_str(), status) {
                    ("as it is", Some(status)) => format!("{}.{:02}", status / 100, status % 100),
                    (code, _) => code.to_owned(),
                };
                assert_eq!(response.code.to_string(), expected, "{method} {status:?}");
            }
        }
    };
    let mut named = Vec::new();
    for row in rows("status") {
        if row[0] == "none" {
            check(&row, None);
            continue;
        }
        for status in statuses(&row[0], &named) {
            check(&row, Some(status));
            named.push(status);
        }
    }
    named.sort_unstable();
    assert_eq!(named, (200..1000).collect::<Vec<_>>());
}

#[test]
fn errors_have_the_codes_that_the_page_says() {
    let (name, retry_after) = ("f".to_owned(), Duration::from_secs(1));
    let errors: [(&str, CallError); 11] = [
        ("no function has that name", InvokeError::NotFound { name: name.clone() }.into()),
        (
            "the handler died while it ran the call",
            InvokeError::Crashed { how: String::new() }.into(),
        ),
        (
            "the reply cannot be read, or broke off",
            InvokeError::ReplyBroken { how: String::new() }.into(),
        ),
        (
            "the function has as many calls waiting as it may",
            InvokeError::FunctionBusy { name, limit: 1, retry_after }.into(),
        ),
        (
            "the server has as many calls waiting, or as many bytes in memory, as it may",
            InvokeError::ServerBusy { what: "", retry_after }.into(),
        ),
        (
            "no handler of the function is there",
            InvokeError::Unavailable { reason: String::new(), retry_after }.into(),
        ),
        ("the server stops, or the function was deleted", InvokeError::Stopping.into()),
        (
            "the call took longer than its deadline",
            InvokeError::DeadlineExceeded { after: retry_after }.into(),
        ),
        (
            "the body is larger than allowed",
            InvokeError::Request(BodyError::TooLarge { limit_bytes: 1 }).into(),
        ),
        (
            "the reply is longer than is sent over CoAP",
            ReplyError::TooLarge { limit_bytes: 1 }.into(),
        ),
        (
            "the reply is in another format than is accepted",
            ReplyError::NotAcceptable { has: 0, wanted: 50 }.into(),
        ),
    ];
    let told = errors.iter().map(|(what, error)| {
        let response = error::respond(error, retry_after);
        let wait = response.options.uint(OptionNumber::MAX_AGE).map_or("", |_| " with Max-Age");
        vec![(*what).to_owned(), format!("{}{wait}", response.code)]
    });
    assert_eq!(told.collect::<Vec<_>>(), rows("what happened"));
}

#[test]
fn every_content_format_is_on_the_page_and_no_other() {
    let documented: Vec<_> =
        rows("number").iter().map(|row| format!("{} {}", row[0], row[1])).collect();
    let known = (0..=u16::MAX).filter_map(|number| {
        let (kind, deflated) = formats::media_type(number);
        let is_named = !kind.starts_with("application/coap-payload");
        is_named.then(|| format!("{number} `{kind}`{}", if deflated { ", deflated" } else { "" }))
    });
    assert_eq!(known.collect::<Vec<_>>(), documented);
}
