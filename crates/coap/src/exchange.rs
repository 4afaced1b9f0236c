//! The server's message layer (RFC 7252 section 4): what arrives, made into
//! requests that run once, and their replies, made into datagrams.
//!
//! Knows all endpoints, but no socket and no clock: [`Exchange::receive`] is given
//! a datagram, [`Exchange::reply`] an application's reply, [`Exchange::expire`] is
//! called when [`Exchange::deadline`] has come, and after each of them
//! [`Exchange::poll`] tells what to do. Knows no resources and no blocks.
//! Multicast is not served: give it no datagram that was sent to a group.

mod answer;
mod confirm;
mod limits;
mod notify;
mod response;
mod seen;
mod sources;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

pub(crate) use answer::suppressed;
pub use limits::Limits;
pub use response::Response;
pub use sources::SourceLimits;

use crate::chain::{Chain, Handle};
use crate::keyed::Keyed;
use crate::message::{Due, Kind, Message, MessageId, OptionNumber, Token};
use crate::observe::{ObserverId, ResourceId};
use crate::peer::Peer;
use crate::per_source::PerSource;
use confirm::{Confirmables, Identifiers};
pub(crate) use notify::Fate;
use notify::Notifications;
use seen::{Answer, Seen, State};
use sources::Sources;

/// The longest datagram that is sent, in bytes: UDP's over IPv4. Block-wise
/// transfer keeps replies far below.
pub const DATAGRAM_BYTES_MAX: usize = 65_507;

/// A request that runs. Never given twice within 2^32 calls.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CallId(Handle);

/// A request to run; it is owed one [`Exchange::reply`].
#[derive(Clone, Debug)]
pub struct Request {
    /// What the reply names.
    pub call: CallId,
    /// Who asks.
    pub peer: Peer,
    /// What is asked; its critical options are all known.
    pub message: Message,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this datagram, from the address that the peer spoke to.
    Send(Peer, Bytes),
    /// Nobody waits for this call any more; a reply to it is not taken.
    Cancel(CallId),
    /// The last observer of this resource has gone; only a [`crate::server::Server`]
    /// tells so.
    Unobserved(ResourceId),
}

/// A request that runs.
struct Call {
    peer: Peer,
    id: MessageId,
    token: Token,
    confirmable: bool,
    /// The classes whose responses it does not want (RFC 7967 section 2.1).
    no_response: u32,
    request_bytes: usize,
    print: u64,
    /// Whom its reply tells of what it observes.
    observer: Option<ObserverId>,
    /// Where it waits for its empty acknowledgement; none once that is sent.
    unacknowledged: Option<Handle>,
}

/// The message layer of one endpoint of ours. See the module.
pub struct Exchange {
    limits: Limits,
    key: Keyed,
    calls: Chain<Call>,
    calls_of: PerSource,
    /// Confirmable ones whose empty acknowledgement may come due, soonest first.
    unacknowledged: Chain<(Instant, CallId)>,
    seen: Seen,
    confirmables: Confirmables,
    notifications: Notifications,
    identifiers: Identifiers,
    sources: Sources,
    outputs: VecDeque<Output>,
    counts: Counts,
}

/// What a message layer has counted since it began.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Datagrams that were no message, or none that may be sent.
    pub malformed: u64,
    /// Requests that came again.
    pub copies: u64,
    /// Messages that were sent again because nobody had acknowledged them.
    pub retransmitted: u64,
}

impl Exchange {
    /// A message layer that has seen nothing. `secret` must be random: with it
    /// strangers could foresee message IDs and Echo values.
    #[must_use]
    pub fn new(limits: Limits, secret: u128, now: Instant) -> Exchange {
        let key = Keyed::new(secret);
        Exchange {
            calls: Chain::default(),
            calls_of: PerSource::new(key.clone()),
            unacknowledged: Chain::default(),
            seen: Seen::new(limits.remembered_bytes_max),
            confirmables: Confirmables::new(&limits, key.clone()),
            notifications: Notifications::new(&limits, key.clone()),
            identifiers: Identifiers::new(key.clone()),
            sources: Sources::new(limits.sources.clone(), key.clone(), now),
            outputs: VecDeque::new(),
            counts: Counts::default(),
            key,
            limits,
        }
    }

