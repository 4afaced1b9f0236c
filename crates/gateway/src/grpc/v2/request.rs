//! What a head asks for.
//!
//! Owns reading it, and what of it a function sees. Must not know what comes of it.

use std::sync::Arc;

use ::http::Method;
use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use ::http::uri::PathAndQuery;
use tinyfaas_grpc::v2::{Header, InvokeRequest};
use tinyfaas_model::{Body, CallTarget, Route};

use crate::grpc::call::{Asked, Call};
use crate::grpc::error::{CallError, Refused};
use crate::grpc::metadata;

/// Stands for the function's name in front of the path: it is told apart already.
const NAME: &str = "/f";

/// What a call with its whole input asks for, and of which function.
pub(super) fn read(
    call: &Call,
    mut headers: HeaderMap,
    head: InvokeRequest,
) -> Result<(Arc<Route>, Asked), CallError> {
    let InvokeRequest { function, body, headers: given, method, path } = head;
    let route = call.find(&function)?;
    let config = call.config();
    let (lines, limit) = (headers.len() + given.len(), config.header_lines_max);
    if lines > limit {
        return Err(Refused::TooManyHeaders { lines, limit }.into());
    }
    let given_bytes = given.iter().map(|header| header.name.len() + header.value.len());
    let bytes = given_bytes.sum::<usize>() + path.len() + method.len();
    if bytes > config.header_bytes_max as usize {
        return Err(Refused::HeadTooLarge { limit_bytes: config.header_bytes_max }.into());
    }
    metadata::clean(&mut headers);
    // A name that stands here takes the place of what the metadata say.
    headers.extend(self::headers(given)?);
    metadata::trace(&mut headers);
    let method = self::method(method)?;
    let target = target(path)?;
    Ok((route, Asked { method, target, headers, body: Body::from_bytes(body) }))
}

fn headers(given: Vec<Header>) -> Result<HeaderMap, Refused> {
    let mut headers = HeaderMap::with_capacity(given.len());
    for Header { name, value } in given {
        let read = HeaderName::from_bytes(name.as_bytes()).ok();
        let read = read.zip(HeaderValue::from_maybe_shared(value).ok());
        let Some((read, value)) = read else { return Err(Refused::BadHeader { name }) };
        if !metadata::is_ours(&read) {
            headers.append(read, value);
        }
    }
    Ok(headers)
}

fn method(method: String) -> Result<Method, Refused> {
    if method.is_empty() {
        return Ok(Method::POST);
    }
    Method::from_bytes(method.as_bytes()).map_err(|_| Refused::BadMethod { method })
}

fn target(path: String) -> Result<CallTarget, Refused> {
    if path.is_empty() {
        return Ok(CallTarget::split(&PathAndQuery::from_static("/")).1);
    }
    // What is behind # never leaves a browser; here it would vanish silently.
    if !path.starts_with(['/', '?']) || path.contains('#') {
        return Err(Refused::BadPath { path });
    }
    match PathAndQuery::from_maybe_shared(format!("{NAME}{path}")) {
        Ok(whole) => Ok(CallTarget::split(&whole).1),
        Err(_) => Err(Refused::BadPath { path }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_target(path: &str, expected: Option<(&str, &str)>) {
        let target = target(path.to_owned()).ok();
        let found = target.as_ref().map(|target| (target.path(), target.query()));
        assert_eq!(found, expected, "{path:?}");
    }

    #[test]
    fn a_path_is_what_stands_behind_the_name() {
        check_target("", Some(("/", "")));
        check_target("/", Some(("/", "")));
        check_target("/a/b?c=d", Some(("/a/b", "c=d")));
        check_target("?c", Some(("/", "c")));
        check_target("//a", Some(("//a", "")));
        for wrong in ["a", "/a b", "/a#b", "/\n", "http://h/"] {
            check_target(wrong, None);
        }
    }

    fn header(name: &str, value: &'static [u8]) -> Header {
        Header { name: name.into(), value: value.into() }
    }

    #[test]
    fn headers_are_those_of_http() {
        let given = vec![
            header("Lab", b"one"),
            header("lab", b"\xff"),
            header("Content-Type", b"text/plain"),
            header("Content-Length", b"7"),
            header("X-tinyFaaS-Client-Subject", b"CN=forged"),
            header("Connection", b"close"),
        ];
        let read = headers(given).unwrap_or_default();
        assert_eq!(read.len(), 3);
        let lab: Vec<&[u8]> = read.get_all("lab").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(lab, [&b"one"[..], b"\xff"]);
        for wrong in [header("", b""), header("a b", b""), header("a", b"\n"), header(":path", b"")]
        {
            let name = wrong.name.clone();
            assert_eq!(headers(vec![wrong]).err(), Some(Refused::BadHeader { name }));
        }
    }

    #[test]
    fn a_method_is_a_token() {
        assert_eq!(method(String::new()).ok(), Some(Method::POST));
        assert_eq!(method("PURGE".into()).ok().as_ref().map(Method::as_str), Some("PURGE"));
        assert!(method("a b".into()).is_err());
    }
}
