//! The body of a reply that comes in parts.
//!
//! Owns the bytes that the worker has sent and the caller has not yet taken:
//! never more than the credit, whatever the worker does. Must not know the
//! socket: what a caller takes is told to [`Source`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tinyfaas_model::BodyError;

use crate::wire::{CREDIT_BYTES, CREDIT_STEP_BYTES};

/// Parts smaller than this are put together: else a thousand of one byte each
/// would hold a thousand slices of read buffers.
const SMALL_BYTES: usize = 2 << 10;

/// Where the parts go as they arrive.
pub(super) struct Incoming(Mutex<State>);

struct State {
    parts: VecDeque<Bytes>,
    /// Small parts behind those, not yet taken.
    small: BytesMut,
    /// What the worker may still send.
    credit: usize,
    end: Option<Result<(), BodyError>>,
    reader: Option<Waker>,
}

/// What the body tells of its reader.
pub(super) trait Source: Send + Sync {
    /// The reader has taken so many bytes: the worker may send as many more.
    fn grant(&self, bytes: usize);
    /// The reader has dropped the body before its end.
    fn abandon(&self);
}

/// What the caller reads.
pub(super) struct IncomingBody<S: Source> {
    incoming: Arc<Incoming>,
    source: S,
    /// Taken but not yet granted again.
    taken: usize,
    finished: bool,
}

/// The worker has sent more than it had credit for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CreditExceeded;

impl Incoming {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            parts: VecDeque::new(),
            small: BytesMut::new(),
            credit: CREDIT_BYTES,
            end: None,
            reader: None,
        })))
    }

    /// Adds a part.
    pub(super) fn push(&self, part: Bytes) -> Result<(), CreditExceeded> {
        let reader = {
            let mut state = self.0.lock();
            state.credit = state.credit.checked_sub(part.len()).ok_or(CreditExceeded)?;
            state.add(part);
            state.reader.take()
        };
        wake(reader);
        Ok(())
    }

    /// Nothing follows, because the body is whole or because it broke. What
    /// has come before stays readable.
    pub(super) fn finish(&self, end: Result<(), BodyError>) {
        let reader = {
            let mut state = self.0.lock();
            state.end.get_or_insert(end);
            state.reader.take()
        };
        wake(reader);
    }
}

impl State {
    fn add(&mut self, part: Bytes) {
        if part.len() < SMALL_BYTES {
            self.small.extend_from_slice(&part);
        } else {
            self.close_small();
            self.parts.push_back(part);
        }
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            let small = self.small.split().freeze();
            self.parts.push_back(small);
        }
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}

impl<S: Source> IncomingBody<S> {
    pub(super) fn new(incoming: Arc<Incoming>, source: S) -> Self {
        Self { incoming, source, taken: 0, finished: false }
    }

    fn take(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.incoming.0.lock();
        if state.parts.is_empty() {
            state.close_small();
        }
        let Some(part) = state.parts.pop_front() else {
            let Some(end) = state.end.clone() else {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            self.finished = true;
            return Poll::Ready(end.err().map(Err));
        };
        self.taken += part.len();
        if state.end.is_some() {
            // Nothing follows that would need credit.
            self.finished |= state.parts.is_empty() && state.small.is_empty() && state.whole();
        } else if self.taken >= CREDIT_STEP_BYTES {
            let granted = std::mem::take(&mut self.taken);
            state.credit += granted;
            drop(state);
            self.source.grant(granted);
        }
        Poll::Ready(Some(Ok(part)))
    }
}

impl State {
    fn whole(&self) -> bool {
        matches!(self.end, Some(Ok(())))
    }
}

impl<S: Source + Unpin> HttpBody for IncomingBody<S> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        self.take(cx).map(|part| part.map(|part| part.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.finished
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<S: Source> Drop for IncomingBody<S> {
    fn drop(&mut self) {
        if !self.finished && self.incoming.0.lock().end.is_none() {
            self.source.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::*;

    #[derive(Default)]
    struct Told {
        granted: AtomicUsize,
        abandoned: AtomicBool,
    }

    impl Source for Arc<Told> {
        fn grant(&self, bytes: usize) {
            self.granted.fetch_add(bytes, Ordering::Relaxed);
        }

        fn abandon(&self) {
            self.abandoned.store(true, Ordering::Relaxed);
        }
    }

    fn body() -> (Arc<Incoming>, Arc<Told>, IncomingBody<Arc<Told>>) {
        let (incoming, told) = (Incoming::new(), Arc::new(Told::default()));
        let body = IncomingBody::new(Arc::clone(&incoming), Arc::clone(&told));
        (incoming, told, body)
    }

    async fn next(body: &mut IncomingBody<Arc<Told>>) -> Option<Result<Bytes, BodyError>> {
        body.frame().await.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    #[tokio::test]
    async fn parts_come_in_order_and_small_ones_together() {
        let (incoming, told, mut body) = body();
        for part in [&b"a"[..], b"b", &[b'c'; SMALL_BYTES], b"d"] {
            incoming.push(Bytes::copy_from_slice(part)).unwrap();
        }
        incoming.finish(Ok(()));
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from("ab"))));
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from(vec![b'c'; SMALL_BYTES]))));
        assert!(!body.is_end_stream());
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from("d"))));
        assert!(body.is_end_stream());
        assert_eq!(next(&mut body).await, None);
        drop(body);
        assert!(!told.abandoned.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_reader_grants_what_it_takes_and_no_more_is_held() {
        let (incoming, told, mut body) = body();
        let part = Bytes::from(vec![0; CREDIT_STEP_BYTES]);
        for _ in 0..CREDIT_BYTES / CREDIT_STEP_BYTES {
            incoming.push(part.clone()).unwrap();
        }
        assert_eq!(incoming.push(Bytes::from("x")), Err(CreditExceeded));
        next(&mut body).await.unwrap().unwrap();
        assert_eq!(told.granted.load(Ordering::Relaxed), CREDIT_STEP_BYTES);
        incoming.push(part).unwrap();
        assert_eq!(incoming.push(Bytes::from("x")), Err(CreditExceeded));
    }

    #[tokio::test]
    async fn a_body_that_breaks_gives_what_came_and_then_the_error() {
        let (incoming, told, mut body) = body();
        incoming.push(Bytes::from("a")).unwrap();
        let broken = BodyError::Broken("killed by signal 9".into());
        incoming.finish(Err(broken.clone()));
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from("a"))));
        assert_eq!(next(&mut body).await, Some(Err(broken)));
        assert_eq!(next(&mut body).await, None);
        drop(body);
        assert!(!told.abandoned.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn dropping_a_body_before_its_end_abandons_it() {
        let (incoming, told, body) = body();
        incoming.push(Bytes::from("a")).unwrap();
        drop(body);
        assert!(told.abandoned.load(Ordering::Relaxed));
    }
}