    /// Takes a datagram. Returns a request to run, if it is one that was not seen.
    pub fn receive(&mut self, now: Instant, peer: Peer, datagram: &Bytes) -> Option<Request> {
        let message = match Message::decode(datagram) {
            Ok(message) => message,
            Err(error) => {
                self.counts.malformed += 1;
                if let Due::Reset(id) = error.due() {
                    self.send_empty(Kind::Reset, peer, id);
                }
                return None;
            }
        };
        match message.kind {
            Kind::Acknowledgement | Kind::Reset => {
                // One with a code answers nothing that was asked here.
                if message.code.is_empty() {
                    self.settle(now, peer, message.id, message.kind);
                }
                None
            }
            Kind::Confirmable | Kind::NonConfirmable if message.code.is_request() => {
                self.request(now, peer, datagram, message)
            }
            Kind::NonConfirmable if message.code.is_response() => None,
            // A ping, or a response to nobody here.
            Kind::Confirmable | Kind::NonConfirmable => {
                self.send_empty(Kind::Reset, peer, message.id);
                None
            }
        }
    }

    /// Takes the reply to a call. One to a call that is cancelled is dropped.
    pub fn reply(&mut self, now: Instant, call: CallId, response: Response) {
        let Some(call) = self.calls.remove(call.0) else {
            return;
        };
        self.calls_of.take(call.peer.remote.ip());
        let acknowledged = match call.unacknowledged {
            Some(place) => self.unacknowledged.remove(place).is_none(),
            None => true,
        };
        let answer = if suppressed(call.no_response, response.code) {
            self.answer_nothing(&call, acknowledged)
        } else {
            self.answer(now, &call, acknowledged, response)
        };
        self.seen.finish(now, call.print, answer);
    }

    /// Does what has come due: empty acknowledgements and retransmissions.
    pub fn expire(&mut self, now: Instant) {
        while let Some((_, (due, call))) = self.unacknowledged.front()
            && *due <= now
        {
            self.acknowledge(*call);
        }
        while let Some(step) = self.confirmables.expire(now) {
            self.retry(now, step);
        }
        self.seen.clear(now);
    }

