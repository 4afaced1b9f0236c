//! A request's messages as they arrive: bounded in bytes, in number and in patience.
//!
//! Owns looking at the length that stands before each message, so that nobody
//! reads one that is too large. Must not know what a message means.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tinyfaas_model::{BodyError, InvokeError};
use tokio::time::{Sleep, sleep_until};
use tonic::Status;

use super::call::Call;
use super::error::{CallError, Refused};
use crate::dispatch::{deadline, now};

/// What stands before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// How many messages a method takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// One, which is held whole until the call has ended.
    One,
    /// Any number, as a conversation has them: each is held until the next begins,
    /// which may take as long as the call does.
    Many,
    /// The same, and where the server stops nothing more is waited for.
    Questions,
}

/// A request's body.
pub(super) struct Messages<B: HttpBody> {
    incoming: B,
    call: Arc<Call>,
    takes: Takes,
    prefixes: Prefixes,
    /// When the message that comes has begun; the call, as long as none has.
    began: Instant,
    /// Made at the first stall: most messages are there with their head.
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer runs for the stall that lasts now.
    stalled: bool,
    /// Comes when the server stops, where that ends it.
    stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    ended: bool,
}

/// Where in which message the bytes are that come.
#[derive(Debug, Default)]
struct Prefixes {
    /// Messages that have begun.
    begun: usize,
    /// What has come of the prefix that comes.
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    /// Bytes of the message that are still to come.
    missing: usize,
}

impl Prefixes {
    /// Whether a message has come whole, and none has begun since.
    fn is_between(&self) -> bool {
        self.begun > 0 && self.missing == 0 && self.prefix_bytes == 0
    }

    /// Looks at what comes next.
    ///
    /// # Errors
    /// The length of a message that is longer than this.
    fn look(&mut self, mut data: &[u8], bytes_max: usize) -> Result<(), usize> {
        while !data.is_empty() {
            if self.missing > 0 {
                let here = self.missing.min(data.len());
                self.missing -= here;
                data = &data[here..];
                continue;
            }
            if self.prefix_bytes == 0 {
                self.begun += 1;
            }
            let here = (PREFIX_BYTES - self.prefix_bytes).min(data.len());
            self.prefix[self.prefix_bytes..][..here].copy_from_slice(&data[..here]);
            self.prefix_bytes += here;
            data = &data[here..];
            if self.prefix_bytes == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.prefix_bytes = 0;
                if self.missing > bytes_max {
                    return Err(self.missing);
                }
            }
        }
        Ok(())
    }

    /// Whether a message has begun that has not come whole.
    fn is_within(&self) -> bool {
        self.missing > 0 || self.prefix_bytes > 0
    }
}

