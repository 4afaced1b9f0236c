//! Notifications (RFC 7641 section 4.5): how they leave, and what has become of
//! them. Of an observer one confirmable notification is under way at most; a newer
//! one takes its place when it would be sent again. Knows observers by their
//! numbers only.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::answer::{encode, fitting};
use super::confirm::{Purpose, Settled, Step};
use super::{CallId, Exchange, Limits, Output, Response};
use crate::chain::{Chain, Handle};
use crate::keyed::Keyed;
use crate::message::{Kind, MessageId, Token};
use crate::observe::ObserverId;
use crate::peer::Peer;

/// What has become of what an observer was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It arrived.
    Acknowledged,
    /// The observer knows nothing of it, or does not want it.
    Reset,
    /// Nothing was heard.
    GivenUp,
}

/// A notification that nothing is waited for: only a reset would tell.
struct Remembered {
    peer: Peer,
    id: MessageId,
    observer: ObserverId,
    until: Instant,
}

pub(super) struct Notifications {
    remembered_max: usize,
    remembered_for: Duration,
    /// The confirmable ones, one of an observer.
    under_way: HashMap<ObserverId, (Peer, MessageId), Keyed>,
    found: HashMap<(Peer, MessageId), Handle, Keyed>,
    /// Oldest first.
    remembered: Chain<Remembered>,
    fates: VecDeque<(ObserverId, Fate)>,
}

impl Notifications {
    pub(super) fn new(limits: &Limits, key: Keyed) -> Notifications {
        Notifications {
            remembered_max: limits.notifications_remembered_max,
            remembered_for: limits.non_confirmable_for,
            under_way: HashMap::with_hasher(key.clone()),
            found: HashMap::with_hasher(key),
            remembered: Chain::default(),
            fates: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.remembered.len()
    }

    /// A confirmable one is under way from now on.
    pub(super) fn begin(&mut self, observer: ObserverId, peer: Peer, id: MessageId) {
        self.under_way.insert(observer, (peer, id));
    }

    pub(super) fn end(&mut self, observer: ObserverId) -> Option<(Peer, MessageId)> {
        self.under_way.remove(&observer)
    }

    /// Remembers what was sent, for a reset that comes late or for once.
    pub(super) fn remember(
        &mut self,
        now: Instant,
        peer: Peer,
        id: MessageId,
        observer: ObserverId,
    ) {
        self.take(now, &peer, id);
        while self.remembered.len() >= self.remembered_max.max(1)
            || self.remembered.front().is_some_and(|(_, first)| first.until <= now)
        {
            let Some((handle, _)) = self.remembered.front() else { break };
            if let Some(gone) = self.remembered.remove(handle) {
                self.found.remove(&(gone.peer, gone.id));
            }
        }
        let until = now + self.remembered_for;
        let handle = self.remembered.push_back(Remembered { peer, id, observer, until });
        self.found.insert((peer, id), handle);
    }

    /// Whom a remembered one told.
    fn take(&mut self, now: Instant, peer: &Peer, id: MessageId) -> Option<ObserverId> {
        let handle = self.found.remove(&(*peer, id))?;
        let remembered = self.remembered.remove(handle)?;
        (now < remembered.until).then_some(remembered.observer)
    }

    fn tell(&mut self, observer: ObserverId, fate: Fate) {
        self.fates.push_back((observer, fate));
    }
}

impl Exchange {
    /// The reply to this call is the first thing that this observer is told.
    pub(crate) fn reply_tells(&mut self, call: CallId, observer: ObserverId) {
        if let Some(call) = self.calls.get_mut(call.0) {
            call.observer = Some(observer);
        }
    }

    /// Notifies an observer: confirmably if that is asked for, or if its source is
    /// not proven and must be so before it is told much. What becomes of it is told
    /// by [`Exchange::fate`].
    pub(crate) fn notify(
        &mut self,
        now: Instant,
        observer: ObserverId,
        (peer, token): (Peer, Token),
        confirmable: bool,
        response: Response,
    ) {
        let response = fitting(token, response);
        let id = self.fresh_id(&peer);
        if let Some((_, under_way)) = self.notifications.under_way.get(&observer) {
            let datagram = encode(Kind::Confirmable, id, token, response);
            self.confirmables.supersede(&peer, *under_way, (id, datagram));
            return;
        }
        let proven = self.is_proven(now, &peer);
        let has_room = self.confirmables.len() < self.limits.confirmables_max;
        if !proven && (!has_room || self.sources.is_over(now, peer.remote.ip())) {
            self.notifications.tell(observer, Fate::GivenUp);
            return;
        }
        if (confirmable || !proven) && has_room {
            let datagram = encode(Kind::Confirmable, id, token, response);
            self.transmit(now, observer, peer, (id, datagram));
        } else {
            let datagram = encode(Kind::NonConfirmable, id, token, response);
            self.notifications.remember(now, peer, id, observer);
            self.outputs.push_back(Output::Send(peer, datagram));
        }
    }

