//! What a call over CoAP sends: flags become a method and options.
//!
//! Owns which headers there are options for. Pure.

use bytes::Bytes;
use clap::ArgMatches;
use tinyfaas_coap::client::Call;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, OptionNumber, Options, OptionsBuilder};
use tinyfaas_coap::{etag, formats};

use super::place::Place;
use crate::failure::Failure;

/// In the query: run the call later.
const ASYNC: &[u8] = b"tinyfaas-async";
/// The longest value of a path's segment, a query's part and a host's name, in
/// bytes (RFC 7252 section 5.10).
const VALUE_BYTES_MAX: usize = 255;
/// The headers that CoAP has options for.
const HEADERS: &str = "Content-Type, Accept, ETag, If-Match and If-None-Match";
/// The methods, as RFC 7252 and RFC 8132 have them.
const METHODS: [(&str, Code); 7] = [
    ("GET", Code::GET),
    ("POST", Code::POST),
    ("PUT", Code::PUT),
    ("DELETE", Code::DELETE),
    ("FETCH", Code::FETCH),
    ("PATCH", Code::PATCH),
    ("iPATCH", Code::IPATCH),
];

/// What the flags ask for. `path` has the function's name and what follows it.
pub(super) fn call(matches: &ArgMatches, path: &str, body: Option<Bytes>) -> Result<Call, Failure> {
    let mut options = OptionsBuilder::new();
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    for segment in path.trim_start_matches('/').split('/') {
        let segment = value("--path", segment)?;
        if segment == b"." || segment == b".." {
            return Err(Failure::usage("--path: no part of it may be . or .."));
        }
        push(&mut options, OptionNumber::URI_PATH, &segment);
    }
    for part in query.into_iter().flat_map(|query| query.split('&')) {
        push(&mut options, OptionNumber::URI_QUERY, &value("--path", part)?);
    }
    if matches.get_flag("async") {
        push(&mut options, OptionNumber::URI_QUERY, ASYNC);
    }
    for text in matches.get_many::<String>("header").into_iter().flatten() {
        header(&mut options, text)?;
    }
    Ok(Call {
        code: method(matches, body.is_some())?,
        confirmable: !matches.get_flag("non"),
        wants_reply: true,
        options: options.build(),
        payload: body.unwrap_or_default(),
    })
}

/// Asks for what came of a call that was accepted.
pub(super) fn result(accepted: &Response, query: &str) -> Call {
    let mut options = OptionsBuilder::new();
    for segment in accepted.options.all(OptionNumber::LOCATION_PATH) {
        push(&mut options, OptionNumber::URI_PATH, segment);
    }
    push(&mut options, OptionNumber::URI_QUERY, query.as_bytes());
    Call {
        code: Code::GET,
        confirmable: true,
        wants_reply: true,
        options: options.build(),
        payload: Bytes::new(),
    }
}

/// Adds the name of the host that is asked (RFC 7252 section 6.4).
pub(super) fn name_host(call: &mut Call, place: &Place) -> Result<(), Failure> {
    let Some(host) = place.host_name() else { return Ok(()) };
    if host.len() > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!("{place}: the host's name is too long")));
    }
    let mut options = call.options.edit();
    push(&mut options, OptionNumber::URI_HOST, host.as_bytes());
    call.options = options.build();
    Ok(())
}

fn method(matches: &ArgMatches, has_body: bool) -> Result<Code, Failure> {
    let Some(asked) = matches.get_one::<String>("method") else {
        return Ok(if has_body { Code::POST } else { Code::GET });
    };
    let found = METHODS.iter().find(|(name, _)| name.eq_ignore_ascii_case(asked));
    found.map(|(_, code)| *code).ok_or_else(|| {
        let names = METHODS.map(|(name, _)| name).join(", ");
        Failure::usage(format!("-X {asked:?}: CoAP has no such method; it has {names}"))
    })
}

/// What a percent-encoded part of a URL stands for.
fn value(flag: &str, part: &str) -> Result<Vec<u8>, Failure> {
    let value: Vec<u8> = percent_encoding::percent_decode_str(part).collect();
    if value.len() > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{flag}: a part of it has {} bytes, CoAP carries at most {VALUE_BYTES_MAX} between \
             two signs / or &",
            value.len()
        )));
    }
    if std::str::from_utf8(&value).is_err() {
        return Err(Failure::usage(format!("{flag}: it holds bytes that are not UTF-8")));
    }
    Ok(value)
}

