//! Who observes what (RFC 7641 section 4.1): a bounded table of observers, found
//! by endpoint and token and by resource, and the order of what each is told.
//!
//! Knows no messages, so that it serves datagrams (see [`crate::server`]) and
//! connections alike, and no resources beyond their numbers.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::block::Transfer;
use crate::chain::{Chain, Handle};
use crate::exchange::Response;
use crate::keyed::Keyed;
use crate::message::{Code, OptionNumber, Token};
use crate::peer::Peer;
use crate::per_source::PerSource;

/// Sequence numbers have 24 bits (RFC 7641 section 2).
const SEQUENCE_MASK: u32 = 0xff_ffff;

/// A number more than this ahead is behind (RFC 7641 section 3.4).
const SEQUENCE_AHEAD_MAX: u32 = 1 << 23;

/// After so long any number is newer (RFC 7641 section 3.4).
const SEQUENCE_FOR: Duration = Duration::from_secs(128);

/// A resource that may be observed, by a number of who knows what it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ResourceId(pub u64);

/// One observer. Never given twice within 2^32 of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ObserverId(Handle);

/// What observers may take, each with its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ObserverLimits {
    /// How many there may be. Beyond, one whose source was never proven gives way,
    /// else requests are answered as if they did not ask to observe. 4,096.
    pub observers_max: usize,
    /// How many of one IP address there may be. 1,024.
    pub observers_per_source_max: usize,
    /// What may be kept of a request to observe, in bytes: path, query, accepted
    /// format and ETags. 1,024.
    pub request_bytes_max: usize,
    /// After so many non-confirmable notifications one is confirmable, to learn
    /// whether the observer is still there. 16.
    pub non_confirmable_max: u32,
    /// After so long one is as well, at most a day (RFC 7641 section 4.5). An hour.
    pub confirmed_every: Duration,
    /// What sequence numbers start from. Given the time on the wall in milliseconds
    /// they go on after a restart, which clients that observe again by the same
    /// token rely on. 0.
    pub sequence_start: u32,
}

impl Default for ObserverLimits {
    fn default() -> ObserverLimits {
        ObserverLimits {
            observers_max: 4096,
            observers_per_source_max: 1024,
            request_bytes_max: 1024,
            non_confirmable_max: 16,
            confirmed_every: Duration::from_secs(3600),
            sequence_start: 0,
        }
    }
}

/// A client that wants to be told.
#[derive(Debug)]
pub struct Observer {
    token: Token,
    resource: ResourceId,
    transfer: Transfer,
    confirmable: bool,
    /// The last number it was told, and when.
    told: (u32, Instant),
    /// Non-confirmable notifications since one was confirmable.
    unconfirmed: u32,
    confirmed_at: Instant,
    /// Finds it by what it asked for.
    print: u64,
    /// Where it stands among those of its resource.
    place: Handle,
    /// Where it stands among those whose source was never proven.
    doubt: Option<Handle>,
}

impl Observer {
    /// Who it is.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.transfer.peer()
    }

    /// The token of its request, and so of all that it is told.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// What it observes.
    #[must_use]
    pub fn resource(&self) -> ResourceId {
        self.resource
    }

    /// How what it is told is to be cut.
    #[must_use]
    pub fn transfer(&self) -> &Transfer {
        &self.transfer
    }
}

/// What happened to the table beside what was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// This observer made room for another, or was renewed under another number.
    Displaced(ObserverId),
    /// Nobody observes this resource any more.
    Unobserved(ResourceId),
}

/// The observers. See the module. After each call that may change who there is,
/// ask [`Observers::poll`] what came of it.
pub struct Observers {
    limits: ObserverLimits,
    key: Keyed,
    epoch: Instant,
    observers: Chain<Observer>,
    by_token: HashMap<(Peer, Token), ObserverId, Keyed>,
    by_request: HashMap<u64, ObserverId, Keyed>,
    by_resource: HashMap<ResourceId, Chain<ObserverId>, Keyed>,
    by_source: PerSource,
    /// Those whose source was never proven, oldest first.
    doubtful: Chain<ObserverId>,
    changes: VecDeque<Change>,
}

impl Observers {
    /// A table without observers. `secret` must be random.
    #[must_use]
    pub fn new(limits: ObserverLimits, secret: u128, now: Instant) -> Observers {
        let key = Keyed::new(secret);
        Observers {
            epoch: now,
            observers: Chain::default(),
            by_token: HashMap::with_hasher(key.clone()),
            by_request: HashMap::with_hasher(key.clone()),
            by_resource: HashMap::with_hasher(key.clone()),
            by_source: PerSource::new(key.clone()),
            doubtful: Chain::default(),
            changes: VecDeque::new(),
            key,
            limits,
        }
    }

