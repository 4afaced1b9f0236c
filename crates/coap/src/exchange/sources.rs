//! Which sources are proven to be where they say, and how much the others may be
//! sent: so that this server is no amplifier for who forges a victim's address
//! (RFC 7252 section 11.3, RFC 9175 section 2.4).
//!
//! Sources are told apart by their IP address, whatever the port: a victim is a
//! machine, and a client behind a new port has proven itself before.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::keyed::Keyed;

/// What a source that is not proven may be sent for a request beyond three times
/// the request: small errors and a token, in bytes.
const FREE_BYTES: usize = 64;

/// What limits replies to sources that are not proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceLimits {
    /// How many sources are remembered; further ones share one allowance. 4,096.
    pub sources_max: usize,
    /// For how long a source stays proven after the last proof. An hour.
    pub proven_for: Duration,
    /// How many bytes a source that is not proven is sent at once, beyond three
    /// times what it sent. 64 KiB.
    pub burst_bytes: u32,
    /// How many of these bytes come back each second. 16 KiB.
    pub bytes_per_s: u32,
    /// For how long an Echo value is good. A minute.
    pub echo_for: Duration,
    /// Whether a source must answer an Echo before its first request is run
    /// (RFC 9175 section 2.3). Off: most simple clients know no Echo.
    pub challenge: bool,
}

impl Default for SourceLimits {
    fn default() -> SourceLimits {
        SourceLimits {
            sources_max: 4096,
            proven_for: Duration::from_secs(3600),
            burst_bytes: 64 << 10,
            bytes_per_s: 16 << 10,
            echo_for: Duration::from_secs(60),
            challenge: false,
        }
    }
}

#[derive(Clone, Copy)]
struct Source {
    proven_until: Option<Instant>,
    /// Bytes not yet come back, as of `at`.
    spent: u64,
    at: Instant,
    /// Until when a confirmable reply that is to prove it is under way.
    probed_until: Option<Instant>,
}

impl Source {
    fn new(now: Instant) -> Source {
        Source { proven_until: None, spent: 0, at: now, probed_until: None }
    }

    fn spent(&mut self, now: Instant, bytes_per_s: u32) -> u64 {
        let passed = now.saturating_duration_since(self.at).as_millis() as u64;
        let back = passed.saturating_mul(u64::from(bytes_per_s)) / 1000;
        if back > 0 {
            self.spent = self.spent.saturating_sub(back);
            self.at = now;
        }
        self.spent
    }

    fn is_proven(&self, now: Instant) -> bool {
        self.proven_until.is_some_and(|until| now < until)
    }
}

pub(super) struct Sources {
    limits: SourceLimits,
    key: Keyed,
    /// From where Echo values count time.
    epoch: Instant,
    known: HashMap<IpAddr, Source, Keyed>,
    /// The known ones, to look for one to forget.
    order: VecDeque<IpAddr>,
    /// All that there is no room for.
    others: Source,
}

/// The bytes of an Echo value: seconds, and a hash of them and the source.
const ECHO_BYTES: usize = 12;

impl Sources {
    pub(super) fn new(limits: SourceLimits, key: Keyed, now: Instant) -> Sources {
        Sources {
            limits,
            known: HashMap::with_hasher(key.clone()),
            key,
            epoch: now,
            order: VecDeque::new(),
            others: Source::new(now),
        }
    }

    /// How much of a reply of this size counts against a source that is not proven.
    pub(super) fn excess(request_bytes: usize, reply_bytes: usize) -> usize {
        reply_bytes.saturating_sub(3 * request_bytes + FREE_BYTES)
    }

    pub(super) fn is_proven(&self, now: Instant, ip: IpAddr) -> bool {
        self.known.get(&ip).is_some_and(|source| source.is_proven(now))
    }

    pub(super) fn must_prove_first(&self) -> bool {
        self.limits.challenge
    }

    pub(super) fn prove(&mut self, now: Instant, ip: IpAddr) {
        let until = now + self.limits.proven_for;
        if let Some(source) = self.entry(now, ip) {
            source.proven_until = Some(until);
            source.probed_until = None;
        }
    }

    /// Whether a source that is not proven has used up what it may be sent.
    pub(super) fn is_over(&mut self, now: Instant, ip: IpAddr) -> bool {
        let limits = (self.limits.bytes_per_s, u64::from(self.limits.burst_bytes));
        let has_room = self.known.len() < self.limits.sources_max;
        let source = match self.known.get_mut(&ip) {
            Some(source) => source,
            None if has_room => return false,
            None => &mut self.others,
        };
        source.spent(now, limits.0) >= limits.1
    }

    pub(super) fn charge(&mut self, now: Instant, ip: IpAddr, bytes: usize) {
        let rate = self.limits.bytes_per_s;
        let source = match self.entry(now, ip) {
            Some(source) => source,
            None => &mut self.others,
        };
        source.spent(now, rate);
        source.spent = source.spent.saturating_add(bytes as u64);
    }

