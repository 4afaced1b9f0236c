//! Block-wise transfer (RFC 7959): long requests put together, long replies cut.
//! Stands on whatever carries single messages, of which it knows how much one of
//! them carries ([`Carrier`]).
//!
//! A function runs once for a long request, on its last block, and once for a long
//! reply, whose later blocks come from the stored reply.

mod assembly;
mod cut;
mod option;
mod stored;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::exchange::Response;
use crate::keyed::Keyed;
use crate::message::{Code, Message, OptionNumber, Options, OptionsBuilder};
use crate::peer::Peer;
pub use cut::Carrier;
pub use option::Block;

use assembly::Assemblies;
use cut::Cut;
use stored::Stored;

/// The longest body that 20 bits of block number can carry in blocks of 16 bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// What block-wise transfers may take, each with its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockLimits {
    /// SZX of the blocks that a proven source is sent, if it asks for no smaller
    /// ones. 6: 1,024 bytes.
    pub exponent: u8,
    /// The same for a source that is not proven. 5: 512 bytes.
    pub unproven_exponent: u8,
    /// The longest body of a request, in bytes; 4.13 beyond. 4 MiB.
    pub body_bytes_max: usize,
    /// All bodies that are being put together, in bytes; 5.03 beyond. 16 MiB.
    pub assembling_bytes_max: usize,
    /// For how long a body waits for its next block. 247 s.
    pub assembling_for: Duration,
    /// After what wait a body may be dropped for another's sake. 30 s.
    pub assembling_yields_after: Duration,
    /// The longest reply, in bytes, at most [`BODY_BYTES_MAX`]; 5.00 beyond. 16 MiB.
    pub reply_bytes_max: usize,
    /// All replies whose later blocks may be asked for, in bytes; beyond, the one
    /// that was not asked for for longest goes. 32 MiB.
    pub stored_bytes_max: usize,
    /// For how long a reply's later blocks may be asked for, since the last time.
    /// 247 s.
    pub stored_for: Duration,
}

impl Default for BlockLimits {
    fn default() -> BlockLimits {
        BlockLimits {
            exponent: Block::EXPONENT_MAX,
            unproven_exponent: 5,
            body_bytes_max: 4 << 20,
            assembling_bytes_max: 16 << 20,
            assembling_for: Duration::from_secs(247),
            assembling_yields_after: Duration::from_secs(30),
            reply_bytes_max: BODY_BYTES_MAX,
            stored_bytes_max: 32 << 20,
            stored_for: Duration::from_secs(247),
        }
    }
}

/// What is to be done about a request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Run it; its payload is the whole body.
    Run(Message, Transfer),
    /// Answer it so; there is nothing to run.
    Answer(Response),
}

/// How the reply to a request is to be cut and found again.
#[derive(Clone, Debug)]
pub struct Transfer {
    peer: Peer,
    code: Code,
    options: Options,
    /// The last block of the request, if it came in blocks.
    block1: Option<Block>,
    /// The first block of the reply as asked for.
    block2: Option<Block>,
}

impl Transfer {
    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The method.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The request's options.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The same without what only this one request needed, to be kept: with a copy
    /// of those options by which later blocks are found, and of its ETags.
    pub(crate) fn to_keep(&self) -> Transfer {
        let mut options = OptionsBuilder::new();
        for (number, value) in self.options.iter() {
            if number == OptionNumber::ETAG || names_reply(number, true) {
                options.push(number, value).expect("it was in a message");
            }
        }
        Transfer { options: options.build(), block1: None, ..*self }
    }
}

/// Whether what a reply is found by has this option.
fn names_reply(number: OptionNumber, tagged: bool) -> bool {
    match number {
        OptionNumber::URI_PATH | OptionNumber::URI_QUERY | OptionNumber::ACCEPT => true,
        OptionNumber::REQUEST_TAG => tagged,
        _ => false,
    }
}

/// Whether what a body of a request is found by has this option: blocks of another
/// format are none of it (RFC 7959 sections 2.3 and 2.9.2).
fn names_body(number: OptionNumber) -> bool {
    number == OptionNumber::CONTENT_FORMAT || names_reply(number, true)
}

/// All block-wise transfers. See the module.
pub struct Blocks {
    limits: BlockLimits,
    key: Keyed,
    assemblies: Assemblies,
    stored: Stored,
}

