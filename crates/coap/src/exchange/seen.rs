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
    print: u64,
    peer: Peer,
    id: MessageId,
    expires: Instant,
    state: State,
    /// Where it stands among the finished.
    place: Option<Handle>,
}

/// What an entry takes beside its answer, in bytes: itself and its place among the
/// finished, both with their links; its place in a table of which a quarter is in
/// use at least; and what malloc adds to an answer.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>()
    + 2 * size_of::<Handle>()
    + 2 * LINKS_BYTES
    + 4 * (size_of::<u64>() + size_of::<Handle>() + 1)
    + 16;
/// Of an entry of a chain.
const LINKS_BYTES: usize = 16;

/// The entries stand in a chain and not in the table itself, since a table that
/// much is put into and taken from may grow to four times what is in use.
#[derive(Default)]
pub(super) struct Seen {
    places: HashMap<u64, Handle, BuildHasherDefault<AsIs>>,
    entries: Chain<Entry>,
    /// Oldest first.
    finished: Chain<Handle>,
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
        let entry = self.entries.get(*self.places.get(&print)?)?;
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
        let state = State::Running(call);
        let entry = Entry { print, peer, id, expires, state, place: None };
        let place = self.entries.push_back(entry);
        if let Some(before) = self.places.insert(print, place) {
            self.remove(before);
        }
    }

    /// Remembers how it was answered. What is too old or too much goes, the oldest
    /// first; never one that runs.
    pub(super) fn finish(&mut self, now: Instant, print: u64, answer: Answer) {
        let Some(&place) = self.places.get(&print) else {
            return;
        };
        let Some(entry) = self.entries.get_mut(place) else {
            return;
        };
        if entry.place.is_some() {
            // Two requests of one print: the first answer stands.
            return;
        }
        self.bytes += ENTRY_BYTES + answer.bytes();
        entry.state = State::Done(answer);
        entry.place = Some(self.finished.push_back(place));
        self.clear(now);
    }

    /// A separate reply has arrived or is given up: its bytes are not needed.
    pub(super) fn settle(&mut self, print: u64) {
        if let Some(place) = self.places.get(&print)
            && let Some(entry) = self.entries.get_mut(*place)
            && let State::Done(Answer::Separate(reply)) = &mut entry.state
            && let Some(reply) = reply.take()
        {
            self.bytes -= reply.len();
        }
    }

    /// Forgets what is too old or too much.
    pub(super) fn clear(&mut self, now: Instant) {
        while let Some((at, place)) = self.finished.front() {
            let Some(entry) = self.entries.get(*place) else {
                // Whatever stands here for nothing must not be met for ever.
                self.finished.remove(at);
                continue;
            };
            if self.bytes <= self.bytes_max && now < entry.expires {
                break;
            }
            let place = *place;
            self.places.remove(&entry.print);
            self.remove(place);
        }
    }

    pub(super) fn forget(&mut self, print: u64) {
        if let Some(place) = self.places.remove(&print) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: Handle) {
        let Some(entry) = self.entries.remove(place) else {
            return;
        };
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

    /// However much has come and gone, which makes a table grow beyond its need.
    #[test]
    fn what_it_takes_is_what_it_says() {
        let now = Instant::now();
        let bytes_max = 1 << 20;
        let mut seen = Seen::new(bytes_max);
        let key = crate::keyed::Keyed::new(7);
        for number in 0..100_000_u32 {
            let print = key.hash(number);
            let peer = Peer::at("192.0.2.1:5683".parse().unwrap());
            let expires = now + Duration::from_secs(1);
            let call = CallId(Chain::default().push_back(()));
            seen.begin(print, peer, MessageId(number as u16), expires, call);
            seen.finish(now, print, Answer::Whole(Bytes::copy_from_slice(&[7; 64])));
        }
        let remembered = seen.entries.len();
        assert_eq!((seen.finished.len(), seen.places.len()), (remembered, remembered));
        assert!(seen.bytes() <= bytes_max && seen.bytes() > bytes_max - 1024);
        // At most seven eighths of a table are in use, and each has a byte of control.
        let table = seen.places.capacity() * 8 / 7 * (size_of::<(u64, Handle)>() + 1);
        let entry = size_of::<Entry>() + size_of::<Handle>() + 2 * LINKS_BYTES + 64 + 16;
        assert!(table + remembered * entry <= bytes_max, "{table} + {remembered} * {entry}");
    }
}
