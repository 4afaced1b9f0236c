//! What a worker says of its calls.
//!
//! Owns what each of its frames does: to whom it goes, and whether it may come
//! at all. Must not know how calls are sent.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tinyfaas_model::{Body, Reply};

use super::calls::{Call, CallEnd, Phase};
use super::incoming::{Incoming, IncomingBody, Source};
use super::{Connection, Ending, Violation};
use crate::wire::{self, Flags, Frame, Kind, ReplyHead, WireError};

impl Connection {
    /// Does what one frame says.
    pub(super) fn take(self: &Arc<Self>, frame: Frame) -> Result<(), Violation> {
        match frame.kind {
            Kind::Reply => self.take_reply(&frame),
            Kind::Body => self.take_body(frame),
            Kind::Error => self.take_error(&frame),
            Kind::Ended => self.take_ended(&frame),
            Kind::Credit => self.take_credit(&frame),
            Kind::Pong => {
                let doubt = self.calls.lock().trust();
                drop(doubt);
                Ok(())
            }
            Kind::Leaving => {
                self.take_leaving(&frame);
                Ok(())
            }
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

    fn take_leaving(&self, frame: &Frame) {
        let why = String::from_utf8_lossy(&frame.payload).into_owned();
        let suspension = self.calls.lock().suspend();
        // Said once; who says it again adds nothing.
        if self.leaving.set((why, suspension)).is_ok() {
            self.left.notify_one();
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
    fn ended(&self, frame: &Frame) -> Result<Call, Violation> {
        self.remove(frame.call).ok_or(Violation::Unexpected(frame.kind))
    }
}

/// A call whose worker sent what must not come; its caller is not kept waiting
/// for the worker's end.
fn broke(call: Call, frame: &Frame) -> Violation {
    let violation = Violation::Unexpected(frame.kind);
    let how = Ending::Broke(violation).to_string();
    call.fail(CallEnd::Gone(how));
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