/// Adds the option of a header. A value is not repeated in a message: it may be a
/// secret.
fn header(options: &mut OptionsBuilder, text: &str) -> Result<(), Failure> {
    let (key, value) = super::super::header(text)?;
    match key.to_ascii_lowercase().as_str() {
        "content-type" => {
            options.push_uint(OptionNumber::CONTENT_FORMAT, content_format(key, value)?);
        }
        "accept" if value == "*/*" => {}
        "accept" => {
            options.push_uint(OptionNumber::ACCEPT, content_format(key, value)?);
        }
        "etag" => tags(options, OptionNumber::ETAG, key, value)?,
        "if-match" if value == "*" => push(options, OptionNumber::IF_MATCH, b""),
        "if-match" => tags(options, OptionNumber::IF_MATCH, key, value)?,
        "if-none-match" if value == "*" => push(options, OptionNumber::IF_NONE_MATCH, b""),
        // Who has one of these wants to hear only that it is still valid.
        "if-none-match" => tags(options, OptionNumber::ETAG, key, value)?,
        "x-tinyfaas-async" => {
            return Err(Failure::usage(format!("-H {key}: over CoAP that is --async")));
        }
        _ => {
            return Err(Failure::usage(format!(
                "-H {key}: CoAP has no option for it; there are {HEADERS}"
            ))
            .tip("put it into the query, which functions get too: --path '?key=value'"));
        }
    }
    Ok(())
}

/// The number of a media type, or a number as it is.
fn content_format(key: &str, value: &str) -> Result<u32, Failure> {
    if let Ok(number) = value.parse::<u16>() {
        return Ok(number.into());
    }
    let number = formats::number(value, None);
    let (known, deflated) = formats::media_type(number);
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    // What has no number of its own is not told as something else.
    if deflated || !essence(&known).eq_ignore_ascii_case(&essence(value)) {
        return Err(Failure::usage(format!(
            "-H {key}: {value:?} has no number in CoAP (Content-Format)"
        ))
        .tip(
            "name one that has, like application/json, application/cbor or text/plain, or a number",
        ));
    }
    Ok(number.into())
}

fn tags(
    options: &mut OptionsBuilder,
    number: OptionNumber,
    key: &str,
    value: &str,
) -> Result<(), Failure> {
    for tag in value.split(',') {
        let tag = etag::from_header(tag.as_bytes())
            .ok_or_else(|| Failure::usage(format!("-H {key}: it has an empty tag")))?;
        push(options, number, &tag);
    }
    Ok(())
}

fn push(options: &mut OptionsBuilder, number: OptionNumber, value: &[u8]) {
    options.push(number, value).expect("its length was looked at, or it came in an option");
}

/// An option for a program: its name, and its values as what they are.
pub(super) fn shown(options: &Options) -> serde_json::Map<String, serde_json::Value> {
    let mut shown = serde_json::Map::new();
    for (number, value) in options.iter() {
        let (name, kind) = named(number);
        let value = match kind {
            Kind::Number => match tinyfaas_coap::message::uint(value) {
                Some(number) => number.into(),
                None => hex(value).into(),
            },
            Kind::Text => String::from_utf8_lossy(value).into(),
            Kind::Bytes => hex(value).into(),
        };
        let values = shown.entry(name).or_insert_with(|| Vec::<serde_json::Value>::new().into());
        if let Some(values) = values.as_array_mut() {
            values.push(value);
        }
    }
    shown
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Bytes,
}

/// An option's name in the registry (RFC 7252 section 12.2), or its number.
fn named(number: OptionNumber) -> (String, Kind) {
    let (name, kind) = match number {
        OptionNumber::ETAG => ("ETag", Kind::Bytes),
        OptionNumber::OBSERVE => ("Observe", Kind::Number),
        OptionNumber::LOCATION_PATH => ("Location-Path", Kind::Text),
        OptionNumber::CONTENT_FORMAT => ("Content-Format", Kind::Number),
        OptionNumber::MAX_AGE => ("Max-Age", Kind::Number),
        OptionNumber::LOCATION_QUERY => ("Location-Query", Kind::Text),
        OptionNumber::SIZE1 => ("Size1", Kind::Number),
        OptionNumber::ECHO => ("Echo", Kind::Bytes),
        _ => return (number.to_string(), Kind::Bytes),
    };
    (name.to_owned(), kind)
}

