//! The body of a response, in parts that HTTP/2 can carry.
//!
//! Owns what is held until the caller has taken its reply. Must not know messages.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;

use super::call::Call;
use crate::connections::parts::Parts;
use crate::connections::stall;
use crate::connections::watch::CallMark;

/// The body of a response, and with it the call that it belongs to.
pub(super) struct ReplyBody {
    body: tonic::body::Body,
    parts: Parts,
    /// It holds what the reply takes of the budget.
    _call: Option<Arc<Call>>,
    _mark: CallMark,
}

impl ReplyBody {
    /// A body that is handed over in parts of so many bytes at most: HTTP/2
    /// keeps what it was handed however little of it the caller takes.
    pub(super) fn new(
        body: tonic::body::Body,
        part_bytes_max: usize,
        call: Option<Arc<Call>>,
        mark: CallMark,
    ) -> Self {
        Self { body, parts: Parts::new(part_bytes_max), _call: call, _mark: mark }
    }
}

impl HttpBody for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(part) = self.parts.next() {
            return stall::note(Poll::Ready(Some(Ok(part))));
        }
        let frame = ready!(stall::note(Pin::new(&mut self.body).poll_frame(cx)));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(data) => self.parts.cut(data),
                // The status: it must come through.
                Err(trailers) => trailers,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Asked before the first part only, when there is no rest.
        self.body.size_hint()
    }
}
