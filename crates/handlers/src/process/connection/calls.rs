//! The calls in flight on one worker's socket.
//!
//! Owns each call's place, phase and number, and what a frame may do in which
//! phase. Must not know the socket, and wakes nobody: its methods run under a
//! lock and hand back what is to be done after it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use tinyfaas_model::{BodyError, Place, Reply, Suspension};
use tokio::sync::oneshot;

use super::incoming::Incoming;
use super::upload::Credit;

/// How a call ended that has no reply.
#[derive(Debug)]
pub(super) enum CallEnd {
    /// The worker said that it broke, or its reply cannot be passed on.
    Broken(String),
    /// The worker is gone.
    Gone(String),
}

/// What a caller is told.
pub(super) type Answer = Result<Reply, CallEnd>;

/// One call in flight.
pub(super) struct Call {
    number: u32,
    pub(super) deadline: Instant,
    pub(super) phase: Phase,
    /// The credit of an upload that is not yet whole.
    pub(super) credit: Option<Arc<Credit>>,
    /// Held until the worker says that the call has ended.
    place: Place,
}

/// Who waits for what of a call.
pub(super) enum Phase {
    /// Its caller, for the reply's head.
    Waiting(oneshot::Sender<Answer>),
    /// Its caller, for the rest of the reply's body.
    Replying(Arc<Incoming>),
    /// Nobody: it is cancelled, and keeps its place until it has ended.
    Left {
        /// A REPLY has come.
        replied: bool,
    },
}

/// The table.
#[derive(Default)]
pub(super) struct Calls {
    slots: Slab<Call>,
    generation: u16,
    /// No call is taken any more: the worker is gone or going.
    pub(super) closed: bool,
    /// When the watch looks again by itself; `None`: when it is told.
    watched_until: Option<Instant>,
    /// Somebody waits for the calls to end.
    pub(super) draining: bool,
    /// Since a call reached its deadline and the worker was asked whether it is
    /// still there: no new calls.
    doubt: Option<Doubt>,
}

/// That a worker may do nothing any more. Dropped after the lock: it may serve
/// who waits.
pub(super) struct Doubt {
    /// The call that gave rise to it.
    call: u32,
    _suspension: Suspension,
}

/// A call that the table took.
pub(super) struct Opened {
    pub(super) number: u32,
    /// The watch must look earlier than it knows.
    pub(super) tell_watch: bool,
}

/// What the watch does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// A call has not ended, though it should have.
    Overdue,
    /// Look again then.
    At(Instant),
    /// Nothing is in flight.
    Idle,
}