    /// When [`Exchange::expire`] has something to do; none while nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let acknowledgement = self.unacknowledged.front().map(|(_, (due, _))| *due);
        [acknowledgement, self.confirmables.deadline()].into_iter().flatten().min()
    }

    /// What is to be done next; none when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Forgets an endpoint whose session has ended: its calls are cancelled, its
    /// replies no longer repeated. Takes a look at all that runs.
    pub fn forget(&mut self, peer: &Peer) {
        let gone: Vec<Handle> = (self.calls.iter())
            .filter(|(_, call)| call.peer == *peer)
            .map(|(handle, _)| handle)
            .collect();
        for handle in gone {
            let call = self.calls.remove(handle).expect("it was just found");
            if let Some(place) = call.unacknowledged {
                self.unacknowledged.remove(place);
            }
            self.calls_of.take(peer.remote.ip());
            self.seen.forget(call.print);
            self.outputs.push_back(Output::Cancel(CallId(handle)));
        }
        for purpose in self.confirmables.forget(peer) {
            if let Some(print) = purpose.print {
                self.seen.settle(print);
            }
            if let Some(observer) = purpose.observer {
                self.notifications.end(observer);
            }
        }
    }

    /// Whether this peer is where it says: a reply of any size may be sent there.
    #[must_use]
    pub fn is_proven(&self, now: Instant, peer: &Peer) -> bool {
        peer.is_beyond_doubt() || self.sources.is_proven(now, peer.remote.ip())
    }

    /// Whether a reply to this call is still taken.
    #[must_use]
    pub fn is_running(&self, call: CallId) -> bool {
        self.calls.get(call.0).is_some()
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many requests run.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// How many separate replies wait for their acknowledgement.
    #[must_use]
    pub fn confirmables(&self) -> usize {
        self.confirmables.len()
    }

    /// What is remembered of finished requests, in bytes.
    #[must_use]
    pub fn remembered_bytes(&self) -> usize {
        self.seen.bytes()
    }

    fn request(
        &mut self,
        now: Instant,
        peer: Peer,
        datagram: &Bytes,
        message: Message,
    ) -> Option<Request> {
        let print = self.key.hash((&peer, message.id, &datagram[..]));
        if let Some(state) = self.seen.find(now, print, &peer, message.id) {
            let state = state.clone();
            self.counts.copies += 1;
            self.repeat(now, peer, &message, datagram.len(), state);
            return None;
        }
        if let Err(unservable) = message.check_request() {
            match unservable.due(message.kind, message.id) {
                Due::Silence => {}
                Due::Reset(id) => self.send_empty(Kind::Reset, peer, id),
                Due::Response(code) => self.refuse(peer, &message, Response::new(code)),
            }
            return None;
        }
        if !self.is_proven(now, &peer) && !self.may_ask(now, &peer, &message) {
            let challenge = self.challenge(now, &peer);
            self.refuse(peer, &message, challenge);
            return None;
        }
        if self.calls_of.count(peer.remote.ip()) >= self.limits.calls_per_source_max {
            self.refuse(peer, &message, Response::too_many(1));
            return None;
        }
        if self.calls.len() >= self.limits.calls_max {
            self.refuse(peer, &message, Response::unavailable(1));
            return None;
        }
        let call = self.begin(now, peer, print, datagram.len(), &message);
        Some(Request { call, peer, message })
    }

    fn begin(
        &mut self,
        now: Instant,
        peer: Peer,
        print: u64,
        request_bytes: usize,
        message: &Message,
    ) -> CallId {
        let confirmable = message.kind == Kind::Confirmable;
        let no_response = message.options.uint(OptionNumber::NO_RESPONSE);
        let handle = self.calls.push_back(Call {
            peer,
            id: message.id,
            token: message.token,
            confirmable,
            no_response: no_response.unwrap_or(0),
            request_bytes,
            print,
            observer: None,
            unacknowledged: None,
        });
        self.calls_of.add(peer.remote.ip());
        let call = CallId(handle);
        let life = if confirmable {
            let due = now + self.limits.acknowledge_after;
            let place = self.unacknowledged.push_back((due, call));
            if let Some(call) = self.calls.get_mut(handle) {
                call.unacknowledged = Some(place);
            }
            self.limits.confirmable_for
        } else {
            self.limits.non_confirmable_for
        };
        self.seen.begin(print, peer, message.id, now + life, call);
        call
    }

    /// A copy of a request that was seen.
    fn repeat(
        &mut self,
        now: Instant,
        peer: Peer,
        message: &Message,
        request_bytes: usize,
        state: State,
    ) {
        let confirmable = message.kind == Kind::Confirmable;
        let bytes = match state {
            State::Running(call) => {
                if confirmable && !self.acknowledge(call) {
                    self.send_empty(Kind::Acknowledgement, peer, message.id);
                }
                return;
            }
            State::Done(Answer::None) => return,
            State::Done(Answer::Whole(bytes)) => Some(bytes),
            State::Done(Answer::Separate(bytes)) => {
                self.send_empty(Kind::Acknowledgement, peer, message.id);
                bytes
            }
        };
        let Some(bytes) = bytes else {
            return;
        };
        let excess = Sources::excess(request_bytes, bytes.len());
        if excess > 0 && !self.is_proven(now, &peer) {
            if self.sources.is_over(now, peer.remote.ip()) {
                return;
            }
            self.sources.charge(now, peer.remote.ip(), excess);
        }
        self.outputs.push_back(Output::Send(peer, bytes));
    }

    /// Sends the empty acknowledgement of a call, unless that was done before.
    fn acknowledge(&mut self, call: CallId) -> bool {
        let Some(call) = self.calls.get_mut(call.0) else {
            return false;
        };
        let Some(place) = call.unacknowledged.take() else {
            return false;
        };
        let (peer, id) = (call.peer, call.id);
        self.unacknowledged.remove(place);
        self.send_empty(Kind::Acknowledgement, peer, id);
        true
    }

    /// Whether a source that is not proven may have a request run.
    fn may_ask(&mut self, now: Instant, peer: &Peer, message: &Message) -> bool {
        let ip = peer.remote.ip();
        if let Some(echo) = message.options.get(OptionNumber::ECHO)
            && self.sources.is_echo(now, ip, echo)
        {
            self.sources.prove(now, ip);
            return true;
        }
        !self.sources.must_prove_first() && !self.sources.is_over(now, ip)
    }
}

#[cfg(test)]
mod tests;
