//! The whole server side on datagrams: block-wise transfer and observation on the
//! message layer.
//!
//! Who drives it has the sockets, the clock and the functions: after every
//! [`Server::receive`], [`Server::reply`], [`Server::publish`] and
//! [`Server::expire`] do what [`Server::poll`] tells, then wait for a datagram, a
//! reply, a resource that changes or [`Server::deadline`].

use std::time::Instant;

use bytes::Bytes;

use crate::block::{BlockLimits, Blocks, Carrier, Step, Transfer};
use crate::exchange::{CallId, Exchange, Fate, Limits, Output, Response, suppressed};
use crate::message::{Code, Kind, Message, OptionNumber, Token};
use crate::observe::{Change, ObserverId, Observers, ResourceId};
use crate::peer::Peer;

/// A request to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// To be handed back with the reply.
    pub owed: Owed,
    /// What is asked, with its whole body as payload. Its Block1 and Block2 options
    /// are done with.
    pub message: Message,
}

/// What a request is owed: one [`Server::reply`].
#[derive(Clone, Debug)]
pub struct Owed {
    call: CallId,
    peer: Peer,
    token: Token,
    confirmable: bool,
    transfer: Transfer,
    /// As whom the reply tells its peer of what it observes.
    observer: Option<ObserverId>,
}

impl Owed {
    /// What a cancellation names.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// The server's state. See the module.
pub struct Server {
    exchange: Exchange,
    blocks: Blocks,
    observers: Observers,
}

impl Server {
    /// A server that has seen nothing. `secret` must be random.
    #[must_use]
    pub fn new(limits: Limits, blocks: BlockLimits, secret: u128, now: Instant) -> Server {
        Server {
            observers: Observers::new(limits.observers.clone(), secret, now),
            exchange: Exchange::new(limits, secret, now),
            blocks: Blocks::new(blocks, secret),
        }
    }

    /// Takes a datagram. Returns a request to run, if there now is one. Who sends a
    /// GET whose Observe is 1 observes nothing by its token any more
    /// (RFC 7641 section 3.6).
    pub fn receive(&mut self, now: Instant, peer: Peer, datagram: &Bytes) -> Option<Request> {
        let request = self.exchange.receive(now, peer, datagram);
        self.learn();
        let request = request?;
        let proven = self.exchange.is_proven(now, &peer);
        let call = request.call;
        let carrier = Carrier::Datagram { proven };
        let (token, kind) = (request.message.token, request.message.kind);
        if request.message.code == Code::GET
            && request.message.options.uint(OptionNumber::OBSERVE) == Some(1)
        {
            self.end(self.observers.find(&peer, token));
        }
        match self.blocks.request(now, peer, request.message, carrier) {
            Step::Run(message, transfer) => {
                let confirmable = kind == Kind::Confirmable;
                let owed = Owed { call, peer, token, confirmable, transfer, observer: None };
                Some(Request { owed, message })
            }
            Step::Answer(response) => {
                self.exchange.reply(now, call, response);
                None
            }
        }
    }

    /// Takes the reply to a request; it has none of the options Observe, Block1,
    /// Block2 and Size2. One to a call that was cancelled is dropped.
    pub fn reply(&mut self, now: Instant, owed: Owed, response: Response) {
        if !self.exchange.is_running(owed.call) {
            return;
        }
        let observer = owed.observer.filter(|id| self.observers.get(*id).is_some());
        let worded = match observer {
            Some(observer) => self.observers.word(now, observer, response),
            None => response,
        };
        let carrier = Carrier::Datagram { proven: self.exchange.is_proven(now, &owed.peer) };
        let cut = self.blocks.reply(now, &owed.transfer, worded, carrier);
        match observer {
            Some(observer) if cut.code.is_success() => {
                self.exchange.reply_tells(owed.call, observer);
            }
            Some(_) => self.end(observer),
            None => {}
        }
        self.exchange.reply(now, owed.call, cut);
    }