    /// Enters who sent this GET; `proven` says whether its source is. Whom this
    /// endpoint entered before by the same token or for the same request is
    /// replaced (RFC 7641 section 4.1). None if it is no GET or there is no room.
    pub fn observe(
        &mut self,
        now: Instant,
        transfer: &Transfer,
        (token, confirmable): (Token, bool),
        resource: ResourceId,
        proven: bool,
    ) -> Option<ObserverId> {
        let kept = transfer.to_keep();
        let is_short = kept.options().as_encoded().len() <= self.limits.request_bytes_max;
        if transfer.code() != Code::GET || !is_short {
            return None;
        }
        let (peer, print) = (*transfer.peer(), self.print(transfer));
        let before = (self.clock(now).wrapping_sub(1) & SEQUENCE_MASK, now);
        let told = self.displace(&peer, token, print).unwrap_or(before);
        if !self.make_room(&peer) {
            return None;
        }
        let observer = Observer {
            token,
            resource,
            transfer: kept,
            confirmable,
            told,
            unconfirmed: 0,
            confirmed_at: now,
            print,
            place: Handle::NOTHING,
            doubt: None,
        };
        Some(self.enter(observer, proven))
    }

    /// The observer that this endpoint entered by this token.
    #[must_use]
    pub fn find(&self, peer: &Peer, token: Token) -> Option<ObserverId> {
        self.by_token.get(&(*peer, token)).copied()
    }

    /// The observer, if it is still there.
    #[must_use]
    pub fn get(&self, id: ObserverId) -> Option<&Observer> {
        self.observers.get(id.0)
    }

    /// The observers of this resource, in the order in which they came.
    #[must_use]
    pub fn of(&self, resource: ResourceId) -> Vec<ObserverId> {
        let all = self.by_resource.get(&resource).into_iter().flat_map(Chain::iter);
        all.map(|(_, id)| *id).collect()
    }

    /// How many observe this resource.
    #[must_use]
    pub fn count(&self, resource: ResourceId) -> usize {
        self.by_resource.get(&resource).map_or(0, Chain::len)
    }

    /// How many observers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.observers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the next thing that this observer is told: greater than the
    /// last, by the order of RFC 7641 section 3.4, and in step with the clock, so
    /// that it is also greater than those of who had its token before it.
    pub fn next_sequence(&mut self, now: Instant, id: ObserverId) -> Option<u32> {
        let clock = self.clock(now);
        let observer = self.observers.get_mut(id.0)?;
        let (last, told_at) = observer.told;
        let ahead = clock.wrapping_sub(last) & SEQUENCE_MASK;
        let keeps_step = (1..SEQUENCE_AHEAD_MAX).contains(&ahead) || now > told_at + SEQUENCE_FOR;
        let sequence = if keeps_step { clock } else { (last + 1) & SEQUENCE_MASK };
        observer.told = (sequence, now);
        Some(sequence)
    }

    /// A response as this observer is told it: with its sequence number, and without
    /// payload if it has named its ETag (RFC 7641 section 3.3). An error is told as
    /// it is (section 4.2).
    #[must_use]
    pub fn word(&mut self, now: Instant, id: ObserverId, mut response: Response) -> Response {
        if !response.code.is_success() {
            return response;
        }
        let Some(sequence) = self.next_sequence(now, id) else {
            return response;
        };
        if let Some(etag) = response.options.get(OptionNumber::ETAG)
            && response.code == Code::CONTENT
            && let Some(observer) = self.get(id)
            && observer.transfer().options().all(OptionNumber::ETAG).any(|known| known == etag)
        {
            response = response.to_valid();
        }
        let mut options = response.options.edit();
        options.push_uint(OptionNumber::OBSERVE, sequence);
        response.options = options.build();
        response
    }

    /// Whether the next notification of this observer is to be confirmable: if its
    /// request was, and else now and then (RFC 7641 section 4.5).
    pub fn next_is_confirmable(&mut self, now: Instant, id: ObserverId) -> bool {
        let Some(observer) = self.observers.get_mut(id.0) else {
            return false;
        };
        let due = observer.unconfirmed >= self.limits.non_confirmable_max
            || now >= observer.confirmed_at + self.limits.confirmed_every;
        if observer.confirmable || due {
            (observer.unconfirmed, observer.confirmed_at) = (0, now);
            return true;
        }
        observer.unconfirmed += 1;
        false
    }

