//! The body of an upload, taken apart as it comes: the zip to one side, the rest
//! of the JSON to the other.
//!
//! Owns the streaming filter; it does no input or output. It follows just enough
//! of JSON to find the value of the top-level key `zip` (strings, escapes, depth)
//! and leaves the judgement of everything else to a real parser, which gets the
//! same document with an empty string in the zip's place. Memory does not grow
//! with the zip.

mod base64_stream;

use self::base64_stream::Base64Stream;

/// The key whose value is diverted, whatever its case.
const ZIP_KEY: &str = "zip";

/// Why a body is no upload. All of it is the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFormError {
    /// `zip` stands in it twice.
    #[error("the body holds the key \"zip\" twice; send one")]
    ZipTwice,
    /// `zip` is no base64.
    #[error("the value of \"zip\" is not base64: {0}; send standard base64 of a zip archive")]
    NotBase64(String),
    /// What is not the zip is too much.
    #[error("the body without its zip is larger than the {limit_bytes} bytes that are allowed")]
    RestTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// It ended within a string.
    #[error("the body is not JSON: it ends within the value of \"zip\"")]
    CutOff,
}

/// Takes a body apart.
#[derive(Debug)]
pub(crate) struct UploadFilter {
    at: At,
    depth: usize,
    rest: Vec<u8>,
    rest_bytes_max: usize,
    /// Where in `rest` the top-level key begins that is being read or was read last.
    key_start: usize,
    zip_is_next: bool,
    zip: Option<Base64Stream>,
}

/// Where in the document the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Between tokens; at depth 1 a string here is a value.
    Value,
    /// Where a top-level key may begin.
    Key,
    /// In a string: is it a top-level key, and was the last byte a backslash?
    Text { key: bool, escaped: bool },
    /// In the value of `zip`.
    Zip,
}

/// What a whole body holds besides the zip.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UploadRest {
    /// The JSON, with an empty string for the zip.
    pub(crate) json: Vec<u8>,
    /// Whether there was a zip.
    pub(crate) has_zip: bool,
}

impl UploadFilter {
    /// A filter that lets so many bytes besides the zip pass.
    pub(crate) fn new(rest_bytes_max: usize) -> Self {
        Self {
            at: At::Value,
            depth: 0,
            rest: Vec::new(),
            rest_bytes_max,
            key_start: 0,
            zip_is_next: false,
            zip: None,
        }
    }

    /// Takes the next bytes of the body and appends what they say of the zip to
    /// `zip`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        zip: &mut Vec<u8>,
    ) -> Result<(), BodyFormError> {
        while let Some((&byte, later)) = bytes.split_first() {
            if self.at == At::Zip {
                let stream = self.zip.as_mut().expect("the zip is there while it is read");
                let taken = stream.feed(bytes, zip).map_err(BodyFormError::NotBase64)?;
                bytes = &bytes[taken..];
                if stream.is_done() {
                    self.at = At::Value;
                    self.keep(b'"')?;
                }
                continue;
            }
            self.step(byte)?;
            bytes = later;
        }
        Ok(())
    }

    /// Ends the body.
    pub(crate) fn finish(self) -> Result<UploadRest, BodyFormError> {
        if self.at == At::Zip {
            return Err(BodyFormError::CutOff);
        }
        Ok(UploadRest { json: self.rest, has_zip: self.zip.is_some() })
    }

    fn step(&mut self, byte: u8) -> Result<(), BodyFormError> {
        self.keep(byte)?;
        self.at = match (self.at, byte) {
            (At::Text { key, escaped: true }, _) => At::Text { key, escaped: false },
            (At::Text { key, .. }, b'\\') => At::Text { key, escaped: true },
            (At::Text { key, .. }, b'"') => {
                if key {
                    self.zip_is_next = is_zip_key(&self.rest[self.key_start..]);
                }
                At::Value
            }
            (text @ At::Text { .. }, _) => text,
            (At::Key, b'"') => {
                self.key_start = self.rest.len() - 1;
                At::Text { key: true, escaped: false }
            }
            (_, b'"') if self.depth == 1 && self.zip_is_next => self.begin_zip()?,
            (_, b'"') => At::Text { key: false, escaped: false },
            (_, b'{' | b'[') => {
                self.depth += 1;
                self.zip_is_next = false;
                // An array at the top is no upload; the parser will say so.
                if self.depth == 1 && byte == b'{' { At::Key } else { At::Value }
            }
            (at, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                at
            }
            (_, b',') if self.depth == 1 => {
                self.zip_is_next = false;
                At::Key
            }
            (at, _) => at,
        };
        Ok(())
    }

    fn begin_zip(&mut self) -> Result<At, BodyFormError> {
        if self.zip.replace(Base64Stream::default()).is_some() {
            return Err(BodyFormError::ZipTwice);
        }
        Ok(At::Zip)
    }

    fn keep(&mut self, byte: u8) -> Result<(), BodyFormError> {
        if self.rest.len() >= self.rest_bytes_max {
            return Err(BodyFormError::RestTooLarge { limit_bytes: self.rest_bytes_max });
        }
        self.rest.push(byte);
        Ok(())
    }
}

/// Whether a string, in its quotes and with its escapes, is the key.
fn is_zip_key(quoted: &[u8]) -> bool {
    serde_json::from_slice::<String>(quoted).is_ok_and(|key| key.eq_ignore_ascii_case(ZIP_KEY))
}

#[cfg(test)]
mod tests;
