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

mod calls;
mod handshake;
mod incoming;
mod outbox;
mod upload;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tinyfaas_model::{
    Body, BodyError, BoxFuture, Handler, HandlerError, HandlerId, Invocation, InvokeError, Place,
    Reply,
};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};

use crate::wire::{
    self, CallHead, CancelReason, Flags, Frame, Kind, PROTOCOL, ReplyHead, WireError,
};
use calls::{Answer, CallEnd, Calls, Due, Opened, Phase, Watch};
pub(super) use handshake::{LoadError, load};
use incoming::{Incoming, IncomingBody, Source};
use outbox::Outbox;
use upload::{Credit, Parts, Upload};

/// What is read at a time, in bytes; a longer frame gets the room it needs.
const READ_BYTES: usize = 32 << 10;

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
}

/// Why nothing more comes from a worker.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ending {
    /// It closed its socket: it has ended, or is about to.
    #[error("closed its socket")]
    Closed,
    /// It broke the protocol: it must be killed.
    #[error("broke the worker protocol: {0}")]
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

    /// Waits until every call in flight has ended or reached its deadline.
    pub(super) async fn settled(&self) {
        loop {
            let next = {
                let mut calls = self.calls.lock();
                calls.draining = true;
                calls.next_deadline(Instant::now())
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

    async fn call(
        self: Arc<Self>,
        mut invocation: Invocation,
        place: Place,
    ) -> Result<Reply, HandlerError> {
        let parts = Parts::of(std::mem::take(&mut invocation.body))
            .await
            .map_err(|error| HandlerError::Failed(error.into()))?;
        let credit = parts.rest.is_some().then(|| Credit::after(parts.first.len()));
        let (answer, answered) = oneshot::channel();
        let due = Due { deadline: invocation.deadline, grace: self.grace };
        let opened = self.calls.lock().open(place, due, answer, credit.clone());
        let Ok(Opened { number, tell_watch }) = opened else {
            invocation.body = parts.whole();
            return Err(HandlerError::NotStarted(Box::new(invocation)));
        };
        if tell_watch {
            self.look.notify_one();
        }
        let deadline = invocation.deadline;
        let mut caller = Caller { connection: self, number, deadline, answered: false };
        let position = caller.send_call(&invocation, &parts)?;
        let mut upload = None;
        let answer = match (parts.rest, credit) {
            (Some(rest), Some(credit)) => {
                let upload = upload.insert(Upload::new(rest, credit, position));
                caller.wait_while_uploading(upload, answered).await?
            }
            _ => caller.wait(answered).await,
        };
        match answer {
            Ok(reply) => {
                if let Some(upload) = upload.filter(|upload| !upload.is_done()) {
                    caller.upload_beside(upload);
                }
                Ok(reply)
            }
            Err(CallEnd::Broken(how)) => {
                Err(HandlerError::Failed(InvokeError::ReplyBroken { how }))
            }
            Err(CallEnd::Gone(how)) if caller.connection.outbox.may_have_written(position) => {
                Err(HandlerError::Failed(InvokeError::Crashed { how }))
            }
            Err(CallEnd::Gone(_)) => {
                let rest = upload.map(Upload::into_rest);
                invocation.body = Parts { first: parts.first, rest }.whole();
                Err(HandlerError::NotStarted(Box::new(invocation)))
            }
        }
    }

    /// Nobody waits for the call any more: the worker is told, unless it has
    /// ended. `end` is for a reader of its reply who is still there.
    fn cancel(&self, number: u32, deadline: Instant, end: Option<BodyError>) {
        let left = self.calls.lock().leave(number);
        let Some(phase) = left else { return };
        if let (Phase::Replying(incoming), Some(end)) = (phase, end) {
            incoming.finish(Err(end));
        }
        let reason = if Instant::now() < deadline {
            CancelReason::CallerLeft
        } else {
            CancelReason::DeadlinePassed
        };
        self.send(|out| wire::encode_cancel(out, number, reason));
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
            buffer.reserve(READ_BYTES);
            match self.socket.try_read_buf(&mut buffer) {
                Ok(0) => return Ending::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Ending::Closed,
            }
            if let Err(violation) = self.take_all(&mut buffer) {
                return Ending::Broke(violation);
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

    fn take(self: &Arc<Self>, frame: Frame) -> Result<(), Violation> {
        match frame.kind {
            Kind::Reply => self.take_reply(&frame),
            Kind::Body => self.take_body(frame),
            Kind::Error => self.take_error(&frame),
            Kind::Ended => self.take_ended(&frame),
            Kind::Credit => self.take_credit(&frame),
            Kind::Pong => Ok(()),
            Kind::Load | Kind::Call | Kind::Cancel | Kind::Ping | Kind::Ready | Kind::Failed => {
                Err(Violation::Unexpected(frame.kind))
            }
        }
    }

    fn take_reply(self: &Arc<Self>, frame: &Frame) -> Result<(), Violation> {
        let head = match wire::parse_reply(&frame.payload) {
            Ok((head, body)) => check_status(head).map(|head| (head, body)),
            Err(error @ WireError::BadHeader(_)) => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if head.as_ref().is_ok_and(|(_, body)| body.len() > wire::CREDIT_BYTES) {
            return Err(Violation::CreditExceeded);
        }
        if !frame.flags.has(Flags::END) {
            return self.take_streamed_reply(frame, head);
        }
        let call = self.ended(frame)?;
        match (&call.phase, head) {
            (Phase::Waiting(_), Ok((head, body))) => {
                call.answer(reply(head, frame.flags, Body::from_bytes(body)));
                Ok(())
            }
            (Phase::Waiting(_), Err(how)) => {
                call.fail(CallEnd::Broken(how));
                Ok(())
            }
            (Phase::Left { replied: false }, _) => Ok(()),
            (Phase::Replying(_) | Phase::Left { replied: true }, _) => Err(broke(call, frame)),
        }
    }

    fn take_streamed_reply(
        self: &Arc<Self>,
        frame: &Frame,
        head: Result<(ReplyHead, Bytes), String>,
    ) -> Result<(), Violation> {
        let unexpected = Violation::Unexpected(frame.kind);
        let (answer, incoming, deadline) = {
            let mut calls = self.calls.lock();
            let call = calls.get(frame.call).ok_or(unexpected)?;
            match &mut call.phase {
                Phase::Left { replied } if !*replied => {
                    *replied = true;
                    return Ok(());
                }
                Phase::Waiting(_) => {}
                _ => return Err(Violation::Unexpected(frame.kind)),
            }
            let incoming = Incoming::new();
            let phase = Phase::Replying(Arc::clone(&incoming));
            let Phase::Waiting(answer) = std::mem::replace(&mut call.phase, phase) else {
                return Ok(());
            };
            (answer, incoming, call.deadline)
        };
        let answered = match head {
            Ok((head, body)) => {
                incoming.push(body).map_err(|_| Violation::CreditExceeded)?;
                let reader = Reader { connection: Arc::clone(self), number: frame.call, deadline };
                let body = IncomingBody::new(incoming, reader);
                Ok(reply(head, frame.flags, Body::Stream(Box::pin(body))))
            }
            Err(how) => {
                self.cancel(frame.call, deadline, None);
                Err(CallEnd::Broken(how))
            }
        };
        // Who has left drops the body with it, and that cancels the call.
        drop(answer.send(answered));
        Ok(())
    }

    fn take_body(&self, frame: Frame) -> Result<(), Violation> {
        if frame.flags.has(Flags::END) {
            let call = self.ended(&frame)?;
            return match &call.phase {
                Phase::Replying(incoming) if incoming.push(frame.payload.clone()).is_ok() => {
                    call.finish();
                    Ok(())
                }
                Phase::Left { replied: true } => Ok(()),
                Phase::Replying(_) | Phase::Waiting(_) | Phase::Left { replied: false } => {
                    Err(broke(call, &frame))
                }
            };
        }
        let incoming = {
            let mut calls = self.calls.lock();
            let call = calls.get(frame.call).ok_or(Violation::Unexpected(frame.kind))?;
            match &call.phase {
                Phase::Replying(incoming) => Arc::clone(incoming),
                Phase::Left { replied: true } => return Ok(()),
                Phase::Waiting(_) | Phase::Left { replied: false } => {
                    return Err(Violation::Unexpected(frame.kind));
                }
            }
        };
        incoming.push(frame.payload).map_err(|_| Violation::CreditExceeded)
    }

    fn take_error(&self, frame: &Frame) -> Result<(), Violation> {
        let how = String::from_utf8_lossy(&frame.payload).into_owned();
        self.ended(frame)?.fail(CallEnd::Broken(how));
        Ok(())
    }

    fn take_ended(&self, frame: &Frame) -> Result<(), Violation> {
        let call = self.ended(frame)?;
        match call.phase {
            Phase::Left { .. } => Ok(()),
            Phase::Waiting(_) | Phase::Replying(_) => Err(broke(call, frame)),
        }
    }

    fn take_credit(&self, frame: &Frame) -> Result<(), Violation> {
        let bytes = wire::parse_credit(&frame.payload)?;
        // Of a call that has ended a moment ago there may be one on its way.
        if let Some(credit) =
            self.calls.lock().get(frame.call).and_then(|call| call.credit.as_ref())
        {
            credit.add(bytes);
        }
        Ok(())
    }

    /// Takes a call out of the table: this is its last frame.
    fn ended(&self, frame: &Frame) -> Result<calls::Call, Violation> {
        self.remove(frame.call).ok_or(Violation::Unexpected(frame.kind))
    }

    fn remove(&self, number: u32) -> Option<calls::Call> {
        let (call, draining) = {
            let mut calls = self.calls.lock();
            (calls.remove(number), calls.draining)
        };
        if draining {
            self.look.notify_one();
        }
        call
    }
}

/// A call whose worker sent what must not come; its caller is not kept waiting
/// for the worker's end.
fn broke(call: calls::Call, frame: &Frame) -> Violation {
    call.fail(CallEnd::Gone("it broke the worker protocol".into()));
    Violation::Unexpected(frame.kind)
}

/// A status that no protocol could pass on breaks the reply, not the worker:
/// it is the function that chose it.
fn check_status(head: ReplyHead) -> Result<ReplyHead, String> {
    match head.status.map(|status| status.as_u16()) {
        Some(status) if !(200..600).contains(&status) => {
            Err(format!("the function set the status {status}; it must be one of 200 to 599"))
        }
        _ => Ok(head),
    }
}

fn reply(head: ReplyHead, flags: Flags, body: Body) -> Reply {
    let failed = flags.has(Flags::FAILURE);
    Reply { status: head.status, failed, headers: head.headers, body }
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
        Box::pin(self.call(invocation, place))
    }
}

/// Who waits for a call's reply's head. Going away cancels the call.
struct Caller {
    connection: Arc<Connection>,
    number: u32,
    deadline: Instant,
    answered: bool,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.cancel(self.number, self.deadline, None);
        }
    }
}

impl Caller {
    fn send_call(&self, invocation: &Invocation, parts: &Parts) -> Result<u64, HandlerError> {
        let id = invocation.id.to_hex();
        let head = CallHead {
            id: id.as_str().as_bytes(),
            method: invocation.method.as_str().as_bytes(),
            path: invocation.target.path().as_bytes(),
            query: invocation.target.query().as_bytes(),
            remaining: self.deadline.saturating_duration_since(Instant::now()),
        };
        let flags = Flags::end_if(parts.rest.is_none());
        let encode = |out: &mut BytesMut| {
            wire::encode_call(out, self.number, &head, &invocation.headers, &parts.first, flags)
        };
        self.connection.outbox.send(&self.connection.socket, encode).map_err(|bytes| {
            drop(self.connection.remove(self.number));
            let how = format!(
                "its headers take {bytes} bytes, more than the {} that reach a function",
                wire::HEAD_BYTES_MAX
            );
            HandlerError::Failed(BodyError::Broken(how).into())
        })
    }

    async fn wait(&mut self, answered: oneshot::Receiver<Answer>) -> Answer {
        let answer = answered.await;
        self.answered = true;
        answer.unwrap_or_else(|_| Err(CallEnd::Gone("it dropped the call".into())))
    }

    async fn wait_while_uploading(
        &mut self,
        upload: &mut Upload,
        answered: oneshot::Receiver<Answer>,
    ) -> Result<Answer, HandlerError> {
        let (connection, number) = (Arc::clone(&self.connection), self.number);
        let answer = self.wait(answered);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => Ok(answer),
            uploaded = upload.run(&connection, number) => match uploaded {
                Ok(()) => Ok(answer.await),
                Err(error) => Err(HandlerError::Failed(error.into())),
            },
        }
    }

    /// The reply's head has come; the rest of the upload goes on beside it.
    fn upload_beside(&self, mut upload: Upload) {
        let (connection, number, deadline) =
            (Arc::clone(&self.connection), self.number, self.deadline);
        tokio::spawn(async move {
            if let Err(error) = upload.run(&connection, number).await {
                connection.cancel(number, deadline, Some(error));
            }
        });
    }
}

/// A reader of a reply's body, as the body sees it.
struct Reader {
    connection: Arc<Connection>,
    number: u32,
    deadline: Instant,
}

impl Source for Reader {
    fn grant(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).expect("never more than the credit at a time");
        self.connection.send(|out| wire::encode_credit(out, self.number, bytes));
    }

    fn abandon(&self) {
        self.connection.cancel(self.number, self.deadline, None);
    }
}

#[cfg(test)]
mod tests;
