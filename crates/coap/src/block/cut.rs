//! How much of a reply one message carries.

use super::BlockLimits;
use super::option::{Block, bits};
use crate::message::Options;

/// What a message on a stream takes beside options and payload (RFC 8323 section
/// 3.2): six bytes of header, a token of eight, a payload marker.
const STREAM_HEAD_BYTES: usize = 6 + 8 + 1;

/// What ETag, Block2, Size2 and Block1 take at most, beside a reply's own options.
const BLOCK_OPTIONS_BYTES: usize = 9 + 4 + 6 + 5;

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
pub(super) struct Cut {
    /// SZX of its blocks.
    pub(super) exponent: u8,
    /// The payload of one message with a block of it, in bytes.
    pub(super) block_bytes: usize,
    /// The longest payload that goes out without being cut, in bytes.
    pub(super) whole_bytes_max: usize,
}

impl Cut {
    /// How a reply with these options is cut; none if no message has room for even
    /// the smallest block of it.
    pub(super) fn new(
        limits: &BlockLimits,
        asked: Option<Block>,
        carrier: Carrier,
        options: &Options,
    ) -> Option<Cut> {
        let (message_bytes_max, bert) = match carrier {
            Carrier::Datagram { proven } => {
                let own = if proven { limits.exponent } else { limits.unproven_exponent };
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
}
