//! What a call over gRPC sends: flags become a message.
//!
//! Owns what either version of the interface can carry. Pure.

use clap::ArgMatches;
use reqwest::Url;
use tinyfaas_grpc::v1::Data;
use tinyfaas_grpc::v2::{Header, InvokeRequest};
use tonic::Request;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};

use super::place::Place;
use crate::failure::Failure;

/// What a call of version 1 has no place for: HTTP/2's and gRPC's own.
const NO_METADATA: [&str; 4] = ["te", "content-type", "content-length", "user-agent"];

/// What the flags ask for, without a body. `path` has the function's name and what
/// follows it.
pub(super) fn invoke(
    matches: &ArgMatches,
    name: &str,
    path: &str,
) -> Result<InvokeRequest, Failure> {
    let headers = super::super::headers(matches)?;
    if headers.contains_key("x-tinyfaas-async") {
        return Err(Failure::usage("-H x-tinyfaas-async: over gRPC that is --async"));
    }
    let headers = headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: value.as_bytes().to_vec().into(),
    });
    Ok(InvokeRequest {
        function: name.to_owned(),
        headers: headers.collect(),
        method: super::super::method(matches)?.to_string(),
        path: below(name, path)?,
        ..InvokeRequest::default()
    })
}

/// What follows the function's name, as it would stand in a URL.
fn below(name: &str, path: &str) -> Result<String, Failure> {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut url = Url::parse("http://gateway").expect("it is one");
    url.set_path(path);
    url.set_query(query);
    let below = url.path().strip_prefix('/').and_then(|path| path.strip_prefix(name));
    let below = below.filter(|below| below.is_empty() || below.starts_with('/'));
    let below = below.ok_or_else(|| Failure::usage("--path: it leads out of the function"))?;
    Ok(match url.query() {
        Some(query) => format!("{below}?{query}"),
        None => below.to_owned(),
    })
}

/// The same call as the original tinyFaaS has it: a name, a text, and metadata.
pub(super) fn of_version_1(
    matches: &ArgMatches,
    place: &Place,
    call: InvokeRequest,
) -> Result<Request<Data>, Failure> {
    let lacks = |what: &str| {
        let said = format!("the server at {place} is an older tinyFaaS: over gRPC it {what}");
        Failure::failed(said).tip("call over HTTP: leave --grpc out")
    };
    if matches.contains_id("method") || !call.path.is_empty() {
        return Err(lacks("knows neither methods nor paths"));
    }
    if std::str::from_utf8(&call.body).is_err() {
        return Err(lacks("takes text only, and the body is not UTF-8"));
    }
    let mut request = Request::new(Data { function_identifier: call.function, data: call.body });
    for Header { name, value } in call.headers {
        // Binary metadata and gRPC's own are no headers.
        let is_own = name.starts_with("grpc-") || NO_METADATA.contains(&name.as_str());
        let key = AsciiMetadataKey::from_bytes(name.as_bytes()).ok().filter(|_| !is_own);
        let key = key.ok_or_else(|| lacks(&format!("carries no header {name}")))?;
        let value = AsciiMetadataValue::try_from(&value[..]).ok().filter(|_| value.is_ascii());
        let value = value
            .ok_or_else(|| lacks(&format!("carries ASCII only, and the header {name} is not")))?;
        request.metadata_mut().append(key, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> (ArgMatches, Result<InvokeRequest, Failure>) {
        let all = ["call", "x", "--grpc"].iter().chain(arguments).copied();
        let matches = super::super::super::command().try_get_matches_from(all).expect("sound");
        let below = matches.get_one::<String>("path").map(String::as_str);
        let path = super::super::super::path("x", below).expect("a name");
        let call = invoke(&matches, "x", &path);
        (matches, call)
    }

    #[test]
    fn flags_become_a_message() {
        let check = |arguments: &[&str], method: &str, path: &str, headers: &[(&str, &str)]| {
            let call = parse(arguments).1.expect("a call");
            let told = call.headers.iter().map(|header| {
                (header.name.as_str(), std::str::from_utf8(&header.value).expect("text"))
            });
            assert_eq!((call.function.as_str(), told.collect::<Vec<_>>()), ("x", headers.to_vec()));
            assert_eq!((call.method.as_str(), call.path.as_str()), (method, path), "{arguments:?}");
        };
        check(&[], "GET", "", &[]);
        check(&["-d", "y"], "POST", "", &[]);
        check(&["-d", "y", "-X", "PURGE"], "PURGE", "", &[]);
        check(&["--path", "/a b/?c=d e&f#g"], "GET", "/a%20b/?c=d%20e&f%23g", &[]);
        check(&["--path", "?q"], "GET", "?q", &[]);
        check(
            &["-H", "Lab: a", "-H", "LAB: b", "-H", "T-bin: AA=="],
            "GET",
            "",
            &[("lab", "a"), ("lab", "b"), ("t-bin", "AA==")],
        );
        for (arguments, word) in [
            (["--path", "/../y"], "leads out"),
            (["-H", "X-tinyFaaS-Async: 1"], "--async"),
            (["-H", "nocolon"], "colon"),
            (["-X", "a b"], "method"),
        ] {
            let failure = parse(&arguments).1.expect_err(word);
            assert!(failure.code() == 2 && failure.to_string().contains(word), "{failure}");
        }
    }

    #[test]
    fn version_1_carries_a_text_and_metadata() {
        let check = |arguments: &[&str], body: &'static [u8]| {
            let (matches, call) = parse(arguments);
            let call = InvokeRequest { body: body.into(), ..call.expect("a call") };
            of_version_1(&matches, &Place::parse("h:1").expect("a place"), call)
        };
        let request = check(&["-H", "Lab: a", "-H", "lab: b"], "ä".as_bytes()).expect("a call");
        let all: Vec<_> = request.metadata().get_all("lab").iter().collect();
        assert_eq!(all, ["a", "b"]);
        let Data { function_identifier, data } = request.into_inner();
        assert_eq!((function_identifier.as_str(), &data[..]), ("x", "ä".as_bytes()));
        for (arguments, body, word) in [
            (&["-X", "PUT"][..], &b""[..], "methods"),
            (&["--path", "/a"], b"", "paths"),
            (&[], b"\xff", "UTF-8"),
            (&["-H", "Content-Type: text/plain"], b"", "content-type"),
            (&["-H", "grpc-timeout: 1S"], b"", "grpc-timeout"),
            (&["-H", "x-bin: AA"], b"", "x-bin"),
            (&["-H", "Name: ä-secret"], b"", "ASCII"),
        ] {
            let failure = check(arguments, body).expect_err(word);
            let said = failure.shown(crate::terminal::Paint::NEVER);
            assert!(said.contains(word) && said.contains("leave --grpc out"), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
