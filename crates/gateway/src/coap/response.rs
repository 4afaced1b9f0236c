//! A function's reply becomes a CoAP response.
//!
//! Owns its code, which headers become options, and what a body without a type is.
//! Must not know where the reply comes from, nor blocks: a reply is whole here, and
//! what cuts it adds its own options.

use std::future::poll_fn;
use std::pin::Pin;

use ::http::StatusCode;
use ::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LOCATION,
    RETRY_AFTER,
};
use bytes::Bytes;
use http_body::Body as _;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, OptionNumber, Options, OptionsBuilder};
use tinyfaas_coap::{etag, formats};
use tinyfaas_model::{Body, InvokeError, Reply};

use super::error::{CallError, ReplyError};
use super::location;
use super::request::Terms;
use crate::held::Share;

/// The response for a reply, whose body is read to its end and held on that share
/// of the budget.
///
/// # Errors
/// Where the reply breaks off, is longer than that, or none that CoAP could carry.
pub(super) async fn respond(
    reply: Reply,
    terms: &Terms,
    held: &Share,
    bytes_max: usize,
) -> Result<Response, CallError> {
    let Reply { status, failed, headers, body } = reply;
    let payload = match body {
        // A stream's place is its own: most replies are whole.
        Body::Stream(_) => Box::pin(read(body, held, bytes_max)).await?,
        Body::Full(bytes) => whole(bytes, held, bytes_max)?,
        Body::Empty => Bytes::new(),
    };
    if failed {
        return Ok(diagnosis(Code::INTERNAL_SERVER_ERROR, payload));
    }
    convert(status, &headers, payload, terms)
}

/// A body that is here already.
fn whole(bytes: Bytes, held: &Share, bytes_max: usize) -> Result<Bytes, CallError> {
    if bytes.len() > bytes_max {
        return Err(ReplyError::TooLarge { limit_bytes: bytes_max }.into());
    }
    if !held.grow(bytes.len()) {
        return Err(ReplyError::NoRoom.into());
    }
    Ok(bytes)
}

/// Reads a body to its end.
async fn read(mut body: Body, held: &Share, bytes_max: usize) -> Result<Bytes, CallError> {
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| InvokeError::ReplyBroken { how: error.to_string() })?;
        // A function's trailers are dropped, as they are over HTTP.
        let Ok(data) = frame.into_data() else { continue };
        let length = first.len() + whole.len() + data.len();
        if length > bytes_max {
            return Err(ReplyError::TooLarge { limit_bytes: bytes_max }.into());
        }
        // The only part, as it mostly is, need not be copied.
        if first.is_empty() && whole.is_empty() {
            if !held.grow(data.len()) {
                return Err(ReplyError::NoRoom.into());
            }
            first = data;
            continue;
        }
        if length > whole.capacity() {
            let room = length.max(whole.capacity().saturating_mul(2)).min(bytes_max);
            if !held.grow(room - whole.capacity()) {
                return Err(ReplyError::NoRoom.into());
            }
            whole.reserve_exact(room - whole.len());
        }
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.into() })
}

/// A whole reply as a response.
pub(super) fn convert(
    status: Option<StatusCode>,
    headers: &HeaderMap,
    payload: Bytes,
    terms: &Terms,
) -> Result<Response, CallError> {
    let code = match code(status, terms.code) {
        Ok(code) => code,
        Err(NoCode::Informational(status)) => {
            let how = format!("its status {} cannot be a last one", status.as_u16());
            return Err(InvokeError::ReplyBroken { how }.into());
        }
        Err(NoCode::Redirect(status)) => {
            let location = text(headers, &LOCATION).unwrap_or_default().to_owned();
            return Err(ReplyError::Redirect { status: status.as_u16(), location }.into());
        }
    };
    if !code.is_success() {
        return Ok(error(code, headers, payload));
    }
    let tag = headers.get(ETAG).and_then(|value| etag::from_header(value.as_bytes()));
    if code == Code::VALID {
        let tag = tag.or_else(|| only(terms.etags()).map(<[u8]>::to_vec));
        let missing = || InvokeError::ReplyBroken {
            how: "it says 304 (not modified) and not by which ETag".to_owned(),
        };
        return Ok(valid(&tag.ok_or_else(missing)?, headers));
    }
    if code == Code::CONTENT
        && terms.is_query()
        && let Some(tag) = &tag
        && terms.etags().any(|known| known == tag)
    {
        // The client has it (RFC 7252 section 5.9.1.3).
        return Ok(valid(tag, headers));
    }
    let payload = if may_have_payload(status) { payload } else { Bytes::new() };
    let format = format(code, headers, &payload, terms)?;
    let mut options = OptionsBuilder::new();
    if let Some(tag) = tag {
        push(&mut options, OptionNumber::ETAG, &tag);
    }
    let location = (code == Code::CREATED).then(|| text(headers, &LOCATION)).flatten();
    let location = location.and_then(|to| location::read(to, terms.whole.path()));
    let location = location.unwrap_or_default();
    for segment in &location.path {
        push(&mut options, OptionNumber::LOCATION_PATH, segment);
    }
    if let Some(format) = format {
        options.push_uint(OptionNumber::CONTENT_FORMAT, u32::from(format));
    }
    if let Some(seconds) = max_age(headers) {
        options.push_uint(OptionNumber::MAX_AGE, seconds);
    }
    for part in &location.query {
        push(&mut options, OptionNumber::LOCATION_QUERY, part);
    }
    Ok(Response { code, options: options.build(), payload })
}

