//! Options, kept as they are on the wire (RFC 7252 section 3.1): reading them
//! allocates nothing, and a message that passes through keeps their order.
//!
//! What an option means is not known here, beyond what its number says.

use std::fmt;

use bytes::Bytes;

/// The longest value that the format can carry, in bytes: 65,535 and 269. What
/// each option allows is far less.
pub const OPTION_VALUE_BYTES_MAX: usize = 65_535 + 269;

/// An option's number (RFC 7252 section 5.10), whose bits say how to treat it
/// when it is not known (section 5.4.6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OptionNumber(pub u16);

impl OptionNumber {
    /// RFC 7252 section 5.10.8.1.
    pub const IF_MATCH: OptionNumber = OptionNumber(1);
    /// RFC 7252 section 5.10.1.
    pub const URI_HOST: OptionNumber = OptionNumber(3);
    /// RFC 7252 section 5.10.6.
    pub const ETAG: OptionNumber = OptionNumber(4);
    /// RFC 7252 section 5.10.8.2.
    pub const IF_NONE_MATCH: OptionNumber = OptionNumber(5);
    /// RFC 7641 section 2.
    pub const OBSERVE: OptionNumber = OptionNumber(6);
    /// RFC 7252 section 5.10.1.
    pub const URI_PORT: OptionNumber = OptionNumber(7);
    /// RFC 7252 section 5.10.7.
    pub const LOCATION_PATH: OptionNumber = OptionNumber(8);
    /// RFC 7252 section 5.10.1.
    pub const URI_PATH: OptionNumber = OptionNumber(11);
    /// RFC 7252 section 5.10.3.
    pub const CONTENT_FORMAT: OptionNumber = OptionNumber(12);
    /// RFC 7252 section 5.10.5.
    pub const MAX_AGE: OptionNumber = OptionNumber(14);
    /// RFC 7252 section 5.10.1.
    pub const URI_QUERY: OptionNumber = OptionNumber(15);
    /// RFC 7252 section 5.10.4.
    pub const ACCEPT: OptionNumber = OptionNumber(17);
    /// RFC 7252 section 5.10.7.
    pub const LOCATION_QUERY: OptionNumber = OptionNumber(20);
    /// RFC 7959 section 2.1.
    pub const BLOCK2: OptionNumber = OptionNumber(23);
    /// RFC 7959 section 2.1.
    pub const BLOCK1: OptionNumber = OptionNumber(27);
    /// RFC 7959 section 4.
    pub const SIZE2: OptionNumber = OptionNumber(28);
    /// RFC 7252 section 5.10.2.
    pub const PROXY_URI: OptionNumber = OptionNumber(35);
    /// RFC 7252 section 5.10.2.
    pub const PROXY_SCHEME: OptionNumber = OptionNumber(39);
    /// RFC 7252 section 5.10.9, RFC 7959 section 4.
    pub const SIZE1: OptionNumber = OptionNumber(60);
    /// RFC 9175 section 2.
    pub const ECHO: OptionNumber = OptionNumber(252);
    /// RFC 7967 section 2.
    pub const NO_RESPONSE: OptionNumber = OptionNumber(258);
    /// RFC 9175 section 3.
    pub const REQUEST_TAG: OptionNumber = OptionNumber(292);

    /// Whether who does not know it must not act on the message.
    #[must_use]
    pub const fn is_critical(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether a proxy that does not know it must not forward it.
    #[must_use]
    pub const fn is_unsafe(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether it is no part of a cache's key. Of the unsafe ones none is.
    #[must_use]
    pub const fn is_no_cache_key(self) -> bool {
        self.0 & 0x1e == 0x1c
    }
}

impl fmt::Display for OptionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value is too long for the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "option {number} has {bytes} bytes, the format carries at most {OPTION_VALUE_BYTES_MAX}: \
     shorten its value"
)]
pub struct OptionTooLong {
    /// Whose value it is.
    pub number: OptionNumber,
    /// How long the value is.
    pub bytes: usize,
}

/// What is wrong with the options of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OptionFault {
    Reserved,
    Truncated,
    Overflow,
}

/// A message's options in the order of their numbers. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Well-formed, without payload marker.
    encoded: Bytes,
}

impl Options {
    /// No options.
    pub const EMPTY: Options = Options { encoded: Bytes::new() };

