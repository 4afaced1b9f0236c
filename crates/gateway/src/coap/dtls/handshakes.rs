//! The handshakes under way: few at a time, and none for long.
//!
//! Must not know sessions.

use std::collections::HashMap;
use std::time::Instant;

use dimpl::{Error, SecurityError};

use super::Path;
use super::association::Association;
use super::record::Alert;
use super::refusals::Reason;

/// A client that has proven its address, and not yet that it has a key.
pub(super) struct Handshake {
    pub(super) association: Association,
    pub(super) began: Instant,
    /// Who it says that it is, once it has.
    pub(super) identity: Option<Box<[u8]>>,
}

/// The handshakes, one for each path at most.
#[derive(Default)]
pub(super) struct Handshakes {
    by_path: HashMap<Path, Handshake>,
}

impl Handshakes {
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.by_path.len()
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Handshake> {
        self.by_path.get(path)
    }

    pub(super) fn get_mut(&mut self, path: &Path) -> Option<&mut Handshake> {
        self.by_path.get_mut(path)
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<Handshake> {
        self.by_path.remove(path)
    }

    pub(super) fn clear(&mut self) {
        self.by_path.clear();
    }

    /// Adds one; where there are `max` already, the oldest goes: of those from the
    /// newcomer's own host if it has a quarter of them, so that one host alone cannot
    /// push out all others.
    pub(super) fn insert(&mut self, path: Path, handshake: Handshake, max: usize) {
        self.by_path.remove(&path);
        if self.by_path.len() >= max {
            let is_own = |other: &Path| other.remote.ip() == path.remote.ip();
            let own = self.by_path.keys().filter(|other| is_own(other)).count();
            let of_own = own * 4 >= max;
            let candidates = self.by_path.iter().filter(|(other, _)| !of_own || is_own(other));
            let oldest = candidates.min_by_key(|(_, found)| found.began).map(|(other, _)| *other);
            if let Some(oldest) = oldest {
                self.by_path.remove(&oldest);
            }
        }
        self.by_path.insert(path, handshake);
    }

    /// Those that wait for nothing but time.
    pub(super) fn due(&self, now: Instant) -> Vec<Path> {
        let is_due = |found: &Handshake| found.association.wake().is_some_and(|at| at <= now);
        let due = self.by_path.iter().filter(|(_, found)| is_due(found));
        due.map(|(path, _)| *path).collect()
    }

    /// When one of them is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_path.values().filter_map(|found| found.association.wake()).min()
    }
}

/// What a client is told whose handshake failed, and what the operator. An unknown
/// identity is told by the same word as a wrong key, so that nobody learns which
/// identities there are (RFC 4279 section 2).
pub(super) fn verdict(error: &Error, identity_is_known: bool) -> Option<(Alert, Reason)> {
    match error {
        // Who does not answer any more, or has itself ended it, is told nothing.
        Error::Timeout(_) | Error::SecurityError(SecurityError::FatalAlert { .. }) => None,
        Error::CryptoError(_)
        | Error::SecurityError(SecurityError::ClientFinishedVerificationFailed) => {
            let reason = if identity_is_known { Reason::WrongKey } else { Reason::UnknownIdentity };
            Some((Alert::DecryptError, reason))
        }
        Error::SecurityError(SecurityError::UnsupportedClientVersion(_)) => {
            Some((Alert::ProtocolVersion, Reason::NothingInCommon))
        }
        Error::SecurityError(_) => Some((Alert::HandshakeFailure, Reason::NothingInCommon)),
        _ => Some((Alert::UnexpectedMessage, Reason::OutOfOrder)),
    }
}
