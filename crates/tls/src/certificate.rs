//! A certificate that can be served: its chain, its key, and what it says.
//!
//! Owns judging whether the two are fit to be served. Must not know where they
//! come from.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use ring::digest;
use rustls::InconsistentKeys;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::{FileProblem, TlsError};
use crate::{clock, subject};

/// Names of a certificate that are told, of hundreds that it may have.
const NAMES_MAX: usize = 100;

/// A chain with its key, as they are served.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) certified: Arc<CertifiedKey>,
    pub(crate) facts: Facts,
}

/// What the server's own certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// RFC 4514, safe to be shown.
    pub(crate) subject: String,
    /// DNS names and addresses.
    pub(crate) names: Vec<String>,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// `sha256//BASE64` of the public key.
    pub(crate) pin: String,
}

impl Certificate {
    /// Both, if they fit; the files are named in errors. Whether it is valid now is
    /// another question.
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        chain_file: &Path,
        key: &PrivateKeyDer<'static>,
        key_file: &Path,
    ) -> Result<Self, TlsError> {
        let facts = chain.iter().enumerate().map(|(at, der)| {
            facts(der).map_err(|reason| {
                let label = format!("certificate {}", at + 1);
                FileProblem::Damaged { label, reason }.in_file(chain_file)
            })
        });
        // All of them are read: a chain that is broken further down is none.
        let facts = facts.collect::<Result<Vec<_>, _>>()?.swap_remove(0);
        let key =
            any_supported_type(key).map_err(|_| FileProblem::UnsupportedKey.in_file(key_file))?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            // Unknown is for keys that do not tell: none of ring's.
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => (),
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(misfit(&certified, chain_file, key_file));
            }
            Err(error) => {
                let label = "certificate 1".to_owned();
                let problem = FileProblem::Damaged { label, reason: error.to_string() };
                return Err(problem.in_file(chain_file));
            }
        }
        Ok(Self { certified: Arc::new(certified), facts })
    }

    /// Whether it is this one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }

    /// Those of these names for which it is of no use.
    pub(crate) fn lacks<'a>(&self, wanted: &'a [String]) -> Vec<&'a str> {
        let names = &self.facts.names;
        wanted.iter().map(String::as_str).filter(|it| !covers(names, it)).collect()
    }

    /// Whether it may be served at this time.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), FileProblem> {
        let Facts { not_before, not_after, .. } = self.facts;
        if now > not_after {
            return Err(FileProblem::Expired { until: not_after });
        }
        // A clock that is not set says nothing about what is to come.
        if now < not_before && clock::is_set(now) {
            return Err(FileProblem::NotYetValid { from: not_before, now });
        }
        Ok(())
    }
}

/// Whether a certificate with these names is good for this one.
fn covers(names: &[String], wanted: &str) -> bool {
    let parent = wanted.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| {
        // A wildcard stands for one label (RFC 9525, section 6.3).
        name.eq_ignore_ascii_case(wanted)
            || name
                .strip_prefix("*.")
                .zip(parent)
                .is_some_and(|(own, wanted)| own.eq_ignore_ascii_case(wanted))
    })
}

/// Why the key is not that of the first certificate.
fn misfit(certified: &CertifiedKey, chain_file: &Path, key_file: &Path) -> TlsError {
    let fits = |chain: &[CertificateDer<'static>]| {
        CertifiedKey::new(chain.to_vec(), Arc::clone(&certified.key)).keys_match().is_ok()
    };
    let later = (1..certified.cert.len()).find(|at| fits(&certified.cert[*at..]));
    match later {
        Some(at) => {
            FileProblem::WrongOrder { key: key_file.to_owned(), at: at + 1 }.in_file(chain_file)
        }
        None => FileProblem::KeyMismatch { certificate: chain_file.to_owned() }.in_file(key_file),
    }
}

fn facts(der: &CertificateDer<'_>) -> Result<Facts, String> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| match error {
        x509_parser::nom::Err::Incomplete(_) => "it is cut off".to_owned(),
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => {
            error.to_string()
        }
    })?;
    let time = |time: i64| Timestamp::from_second(time).map_err(|error| error.to_string());
    let key = digest::digest(&digest::SHA256, parsed.public_key().raw);
    Ok(Facts {
        subject: subject::of(parsed.subject()).unwrap_or_else(|too_long| format!("({too_long})")),
        names: names(&parsed),
        not_before: time(parsed.validity().not_before.timestamp())?,
        not_after: time(parsed.validity().not_after.timestamp())?,
        pin: format!("sha256//{}", BASE64_STANDARD.encode(key)),
    })
}

fn names(parsed: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.escape_default().to_string()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    names.take(NAMES_MAX).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
