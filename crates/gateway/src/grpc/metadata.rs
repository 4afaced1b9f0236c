//! A call's metadata become headers.
//!
//! Owns which of them a function sees. Must not know functions nor handlers.

use ::http::HeaderMap;
use ::http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName};

use crate::client;
use crate::connections::CALL_ID;
use crate::hop;
use crate::trace::{self, TRACEPARENT, TRACESTATE};

/// With any value: run the call later.
pub(super) static ASYNC: HeaderName = HeaderName::from_static("x-tinyfaas-async");

/// Whether a header of this name is said to the server, or by it, and not to the
/// function.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    hop::is(name)
        || name == CALL_ID
        // Of the message and not of what is in it.
        || name == CONTENT_LENGTH
        || client::is_reserved(name.as_str())
}

/// Whether this is what gRPC itself has to say.
fn is_grpcs(name: &HeaderName) -> bool {
    // What a browser's request is given on its way here.
    name == CONTENT_TYPE
        || name == ACCEPT_ENCODING
        || name.as_str().starts_with("grpc-")
        || name == "x-grpc-web"
        // Over HTTP/2 it is a pseudo header, of which there is no trace either.
        || name == HOST
}

/// Leaves what a function may see. Values of the same name stay apart, in order, as
/// they do over HTTP; binary ones (`-bin`) stay base64.
pub(super) fn clean(headers: &mut HeaderMap) {
    if headers.keys().any(hop::is) {
        hop::remove(headers);
    }
    // A name has no allocation of its own but for rare ones.
    while let Some(name) = headers.keys().find(|name| is_ours(name) || is_grpcs(name)) {
        let name = name.clone();
        headers.remove(name);
    }
}

/// Sees to it that the function knows which trace the call belongs to.
pub(super) fn trace(headers: &mut HeaderMap) {
    let parents = headers.get_all(&TRACEPARENT).iter().count();
    let has_state = headers.contains_key(&TRACESTATE);
    trace::hand_on(headers, parents, has_state);
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    #[test]
    fn only_what_is_for_the_function_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("grpc-timeout", "1S"),
            ("host", "here"),
            ("grpc-accept-encoding", "gzip"),
            ("content-length", "12"),
            ("connection", "close"),
            ("x-tinyfaas-call-id", "1"),
            ("x-tinyfaas-client-subject", "CN=admin"),
            ("user-agent", "grpc-python/1.64"),
            ("lab", "one"),
            ("lab", "two"),
            ("key-bin", "AAE"),
            ("x-tinyfaas", "kept"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        clean(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        // In no order but for values of the same name.
        left.sort_by_key(|(name, _)| *name);
        assert_eq!(
            left,
            [
                ("key-bin", &b"AAE"[..]),
                ("lab", b"one"),
                ("lab", b"two"),
                ("user-agent", b"grpc-python/1.64"),
                ("x-tinyfaas", b"kept"),
            ]
        );
        trace(&mut headers);
        assert!(headers.contains_key("traceparent"));
    }
}
