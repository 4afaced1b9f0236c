//! The body of a call that does not fit into its first frame.
//!
//! Owns what of a request's body goes with CALL, what follows, and the credit
//! that the worker has given for it. Must not know the socket.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tinyfaas_model::{Body, BodyError};
use tokio::sync::Notify;

use super::Connection;
use crate::wire::{self, CREDIT_BYTES, Flags, Kind};

/// A longer part is cut, so that one call's frames do not hold up all others'.
pub(super) const PART_BYTES_MAX: usize = 64 << 10;

/// A request's body: its beginning, and what comes after it.
pub(super) struct Parts {
    /// Goes with CALL; at most the credit.
    pub(super) first: Bytes,
    /// What follows, if the body does not end there.
    pub(super) rest: Option<Body>,
}

impl Parts {
    /// Divides a body. Of a stream, only what is there already is taken: nobody
    /// waits here.
    ///
    /// # Errors
    /// If the stream is broken already.
    pub(super) async fn of(body: Body) -> Result<Self, BodyError> {
        match body {
            Body::Empty => Ok(Self { first: Bytes::new(), rest: None }),
            Body::Full(bytes) => Ok(Self::cut(bytes, None)),
            Body::Stream(mut stream) => {
                let ready = poll_fn(|cx| Poll::Ready(stream.as_mut().poll_frame(cx))).await;
                match ready {
                    Poll::Pending => {
                        Ok(Self { first: Bytes::new(), rest: Some(Body::Stream(stream)) })
                    }
                    Poll::Ready(None) => Ok(Self { first: Bytes::new(), rest: None }),
                    Poll::Ready(Some(frame)) => {
                        let data = frame?.into_data().unwrap_or_default();
                        let rest = (!stream.is_end_stream()).then_some(Body::Stream(stream));
                        Ok(Self::cut(data, rest))
                    }
                }
            }
        }
    }

    fn cut(mut bytes: Bytes, rest: Option<Body>) -> Self {
        if bytes.len() <= CREDIT_BYTES {
            return Self { first: bytes, rest };
        }
        let first = bytes.split_to(CREDIT_BYTES);
        let rest = Self { first: bytes, rest }.whole();
        Self { first, rest: Some(rest) }
    }

    /// The body as it was before it was divided.
    pub(super) fn whole(self) -> Body {
        match self.rest {
            None => Body::from_bytes(self.first),
            Some(rest) if self.first.is_empty() => rest,
            Some(rest) => Body::Stream(Box::pin(Prefixed { first: self.first, rest })),
        }
    }
}

/// A body that has been begun, begun again.
struct Prefixed {
    first: Bytes,
    rest: Body,
}

impl HttpBody for Prefixed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.rest).poll_frame(cx);
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, first) = (self.rest.size_hint(), self.first.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + first);
        }
        hint.set_lower(hint.lower() + first);
        hint
    }
}

/// The rest of a body on its way. It may be stopped between any two polls of
/// [`Upload::run`], and run again.
pub(super) struct Upload {
    rest: Body,
    /// Taken from the rest, not yet sent.
    chunk: Bytes,
    /// Nothing follows the chunk.
    ended: bool,
    done: bool,
    credit: Arc<Credit>,
    /// Where the last frame that was sent ends.
    position: u64,
}

impl Upload {
    /// The rest of a body whose beginning ends at `position` in the outbox.
    pub(super) fn new(rest: Body, credit: Arc<Credit>, position: u64) -> Self {
        Self { rest, chunk: Bytes::new(), ended: false, done: false, credit, position }
    }

    /// Whether nothing is left to be sent, or nobody would take it.
    pub(super) fn is_done(&self) -> bool {
        self.done || self.credit.state.lock().closed
    }

    /// What has not been sent.
    pub(super) fn into_rest(self) -> Body {
        Parts { first: self.chunk, rest: Some(self.rest) }.whole()
    }

    /// Sends the rest as it comes and as the worker gives credit; returns when
    /// it is sent or nobody takes it any more.
    ///
    /// # Errors
    /// If the body breaks.
    pub(super) async fn run(
        &mut self,
        connection: &Connection,
        number: u32,
    ) -> Result<(), BodyError> {
        // A frame is sent when the one before it is on its way: what a call has
        // waiting in memory is one part. And nothing is taken from the body
        // before CALL is on its way: a call that has not started is handed back.
        while !self.done && connection.outbox.written(self.position).await {
            if self.chunk.is_empty() && !self.ended {
                tokio::select! {
                    more = self.rest.frame() => self.take(more)?,
                    () = self.credit.closed() => return Ok(()),
                }
            }
            let bytes_max = self.chunk.len().min(PART_BYTES_MAX);
            if bytes_max == 0 && !self.ended {
                continue;
            }
            let bytes = match bytes_max {
                0 => 0,
                _ => match self.credit.take(bytes_max).await {
                    Some(bytes) => bytes,
                    None => return Ok(()),
                },
            };
            let part = self.chunk.split_to(bytes);
            self.done = self.ended && self.chunk.is_empty();
            let flags = Flags::end_if(self.done);
            self.position =
                connection.send(|out| wire::encode(out, Kind::Body, flags, number, &part));
        }
        Ok(())
    }

    fn take(&mut self, more: Option<Result<Frame<Bytes>, BodyError>>) -> Result<(), BodyError> {
        match more {
            None => self.ended = true,
            Some(frame) => {
                // Trailers have no place in the protocol.
                self.chunk = frame?.into_data().unwrap_or_default();
                self.ended = self.rest.is_end_stream();
            }
        }
        Ok(())
    }
}

/// The credit of one upload.
#[derive(Default)]
pub(super) struct Credit {
    state: Mutex<CreditState>,
    changed: Notify,
}

#[derive(Default)]
struct CreditState {
    bytes: u64,
    closed: bool,
}

impl Credit {
    /// What is left after the part that went with CALL.
    pub(super) fn after(first: usize) -> Arc<Self> {
        let credit = Self::default();
        credit.state.lock().bytes = CREDIT_BYTES.saturating_sub(first) as u64;
        Arc::new(credit)
    }

    /// The worker has given more.
    pub(super) fn add(&self, bytes: u32) {
        {
            let mut state = self.state.lock();
            state.bytes = state.bytes.saturating_add(bytes.into());
        }
        self.changed.notify_one();
    }

    /// Nobody takes the rest of the upload any more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// Waits until the upload is closed.
    pub(super) async fn closed(&self) {
        while !self.state.lock().closed {
            self.changed.notified().await;
        }
    }

    /// Takes up to so many bytes of credit, and waits while there is none;
    /// `None` where the upload is closed.
    pub(super) async fn take(&self, bytes_max: usize) -> Option<usize> {
        loop {
            {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                if state.bytes > 0 {
                    let bytes = usize::try_from(state.bytes).unwrap_or(bytes_max).min(bytes_max);
                    state.bytes -= bytes as u64;
                    return Some(bytes);
                }
            }
            self.changed.notified().await;
        }
    }
}
