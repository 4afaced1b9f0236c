//! Which session has been silent for longest, at no cost for a message.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// The sessions by when each was last known to be heard of. A message does not touch
/// this: who asks for the longest puts right what it finds outdated.
#[derive(Default)]
pub(super) struct Idle {
    order: BTreeSet<(Instant, u64)>,
    known: HashMap<u64, Instant>,
}

impl Idle {
    pub(super) fn insert(&mut self, session: u64, heard: Instant) {
        self.order.insert((heard, session));
        self.known.insert(session, heard);
    }

    pub(super) fn remove(&mut self, session: u64) {
        if let Some(heard) = self.known.remove(&session) {
            self.order.remove(&(heard, session));
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.known.len(), self.order.len());
        self.known.len()
    }

    /// No session was last heard of before.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.order.first().map(|(heard, _)| *heard)
    }

    /// The one that was silent for longest, and since when; `heard` knows better of
    /// each.
    pub(super) fn longest(
        &mut self,
        heard: impl Fn(u64) -> Option<Instant>,
    ) -> Option<(u64, Instant)> {
        loop {
            let (known, session) = *self.order.first()?;
            match heard(session) {
                Some(at) if at > known => {
                    self.remove(session);
                    self.insert(session, at);
                }
                Some(at) => return Some((session, at)),
                None => self.remove(session),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_longest_is_found_whatever_was_heard_since() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut idle = Idle::default();
        assert_eq!(idle.longest(|_| None), None);
        let mut heard = HashMap::new();
        for session in 0..10 {
            idle.insert(session, after(session));
            heard.insert(session, after(session));
        }
        assert_eq!(idle.longest(|n| heard.get(&n).copied()), Some((0, after(0))));
        heard.insert(0, after(20));
        heard.insert(1, after(5));
        heard.remove(&2);
        assert_eq!(idle.longest(|n| heard.get(&n).copied()), Some((3, after(3))));
        idle.remove(3);
        idle.remove(4);
        assert_eq!(idle.longest(|n| heard.get(&n).copied()), Some((1, after(5))));
        for session in [1, 5, 6, 7, 8, 9] {
            idle.remove(session);
        }
        assert_eq!(idle.longest(|n| heard.get(&n).copied()), Some((0, after(20))));
        idle.remove(0);
        assert_eq!(idle.earliest(), None);
    }
}
