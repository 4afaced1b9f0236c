//! What an ACME server asks for to see that a domain is this server's (RFC 8555,
//! section 8.3).
//!
//! Owns where it is asked for; no function can be there, as none starts with a dot.
//! Must not know what is told.

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderValue, Method, Response};
use tinyfaas_model::{Body, CallTarget};

use super::Http;

/// Where a function's name stands otherwise (RFC 8615).
const ROOM: &str = ".well-known";

/// The answer to a token that is being asked for; nothing to any other request.
pub(super) fn answer(
    http: &Http,
    name: &str,
    method: &Method,
    target: &CallTarget,
) -> Option<Response<Body>> {
    if name != ROOM || *method != Method::GET {
        return None;
    }
    let token = target.path().strip_prefix("/acme-challenge/")?;
    let told = http.names.get()?.http_challenge(token)?;
    let mut response = Response::new(Body::from_bytes(told));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Some(response)
}