impl Blocks {
    /// No transfers. `secret` must be random.
    #[must_use]
    pub fn new(limits: BlockLimits, secret: u128) -> Blocks {
        Blocks {
            assemblies: Assemblies::new(&limits),
            stored: Stored::new(&limits),
            key: Keyed::new(secret),
            limits,
        }
    }

    /// Takes a request, whose options have the lengths that they must have.
    pub fn request(
        &mut self,
        now: Instant,
        peer: Peer,
        message: Message,
        carrier: Carrier,
    ) -> Step {
        let exponent_max = match carrier {
            Carrier::Datagram { .. } => Block::EXPONENT_MAX,
            Carrier::Stream { .. } => Block::BERT,
        };
        let read = |number| match message.options.get(number) {
            None => Ok(None),
            Some(value) => Block::read(value)
                .filter(|block| block.exponent <= exponent_max)
                .map(Some)
                .ok_or(()),
        };
        let (Ok(block1), Ok(block2)) = (read(OptionNumber::BLOCK1), read(OptionNumber::BLOCK2))
        else {
            return Step::Answer(refusal(
                Code::BAD_REQUEST,
                "a block's size exponent is the reserved 7",
            ));
        };
        // Where there is no body, there are no blocks of it.
        let block1 = block1.filter(|_| message.code != Code::GET && message.code != Code::DELETE);
        let transfer =
            Transfer { peer, code: message.code, options: message.options.clone(), block1, block2 };
        match (block1, block2) {
            (Some(block), _) => self.assemble(now, message, transfer, block),
            (None, Some(block)) if block.number > 0 => {
                Step::Answer(self.later_block(now, &message, &transfer, block, carrier))
            }
            (None, _) if message.payload.len() > self.limits.body_bytes_max => {
                Step::Answer(self.assemblies.too_large())
            }
            (None, _) => Step::Run(message, transfer),
        }
    }

    /// Makes of a reply what is sent of it at once, and keeps the rest. The reply
    /// has none of the options Block1, Block2 and Size2.
    pub fn reply(
        &mut self,
        now: Instant,
        transfer: &Transfer,
        mut response: Response,
        carrier: Carrier,
    ) -> Response {
        if response.payload.len() > self.limits.reply_bytes_max.min(BODY_BYTES_MAX) {
            response = refusal(
                Code::INTERNAL_SERVER_ERROR,
                "the reply is longer than this server sends over CoAP",
            );
        }
        let Some(cut) = Cut::new(&self.limits, transfer.block2, carrier, &response.options) else {
            return Response::new(Code::INTERNAL_SERVER_ERROR);
        };
        let whole = response.payload.len() <= cut.whole_bytes_max;
        if whole && transfer.block1.is_none() && transfer.block2.is_none() {
            return response;
        }
        let total = response.payload.len();
        let mut options = response.options.edit();
        if !whole {
            if response.code.is_success() && response.options.get(OptionNumber::ETAG).is_none() {
                options.push(OptionNumber::ETAG, &etag(&response.payload)).expect("it is short");
            }
            let tagged = transfer.block1.is_none();
            let print = self.reply_print(transfer, tagged);
            let kept = Response {
                options: {
                    // A later block is no notification (RFC 7959 section 2.6).
                    let mut options = options.clone();
                    options.remove(OptionNumber::OBSERVE);
                    options.build()
                },
                ..response.clone()
            };
            self.stored.put(now, print, transfer.peer, kept);
            options.push_uint(OptionNumber::SIZE2, total as u32);
        }
        if !whole || (transfer.block2.is_some() && response.code.is_success()) {
            let block = Block { number: 0, more: !whole, exponent: cut.exponent };
            options.push_uint(OptionNumber::BLOCK2, block.to_uint());
            if !whole {
                response.payload.truncate(cut.block_bytes);
            }
        }
        if let Some(block) = transfer.block1 {
            options.push_uint(OptionNumber::BLOCK1, block.to_uint());
        }
        response.options = options.build();
        response
    }

    /// Drops what has waited too long.
    pub fn expire(&mut self, now: Instant) {
        self.assemblies.expire(now);
        self.stored.expire(now);
    }

