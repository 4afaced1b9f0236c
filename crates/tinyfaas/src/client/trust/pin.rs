//! A pinned public key, in the notation of curl's `--pinnedpubkey`.
//!
//! Owns that notation and what is compared. Pure.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

const PREFIX: &str = "sha256//";

/// The SHA-256 of a public key, as it stands in a certificate (RFC 5280
/// SubjectPublicKeyInfo).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pin([u8; SHA256_OUTPUT_LEN]);

impl Pin {
    /// The pin of a key.
    pub(super) fn of(public_key: &[u8]) -> Self {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, public_key).as_ref());
        Self(hash)
    }

    /// Reads one or more with `;` between.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        text.split(';').map(|one| Self::parse(one.trim())).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        const WANTED: &str = "write sha256//BASE64, as the server prints it at its start";
        let base64 = text.strip_prefix(PREFIX).ok_or(WANTED)?;
        let bytes = STANDARD.decode(base64).map_err(|_| format!("that is no base64; {WANTED}"))?;
        let hash = bytes.try_into().map_err(|bytes: Vec<u8>| {
            format!("it has {} bytes instead of {SHA256_OUTPUT_LEN}; {WANTED}", bytes.len())
        })?;
        Ok(Self(hash))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of no bytes at all.
    const NOTHING: &str = "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn pins_are_written_as_curl_takes_them() {
        assert_eq!(Pin::of(b"").to_string(), NOTHING);
        assert_eq!(Pin::parse_all(NOTHING), Ok(vec![Pin::of(b"")]));
        let other = Pin::of(b"x").to_string();
        let both = Pin::parse_all(&format!("{other}; {NOTHING}"));
        assert_eq!(both, Ok(vec![Pin::of(b"x"), Pin::of(b"")]));
    }

    #[test]
    fn others_are_refused() {
        for text in ["", ";", "key.pem", "sha256//", "sha256//!", "sha256//eA==", "sha1//eA=="] {
            let why = Pin::parse_all(text).expect_err(text);
            assert!(why.contains("sha256//BASE64"), "{text}: {why}");
        }
        assert!(Pin::parse_all(&format!("{NOTHING};")).is_err());
    }
}