    /// It has acknowledged something: its source is proven.
    pub fn acknowledged(&mut self, id: ObserverId) {
        if let Some(observer) = self.observers.get_mut(id.0)
            && let Some(doubt) = observer.doubt.take()
        {
            self.doubtful.remove(doubt);
        }
    }

    /// Takes an observer out.
    pub fn remove(&mut self, id: ObserverId) {
        let Some(observer) = self.observers.remove(id.0) else {
            return;
        };
        let peer = *observer.peer();
        self.by_token.remove(&(peer, observer.token));
        self.by_request.remove(&observer.print);
        self.by_source.take(peer.remote.ip());
        if let Some(doubt) = observer.doubt {
            self.doubtful.remove(doubt);
        }
        if let Some(all) = self.by_resource.get_mut(&observer.resource) {
            all.remove(observer.place);
            if all.len() == 0 {
                self.by_resource.remove(&observer.resource);
                self.changes.push_back(Change::Unobserved(observer.resource));
            }
        }
    }

    /// Takes all out that an endpoint entered. Takes a look at all there are.
    pub fn forget(&mut self, peer: &Peer) -> Vec<ObserverId> {
        let mine = self.observers.iter().filter(|(_, observer)| observer.peer() == peer);
        let mine: Vec<_> = mine.map(|(handle, _)| ObserverId(handle)).collect();
        for id in &mine {
            self.remove(*id);
        }
        mine
    }

    /// What else has happened; none when all is told.
    pub fn poll(&mut self) -> Option<Change> {
        loop {
            match self.changes.pop_front()? {
                // Somebody has come since.
                Change::Unobserved(resource) if self.count(resource) > 0 => {}
                change => return Some(change),
            }
        }
    }

    /// Takes out whom this endpoint entered by the same token or for the same
    /// request. Returns the last number that was told by that token, and when.
    fn displace(&mut self, peer: &Peer, token: Token, print: u64) -> Option<(u32, Instant)> {
        let same_token = self.find(peer, token);
        let told = same_token.and_then(|id| self.get(id)).map(|observer| observer.told);
        let same_request = self.by_request.get(&print).copied();
        for id in [same_token, same_request].into_iter().flatten() {
            if self.get(id).is_some_and(|observer| observer.peer() == peer) {
                self.remove(id);
                self.changes.push_back(Change::Displaced(id));
            }
        }
        told
    }

    /// Whether there is room, if need be at the cost of one that may not be there.
    fn make_room(&mut self, peer: &Peer) -> bool {
        if self.by_source.count(peer.remote.ip()) >= self.limits.observers_per_source_max {
            return false;
        }
        if self.observers.len() < self.limits.observers_max {
            return true;
        }
        let Some(id) = self.doubtful.front().map(|(_, id)| *id) else {
            return false;
        };
        self.remove(id);
        self.changes.push_back(Change::Displaced(id));
        true
    }

    fn enter(&mut self, observer: Observer, proven: bool) -> ObserverId {
        let (peer, token, print) = (*observer.peer(), observer.token, observer.print);
        let resource = observer.resource;
        let id = ObserverId(self.observers.push_back(observer));
        let place = self.by_resource.entry(resource).or_default().push_back(id);
        let doubt = (!proven).then(|| self.doubtful.push_back(id));
        if let Some(observer) = self.observers.get_mut(id.0) {
            (observer.place, observer.doubt) = (place, doubt);
        }
        self.by_token.insert((peer, token), id);
        self.by_request.insert(print, id);
        self.by_source.add(peer.remote.ip());
        id
    }

    /// A millisecond a number: wraps round after hours, and is at most 2^23 ahead
    /// within 128 s (RFC 7641 section 4.4).
    fn clock(&self, now: Instant) -> u32 {
        let ms = now.saturating_duration_since(self.epoch).as_millis() as u32;
        ms.wrapping_add(self.limits.sequence_start) & SEQUENCE_MASK
    }

    /// A hash of what makes two requests of an endpoint the same.
    fn print(&self, transfer: &Transfer) -> u64 {
        let mut hasher = self.key.build_hasher();
        transfer.peer().hash(&mut hasher);
        for (number, value) in transfer.options().iter() {
            let counts = matches!(
                number,
                OptionNumber::URI_HOST
                    | OptionNumber::URI_PORT
                    | OptionNumber::URI_PATH
                    | OptionNumber::URI_QUERY
                    | OptionNumber::ACCEPT
            );
            if counts {
                (number, value).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests;