impl<B> Messages<B>
where
    B: HttpBody<Data = Bytes, Error: std::error::Error> + Unpin,
{
    pub(super) fn new(incoming: B, call: Arc<Call>, takes: Takes) -> Self {
        // Who is to answer one message is told here that there is none.
        let ended = incoming.is_end_stream() && takes != Takes::One;
        let stop: Option<Pin<Box<dyn Future<Output = ()> + Send>>> = match takes {
            Takes::One | Takes::Many => None,
            Takes::Questions => Some(Box::pin(call.grpc.about.stopped())),
        };
        Self {
            began: call.arrived,
            incoming,
            call,
            takes,
            stop,
            prefixes: Prefixes::default(),
            timer: None,
            stalled: false,
            ended,
        }
    }

    /// Counts what has come, and holds it on the call's share of the budget.
    fn count(&mut self, data: &Bytes) -> Result<(), CallError> {
        let bytes_max = self.call.config().grpc.message_bytes_max;
        let begun = self.prefixes.begun;
        self.prefixes.look(data, bytes_max).map_err(|_| {
            InvokeError::Request(BodyError::TooLarge { limit_bytes: bytes_max as u64 })
        })?;
        match self.takes {
            Takes::One if self.prefixes.begun > 1 => return Err(Refused::SecondMessage.into()),
            Takes::Many | Takes::Questions if self.prefixes.begun > begun => {
                self.began = now();
                self.call.held.shrink_to(0);
            }
            _ => (),
        }
        if self.call.held.grow(data.len()) {
            return Ok(());
        }
        let (what, retry_after) =
            ("bodies take as much memory as they may", self.call.config().retry_after);
        Err(InvokeError::ServerBusy { what, retry_after }.into())
    }

    /// What is wrong with the body's end, where it ends so.
    fn lacking(&self) -> Option<Refused> {
        if self.prefixes.is_within() {
            return Some(Refused::CutOff);
        }
        (self.takes == Takes::One && self.prefixes.begun == 0).then_some(Refused::NoMessage)
    }

    /// The status of a body that broke off. It is noted, as those who read the body
    /// may tell less of it.
    fn fail(&self, error: &CallError) -> Status {
        let status = self.call.status(error);
        // The first is the one that counts.
        let _ = self.call.broke.set(status.clone());
        status
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<CallError> {
        if self.takes == Takes::Many && self.prefixes.is_between() {
            // The call's own time bounds it.
            return Poll::Pending;
        }
        if !self.stalled {
            self.stalled = true;
            let config = self.call.config();
            let idle = deadline(now(), config.body_idle_timeout);
            // Who trickles does not get more time by each byte.
            let until = idle.min(deadline(self.began, config.grpc.message_timeout));
            let until = self.call.ends_by().map_or(until, |at| at.min(until));
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until.into()),
                None => self.timer = Some(Box::pin(sleep_until(until.into()))),
            }
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        timer.as_mut().poll(cx).map(|()| match self.call.is_late(now()) {
            Some(late) => late.into(),
            None => InvokeError::Request(BodyError::TimedOut).into(),
        })
    }
}

impl<B> HttpBody for Messages<B>
where
    B: HttpBody<Data = Bytes, Error: std::error::Error> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        while !this.ended {
            let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
                if let Some(stop) = &mut this.stop
                    && stop.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(None);
                }
                let error = ready!(this.poll_stall(cx));
                return Poll::Ready(Some(Err(this.fail(&error))));
            };
            this.stalled = false;
            let error = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => continue,
                Some(Ok(Ok(data))) => match this.count(&data) {
                    Ok(()) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(error) => error,
                },
                // Trailers of a request mean nothing in gRPC.
                Some(Ok(Err(_))) => continue,
                Some(Err(error)) => {
                    this.ended = true;
                    InvokeError::Request(BodyError::Broken(error.to_string())).into()
                }
                None => {
                    this.ended = true;
                    match this.lacking() {
                        Some(lacking) => lacking.into(),
                        None => break,
                    }
                }
            };
            return Poll::Ready(Some(Err(this.fail(&error))));
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl<B: HttpBody> Drop for Messages<B> {
    fn drop(&mut self) {
        if !self.ended && !self.incoming.is_end_stream() {
            self.call.activity.set_unread();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the pieces, the same is found.
    fn check(bytes: &[u8], expected: Result<usize, usize>) {
        for piece in [1, 2, 3, 5, 7, bytes.len().max(1)] {
            let mut prefixes = Prefixes::default();
            let looked = bytes.chunks(piece).try_for_each(|piece| prefixes.look(piece, 300)).err();
            assert_eq!(looked.map_or(Ok(prefixes.begun), Err), expected, "{bytes:?} by {piece}");
        }
    }

    #[test]
    fn messages_are_told_apart_by_their_lengths() {
        check(b"", Ok(0));
        check(b"\0\0\0\0\0", Ok(1));
        check(b"\0\0\0\0\x02ab", Ok(1));
        check(b"\0\0\0\0\x02ab\x01\0\0\0\0\0", Ok(3));
        check(b"\0\0\0\x01\x2c", Ok(1));
        check(b"\0\0\0\x01\x2d", Err(301));
        check(b"\0\0\0\0\x01a\0\xff\xff\xff\xff", Err(0xffff_ffff));
    }
}
