//! Confirmable messages of ours until they are acknowledged, reset or given up
//! (RFC 7252 section 4.2), and the message IDs of all that we send first.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Limits;
use crate::keyed::Keyed;
use crate::message::MessageId;
use crate::observe::ObserverId;
use crate::peer::Peer;

/// What a message is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// The request that it answers, as the memory of requests knows that; none if
    /// it is no reply.
    pub(super) print: Option<u64>,
    /// The observer whom it tells; none if it tells none.
    pub(super) observer: Option<ObserverId>,
}

struct Waiting {
    datagram: Bytes,
    timeout: Duration,
    retransmissions: u32,
    timer: (Instant, u64),
    purpose: Purpose,
    /// What takes its place at the next transmission.
    newer: Option<(MessageId, Bytes)>,
}

/// What has come of a message whose time has come.
pub(super) struct Step {
    pub(super) peer: Peer,
    /// Its ID until now.
    pub(super) id: MessageId,
    pub(super) purpose: Purpose,
    /// To be sent, by its own ID or by that of what has taken its place; none if
    /// it is given up.
    pub(super) again: Option<(MessageId, Bytes)>,
}

/// What has come of a message that was acknowledged or reset.
pub(super) struct Settled {
    pub(super) purpose: Purpose,
    /// What was to take its place.
    pub(super) newer: Option<(MessageId, Bytes)>,
}

pub(super) struct Confirmables {
    ack_timeout: Duration,
    random_percent: u32,
    retransmissions_max: u32,
    waiting: HashMap<(Peer, MessageId), Waiting, Keyed>,
    timers: BTreeMap<(Instant, u64), (Peer, MessageId)>,
    key: Keyed,
    /// Tells timers of one instant apart, and makes each jitter another.
    count: u64,
}

impl Confirmables {
    pub(super) fn new(limits: &Limits, key: Keyed) -> Confirmables {
        Confirmables {
            ack_timeout: limits.ack_timeout,
            random_percent: limits.ack_random_percent,
            retransmissions_max: limits.retransmissions_max,
            waiting: HashMap::with_hasher(key.clone()),
            timers: BTreeMap::new(),
            key,
            count: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn has(&self, peer: &Peer, id: MessageId) -> bool {
        self.waiting.contains_key(&(*peer, id))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// How long one may be under way: MAX_TRANSMIT_WAIT (RFC 7252 section 4.8.2).
    pub(super) fn longest_wait(&self) -> Duration {
        let waits = (2u32 << self.retransmissions_max.min(16)) - 1;
        self.ack_timeout * waits * (100 + self.random_percent) / 100
    }

    /// Waits for the acknowledgement of a message that is now being sent.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        peer: Peer,
        id: MessageId,
        datagram: Bytes,
        purpose: Purpose,
    ) {
        let longest = self.ack_timeout * self.random_percent / 100;
        let part = (self.key.hash(("jitter", self.count)) >> 48) as u32;
        let timeout = self.ack_timeout + longest * part / (1 << 16);
        let timer = self.timer(now + timeout, peer, id);
        let waiting =
            Waiting { datagram, timeout, retransmissions: 0, timer, purpose, newer: None };
        self.waiting.insert((peer, id), waiting);
    }

    /// Has a newer message take the place of one that waits, when that would be
    /// sent again.
    pub(super) fn supersede(&mut self, peer: &Peer, id: MessageId, newer: (MessageId, Bytes)) {
        if let Some(waiting) = self.waiting.get_mut(&(*peer, id)) {
            waiting.newer = Some(newer);
        }
    }

    /// It is not sent again. A reply is, but tells no observer any more.
    pub(super) fn withdraw(&mut self, peer: &Peer, id: MessageId) {
        let Some(waiting) = self.waiting.get_mut(&(*peer, id)) else {
            return;
        };
        if waiting.purpose.print.is_none() {
            self.settle(peer, id);
        } else {
            waiting.newer = None;
            waiting.purpose.observer = None;
        }
    }

    /// Its peer is there, only slow: it is sent as often again as if it were new.
    pub(super) fn encourage(&mut self, peer: &Peer, id: MessageId) {
        if let Some(waiting) = self.waiting.get_mut(&(*peer, id)) {
            waiting.retransmissions = 0;
        }
    }

    /// It was acknowledged or reset. Returns what it was for, if it was waited for.
    pub(super) fn settle(&mut self, peer: &Peer, id: MessageId) -> Option<Settled> {
        let waiting = self.waiting.remove(&(*peer, id))?;
        self.timers.remove(&waiting.timer);
        Some(Settled { purpose: waiting.purpose, newer: waiting.newer })
    }

    /// The next message whose time has come, if any.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Step> {
        let (due, key) = self.timers.first_key_value().map(|(at, key)| (at.0, *key))?;
        if due > now {
            return None;
        }
        self.timers.pop_first();
        let mut waiting = self.waiting.remove(&key)?;
        let (peer, id) = key;
        let purpose = waiting.purpose;
        let mut again = None;
        if waiting.retransmissions < self.retransmissions_max {
            let mut next = id;
            let is_free = |newer: &mut (_, _)| !self.waiting.contains_key(&(peer, newer.0));
            if let Some((newer, datagram)) = waiting.newer.take_if(is_free) {
                // In its place and in its count (RFC 7641 section 4.5.2).
                (next, waiting.datagram) = (newer, datagram);
            }
            waiting.retransmissions += 1;
            waiting.timeout = (2 * waiting.timeout).min(self.timeout_max());
            waiting.timer = self.timer(now + waiting.timeout, peer, next);
            again = Some((next, waiting.datagram.clone()));
            self.waiting.insert((peer, next), waiting);
        }
        Some(Step { peer, id, purpose, again })
    }

    /// Gives up all to this peer. Returns what they were for.
    pub(super) fn forget(&mut self, peer: &Peer) -> Vec<Purpose> {
        let gone = self.waiting.extract_if(|(to, _), _| to == peer).map(|(_, waiting)| waiting);
        gone.map(|waiting| {
            self.timers.remove(&waiting.timer);
            waiting.purpose
        })
        .collect()
    }

    /// The longest wait between two transmissions: as many doublings as there are
    /// retransmissions.
    fn timeout_max(&self) -> Duration {
        let doublings = 1u32 << self.retransmissions_max.min(16);
        self.ack_timeout * doublings * (100 + self.random_percent) / 100
    }

    fn timer(&mut self, at: Instant, peer: Peer, id: MessageId) -> (Instant, u64) {
        self.count += 1;
        let timer = (at, self.count);
        self.timers.insert(timer, (peer, id));
        timer
    }
}

/// How many series of message IDs there are. One for each peer would be without
/// bound; one for all would wrap round within seconds.
const SERIES: usize = 1024;

/// Message IDs of ours: from a random start in order, so that as many messages as
/// can be to a peer pass before one is used again (RFC 7252 section 4.4).
pub(super) struct Identifiers {
    series: Box<[u16]>,
    key: Keyed,
}

impl Identifiers {
    pub(super) fn new(key: Keyed) -> Identifiers {
        Identifiers { series: (0..SERIES).map(|n| key.hash(("ids", n)) as u16).collect(), key }
    }

    pub(super) fn next(&mut self, peer: &Peer) -> MessageId {
        let series = &mut self.series[self.key.hash(peer) as usize % SERIES];
        *series = series.wrapping_add(1);
        MessageId(*series)
    }
}
