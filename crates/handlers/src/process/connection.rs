//! One worker's socket, on the server's side.
//!
//! Owns the calls in flight on it: many at a time, their frames interleaved,
//! streaming both ways under credit. Must not know how a worker is started or
//! replaced: it says when its worker is gone, breaks the protocol or is overdue,
//! and the supervisor acts.
//!
//! A small call costs one write, one read and no task of its own: its caller
//! writes the frame (or leaves it to who is writing already), and one reader
//! takes all replies that have come and wakes their callers.

mod caller;
mod calls;
mod handshake;
mod incoming;
mod outbox;
mod replies;
mod upload;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;
use tinyfaas_model::{
    BodyError, BoxFuture, Handler, HandlerError, HandlerId, Invocation, Place, Reply, Suspension,
};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use crate::wire::{self, CancelReason, Flags, Kind, PROTOCOL, WireError};
use calls::{CallEnd, Calls, Phase, Watch};
pub(super) use handshake::{LoadError, load};
use outbox::Outbox;

/// What is read at a time, in bytes; a longer frame gets the room it needs.
const READ_BYTES: usize = 32 << 10;
/// With less room than this left in the buffer, a new one is taken.
const READ_BYTES_MIN: usize = 4 << 10;

/// What malloc hands out from a thread's own list; a call's future should fit.
const QUICKLY_ALLOCATED_BYTES: usize = 1024;

/// A worker that is ready, behind its socket.
pub(super) struct Connection {
    id: HandlerId,
    socket: UnixStream,
    outbox: Outbox,
    calls: Mutex<Calls>,
    /// What a call has, after its deadline, to end.
    grace: Duration,
    /// Tells the watch to look again.
    look: Notify,
    /// Why the worker asks to be replaced, once it does; until it is, it gets no
    /// new calls.
    leaving: OnceLock<(String, Option<Suspension>)>,
    left: Notify,
}

/// Why nothing more comes from a worker.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ending {
    /// It closed its socket: it has ended, or is about to.
    #[error("closed its socket")]
    Closed,
    /// It broke the protocol: it must be killed.
    #[error(
        "broke the worker protocol, as does a function that writes into file descriptor 3, which \
         is tinyFaaS's own: {0}"
    )]
    Broke(#[from] Violation),
}

/// How a worker broke the protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Violation {
    /// A frame that cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A frame that the worker must not send now.
    #[error("a {0:?} frame that must not come now")]
    Unexpected(Kind),
    /// A version of the protocol that the server does not speak.
    #[error("it speaks version {0} of it, the server version {PROTOCOL}")]
    Version(u32),
    /// More of a reply than it had credit for.
    #[error("more of a reply than it had credit for")]
    CreditExceeded,
}

impl Connection {
    /// Takes over a socket on which READY has come. `grace` is what a call has,
    /// after its deadline, to end.
    pub(super) fn new(id: HandlerId, socket: UnixStream, grace: Duration) -> Arc<Self> {
        Arc::new(Self {
            id,
            socket,
            outbox: Outbox::default(),
            calls: Mutex::default(),
            grace,
            look: Notify::new(),
            leaving: OnceLock::new(),
            left: Notify::new(),
        })
    }

    /// Reads what the worker sends, and writes what its socket did not take at
    /// once, until nothing more comes. New calls are refused from then on; those
    /// in flight wait to be told how the worker ended.
    pub(super) async fn serve(self: &Arc<Self>) -> Ending {
        let read = self.read();
        tokio::pin!(read);
        let ending = tokio::select! {
            biased;
            ending = &mut read => ending,
            // It ends when the outbox is closed, on an error of writing; what
            // has been sent before that is still to be read.
            () = self.outbox.flush(&self.socket) => read.await,
        };
        self.calls.lock().closed = true;
        ending
    }

    /// Ends the calls in flight, and takes no more: the worker is gone, `how`
    /// says how.
    pub(super) fn fail(&self, how: &str) {
        self.outbox.close();
        let calls = self.calls.lock().close();
        for call in calls {
            call.fail(CallEnd::Gone(how.to_owned()));
        }
        self.look.notify_one();
    }

