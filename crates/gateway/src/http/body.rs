//! Request bodies: bounded in bytes and in patience.
//!
//! Owns reading what a caller sends, as it comes or whole. Must not know who
//! reads it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tinyfaas_model::{Body, BodyError, InvokeError};
use tokio::time::{Sleep, sleep_until};

use crate::config::GatewayConfig;
use crate::connections::watch::Activity;
use crate::dispatch::now;
use crate::held::Share;

/// What a caller sends, as it comes.
pub(super) struct RequestBody {
    incoming: Incoming,
    limit_bytes: u64,
    read_bytes: u64,
    idle: Duration,
    /// A stall is not waited for beyond this.
    deadline: Instant,
    /// Made at the first stall: most bodies are there with their head.
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer runs for the stall that lasts now.
    stalled: bool,
    ended: bool,
    activity: Arc<Activity>,
}

impl RequestBody {
    /// A body whose call must have ended at the deadline.
    ///
    /// # Errors
    /// Where its length is known and too large.
    pub(super) fn new(
        incoming: Incoming,
        config: &GatewayConfig,
        deadline: Instant,
        activity: &Arc<Activity>,
    ) -> Result<Self, BodyError> {
        let limit_bytes = config.body_bytes_max;
        if incoming.size_hint().lower() > limit_bytes {
            activity.set_unread();
            return Err(BodyError::TooLarge { limit_bytes });
        }
        Ok(Self {
            limit_bytes,
            read_bytes: 0,
            idle: config.body_idle_timeout,
            deadline,
            timer: None,
            stalled: false,
            ended: incoming.is_end_stream(),
            activity: Arc::clone(activity),
            incoming,
        })
    }

    /// Its length, where the caller told it.
    pub(super) fn length(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// Reads a small body of known length whole. One that does not come at once
    /// is held on a share of the budget; where there is none left, the rest is
    /// not waited for.
    pub(super) async fn read_small(mut self, held: Share) -> Result<Body, BodyError> {
        let Some(first) = self.data().await? else { return Ok(Body::Empty) };
        let missing = self.length().unwrap_or_default();
        if missing == 0 {
            return Ok(Body::Full(first));
        }
        let Some(length) = usize::try_from(missing).ok().map(|missing| missing + first.len())
        else {
            return Err(BodyError::TooLarge { limit_bytes: self.limit_bytes });
        };
        if !held.grow(length) {
            return Ok(Body::Stream(Box::pin(WithFirst { first: Some(first), rest: self })));
        }
        let mut whole = BytesMut::with_capacity(length);
        whole.extend_from_slice(&first);
        while let Some(more) = self.data().await? {
            whole.extend_from_slice(&more);
        }
        Ok(Body::Full(whole.freeze()))
    }

    /// Reads a body whole for a call that runs later, on a share of the budget.
    pub(super) async fn read_held(
        mut self,
        held: &Share,
        retry_after: Duration,
    ) -> Result<Body, InvokeError> {
        let mut whole = BytesMut::new();
        let mut only = Bytes::new();
        while let Some(more) = self.data().await? {
            if !held.grow(more.len()) {
                let what = "asynchronous calls hold as many bytes as they may";
                return Err(InvokeError::ServerBusy { what, retry_after });
            }
            // The only part, as it mostly is, need not be copied.
            if only.is_empty() && whole.is_empty() {
                only = more;
                continue;
            }
            whole.extend_from_slice(&std::mem::take(&mut only));
            whole.extend_from_slice(&more);
        }
        Ok(Body::from_bytes(if whole.is_empty() { only } else { whole.freeze() }))
    }

    /// Reads it to its end and keeps nothing.
    pub(super) async fn discard(mut self) -> Result<(), BodyError> {
        while self.data().await?.is_some() {}
        Ok(())
    }

    /// The next bytes, None at the end.
    async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
        poll_fn(|cx| self.poll_data(cx)).await.transpose()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while !self.ended {
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                return self.poll_stall(cx).map(|()| Some(Err(BodyError::TimedOut)));
            };
            self.stalled = false;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => (),
                Some(Ok(Ok(data))) => return Poll::Ready(Some(self.count(data))),
                // Trailers: nobody downstream could take them.
                Some(Ok(Err(_))) => (),
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(BodyError::Broken(error.to_string()))));
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, BodyError> {
        self.read_bytes = self.read_bytes.saturating_add(data.len() as u64);
        if self.read_bytes <= self.limit_bytes {
            return Ok(data);
        }
        Err(BodyError::TooLarge { limit_bytes: self.limit_bytes })
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.stalled {
            self.stalled = true;
            let now = now();
            let until = now.checked_add(self.idle).unwrap_or(self.deadline).min(self.deadline);
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until.into()),
                None => self.timer = Some(Box::pin(sleep_until(until.into()))),
            }
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended && !self.incoming.is_end_stream() {
            self.activity.set_unread();
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A body of which the first part has been read already.
pub(super) struct WithFirst<B> {
    pub(super) first: Option<Bytes>,
    pub(super) rest: B,
}

impl<B: HttpBody<Data = Bytes, Error = BodyError> + Unpin> HttpBody for WithFirst<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(first));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(first)) {
            hint.set_upper(upper);
        }
        hint
    }
}
