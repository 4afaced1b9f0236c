//! Block-wise transfer (RFC 7959): long requests put together, long replies cut.
//! Stands on whatever carries single messages, of which it knows how much one of
//! them carries ([`Carrier`]).
//!
//! A function runs once for a long request, on its last block, and once for a long
//! reply, whose later blocks come from the stored reply.

mod assembly;
mod stored;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::exchange::Response;
use crate::keyed::Keyed;
use crate::message::{Code, Message, OptionNumber, Options, OptionsBuilder, uint};
use crate::peer::Peer;
use assembly::Assemblies;
use stored::Stored;

/// The longest body that 20 bits of block number can carry in blocks of 16 bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// What a message on a stream takes beside options and payload (RFC 8323 section
/// 3.2): six bytes of header, a token of eight, a payload marker.
const STREAM_HEAD_BYTES: usize = 6 + 8 + 1;

/// What ETag, Block2, Size2 and Block1 take at most, beside a reply's own options.
const BLOCK_OPTIONS_BYTES: usize = 9 + 4 + 6 + 5;

/// A Block1 or Block2 option (RFC 7959 section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// Which block, below 2^20.
    pub number: u32,
    /// Whether further ones follow.
    pub more: bool,
    /// SZX: the size is 2^(4 + this), 0 to 6; or [`Block::BERT`].
    pub exponent: u8,
}

impl Block {
    /// The largest SZX: blocks of 1,024 bytes.
    pub const EXPONENT_MAX: u8 = 6;

    /// The SZX of any number of blocks of 1,024 bytes in one message, the last one
    /// of the body in whatever length it has. On streams only (RFC 8323 section 6);
    /// reserved on datagrams.
    pub const BERT: u8 = 7;

    /// Reads an option's value; none for more than three bytes.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Block> {
        let value = uint(value).filter(|value| *value < 1 << 24)?;
        Some(Block { number: value >> 4, more: value & 8 != 0, exponent: (value & 7) as u8 })
    }

    /// The option's value as a number.
    #[must_use]
    pub fn to_uint(self) -> u32 {
        self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent)
    }

    /// The size of its blocks in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        1 << bits(self.exponent)
    }

    /// Whether this many bytes can be its payload.
    fn fits(self, length: usize) -> bool {
        match (self.exponent, self.more) {
            (Block::BERT, true) => length > 0 && length.is_multiple_of(self.size()),
            (Block::BERT, false) => true,
            (_, true) => length == self.size(),
            (_, false) => length <= self.size(),
        }
    }

    /// Where it begins in the body, in bytes.
    #[must_use]
    pub fn offset(self) -> usize {
        self.number as usize * self.size()
    }
}

/// What carries messages: it says how much of a reply one message carries.
#[derive(Clone, Copy, Debug)]
pub enum Carrier {
    /// Datagrams.
    Datagram {
        /// Whether the source of the request is proven.
        proven: bool,
    },
    /// A stream (RFC 8323).
    Stream {
        /// The longest message that may be sent, in bytes: what the peer takes
        /// (section 5.3.1) and what is good for others on the stream.
        message_bytes_max: usize,
        /// Whether the peer takes BERT blocks unasked (section 5.3.2).
        bert: bool,
    },
}

/// How a reply is cut.
struct Cut {
    /// SZX of its blocks.
    exponent: u8,
    /// The payload of one message with a block of it, in bytes.
    block_bytes: usize,
    /// The longest payload that goes out without being cut, in bytes.
    whole_bytes_max: usize,
}

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
        let Some(cut) = self.cut(transfer.block2, carrier, &response.options) else {
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

    /// How a reply with these options is cut; none if no message has room for even
    /// the smallest block of it.
    fn cut(&self, asked: Option<Block>, carrier: Carrier, options: &Options) -> Option<Cut> {
        let (message_bytes_max, bert) = match carrier {
            Carrier::Datagram { proven } => {
                let own = if proven { self.limits.exponent } else { self.limits.unproven_exponent };
                let asked = asked.map_or(Block::EXPONENT_MAX, |block| block.exponent);
                let exponent = own.min(asked).min(Block::EXPONENT_MAX);
                let bytes = 1 << bits(exponent);
                return Some(Cut { exponent, block_bytes: bytes, whole_bytes_max: bytes });
            }
            Carrier::Stream { message_bytes_max, bert } => (message_bytes_max, bert),
        };
        let taken = STREAM_HEAD_BYTES + BLOCK_OPTIONS_BYTES + options.as_encoded().len();
        let room = message_bytes_max.checked_sub(taken).filter(|room| *room >= 16)?;
        let unasked = if bert { Block::BERT } else { Block::EXPONENT_MAX };
        let wanted = asked.map_or(unasked, |block| block.exponent);
        let (exponent, block_bytes) = if wanted == Block::BERT && room >= 1024 {
            (Block::BERT, room / 1024 * 1024)
        } else {
            let fitting = (room.ilog2() - 4) as u8;
            let exponent = wanted.min(fitting).min(Block::EXPONENT_MAX);
            (exponent, 1 << bits(exponent))
        };
        let whole_bytes_max = if asked.is_some() { block_bytes } else { room };
        Some(Cut { exponent, block_bytes, whole_bytes_max })
    }

    fn assemble(
        &mut self,
        now: Instant,
        mut message: Message,
        mut transfer: Transfer,
        block: Block,
    ) -> Step {
        let print = self.print("block1", &transfer, true);
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
        let Some(cut) = self.cut(Some(asked), carrier, &reply.options) else {
            return Response::new(Code::INTERNAL_SERVER_ERROR);
        };
        let end = total.min(offset + cut.block_bytes);
        let number = (offset >> bits(cut.exponent)) as u32;
        let block = Block { number, more: end < total, exponent: cut.exponent };
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
        self.print("block2", transfer, tagged)
    }

    /// A hash of what makes requests blocks of one: endpoint, method, path and
    /// query, what is accepted, and the Request-Tags.
    fn print(&self, what: &str, transfer: &Transfer, tagged: bool) -> u64 {
        use std::hash::{BuildHasher, Hash, Hasher};
        let mut hasher = self.key.build_hasher();
        (what, &transfer.peer, transfer.code).hash(&mut hasher);
        for (number, value) in transfer.options.iter() {
            let counts = match number {
                OptionNumber::URI_PATH | OptionNumber::URI_QUERY | OptionNumber::ACCEPT => true,
                OptionNumber::REQUEST_TAG => tagged,
                _ => false,
            };
            if counts {
                (number, value).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// The size of blocks with this SZX, as a power of two.
fn bits(exponent: u8) -> u32 {
    4 + u32::from(exponent.min(Block::EXPONENT_MAX))
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
