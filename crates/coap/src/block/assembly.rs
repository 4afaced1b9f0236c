//! Bodies of requests that are being put together (RFC 7959 section 2.5).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Block, BlockLimits, refusal};
use crate::chain::{Chain, Handle};
use crate::exchange::Response;
use crate::keyed::AsIs;
use crate::message::{Code, Message, OptionNumber, OptionsBuilder};
use crate::peer::Peer;

/// What a body takes beside its bytes.
const ENTRY_BYTES: usize = 256;

struct Assembly {
    print: u64,
    peer: Peer,
    body: Vec<u8>,
    touched: Instant,
}

pub(super) struct Assemblies {
    body_bytes_max: usize,
    bytes_max: usize,
    keep_for: Duration,
    yields_after: Duration,
    found: HashMap<u64, Handle, BuildHasherDefault<AsIs>>,
    /// The one that has waited for longest first.
    bodies: Chain<Assembly>,
    bytes: usize,
}

impl Assemblies {
    pub(super) fn new(limits: &BlockLimits) -> Assemblies {
        Assemblies {
            body_bytes_max: limits.body_bytes_max,
            bytes_max: limits.assembling_bytes_max,
            keep_for: limits.assembling_for,
            yields_after: limits.assembling_yields_after,
            found: HashMap::default(),
            bodies: Chain::default(),
            bytes: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let (_, assembly) = self.bodies.front()?;
        Some(assembly.touched + self.keep_for)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.drop_first();
        }
    }

    /// Drops the bodies of an endpoint.
    pub(super) fn forget(&mut self, peer: &Peer) {
        let theirs =
            |(_, assembly): (_, &Assembly)| (assembly.peer == *peer).then_some(assembly.print);
        let gone: Vec<u64> = self.bodies.iter().filter_map(theirs).collect();
        for print in gone {
            self.remove(print);
        }
    }

    /// Takes a block. Returns the whole body with the last one.
    pub(super) fn take(
        &mut self,
        now: Instant,
        print: u64,
        peer: Peer,
        message: &Message,
        block: Block,
    ) -> Result<Option<Bytes>, Response> {
        self.expire(now);
        let length = message.payload.len();
        if !block.fits(length) {
            return Err(refusal(Code::BAD_REQUEST, "the payload has another size than its block"));
        }
        let announced = message.options.uint(OptionNumber::SIZE1).unwrap_or(0) as usize;
        let offset = block.offset();
        if (offset + length).max(announced) > self.body_bytes_max {
            self.remove(print);
            return Err(self.too_large());
        }
        if block.number == 0 {
            self.remove(print);
            if !block.more {
                return Ok(Some(message.payload.clone()));
            }
            self.begin(now, print, peer)?;
        }
        let handle = *self.found.get(&print).ok_or_else(gap)?;
        let held = self.bodies.get(handle).map_or(0, |body| body.body.len());
        if offset + length <= held && block.more {
            // Sent again by who did not hear that it was taken.
            return Ok(None);
        }
        if offset != held {
            return Err(gap());
        }
        self.append(now, handle, &message.payload)?;
        if block.more {
            return Ok(None);
        }
        Ok(self.remove(print).map(Bytes::from))
    }

    /// 4.13 with the longest body that is taken (RFC 7959 section 2.9.3).
    pub(super) fn too_large(&self) -> Response {
        let mut options = OptionsBuilder::new();
        options.push_uint(OptionNumber::SIZE1, self.body_bytes_max as u32);
        Response { options: options.build(), ..Response::new(Code::REQUEST_ENTITY_TOO_LARGE) }
    }

    fn begin(&mut self, now: Instant, print: u64, peer: Peer) -> Result<(), Response> {
        self.make_room(now, ENTRY_BYTES, None)?;
        let body = Vec::new();
        let handle = self.bodies.push_back(Assembly { print, peer, body, touched: now });
        self.found.insert(print, handle);
        self.bytes += ENTRY_BYTES;
        Ok(())
    }

    fn append(&mut self, now: Instant, handle: Handle, part: &[u8]) -> Result<(), Response> {
        let Some(assembly) = self.bodies.get(handle) else {
            return Err(gap());
        };
        let (length, capacity) = (assembly.body.len(), assembly.body.capacity());
        if length + part.len() > capacity {
            let wanted = (2 * capacity).min(self.body_bytes_max).max(length + part.len());
            self.make_room(now, wanted - capacity, Some(handle))?;
            let assembly = self.bodies.get_mut(handle).ok_or_else(gap)?;
            assembly.body.reserve_exact(wanted - length);
            self.bytes += assembly.body.capacity() - capacity;
        }
        let assembly = self.bodies.get_mut(handle).ok_or_else(gap)?;
        assembly.body.extend_from_slice(part);
        assembly.touched = now;
        self.bodies.move_to_back(handle);
        Ok(())
    }

    /// Makes room at the cost of those that have waited for long.
    fn make_room(
        &mut self,
        now: Instant,
        bytes: usize,
        except: Option<Handle>,
    ) -> Result<(), Response> {
        while self.bytes + bytes > self.bytes_max {
            match self.bodies.front() {
                Some((handle, assembly))
                    if assembly.touched + self.yields_after <= now && Some(handle) != except =>
                {
                    self.drop_first();
                }
                _ => return Err(Response::unavailable(self.yields_after.as_secs() as u32)),
            }
        }
        Ok(())
    }

    fn drop_first(&mut self) {
        if let Some(print) = self.bodies.front().map(|(_, assembly)| assembly.print) {
            self.remove(print);
        }
    }

    fn remove(&mut self, print: u64) -> Option<Vec<u8>> {
        let handle = self.found.remove(&print)?;
        let assembly = self.bodies.remove(handle)?;
        self.bytes -= ENTRY_BYTES + assembly.body.capacity();
        Some(assembly.body)
    }
}

/// 4.08 (RFC 7959 section 2.9.2).
fn gap() -> Response {
    refusal(
        Code::REQUEST_ENTITY_INCOMPLETE,
        "the blocks before this one are not here; begin with block 0",
    )
}