    /// All options and their values, in order; repeated ones in the order of the
    /// message.
    #[must_use]
    pub fn iter(&self) -> OptionIter<'_> {
        OptionIter { rest: &self.encoded, number: 0 }
    }

    /// The value of the first option of this number.
    #[must_use]
    pub fn get(&self, number: OptionNumber) -> Option<&[u8]> {
        self.all(number).next()
    }

    /// The values of all options of this number.
    pub fn all(&self, number: OptionNumber) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .skip_while(move |(found, _)| *found < number)
            .take_while(move |(found, _)| *found == number)
            .map(|(_, value)| value)
    }

    /// The first option of this number as a number; none also if its value has
    /// more than four bytes. Leading zeros are allowed (RFC 7252 section 3.2).
    #[must_use]
    pub fn uint(&self, number: OptionNumber) -> Option<u32> {
        uint(self.get(number)?)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// The options as they are on the wire.
    #[must_use]
    pub fn as_encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// A builder that starts with these options.
    #[must_use]
    pub fn edit(&self) -> OptionsBuilder {
        OptionsBuilder {
            encoded: self.encoded.to_vec(),
            last: self.iter().last().map_or(0, |(number, _)| number.0),
        }
    }

    /// Reads options up to the payload marker or the end of `bytes`. Returns them
    /// and how many bytes they take.
    pub(super) fn decode(bytes: &Bytes) -> Result<(Options, usize), OptionFault> {
        let mut rest: &[u8] = bytes;
        let mut number = 0u32;
        while let [first, ..] = *rest {
            if first == super::PAYLOAD_MARKER {
                break;
            }
            let (delta, value) = head(&mut rest)?;
            number += u32::from(delta.0) + u32::from(delta.1);
            if number > u32::from(u16::MAX) {
                return Err(OptionFault::Overflow);
            }
            rest = rest.get(value..).ok_or(OptionFault::Truncated)?;
        }
        let taken = bytes.len() - rest.len();
        Ok((Options { encoded: bytes.slice(..taken) }, taken))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(number, value)| (number.0, value))).finish()
    }
}

/// Reads an option's head: its delta (the nibble's part and the extension's, whose
/// sum may pass 65,535) and the length of its value.
#[inline]
fn head(rest: &mut &[u8]) -> Result<((u16, u16), usize), OptionFault> {
    let (&first, tail) = rest.split_first().ok_or(OptionFault::Truncated)?;
    *rest = tail;
    let delta = extended(first >> 4, rest)?;
    let length = extended(first & 0x0f, rest)?;
    Ok((delta, usize::from(length.0) + usize::from(length.1)))
}

#[inline]
fn extended(nibble: u8, rest: &mut &[u8]) -> Result<(u16, u16), OptionFault> {
    match nibble {
        0..=12 => Ok((u16::from(nibble), 0)),
        13 => {
            let (&byte, tail) = rest.split_first().ok_or(OptionFault::Truncated)?;
            *rest = tail;
            Ok((13, u16::from(byte)))
        }
        14 => {
            let (&bytes, tail) = rest.split_first_chunk().ok_or(OptionFault::Truncated)?;
            *rest = tail;
            Ok((269, u16::from_be_bytes(bytes)))
        }
        _ => Err(OptionFault::Reserved),
    }
}

