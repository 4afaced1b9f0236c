//! Certificates of clients: by which roots they are judged, and who was let in.
//!
//! Owns the files of roots. Must not know what a client may do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ring::digest;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::{FileProblem, TlsError};
use crate::files::{Look, Watch};
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
    watch: Mutex<Watch>,
}

impl Roots {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, TlsError> {
        let watch = Mutex::new(Watch::new(&[path]));
        let store = ArcSwap::from_pointee(read_roots(path)?);
        Ok(Self(Arc::new(RootsFile { path: path.to_owned(), store, watch })))
    }

    /// Reads the file again where it has changed; true where there are others now.
    pub(crate) fn look(&self) -> bool {
        let look = self.0.watch.lock().look();
        if look == Look::Same {
            return false;
        }
        match read_roots(&self.0.path) {
            Ok(store) if store.roots == self.0.store.load().roots => false,
            Ok(store) => {
                tracing::info!(
                    "TLS: {} was replaced; clients are judged by its {} certificates from now on",
                    self.0.path.display(),
                    store.len()
                );
                self.0.store.store(Arc::new(store));
                true
            }
            Err(error) => {
                if look == Look::Settled {
                    tracing::warn!("TLS: clients are judged as before: {error}");
                }
                false
            }
        }
    }

    /// Whether it is the same file, read once.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        self.0.store.load_full()
    }
}

/// The certificates of a file, which alone are trusted then: one at least.
pub(crate) fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    files::read(path).and_then(|text| store(&text)).map_err(|problem| problem.in_file(path))
}

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