fn hex(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Call, Failure> {
        let all = ["call", "x", "--coap"].iter().chain(arguments).copied();
        let matches = super::super::super::command().try_get_matches_from(all).expect("sound");
        let below = matches.get_one::<String>("path").map(String::as_str);
        let path = super::super::super::path("x", below)?;
        let body = matches.get_one::<String>("data").map(|data| Bytes::from(data.clone()));
        call(&matches, &path, body)
    }

    fn options(call: &Call) -> Vec<(u16, Vec<u8>)> {
        call.options.iter().map(|(number, value)| (number.0, value.to_vec())).collect()
    }

    #[test]
    fn flags_become_methods_and_options() {
        let check = |arguments: &[&str], code: Code, expected: &[(u16, &[u8])]| {
            let call = parse(arguments).expect("a call");
            let mut expected: Vec<_> = expected.iter().map(|(n, v)| (*n, v.to_vec())).collect();
            expected.insert(0, (11, b"x".to_vec()));
            expected.sort_by_key(|(number, _)| *number);
            assert_eq!((call.code, options(&call)), (code, expected), "{arguments:?}");
        };
        check(&[], Code::GET, &[]);
        check(&["-d", "y"], Code::POST, &[]);
        check(&["-d", "y", "-X", "ipatch"], Code::IPATCH, &[]);
        check(&["-X", "FETCH", "-d", "y"], Code::FETCH, &[]);
        check(
            &["--path", "/a%2Fb/?c=d%20e&f"],
            Code::GET,
            &[(11, b"a/b"), (11, b""), (15, b"c=d e"), (15, b"f")],
        );
        check(&["--async"], Code::GET, &[(15, b"tinyfaas-async")]);
        check(&["-H", "Content-Type: application/json", "-d", "1"], Code::POST, &[(12, &[50])]);
        check(&["-H", "content-type: text/plain;charset=utf-8"], Code::GET, &[(12, &[])]);
        check(&["-H", "Content-Type: 60"], Code::GET, &[(12, &[60])]);
        check(&["-H", "Accept: application/link-format"], Code::GET, &[(17, &[40])]);
        check(&["-H", "Accept: */*"], Code::GET, &[]);
        check(&["-H", "If-None-Match: *"], Code::GET, &[(5, b"")]);
        check(&["-H", "If-Match: *"], Code::GET, &[(1, b"")]);
        check(&["-H", "If-Match: \"v1\", \"00ff\""], Code::GET, &[(1, b"v1"), (1, &[0, 0xff])]);
        check(&["-H", "If-None-Match: \"v1\""], Code::GET, &[(4, b"v1")]);
        check(&["-H", "ETag: \"v1\""], Code::GET, &[(4, b"v1")]);
        assert!(!parse(&["--non"]).expect("a call").confirmable);
    }

    #[test]
    fn what_coap_cannot_carry_is_wrong_usage() {
        let long = format!("/{}", "y".repeat(256));
        for (arguments, word) in [
            (["-X", "TRACE"], "iPATCH"),
            (["-H", "Lab: secret"], "Content-Type"),
            (["-H", "nocolon"], "colon"),
            (["-H", "Content-Type: image/webp"], "application/json"),
            (["-H", "Content-Type: text/html"], "application/json"),
            (["-H", "Content-Type: text/plain; charset=latin1"], "application/json"),
            (["-H", "Content-Type: 65536"], "application/json"),
            (["-H", "If-Match:"], "empty"),
            (["-H", "X-tinyFaaS-Async: true"], "--async"),
            (["--path", "/a/../b"], ".."),
            (["--path", "/%ff"], "UTF-8"),
            (["--path", &long], "256"),
        ] {
            let failure = parse(&arguments).expect_err("not to be sent");
            let said = failure.shown(crate::terminal::Paint::NEVER);
            assert!(failure.code() == 2 && said.contains(word), "{arguments:?}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn the_host_is_named_where_it_has_a_name() {
        for (text, expected) in [("coap://Board:7", Some(&b"board"[..])), ("127.0.0.1", None)] {
            let mut call = parse(&[]).expect("a call");
            name_host(&mut call, &Place::parse(text).expect("a place")).expect("short enough");
            assert_eq!(call.options.get(OptionNumber::URI_HOST), expected);
        }
    }

    #[test]
    fn options_are_shown_by_name() {
        let mut builder = OptionsBuilder::new();
        push(&mut builder, OptionNumber::ETAG, &[0, 0xab]);
        for part in [&b"a"[..], b"\xff"] {
            push(&mut builder, OptionNumber::LOCATION_PATH, part);
        }
        builder.push_uint(OptionNumber::MAX_AGE, 300);
        push(&mut builder, OptionNumber(2050), b"z");
        let expected = serde_json::json!({
            "ETag": ["00ab"], "Location-Path": ["a", "\u{fffd}"], "Max-Age": [300], "2050": ["7a"],
        });
        assert_eq!(serde_json::Value::from(shown(&builder.build())), expected);
    }
}
