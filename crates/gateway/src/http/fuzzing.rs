//! A door for the fuzz targets, there only in their builds.

use ::http::{HeaderMap, HeaderValue};

use crate::trace::{TRACEPARENT, hand_on};

/// A caller's `traceparent`: the function gets exactly one, and a valid one stays.
pub fn trace(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else { return };
    let mut headers = HeaderMap::new();
    headers.insert(&TRACEPARENT, value);
    hand_on(&mut headers, 1, false);
    let first = headers[&TRACEPARENT].clone();
    // What was handed on is valid: it is kept.
    hand_on(&mut headers, 1, false);
    assert_eq!(headers.get_all(&TRACEPARENT).iter().collect::<Vec<_>>(), [&first]);
}