    /// Waits until a call has not ended, though its deadline and the grace are
    /// over.
    pub(super) async fn overdue(&self) {
        loop {
            let watch = self.calls.lock().watch(Instant::now(), self.grace);
            match watch {
                Watch::Overdue => return,
                Watch::Idle => self.look.notified().await,
                Watch::At(at) => self.look_at(at).await,
            }
        }
    }

    /// Waits until the worker asks to be replaced; says why.
    pub(super) async fn leaving(&self) -> &str {
        loop {
            if let Some((why, _)) = self.leaving.get() {
                return why;
            }
            self.left.notified().await;
        }
    }

    /// Waits until every call in flight has ended or reached its deadline, and
    /// takes none any more: one that was on its way here is handed back.
    pub(super) async fn settled(&self) {
        loop {
            let next = {
                let mut calls = self.calls.lock();
                calls.draining = true;
                let next = calls.next_deadline(Instant::now());
                calls.closed |= next.is_none();
                next
            };
            match next {
                None => return,
                Some(at) => self.look_at(at).await,
            }
        }
    }

    async fn look_at(&self, at: Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            () = self.look.notified() => {}
        }
    }

    /// Nobody waits for the call any more: the worker is told, unless it has
    /// ended. `end` is for a reader of its reply who is still there.
    fn cancel(&self, number: u32, deadline: Instant, end: Option<BodyError>) {
        let late = Instant::now() >= deadline;
        let (left, ask) = {
            let mut calls = self.calls.lock();
            let left = calls.leave(number);
            let ask = late && left.is_some() && calls.doubt(number);
            (left, ask)
        };
        let Some(phase) = left else { return };
        if let (Phase::Replying(incoming), Some(end)) = (phase, end) {
            incoming.finish(Err(end));
        }
        let reason = if late { CancelReason::DeadlinePassed } else { CancelReason::CallerLeft };
        self.send(|out| {
            wire::encode_cancel(out, number, reason);
            if ask {
                wire::encode(out, Kind::Ping, Flags::NONE, 0, &[]);
            }
        });
    }

    fn send(&self, encode: impl FnOnce(&mut BytesMut)) -> u64 {
        let encode = |out: &mut BytesMut| {
            encode(out);
            Ok::<_, Infallible>(())
        };
        self.outbox.send(&self.socket, encode).unwrap_or_else(|never| match never {})
    }

    async fn read(self: &Arc<Self>) -> Ending {
        let mut buffer = BytesMut::new();
        loop {
            if self.socket.readable().await.is_err() {
                return Ending::Closed;
            }
            // An idle worker's connection holds no buffer, and a busy one's parts
            // may be in use still: then this is a new one.
            if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
                buffer.reserve(READ_BYTES);
            }
            match self.socket.try_read_buf(&mut buffer) {
                Ok(0) => return Ending::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Ending::Closed,
            }
            if let Err(violation) = self.take_all(&mut buffer) {
                return Ending::Broke(violation);
            }
            if buffer.is_empty() {
                buffer = BytesMut::new();
            }
            tokio::task::consume_budget().await;
        }
    }

    fn take_all(self: &Arc<Self>, buffer: &mut BytesMut) -> Result<(), Violation> {
        while let Some(frame) = wire::decode(buffer)? {
            self.take(frame)?;
        }
        Ok(())
    }

    /// Takes a call out of the table; whoever drops it gives its place back.
    fn remove(&self, number: u32) -> Option<calls::Call> {
        let (call, draining, doubt) = {
            let mut calls = self.calls.lock();
            (calls.remove(number), calls.draining, calls.trust_after(number))
        };
        drop(doubt);
        if draining {
            self.look.notify_one();
        }
        call
    }
}

impl Handler for Connection {
    fn id(&self) -> &HandlerId {
        &self.id
    }

    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<Reply, HandlerError>> {
        let call = self.call(invocation, place);
        debug_assert!(size_of_val(&call) <= QUICKLY_ALLOCATED_BYTES, "{}", size_of_val(&call));
        Box::pin(call)
    }
}

#[cfg(test)]
mod tests;
