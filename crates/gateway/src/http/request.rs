//! A request as hyper has read it becomes what dispatch can run.
//!
//! Owns what is checked before anything is done for a request, and which of its
//! headers a function sees. Must not know functions nor handlers.

use ::http::header::{
    ACCEPT, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use ::http::request::Parts;
use ::http::{Method, Version};

use super::error::Refused;
use crate::hop;

use crate::client;
use crate::connections::watch::Activity;
use crate::connections::{CALL_ID, had_length};
use crate::trace::{self, TRACEPARENT, TRACESTATE};

/// With any value: run the call later.
pub(super) const ASYNC: HeaderName = HeaderName::from_static("x-tinyfaas-async");

/// What one look at a request's headers finds: most have little of it, and to
/// look once is cheaper than to ask for each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Run the call later.
    pub(super) later: bool,
    /// An error may be told in another manner.
    pub(super) accept: bool,
    /// The caller sends its body once it is asked to.
    pub(super) expect: bool,
    hosts: usize,
    cookies: usize,
    transfer_encoding: bool,
    hop_by_hop: bool,
    /// Headers that are for the server alone.
    ours: bool,
    /// Headers that could be taken for what the server says of a client.
    forged: bool,
    traceparents: usize,
    tracestate: bool,
}

/// Looks at a request's headers.
pub(super) fn look(headers: &HeaderMap) -> Seen {
    let mut seen = Seen::default();
    for name in headers.iter().map(|(name, _)| name) {
        seen.hosts += usize::from(name == HOST);
        seen.cookies += usize::from(name == COOKIE);
        seen.accept |= name == ACCEPT;
        seen.transfer_encoding |= name == TRANSFER_ENCODING;
        seen.hop_by_hop |= hop::is(name);
        seen.later |= name == ASYNC;
        seen.expect |= name == EXPECT;
        seen.ours |= name == CALL_ID;
        seen.forged |= client::is_reserved(name.as_str());
        seen.traceparents += usize::from(name == TRACEPARENT);
        seen.tracestate |= name == TRACESTATE;
    }
    seen
}

/// Checks a request's head and leaves what a function may see of it.
pub(super) fn check(
    parts: &mut Parts,
    seen: &Seen,
    lines_max: usize,
    activity: &Activity,
) -> Result<(), Refused> {
    if parts.method == Method::CONNECT {
        return Err(Refused::Connect);
    }
    // HTTP/1 has counted its lines while parsing them.
    let lines = parts.headers.len();
    if lines > lines_max {
        return Err(Refused::TooManyHeaders { lines, limit: lines_max });
    }
    if parts.version < Version::HTTP_2 {
        if seen.hosts > 1 || (seen.hosts == 0 && parts.version == Version::HTTP_11) {
            return Err(Refused::Host);
        }
        if seen.transfer_encoding && had_length(&parts.method, &parts.uri, activity) {
            return Err(Refused::TwoLengths);
        }
    } else if seen.cookies > 1 {
        join_cookies(&mut parts.headers);
    }
    // The target's host, where it has one, is the one that counts (RFC 9112,
    // section 3.2.2; RFC 9113, section 8.3.1).
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(HOST, host);
    }
    if seen.hop_by_hop {
        hop::remove(&mut parts.headers);
    }
    if seen.ours || seen.expect {
        // Said to the server, and answered by it.
        parts.headers.remove(EXPECT);
        // Nobody but the gateway names a call.
        parts.headers.remove(CALL_ID);
    }
    trace::hand_on(&mut parts.headers, seen.traceparents, seen.tracestate);
    client::hand_on(&mut parts.headers, seen.forged, activity.client());
    Ok(())
}

/// HTTP/2 may split a cookie header; a function sees it whole (RFC 9113, section
/// 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}
