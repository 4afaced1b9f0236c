//! A function's reply as version 2 tells it.
//!
//! Owns its head. Must not know where the reply comes from.

use ::http::StatusCode;
use ::http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::Bytes;
use tinyfaas_grpc::v2::{Header, InvokeResponse};
use tinyfaas_model::CallId;

use crate::connections::CALL_ID;
use crate::hop;

/// A reply without its body.
pub(super) fn head(
    status: Option<StatusCode>,
    mut headers: HeaderMap,
    id: CallId,
) -> InvokeResponse {
    if headers.keys().any(hop::is) {
        hop::remove(&mut headers);
    }
    headers.remove(CALL_ID);
    // What the function claims of a body that says itself how long it is.
    headers.remove(CONTENT_LENGTH);
    let header = |(name, value): (&::http::HeaderName, &::http::HeaderValue)| Header {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    InvokeResponse {
        status: u32::from(status.unwrap_or_default().as_u16()),
        headers: headers.iter().map(header).collect(),
        body: Bytes::new(),
        call_id: id.to_string(),
    }
}