/// What a value of type uint is (RFC 7252 section 3.2); none if it has more than
/// four bytes.
#[must_use]
pub fn uint(value: &[u8]) -> Option<u32> {
    (value.len() <= 4).then(|| value.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

/// Goes through [`Options`].
#[derive(Clone, Debug)]
pub struct OptionIter<'a> {
    rest: &'a [u8],
    number: u16,
}

impl<'a> Iterator for OptionIter<'a> {
    type Item = (OptionNumber, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // Well-formed, as decode and the builder see to; so this ends at the end.
        let (delta, length) = head(&mut self.rest).ok()?;
        self.number += delta.0 + delta.1;
        let (value, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some((OptionNumber(self.number), value))
    }
}

/// Writes options, in any order of calls; they stand in the order of their
/// numbers, those of one number in the order of the calls.
#[derive(Clone, Default, Debug)]
pub struct OptionsBuilder {
    encoded: Vec<u8>,
    last: u16,
}

impl OptionsBuilder {
    /// A builder without options.
    #[must_use]
    pub fn new() -> OptionsBuilder {
        OptionsBuilder::default()
    }

    /// Adds an option. Quickest in the order of the numbers.
    ///
    /// # Errors
    /// If the value is longer than [`OPTION_VALUE_BYTES_MAX`].
    pub fn push(
        &mut self,
        number: OptionNumber,
        value: &[u8],
    ) -> Result<&mut OptionsBuilder, OptionTooLong> {
        if value.len() > OPTION_VALUE_BYTES_MAX {
            return Err(OptionTooLong { number, bytes: value.len() });
        }
        if number.0 >= self.last {
            self.append(number, value);
            return Ok(self);
        }
        let before = std::mem::take(self).build();
        let (lower, higher): (Vec<_>, Vec<_>) =
            before.iter().partition(|(found, _)| *found <= number);
        for (number, value) in lower.into_iter().chain([(number, value)]).chain(higher) {
            self.append(number, value);
        }
        Ok(self)
    }

    /// Adds an option whose value is a number, in as few bytes as it needs
    /// (RFC 7252 section 3.2).
    pub fn push_uint(&mut self, number: OptionNumber, value: u32) -> &mut OptionsBuilder {
        let bytes = value.to_be_bytes();
        let zeros = value.leading_zeros() as usize / 8;
        self.push(number, &bytes[zeros..]).expect("four bytes are not too long")
    }

    /// Takes all options of this number away.
    pub fn remove(&mut self, number: OptionNumber) -> &mut OptionsBuilder {
        let before = std::mem::take(self).build();
        for (found, value) in before.iter().filter(|(found, _)| *found != number) {
            self.append(found, value);
        }
        self
    }

    /// The options.
    #[must_use]
    pub fn build(self) -> Options {
        Options { encoded: self.encoded.into() }
    }

    fn append(&mut self, number: OptionNumber, value: &[u8]) {
        let (delta_nibble, delta) = split(usize::from(number.0 - self.last));
        let (length_nibble, length) = split(value.len());
        self.encoded.push(delta_nibble << 4 | length_nibble);
        for (nibble, extension) in [(delta_nibble, delta), (length_nibble, length)] {
            match nibble {
                13 => self.encoded.push(extension.to_be_bytes()[1]),
                14 => self.encoded.extend_from_slice(&extension.to_be_bytes()),
                _ => {}
            }
        }
        self.encoded.extend_from_slice(value);
        self.last = number.0;
    }
}

/// A number of at most 65,804 as nibble and extension (RFC 7252 section 3.1).
fn split(number: usize) -> (u8, u16) {
    match number {
        0..=12 => (number as u8, 0),
        13..=268 => (13, (number - 13) as u16),
        _ => (14, (number - 269) as u16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pushed_options_stand_in_order(
            pushed in prop::collection::vec(
                (0u16.., prop::collection::vec(any::<u8>(), 0..300)), 0..12),
        ) {
            let mut builder = OptionsBuilder::new();
            for (number, value) in &pushed {
                builder.push(OptionNumber(*number), value).unwrap();
            }
            let options = builder.build();
            let mut expected = pushed.clone();
            expected.sort_by_key(|(number, _)| *number);
            let found: Vec<_> = options.iter().map(|(n, v)| (n.0, v.to_vec())).collect();
            prop_assert_eq!(&found, &expected);
            let decoded = Options::decode(options.as_encoded()).unwrap();
            prop_assert_eq!(&decoded.0, &options);
            prop_assert_eq!(&options.edit().build(), &options);
            if let Some((number, _)) = pushed.first() {
                let mut builder = options.edit();
                builder.remove(OptionNumber(*number));
                expected.retain(|(found, _)| found != number);
                let options = builder.build();
                let left: Vec<_> = options.iter().map(|(n, v)| (n.0, v.to_vec())).collect();
                prop_assert_eq!(left, expected);
            }
        }

        #[test]
        fn numbers_are_short_and_come_back(value: u32) {
            let mut builder = OptionsBuilder::new();
            builder.push_uint(OptionNumber::SIZE1, value);
            let options = builder.build();
            prop_assert_eq!(options.uint(OptionNumber::SIZE1), Some(value));
            let bytes = options.get(OptionNumber::SIZE1).unwrap();
            prop_assert_ne!(bytes.first(), Some(&0));
        }
    }

    #[test]
    fn the_longest_value_fits_and_no_longer_one() {
        let mut builder = OptionsBuilder::new();
        let number = OptionNumber(65_535);
        builder.push(number, &vec![7; OPTION_VALUE_BYTES_MAX]).unwrap();
        assert!(builder.push(number, &vec![7; OPTION_VALUE_BYTES_MAX + 1]).is_err());
        let options = builder.build();
        let (found, taken) = Options::decode(options.as_encoded()).unwrap();
        assert_eq!(taken, OPTION_VALUE_BYTES_MAX + 5);
        assert_eq!(found.get(number).unwrap().len(), OPTION_VALUE_BYTES_MAX);
    }

    #[test]
    fn a_number_says_how_to_treat_it() {
        let check = |number: OptionNumber, critical, not_safe, no_key| {
            assert_eq!(number.is_critical(), critical, "{number}");
            assert_eq!(number.is_unsafe(), not_safe, "{number}");
            assert_eq!(number.is_no_cache_key(), no_key, "{number}");
        };
        // The columns of RFC 7252's table 4 and its successors'.
        check(OptionNumber::IF_MATCH, true, false, false);
        check(OptionNumber::URI_HOST, true, true, false);
        check(OptionNumber::ETAG, false, false, false);
        check(OptionNumber::MAX_AGE, false, true, false);
        check(OptionNumber::BLOCK2, true, true, false);
        check(OptionNumber::SIZE1, false, false, true);
        check(OptionNumber::ECHO, false, false, true);
        check(OptionNumber::REQUEST_TAG, false, false, false);
    }

    #[test]
    fn a_number_of_five_bytes_is_none() {
        assert_eq!(uint(&[0, 0, 0, 0, 1]), None);
        assert_eq!(uint(&[0, 0, 1, 0]), Some(256));
        assert_eq!(uint(&[]), Some(0));
    }
}
