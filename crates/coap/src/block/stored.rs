//! Replies whose later blocks may be asked for (RFC 7959 section 2.4).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use super::BlockLimits;
use crate::chain::{Chain, Handle};
use crate::exchange::Response;
use crate::keyed::AsIs;
use crate::peer::Peer;

/// What a reply takes beside payload and options.
const ENTRY_BYTES: usize = 256;

struct Reply {
    print: u64,
    peer: Peer,
    response: Response,
    touched: Instant,
}

impl Reply {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.response.payload.len() + self.response.options.as_encoded().len()
    }
}

pub(super) struct Stored {
    bytes_max: usize,
    keep_for: Duration,
    found: HashMap<u64, Handle, BuildHasherDefault<AsIs>>,
    /// The one not asked for for longest first.
    replies: Chain<Reply>,
    bytes: usize,
}

impl Stored {
    pub(super) fn new(limits: &BlockLimits) -> Stored {
        Stored {
            bytes_max: limits.stored_bytes_max,
            keep_for: limits.stored_for,
            found: HashMap::default(),
            replies: Chain::default(),
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, reply) = self.replies.front()?;
        Some(reply.touched + self.keep_for)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.drop_first();
        }
    }

    /// Drops the replies to an endpoint.
    pub(super) fn forget(&mut self, peer: &Peer) {
        let theirs = |(_, reply): (_, &Reply)| (reply.peer == *peer).then_some(reply.print);
        let gone: Vec<u64> = self.replies.iter().filter_map(theirs).collect();
        for print in gone {
            self.remove(print);
        }
    }

    /// Keeps a reply, in place of an earlier one of this print. Others give way.
    pub(super) fn put(&mut self, now: Instant, print: u64, peer: Peer, response: Response) {
        self.remove(print);
        let reply = Reply { print, peer, response, touched: now };
        self.bytes += reply.bytes();
        let handle = self.replies.push_back(reply);
        self.found.insert(print, handle);
        while self.bytes > self.bytes_max && self.replies.len() > 1 {
            self.drop_first();
        }
    }

    /// The reply kept for this peer by this print.
    pub(super) fn get(&mut self, now: Instant, print: u64, peer: &Peer) -> Option<Response> {
        self.expire(now);
        let handle = *self.found.get(&print)?;
        let reply = self.replies.get_mut(handle)?;
        if reply.peer != *peer {
            return None;
        }
        reply.touched = now;
        let response = reply.response.clone();
        self.replies.move_to_back(handle);
        Some(response)
    }

    fn drop_first(&mut self) {
        if let Some(print) = self.replies.front().map(|(_, reply)| reply.print) {
            self.remove(print);
        }
    }

    fn remove(&mut self, print: u64) {
        if let Some(handle) = self.found.remove(&print)
            && let Some(reply) = self.replies.remove(handle)
        {
            self.bytes -= reply.bytes();
        }
    }
}
