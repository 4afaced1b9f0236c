//! Base64 within a JSON string, decoded as it comes.
//!
//! Owns escapes, line breaks and the cutting into groups of four; the decoding
//! itself is the base64 crate's. Pure.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Characters gathered before they are decoded; a multiple of four.
const GATHERED_CHARS: usize = 4096;

/// As Go's standard encoding reads it: padded, spare bits ignored.
pub(super) const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// The value of one JSON string, from behind its opening quote.
#[derive(Debug, Default)]
pub(super) struct Base64Stream {
    at: At,
    gathered: Vec<u8>,
    padded: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Plain,
    /// Behind a backslash.
    Escape,
    /// Within the four digits of `\u`.
    Unicode { digits: u8, value: u32 },
    /// Behind the closing quote.
    Done,
}

impl Base64Stream {
    /// Whether the closing quote was seen.
    pub(super) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Takes bytes up to the closing quote and returns how many; appends what
    /// they decode to.
    pub(super) fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            index += 1;
            match (self.at, byte) {
                (At::Plain, b'"') => {
                    self.at = At::Done;
                    self.decode(out)?;
                    return Ok(index);
                }
                (At::Plain, b'\\') => self.at = At::Escape,
                (At::Plain, _) => {
                    self.character(byte, out)?;
                    index += self.take_run(&bytes[index..]);
                }
                (At::Escape, _) => self.escape(byte, out)?,
                (At::Unicode { digits, value }, _) => self.digit(byte, digits, value, out)?,
                (At::Done, _) => return Ok(index - 1),
            }
        }
        Ok(bytes.len())
    }

    /// Takes as many plain characters as come in a row and have room: nearly all
    /// of a zip passes here.
    fn take_run(&mut self, bytes: &[u8]) -> usize {
        // One place stays free: the character that fills the last one decodes.
        let room = GATHERED_CHARS - 1 - self.gathered.len();
        let near = &bytes[..bytes.len().min(room)];
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let run = if self.padded { 0 } else { near.iter().take_while(|b| plain(b)).count() };
        self.gathered.extend_from_slice(&near[..run]);
        run
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), String> {
        self.at = At::Plain;
        match byte {
            b'n' | b'r' => Ok(()),
            b'/' => self.character(b'/', out),
            b'u' => {
                self.at = At::Unicode { digits: 0, value: 0 };
                Ok(())
            }
            other => Err(format!("it holds the escape \\{}", char::from(other).escape_default())),
        }
    }

    fn digit(&mut self, byte: u8, digits: u8, value: u32, out: &mut Vec<u8>) -> Result<(), String> {
        let digit = char::from(byte).to_digit(16).ok_or("it holds a broken escape \\u")?;
        let value = value * 16 + digit;
        if digits < 3 {
            self.at = At::Unicode { digits: digits + 1, value };
            return Ok(());
        }
        self.at = At::Plain;
        let character = u8::try_from(value).ok().filter(u8::is_ascii);
        self.character(character.ok_or("it holds a character that is not ASCII")?, out)
    }

    fn character(&mut self, byte: u8, out: &mut Vec<u8>) -> Result<(), String> {
        match byte {
            b'\n' | b'\r' => return Ok(()),
            b'=' => self.padded = true,
            _ if self.padded => return Err("it goes on behind its padding".to_owned()),
            b'-' | b'_' => {
                return Err("it is the variant for URLs, with '-' and '_'".to_owned());
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {}
            other => {
                return Err(format!(
                    "it holds the character '{}'",
                    char::from(other).escape_default()
                ));
            }
        }
        self.gathered.push(byte);
        if self.gathered.len() == GATHERED_CHARS {
            self.decode(out)?;
        }
        Ok(())
    }

    fn decode(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        if !self.gathered.len().is_multiple_of(4) {
            return Err("it is cut off: its length is not a multiple of four".to_owned());
        }
        ENGINE.decode_vec(&self.gathered, out).map_err(|_| "its padding is wrong".to_owned())?;
        self.gathered.clear();
        Ok(())
    }
}
