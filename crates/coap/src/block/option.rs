//! The options Block1 and Block2 (RFC 7959 section 2.2).

use crate::message::uint;

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
    pub(crate) fn fits(self, length: usize) -> bool {
        match (self.exponent, self.more) {
            (Block::BERT, true) => length > 0 && length.is_multiple_of(self.size()),
            (Block::BERT, false) => true,
            (_, true) => length == self.size(),
            (_, false) => length <= self.size(),
        }
    }

    /// The block of this size that begins there in the body, in bytes.
    pub(crate) fn at(offset: usize, more: bool, exponent: u8) -> Block {
        Block { number: (offset >> bits(exponent)) as u32, more, exponent }
    }

    /// Where it begins in the body, in bytes.
    #[must_use]
    pub fn offset(self) -> usize {
        self.number as usize * self.size()
    }
}

/// The size of blocks with this SZX, as a power of two.
pub(super) fn bits(exponent: u8) -> u32 {
    4 + u32::from(exponent.min(Block::EXPONENT_MAX))
}
