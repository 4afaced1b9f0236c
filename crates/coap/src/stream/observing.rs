//! Observing on a stream (RFC 8323 section 7 and appendix A): what arrives is in
//! order and arrives, so a notification is a message like any other, and an
//! observer ends with its stream, by asking, or when it is told an error.

use std::time::Instant;

use super::{Connection, Owed, StreamLimits};
use crate::block::Blocks;
use crate::exchange::Response;
use crate::message::{Code, Message, OptionNumber};
use crate::observe::{Change, ObserverLimits, Observers, ResourceId};

/// The observers of one stream. They are found by their stream's own requests
/// alone, so that the table needs no secret.
pub(super) fn table(limits: &StreamLimits, now: Instant) -> Observers {
    let limits = ObserverLimits {
        observers_max: limits.observers_max,
        observers_per_source_max: limits.observers_max,
        ..ObserverLimits::default()
    };
    Observers::new(limits, 0, now)
}

impl Connection {
    /// Enters who is owed this reply, which is to follow at once, as an observer of
    /// this resource. False if there is no room for it, or if it cannot observe:
    /// then the reply is one to a request without Observe (RFC 7641 section 4.1).
    pub fn observe(&mut self, now: Instant, owed: &mut Owed, resource: ResourceId) -> bool {
        if self.running.binary_search(&owed.number).is_ok() {
            let how = (owed.token, false);
            owed.observer = self.observers.observe(now, &owed.transfer, how, resource, true);
        }
        owed.observer.is_some()
    }

    /// Ends what was observed by the token of this request, if anything was.
    pub fn unobserve(&mut self, owed: &Owed) {
        if let Some(observer) = self.observers.find(&self.peer, owed.token) {
            self.observers.remove(observer);
        }
    }

    /// Tells the observers of a resource what it now is; the response is as one to
    /// [`Connection::reply`]. One other than 2.xx ends what they observe
    /// (RFC 7641 section 4.2). To be called when replies are taken; who comes later
    /// with something newer leaves nothing out but what was older.
    pub fn publish(
        &mut self,
        now: Instant,
        blocks: &mut Blocks,
        resource: ResourceId,
        response: &Response,
    ) {
        for id in self.observers.of(resource) {
            let worded = self.observers.word(now, id, response.clone());
            let Some(observer) = self.observers.get(id) else { continue };
            let (token, transfer) = (observer.token(), observer.transfer().clone());
            if !worded.code.is_success() {
                self.observers.remove(id);
            }
            self.cut(now, blocks, (token, &transfer), worded);
        }
    }

    /// A resource that nobody observes any more; none when all are told.
    pub fn unobserved(&mut self) -> Option<ResourceId> {
        loop {
            match self.observers.poll()? {
                Change::Displaced(_) => {}
                Change::Unobserved(resource) => return Some(resource),
            }
        }
    }

    /// How many observers there are.
    #[must_use]
    pub fn observers(&self) -> usize {
        self.observers.len()
    }

    /// Who sends a GET whose Observe is 1 observes nothing by its token any more
    /// (RFC 7641 section 3.6).
    pub(super) fn unobserve_asked(&mut self, message: &Message) {
        if message.code == Code::GET
            && message.options.uint(OptionNumber::OBSERVE) == Some(1)
            && let Some(observer) = self.observers.find(&self.peer, message.token)
        {
            self.observers.remove(observer);
        }
    }

    /// The reply as an observer is told it, if it is to one.
    pub(super) fn word(&mut self, now: Instant, owed: &Owed, response: Response) -> Response {
        let Some(id) = owed.observer else { return response };
        if !response.code.is_success() {
            self.observers.remove(id);
            return response;
        }
        self.observers.word(now, id, response)
    }
}