    /// Whether a reply may be sent confirmably to prove its source; for one reply
    /// of a source at a time, as such a reply is repeated.
    pub(super) fn begin_probe(&mut self, now: Instant, ip: IpAddr, lasts: Duration) -> bool {
        match self.entry(now, ip) {
            Some(source) if source.probed_until.is_none_or(|until| until <= now) => {
                source.probed_until = Some(now + lasts);
                true
            }
            _ => false,
        }
    }

    /// What this source is to send back (RFC 9175 section 2.2).
    pub(super) fn echo(&self, now: Instant, ip: IpAddr) -> [u8; ECHO_BYTES] {
        self.echo_at(self.seconds(now), ip)
    }

    /// Whether it sent back what it was given, and lately.
    pub(super) fn is_echo(&self, now: Instant, ip: IpAddr, value: &[u8]) -> bool {
        let Some((seconds, _)) = value.split_first_chunk() else {
            return false;
        };
        let seconds = u32::from_be_bytes(*seconds);
        let age = self.seconds(now).checked_sub(seconds);
        value == self.echo_at(seconds, ip)
            && age.is_some_and(|age| u64::from(age) <= self.limits.echo_for.as_secs())
    }

    fn seconds(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_secs() as u32
    }

    fn echo_at(&self, seconds: u32, ip: IpAddr) -> [u8; ECHO_BYTES] {
        let mut value = [0; ECHO_BYTES];
        value[..4].copy_from_slice(&seconds.to_be_bytes());
        let proof = self.key.hash(("echo", seconds, ip));
        value[4..].copy_from_slice(&proof.to_be_bytes());
        value
    }

    /// The entry of this source, made if there is room or one can be forgotten
    /// that is like one never seen.
    fn entry(&mut self, now: Instant, ip: IpAddr) -> Option<&mut Source> {
        if !self.known.contains_key(&ip) {
            if self.known.len() >= self.limits.sources_max && !self.forget_one(now) {
                return None;
            }
            self.order.push_back(ip);
            self.known.insert(ip, Source::new(now));
        }
        self.known.get_mut(&ip)
    }

    fn forget_one(&mut self, now: Instant) -> bool {
        // A few at a time: the rest are looked at when the next one comes.
        for _ in 0..8 {
            let Some(ip) = self.order.pop_front() else {
                return false;
            };
            let rate = self.limits.bytes_per_s;
            let like_new = self.known.get_mut(&ip).is_none_or(|source| {
                source.spent(now, rate) == 0
                    && !source.is_proven(now)
                    && source.probed_until.is_none_or(|until| until <= now)
            });
            if like_new {
                self.known.remove(&ip);
                return true;
            }
            self.order.push_back(ip);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(limits: SourceLimits) -> (Sources, Instant) {
        let now = Instant::now();
        (Sources::new(limits, Keyed::new(7), now), now)
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn what_is_spent_comes_back() {
        let (mut sources, now) = sources(SourceLimits::default());
        assert!(!sources.is_over(now, ip(1)));
        sources.charge(now, ip(1), 64 << 10);
        assert!(sources.is_over(now, ip(1)));
        assert!(!sources.is_over(now, ip(2)));
        assert!(!sources.is_over(now + Duration::from_millis(100), ip(1)));
    }

    #[test]
    fn a_proof_ends() {
        let (mut sources, now) = sources(SourceLimits::default());
        sources.prove(now, ip(1));
        assert!(sources.is_proven(now + Duration::from_secs(3599), ip(1)));
        assert!(!sources.is_proven(now + Duration::from_secs(3600), ip(1)));
        assert!(!sources.is_proven(now, ip(2)));
    }

    #[test]
    fn an_echo_is_of_one_source_and_lately() {
        let (sources, now) = sources(SourceLimits::default());
        let value = sources.echo(now, ip(1));
        assert!(sources.is_echo(now, ip(1), &value));
        assert!(sources.is_echo(now + Duration::from_secs(60), ip(1), &value));
        assert!(!sources.is_echo(now + Duration::from_secs(61), ip(1), &value));
        assert!(!sources.is_echo(now, ip(2), &value));
        assert!(!sources.is_echo(now, ip(1), &value[..11]));
        assert!(!sources.is_echo(now, ip(1), &[]));
        let ahead = sources.echo(now + Duration::from_secs(9), ip(1));
        assert!(!sources.is_echo(now, ip(1), &ahead));
    }

    #[test]
    fn without_room_sources_share_an_allowance() {
        let (mut sources, now) =
            sources(SourceLimits { sources_max: 2, ..SourceLimits::default() });
        sources.charge(now, ip(1), 100);
        sources.charge(now, ip(2), 100);
        sources.charge(now, ip(3), 64 << 10);
        assert!(sources.is_over(now, ip(4)));
        assert!(!sources.begin_probe(now, ip(5), Duration::from_secs(93)));
        assert_eq!(sources.known.len(), 2);
        // Those that are as if never seen make room.
        let later = now + Duration::from_secs(1);
        assert!(sources.begin_probe(later, ip(5), Duration::from_secs(93)));
        assert!(!sources.begin_probe(later, ip(5), Duration::from_secs(93)));
        assert_eq!((sources.known.len(), sources.order.len()), (2, 2));
    }
}