impl Calls {
    /// Takes a call; hands its place back where the table is closed.
    pub(super) fn open(
        &mut self,
        place: Place,
        due: Due,
        answer: oneshot::Sender<Answer>,
        credit: Option<Arc<Credit>>,
    ) -> Result<Opened, Place> {
        if self.closed || self.slots.len() >= usize::from(u16::MAX) {
            return Err(place);
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = self.slots.vacant_entry();
        let slot = u32::try_from(entry.key() + 1).expect("fewer than u16::MAX are in flight");
        // The low half finds the slot, the high half tells its users apart: a
        // late CREDIT must not count for the next call in the slot.
        let number = u32::from(self.generation) << 16 | slot;
        let phase = Phase::Waiting(answer);
        entry.insert(Call { number, deadline: due.deadline, phase, credit, place });
        let tell_watch = self.watched_until.is_none_or(|until| due.overdue_at() < until);
        if tell_watch {
            self.watched_until = Some(due.overdue_at());
        }
        Ok(Opened { number, tell_watch })
    }

    /// The call with this number.
    pub(super) fn get(&mut self, number: u32) -> Option<&mut Call> {
        let slot = (number & 0xffff).checked_sub(1)?;
        self.slots.get_mut(slot as usize).filter(|call| call.number == number)
    }

    /// Takes the call out: it has ended. The caller drops it, and with it the
    /// place, after the lock.
    pub(super) fn remove(&mut self, number: u32) -> Option<Call> {
        self.get(number)?;
        Some(self.slots.remove((number & 0xffff) as usize - 1))
    }

    /// Nobody waits for this call any more. `None` where it has ended or that
    /// is known.
    pub(super) fn leave(&mut self, number: u32) -> Option<Phase> {
        let call = self.get(number)?;
        let replied = match call.phase {
            Phase::Waiting(_) => false,
            Phase::Replying(_) => true,
            Phase::Left { .. } => return None,
        };
        if let Some(credit) = &call.credit {
            credit.close();
        }
        Some(std::mem::replace(&mut call.phase, Phase::Left { replied }))
    }

    /// This call has reached its deadline: until it ends or the worker shows that
    /// it reads, new calls would be lost on it. True where that is new: the worker
    /// is to be asked.
    pub(super) fn doubt(&mut self, number: u32) -> bool {
        if self.doubt.is_some() {
            return false;
        }
        let Some(call) = self.get(number) else { return false };
        let suspension = call.place.suspend();
        self.doubt = Some(Doubt { call: number, _suspension: suspension });
        true
    }

    /// Keeps new calls from the worker for good, where there is a call by whose
    /// place it can be told.
    pub(super) fn suspend(&self) -> Option<Suspension> {
        self.slots.iter().next().map(|(_, call)| call.place.suspend())
    }

    /// The worker reads: it has answered.
    pub(super) fn trust(&mut self) -> Option<Doubt> {
        self.doubt.take()
    }

    /// This call has ended, and with it the doubt that it gave rise to.
    pub(super) fn trust_after(&mut self, number: u32) -> Option<Doubt> {
        self.doubt.take_if(|doubt| doubt.call == number)
    }

    /// Takes no call any more and gives out those in flight.
    pub(super) fn close(&mut self) -> Vec<Call> {
        self.closed = true;
        std::mem::take(&mut self.slots).into_iter().map(|(_, call)| call).collect()
    }

    /// Whether a call should have ended this `grace` after its deadline.
    pub(super) fn watch(&mut self, now: Instant, grace: Duration) -> Watch {
        let due = |call: &Call| Due { deadline: call.deadline, grace }.overdue_at();
        self.watched_until = self.slots.iter().map(|(_, call)| due(call)).min();
        match self.watched_until {
            None => Watch::Idle,
            Some(at) if at <= now => Watch::Overdue,
            Some(at) => Watch::At(at),
        }
    }

    /// The next deadline among the calls that have not reached theirs.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.slots.iter().map(|(_, call)| call.deadline).filter(|deadline| *deadline > now).min()
    }
}

/// When a call must have ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) deadline: Instant,
    /// What a worker has, after the deadline, to say that the call ended.
    pub(super) grace: Duration,
}

impl Due {
    fn overdue_at(self) -> Instant {
        self.deadline.checked_add(self.grace).unwrap_or(self.deadline)
    }
}

impl Call {
    /// Tells whoever waits that the call has no reply, and gives the place back.
    pub(super) fn fail(self, end: CallEnd) {
        self.close_upload();
        match self.phase {
            Phase::Waiting(answer) => drop(answer.send(Err(end))),
            Phase::Replying(incoming) => {
                let (CallEnd::Broken(how) | CallEnd::Gone(how)) = end;
                incoming.finish(Err(BodyError::Broken(how)));
            }
            Phase::Left { .. } => {}
        }
        drop(self.place);
    }

    /// Gives whoever waits the whole reply, and the place back.
    pub(super) fn answer(self, reply: Reply) {
        self.close_upload();
        if let Phase::Waiting(answer) = self.phase {
            drop(answer.send(Ok(reply)));
        }
        drop(self.place);
    }

    /// The reply's last part has come.
    pub(super) fn finish(self) {
        self.close_upload();
        if let Phase::Replying(incoming) = self.phase {
            incoming.finish(Ok(()));
        }
        drop(self.place);
    }

    /// Tells the upload, if there is one, that nobody takes the rest of it.
    fn close_upload(&self) {
        if let Some(credit) = &self.credit {
            credit.close();
        }
    }
}