    /// Enters who is owed this reply, which is to follow at once, as an observer of
    /// this resource. False if there is no room for it, or if it cannot observe:
    /// then the reply is one to a request without Observe (RFC 7641 section 4.1). So
    /// is who wants no such response (RFC 7967): it could not be told anything.
    pub fn observe(&mut self, now: Instant, owed: &mut Owed, resource: ResourceId) -> bool {
        let unwanted = owed.transfer.options().uint(OptionNumber::NO_RESPONSE);
        if !self.exchange.is_running(owed.call) || suppressed(unwanted.unwrap_or(0), Code::CONTENT)
        {
            return false;
        }
        let proven = self.exchange.is_proven(now, &owed.peer);
        let how = (owed.token, owed.confirmable);
        owed.observer = self.observers.observe(now, &owed.transfer, how, resource, proven);
        owed.observer.is_some()
    }

    /// Ends what was observed by the token of this request, if anything was.
    pub fn unobserve(&mut self, owed: &Owed) {
        self.end(self.observers.find(&owed.peer, owed.token));
    }

    /// Tells all observers of a resource what it now is; the response is as one to
    /// [`Server::reply`]. One other than 2.xx ends what they observe
    /// (RFC 7641 section 4.2).
    pub fn publish(&mut self, now: Instant, resource: ResourceId, response: &Response) {
        for id in self.observers.of(resource) {
            let worded = self.observers.word(now, id, response.clone());
            let Some(observer) = self.observers.get(id) else { continue };
            let (peer, token) = (*observer.peer(), observer.token());
            let carrier = Carrier::Datagram { proven: self.exchange.is_proven(now, &peer) };
            let cut = self.blocks.reply(now, observer.transfer(), worded, carrier);
            let is_last = !cut.code.is_success();
            // What is told last should arrive.
            let confirmable = self.observers.next_is_confirmable(now, id) || is_last;
            self.exchange.notify(now, id, (peer, token), confirmable, cut);
            if is_last {
                self.observers.remove(id);
            }
        }
        self.learn();
    }

    /// How many observe this resource.
    #[must_use]
    pub fn observers(&self, resource: ResourceId) -> usize {
        self.observers.count(resource)
    }

    /// Does what has come due.
    pub fn expire(&mut self, now: Instant) {
        self.exchange.expire(now);
        self.blocks.expire(now);
        self.learn();
    }

    /// When [`Server::expire`] has something to do; none while nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.exchange.deadline(), self.blocks.deadline()].into_iter().flatten().min()
    }

    /// What is to be done next; none when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        while let Some(change) = self.observers.poll() {
            match change {
                Change::Displaced(observer) => self.exchange.withdraw(observer),
                Change::Unobserved(resource) => return Some(Output::Unobserved(resource)),
            }
        }
        self.exchange.poll()
    }

    /// Forgets an endpoint whose session has ended: cancels its calls, and it
    /// observes nothing any more.
    pub fn forget(&mut self, peer: &Peer) {
        self.exchange.forget(peer);
        self.blocks.forget(peer);
        for observer in self.observers.forget(peer) {
            self.exchange.withdraw(observer);
        }
    }

    /// The message layer, to look at.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The block-wise transfers, to look at.
    #[must_use]
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// All observers, to look at.
    #[must_use]
    pub fn all_observers(&self) -> &Observers {
        &self.observers
    }

    /// An observer has left: it is told nothing more.
    fn end(&mut self, observer: Option<ObserverId>) {
        if let Some(observer) = observer {
            self.observers.remove(observer);
            self.exchange.withdraw(observer);
        }
    }

    /// Hears what has become of notifications.
    fn learn(&mut self) {
        while let Some((observer, fate)) = self.exchange.fate() {
            match fate {
                Fate::Acknowledged => self.observers.acknowledged(observer),
                Fate::Reset | Fate::GivenUp => self.end(Some(observer)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