/// Why a status has no code.
#[derive(Debug, PartialEq, Eq)]
enum NoCode {
    Informational(StatusCode),
    Redirect(StatusCode),
}

/// The code of a status that a function set, or did not.
fn code(status: Option<StatusCode>, method: Code) -> Result<Code, NoCode> {
    let Some(status) = status else {
        return Ok(match method {
            Code::PUT | Code::PATCH | Code::IPATCH => Code::CHANGED,
            Code::DELETE => Code::DELETED,
            _ => Code::CONTENT,
        });
    };
    Ok(match status.as_u16() {
        ..200 => return Err(NoCode::Informational(status)),
        201 => Code::CREATED,
        200..300 => match method {
            Code::GET | Code::FETCH => Code::CONTENT,
            Code::DELETE => Code::DELETED,
            _ => Code::CHANGED,
        },
        304 => Code::VALID,
        300..400 => return Err(NoCode::Redirect(status)),
        // The digits that CoAP has too, whatever HTTP means by them.
        known @ (400..=406 | 408 | 409 | 412 | 413 | 415 | 422 | 429) => {
            Code::new(4, (known - 400) as u8)
        }
        400..500 => Code::BAD_REQUEST,
        known @ 500..=505 => Code::new(5, (known - 500) as u8),
        _ => Code::INTERNAL_SERVER_ERROR,
    })
}

/// RFC 9110, sections 15.3.5 and 15.3.6.
fn may_have_payload(status: Option<StatusCode>) -> bool {
    !matches!(status, Some(StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT))
}

/// A sentence for people, which must be UTF-8 and has no format (RFC 7252 section
/// 5.5.2).
fn diagnosis(code: Code, payload: Bytes) -> Response {
    let payload = match std::str::from_utf8(&payload) {
        Ok(_) => payload,
        Err(_) => String::from_utf8_lossy(&payload).into_owned().into(),
    };
    Response { code, options: Options::EMPTY, payload }
}

/// An error that the function chose. What is no text for people says what it is.
fn error(code: Code, headers: &HeaderMap, payload: Bytes) -> Response {
    let mut options = OptionsBuilder::new();
    let format = declared(headers).unwrap_or_else(|| judged(&payload));
    if format != formats::TEXT && !payload.is_empty() {
        options.push_uint(OptionNumber::CONTENT_FORMAT, u32::from(format));
    }
    // With these two it says when to try again (section 5.9.3.4, RFC 8516).
    let busy = matches!(code, Code::SERVICE_UNAVAILABLE | Code::TOO_MANY_REQUESTS);
    let wait = busy.then(|| text(headers, &RETRY_AFTER)?.trim_ascii().parse().ok()).flatten();
    if let Some(seconds) = wait.or_else(|| max_age(headers)) {
        options.push_uint(OptionNumber::MAX_AGE, seconds);
    }
    Response { code, options: options.build(), payload }
}

fn valid(tag: &[u8], headers: &HeaderMap) -> Response {
    let mut options = OptionsBuilder::new();
    push(&mut options, OptionNumber::ETAG, tag);
    if let Some(seconds) = max_age(headers) {
        options.push_uint(OptionNumber::MAX_AGE, seconds);
    }
    Response { options: options.build(), ..Response::new(Code::VALID) }
}

/// The Content-Format of a reply: what the function says, else what its bytes are,
/// as over HTTP.
fn format(
    code: Code,
    headers: &HeaderMap,
    payload: &[u8],
    terms: &Terms,
) -> Result<Option<u16>, ReplyError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let wanted = terms.accept().filter(|_| code == Code::CONTENT && terms.is_query());
    match (declared(headers), wanted) {
        // Accept is critical: another format must not come (RFC 7252 section 5.10.4).
        (Some(has), Some(wanted)) if has != wanted => {
            Err(ReplyError::NotAcceptable { has, wanted })
        }
        (Some(has), _) => Ok(Some(has)),
        // The function does not say whether it is what was asked for.
        (None, Some(wanted)) => Ok(Some(judged(payload)).filter(|has| *has == wanted)),
        (None, None) => Ok(Some(judged(payload))),
    }
}

fn declared(headers: &HeaderMap) -> Option<u16> {
    let kind = text(headers, &CONTENT_TYPE)?;
    Some(formats::number(kind, text(headers, &CONTENT_ENCODING)))
}

fn judged(payload: &[u8]) -> u16 {
    if std::str::from_utf8(payload).is_ok() { formats::TEXT } else { formats::BYTES }
}

/// For how many seconds the reply may be used again.
fn max_age(headers: &HeaderMap) -> Option<u32> {
    let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut age = None;
    for directive in values.flat_map(|value| value.split(',')).map(str::trim_ascii) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return Some(0);
        }
        if name.eq_ignore_ascii_case("max-age") {
            let seconds = value.trim_matches('"').parse::<u64>().ok();
            age = age.or(seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX)));
        }
    }
    age
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next();
    first.filter(|_| items.next().is_none())
}

fn push(options: &mut OptionsBuilder, number: OptionNumber, value: &[u8]) {
    options.push(number, value).expect("tags and locations have at most 255 bytes");
}

#[cfg(test)]
mod tests;
