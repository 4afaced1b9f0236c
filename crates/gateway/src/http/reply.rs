//! A function's reply becomes an HTTP response.
//!
//! Owns its status, which headers pass, and what a body without a type is.
//! Must not know where the reply comes from.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use ::http::{Response, StatusCode};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tinyfaas_model::{Body, BodyError, CallOutcome, InvokeError, Reply};

use super::body::WithFirst;
use crate::connections::parts::Parts;
use crate::connections::watch::CallMark;
use crate::connections::{CALL_ID, stall};
use crate::dispatch::now;
use crate::hop;
use crate::tally::Tally;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// When a call's time is over, and how long it was.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) after: Duration,
}

/// The response for a reply; `head_only` where the method was HEAD.
///
/// # Errors
/// Where the reply breaks before its first byte, or is none that HTTP could
/// carry.
pub(super) async fn respond(
    reply: Reply,
    head_only: bool,
    deadline: Deadline,
) -> Result<Response<Body>, InvokeError> {
    let Reply { status, failed, mut headers, mut body } = reply;
    let status = self::status(failed, status);
    if status.is_informational() {
        let how = format!("its status {} cannot be a last one", status.as_u16());
        return Err(InvokeError::ReplyBroken { how });
    }
    let length = clean(&mut headers);
    if !may_have_body(status) {
        body = Body::Empty;
    }
    if !headers.contains_key(CONTENT_TYPE) {
        let kind;
        (body, kind) = judge(body, deadline).await?;
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, kind);
        }
    }
    if head_only && may_have_body(status) {
        // What the body would have had; where there is none, the function's word.
        let length = match body.size_hint().exact() {
            Some(bytes) if bytes > 0 => Some(HeaderValue::from(bytes)),
            _ => length,
        };
        length.map(|length| headers.insert(CONTENT_LENGTH, length));
        body = Body::Empty;
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The status of a function's reply.
pub(super) fn status(failed: bool, status: Option<StatusCode>) -> StatusCode {
    if failed { StatusCode::INTERNAL_SERVER_ERROR } else { status.unwrap_or_default() }
}

/// Takes away what the server says itself; returns the length that the function
/// claims, where it is a number.
fn clean(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if headers.is_empty() {
        return None;
    }
    if headers.keys().any(hop::is) {
        hop::remove(headers);
    }
    headers.remove(DATE);
    headers.remove(CALL_ID);
    let length = headers.remove(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok().map(|bytes: u64| HeaderValue::from(bytes))
}

/// RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5.
fn may_have_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The body, and the type that its bytes have; none where there are none. For
/// the first bytes of a stream, by which it is judged, this waits.
async fn judge(body: Body, deadline: Deadline) -> Result<(Body, Option<HeaderValue>), InvokeError> {
    let mut rest = match body {
        Body::Empty => return Ok((Body::Empty, None)),
        Body::Full(bytes) => {
            let text = std::str::from_utf8(&bytes).is_ok();
            return Ok((Body::Full(bytes), Some(if text { TEXT } else { BYTES })));
        }
        Body::Stream(stream) => stream,
    };
    loop {
        let frame = match poll_fn(|cx| rest.as_mut().poll_frame(cx)).await {
            None => return Ok((Body::Empty, None)),
            Some(Err(_)) if now() >= deadline.at => {
                return Err(InvokeError::DeadlineExceeded { after: deadline.after });
            }
            Some(Err(error)) => return Err(InvokeError::ReplyBroken { how: error.to_string() }),
            Some(Ok(frame)) => frame,
        };
        let Some(first) = frame.into_data().ok().filter(|data| !data.is_empty()) else { continue };
        let kind = if may_start_text(&first) { TEXT } else { BYTES };
        let body = if rest.is_end_stream() {
            Body::Full(first)
        } else {
            Body::Stream(Box::pin(WithFirst { first: Some(first), rest }))
        };
        return Ok((body, Some(kind)));
    }
}

/// Whether these bytes are UTF-8 as far as they go: the last character may be
/// cut.
fn may_start_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true)
}

/// The body of a response, and with it the call that it belongs to.
pub(super) struct ReplyBody {
    body: Body,
    parts: Parts,
    /// Why it broke off, until what came before is on its way.
    broken: Option<BodyError>,
    /// Of a call that has not ended yet.
    ending: Option<Ending>,
    _call: CallMark,
}

/// The end of a call whose reply streams.
pub(super) struct Ending {
    pub(super) tally: Tally,
    /// How it ends where the stream comes to its end.
    pub(super) outcome: CallOutcome,
}

impl ReplyBody {
    /// A body that is handed over in parts of so many bytes at most: HTTP/2
    /// keeps what it was handed however little of it the caller takes.
    pub(super) fn new(
        body: Body,
        part_bytes_max: usize,
        call: CallMark,
        ending: Option<Ending>,
    ) -> Self {
        Self { body, parts: Parts::new(part_bytes_max), broken: None, ending, _call: call }
    }
}

impl HttpBody for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(part) = self.parts.next() {
            return stall::note(Poll::Ready(Some(Ok(part))));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let frame = ready!(stall::note(Pin::new(&mut self.body).poll_frame(cx)));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => return Poll::Ready(Some(Ok(self.parts.cut(data)))),
                // A function's trailers are dropped: few callers expect any.
                Some(Ok(Err(_))) => (),
                // At an error hyper drops what it has not written yet; in this
                // pause it writes.
                Some(Err(error)) => {
                    self.ending.take().into_iter().for_each(Ending::broke);
                    self.broken = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None => {
                    self.ending.take().into_iter().for_each(Ending::came);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before the first part only, when there is no rest.
        self.body.size_hint()
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        // Nobody asks for the end of what is known to have no more; dropped
        // before, the call was cancelled.
        if self.body.is_end_stream() || self.body.size_hint().exact() == Some(0) {
            self.ending.take().into_iter().for_each(Ending::came);
        }
    }
}

impl Ending {
    fn came(self) {
        self.tally.end(self.outcome, now());
    }

    fn broke(self) {
        let at = now();
        let outcome = match self.tally.is_late(at) {
            true => CallOutcome::DeadlineExceeded,
            false => CallOutcome::ReplyBroken,
        };
        self.tally.end(outcome, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_character_is_text_and_a_broken_one_is_not() {
        for (bytes, expected) in [
            (&b"plain"[..], true),
            ("\u{e4}".as_bytes(), true),
            (b"a\xc3", true),
            (b"a\xc3b", false),
            (b"\xff", false),
        ] {
            assert_eq!(may_start_text(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn only_a_numeric_length_is_believed() {
        for (value, expected) in [("12", Some("12")), ("+1", Some("1")), ("x", None)] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static(value));
            let expected = expected.map(HeaderValue::from_static);
            assert_eq!(clean(&mut headers), expected, "{value}");
            assert!(headers.is_empty());
        }
    }
}
