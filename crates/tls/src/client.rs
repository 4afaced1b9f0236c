//! Certificates of clients: by which roots they are judged, and who was let in.
//!
//! Owns the files of roots. Must not know what a client may do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ring::digest;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::{FileProblem, TlsError};
use crate::subject::{self, TooLong};
use crate::{files, pem};

/// Who must show a certificate at an endpoint.
#[derive(Debug, Clone)]
pub enum ClientCertificates {
    /// Nobody is asked for one.
    None,
    /// Who has one shows it, and is refused where it is not one of these roots'.
    Optional(Roots),
    /// Who has none of these roots' is refused.
    Required(Roots),
}

impl ClientCertificates {
    pub(crate) fn roots(&self) -> Option<&Roots> {
        match self {
            Self::None => None,
            Self::Optional(roots) | Self::Required(roots) => Some(roots),
        }
    }
}

/// The certificates by which clients' are judged: a file of them, in PEM. Its copies
/// are one, and are replaced together when the file changes.
#[derive(Debug, Clone)]
pub struct Roots(Arc<RootsFile>);

#[derive(Debug)]
struct RootsFile {
    path: PathBuf,
    store: ArcSwap<RootCertStore>,
}

impl Roots {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, TlsError> {
        let content = files::read(path).map_err(|problem| problem.in_file(path))?;
        let store = store(&content.text).map_err(|problem| problem.in_file(path))?;
        let store = ArcSwap::from_pointee(store);
        Ok(Self(Arc::new(RootsFile { path: path.to_owned(), store })))
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        self.0.store.load_full()
    }
}

/// Never empty.
fn store(text: &[u8]) -> Result<RootCertStore, FileProblem> {
    let mut store = RootCertStore::empty();
    for (at, der) in pem::certificates(text)?.into_iter().enumerate() {
        store
            .add(der)
            .map_err(|error| FileProblem::NoRoot { at: at + 1, reason: error.to_string() })?;
    }
    Ok(store)
}

/// A client that has shown a certificate which was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    subject: String,
    fingerprint: String,
}

/// Why a client with a good certificate is turned away all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Its subject could not be handed on whole.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Nobody can tell whose it is.
    #[error("its subject cannot be read")]
    Unreadable,
}

impl Client {
    pub(crate) fn new(certificate: &CertificateDer<'_>) -> Result<Self, ClientError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| ClientError::Unreadable)?;
        let subject = subject::of(parsed.subject())?;
        let digest = digest::digest(&digest::SHA256, certificate);
        let fingerprint = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { subject, fingerprint })
    }

    /// The certificate's subject as RFC 4514 writes it, e.g. `CN=pump 3,O=Waterworks`:
    /// printable ASCII, of 2048 bytes at most. Empty where the certificate has none.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// SHA-256 of the certificate, in 64 lower-case hexadecimal digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}