    /// What is under way to this observer is not sent again: it is told otherwise,
    /// or has left.
    pub(crate) fn withdraw(&mut self, observer: ObserverId) {
        if let Some((peer, id)) = self.notifications.end(observer) {
            self.confirmables.withdraw(&peer, id);
        }
    }

    /// What has become of the next notification of which that is known.
    pub(crate) fn fate(&mut self) -> Option<(ObserverId, Fate)> {
        self.notifications.fates.pop_front()
    }

    /// How many notifications are remembered that nothing is waited for.
    #[must_use]
    pub fn notifications_remembered(&self) -> usize {
        self.notifications.len()
    }

    /// An acknowledgement or a reset of something that was sent.
    pub(super) fn settle(&mut self, now: Instant, peer: Peer, id: MessageId, kind: Kind) {
        let Some(settled) = self.confirmables.settle(&peer, id) else {
            self.settle_remembered(now, peer, id, kind);
            return;
        };
        if !peer.is_beyond_doubt() {
            self.sources.prove(now, peer.remote.ip());
        }
        let Settled { purpose, newer } = settled;
        if let Some(print) = purpose.print {
            self.seen.settle(print);
        }
        let Some(observer) = purpose.observer else {
            return;
        };
        self.notifications.end(observer);
        if kind == Kind::Reset {
            self.notifications.tell(observer, Fate::Reset);
            return;
        }
        self.notifications.tell(observer, Fate::Acknowledged);
        if let Some(newer) = newer {
            self.transmit(now, observer, peer, newer);
        }
    }

    /// What is done about a confirmable message that was not acknowledged in time.
    pub(super) fn retry(&mut self, now: Instant, step: Step) {
        let Step { peer, id: before, purpose, again } = step;
        let Some((id, datagram)) = again else {
            if let Some(print) = purpose.print {
                self.seen.settle(print);
            }
            if let Some(observer) = purpose.observer {
                self.notifications.end(observer);
                self.notifications.tell(observer, Fate::GivenUp);
            }
            return;
        };
        let ip = peer.remote.ip();
        let proven = self.is_proven(now, &peer);
        if let Some(observer) = purpose.observer {
            if !proven && purpose.print.is_none() && self.sources.is_over(now, ip) {
                self.confirmables.settle(&peer, id);
                self.notifications.end(observer);
                self.notifications.tell(observer, Fate::GivenUp);
                return;
            }
            if id != before {
                self.notifications.begin(observer, peer, id);
                self.notifications.remember(now, peer, before, observer);
            }
        }
        if !proven {
            self.sources.charge(now, ip, datagram.len());
        }
        self.counts.retransmitted += 1;
        self.outputs.push_back(Output::Send(peer, datagram));
    }

    /// An answer to a notification that is not waited for: it was not confirmable,
    /// or a newer one has taken its place.
    fn settle_remembered(&mut self, now: Instant, peer: Peer, id: MessageId, kind: Kind) {
        let Some(observer) = self.notifications.take(now, &peer, id) else {
            return;
        };
        if kind == Kind::Reset {
            self.notifications.tell(observer, Fate::Reset);
        } else if let Some((peer, id)) = self.notifications.under_way.get(&observer) {
            // It is there, only slower than what is published.
            self.confirmables.encourage(peer, *id);
        }
    }

    fn transmit(
        &mut self,
        now: Instant,
        observer: ObserverId,
        peer: Peer,
        (id, datagram): (MessageId, Bytes),
    ) {
        if !self.is_proven(now, &peer) {
            self.sources.charge(now, peer.remote.ip(), datagram.len());
        }
        let purpose = Purpose { print: None, observer: Some(observer) };
        self.confirmables.begin(now, peer, id, datagram.clone(), purpose);
        self.notifications.begin(observer, peer, id);
        self.outputs.push_back(Output::Send(peer, datagram));
    }
}
