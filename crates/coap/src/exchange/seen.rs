//! Which requests were seen, and what they were answered: the memory that makes a
//! function run once for a request that arrives often (RFC 7252 section 4.5).
//!
//! A request is known by its endpoint, its message ID and a hash of the datagram:
//! by the ID alone a client could send 65,536 requests in 247 seconds and no more.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Instant;

use bytes::Bytes;

use super::CallId;
use crate::chain::{Chain, Handle};
use crate::keyed::AsIs;
use crate::message::MessageId;
use crate::peer::Peer;

/// What was made of a request.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It runs.
    Running(CallId),
    /// It was answered so, if at all.
    Done(Answer),
}

/// What a copy of a finished request is sent.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// These bytes.
    Whole(Bytes),
    /// The empty acknowledgement, and the separate reply while nothing says that
    /// it arrived.
    Separate(Option<Bytes>),
    /// Nothing.
    None,
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Answer::Whole(bytes) | Answer::Separate(Some(bytes)) => bytes.len(),
            Answer::Separate(None) | Answer::None => 0,
        }
    }
}

struct Entry {
    peer: Peer,
    id: MessageId,
    expires: Instant,
    state: State,
    /// Where it stands among the finished.
    place: Option<Handle>,
}

/// What an entry takes beside its answer, in bytes: itself in a table that is
/// half full, its place among the finished, and the answer's own bookkeeping.
pub(super) const ENTRY_BYTES: usize =
    2 * (size_of::<Entry>() + size_of::<u64>()) + 2 * size_of::<Handle>() + 64;

#[derive(Default)]
pub(super) struct Seen {
    entries: HashMap<u64, Entry, BuildHasherDefault<AsIs>>,
    /// Oldest first.
    finished: Chain<u64>,
    /// What the finished take.
    bytes: usize,
    bytes_max: usize,
}

impl Seen {
    pub(super) fn new(bytes_max: usize) -> Seen {
        Seen { bytes_max, ..Seen::default() }
    }

    /// What the finished ones take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was made of this request, if it was seen and is remembered.
    pub(super) fn find(
        &self,
        now: Instant,
        print: u64,
        peer: &Peer,
        id: MessageId,
    ) -> Option<&State> {
        let entry = self.entries.get(&print)?;
        let lives = now < entry.expires || matches!(entry.state, State::Running(_));
        (lives && entry.id == id && entry.peer == *peer).then_some(&entry.state)
    }

    /// Remembers that this request runs. Until then it was not found.
    pub(super) fn begin(
        &mut self,
        print: u64,
        peer: Peer,
        id: MessageId,
        expires: Instant,
        call: CallId,
    ) {
        let entry = Entry { peer, id, expires, state: State::Running(call), place: None };
        if let Some(before) = self.entries.insert(print, entry) {
            self.discount(&before);
        }
    }

    /// Remembers how it was answered. What is too old or too much goes, the oldest
    /// first; never one that runs.
    pub(super) fn finish(&mut self, now: Instant, print: u64, answer: Answer) {
        let Some(entry) = self.entries.get_mut(&print) else {
            return;
        };
        if entry.place.is_some() {
            // Two requests of one print: the first answer stands.
            return;
        }
        self.bytes += ENTRY_BYTES + answer.bytes();
        entry.state = State::Done(answer);
        entry.place = Some(self.finished.push_back(print));
        self.clear(now);
    }

    /// A separate reply has arrived or is given up: its bytes are not needed.
    pub(super) fn settle(&mut self, print: u64) {
        if let Some(entry) = self.entries.get_mut(&print)
            && let State::Done(Answer::Separate(reply)) = &mut entry.state
            && let Some(reply) = reply.take()
        {
            self.bytes -= reply.len();
        }
    }

    /// Forgets what is too old or too much.
    pub(super) fn clear(&mut self, now: Instant) {
        while let Some((place, print)) = self.finished.front() {
            let print = *print;
            let Some(entry) = self.entries.get(&print) else {
                // Whatever stands here for nothing must not be met for ever.
                self.finished.remove(place);
                continue;
            };
            if self.bytes <= self.bytes_max && now < entry.expires {
                break;
            }
            self.forget(print);
        }
    }

    pub(super) fn forget(&mut self, print: u64) {
        if let Some(entry) = self.entries.remove(&print) {
            self.discount(&entry);
        }
    }

    /// An entry has gone.
    fn discount(&mut self, entry: &Entry) {
        if let State::Done(answer) = &entry.state {
            self.bytes -= ENTRY_BYTES + answer.bytes();
        }
        if let Some(place) = entry.place {
            self.finished.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_answers_to_one_print_are_forgotten_once() {
        let now = Instant::now();
        let peer = Peer::at("192.0.2.1:5683".parse().unwrap());
        let mut seen = Seen::new(1 << 20);
        let expires = now + Duration::from_secs(1);
        seen.begin(7, peer, MessageId(1), expires, CallId(Chain::default().push_back(())));
        seen.finish(now, 7, Answer::None);
        seen.finish(now, 7, Answer::None);
        assert_eq!(seen.bytes(), ENTRY_BYTES);
        seen.clear(expires);
        assert_eq!((seen.bytes(), seen.entries.len()), (0, 0));
        assert!(seen.finished.front().is_none());
    }
}