    /// Drops what is kept for an endpoint that is gone. Takes a look at all that is
    /// kept.
    pub fn forget(&mut self, peer: &Peer) {
        self.assemblies.forget(peer);
        self.stored.forget(peer);
    }

    /// When [`Blocks::expire`] has something to do; none while nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.assemblies.deadline(), self.stored.deadline()].into_iter().flatten().min()
    }

    /// What bodies that are being put together take, in bytes.
    #[must_use]
    pub fn assembling_bytes(&self) -> usize {
        self.assemblies.bytes()
    }

    /// What stored replies take, in bytes.
    #[must_use]
    pub fn stored_bytes(&self) -> usize {
        self.stored.bytes()
    }

    fn assemble(
        &mut self,
        now: Instant,
        mut message: Message,
        mut transfer: Transfer,
        block: Block,
    ) -> Step {
        let print = self.print("block1", &transfer, names_body);
        match self.assemblies.take(now, print, transfer.peer, &message, block) {
            Ok(Some(body)) => {
                message.payload = body;
                // This says only in what blocks the reply is wanted (section 2.7).
                if let Some(block) = &mut transfer.block2 {
                    block.number = 0;
                }
                Step::Run(message, transfer)
            }
            Ok(None) => {
                let mut options = OptionsBuilder::new();
                options.push_uint(OptionNumber::BLOCK1, block.to_uint());
                Step::Answer(Response { options: options.build(), ..Response::new(Code::CONTINUE) })
            }
            Err(refusal) => Step::Answer(refusal),
        }
    }

    /// A block of a stored reply, other than the first.
    fn later_block(
        &mut self,
        now: Instant,
        message: &Message,
        transfer: &Transfer,
        asked: Block,
        carrier: Carrier,
    ) -> Response {
        let tagged = self.reply_print(transfer, true);
        let untagged = self.reply_print(transfer, false);
        let stored = [tagged, untagged]
            .into_iter()
            .find_map(|print| self.stored.get(now, print, &transfer.peer));
        let Some(reply) = stored else {
            return refusal(
                Code::REQUEST_ENTITY_INCOMPLETE,
                "no reply is kept that this could be a block of; ask for block 0",
            );
        };
        let (offset, total) = (asked.offset(), reply.payload.len());
        if offset >= total {
            return refusal(Code::BAD_REQUEST, "the reply has fewer blocks");
        }
        let Some(cut) = Cut::new(&self.limits, Some(asked), carrier, &reply.options) else {
            return Response::new(Code::INTERNAL_SERVER_ERROR);
        };
        let end = total.min(offset + cut.block_bytes);
        let block = Block::at(offset, end < total, cut.exponent);
        let mut options = reply.options.edit();
        options.push_uint(OptionNumber::BLOCK2, block.to_uint());
        if message.options.get(OptionNumber::SIZE2).is_some() {
            options.push_uint(OptionNumber::SIZE2, total as u32);
        }
        Response {
            code: reply.code,
            options: options.build(),
            payload: reply.payload.slice(offset..end),
        }
    }

    /// What a stored reply is found by. A Request-Tag tells apart what one endpoint
    /// asks for at a time, but need not stand in the requests for later blocks when
    /// it tagged blocks of the request (RFC 9175 section 3.3).
    fn reply_print(&self, transfer: &Transfer, tagged: bool) -> u64 {
        self.print("block2", transfer, |number| names_reply(number, tagged))
    }

    /// A hash of what makes requests blocks of one: endpoint, method, and those of
    /// the options that count.
    fn print(&self, what: &str, transfer: &Transfer, counts: impl Fn(OptionNumber) -> bool) -> u64 {
        use std::hash::{BuildHasher, Hash, Hasher};
        let mut hasher = self.key.build_hasher();
        (what, &transfer.peer, transfer.code).hash(&mut hasher);
        for (number, value) in transfer.options.iter() {
            if counts(number) {
                (number, value).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// An error and a sentence on it.
fn refusal(code: Code, why: &'static str) -> Response {
    Response { payload: Bytes::from_static(why.as_bytes()), ..Response::new(code) }
}

/// An ETag of these bytes, the same whenever they are.
fn etag(payload: &[u8]) -> [u8; 8] {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(payload);
    hasher.finish().to_be_bytes()
}

#[cfg(test)]
mod tests;
