//! The server's certificate and who serves it.
//!
//! Owns choosing between the sources. Must not know endpoints but as a list of
//! those to be told when something has changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::crypto::ring;

use crate::acceptor::{Acceptor, Endpoint, Shared};
use crate::certificate::Certificate;
use crate::client::ClientCertificates;
use crate::error::TlsError;
use crate::{clock, files, pem};

/// Where the server's certificate comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// PEM files, read again when they change. Of the certificates in the first,
    /// the server's own comes first, then those that lead to a root.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// Its key, PKCS #8, PKCS #1 or SEC1, not encrypted.
        key: PathBuf,
    },
}

/// Limits and times.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// How long a handshake may take, from the connection on.
    pub handshake_timeout: Duration,
    /// How many handshakes there are at a time, of all endpoints, counted from the
    /// client's first message. Others wait, within their time.
    pub handshakes_max: usize,
    /// Sessions that an endpoint remembers so that a client can resume one and be
    /// spared most of a handshake, about 1 kB each. Zero: none. Endpoints that ask
    /// for certificates remember none in any case.
    pub sessions_max: usize,
    /// How often it is looked whether files have changed.
    pub reload_interval: Duration,
    /// How long a client that is refused may take to read why.
    pub linger_timeout: Duration,
    /// Names by which clients are known to ask for this server: the certificate
    /// ought to have them, and it is told when it does not.
    pub expected_names: Vec<String>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            handshakes_max: 256,
            sessions_max: 256,
            reload_interval: Duration::from_secs(5),
            linger_timeout: Duration::from_secs(1),
            expected_names: Vec::new(),
        }
    }
}

/// The server's certificate, kept fresh. One for the whole program.
#[derive(Debug)]
pub struct Tls {
    source: Source,
    shared: Arc<Shared>,
    endpoints: Mutex<Vec<Weak<Endpoint>>>,
}

/// What is served, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Where the certificate comes from, e.g. `files cert.pem and key.pem`.
    pub source: String,
    /// Whose it is, as RFC 4514 writes it; may be empty.
    pub subject: String,
    /// For which names and addresses.
    pub names: Vec<String>,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// SHA-256 of the public key, `sha256//BASE64`, as curl's `--pinnedpubkey`
    /// takes it.
    pub pin: String,
}

impl Tls {
    /// Reads the certificate and judges it. To be called while the process may
    /// read the files, e.g. before it gives up root.
    pub fn open(source: Source, config: TlsConfig) -> Result<Arc<Self>, TlsError> {
        let shared = Arc::new(Shared::new(config, Arc::new(ring::default_provider())));
        match &source {
            Source::Files { certificate, key } => {
                shared.served.set(from_files(certificate, key)?);
            }
        }
        Ok(Arc::new(Self { source, shared, endpoints: Mutex::default() }))
    }

    /// For one endpoint: which protocols it speaks, the preferred one first (ALPN,
    /// e.g. `h2` and `http/1.1`), and who must show a certificate.
    pub fn acceptor(self: &Arc<Self>, alpn: &[&[u8]], clients: ClientCertificates) -> Acceptor {
        let endpoint = Arc::new(Endpoint::new(alpn, clients, Arc::clone(&self.shared)));
        let mut endpoints = self.endpoints.lock();
        endpoints.retain(|it| it.strong_count() > 0);
        endpoints.push(Arc::downgrade(&endpoint));
        Acceptor::new(endpoint)
    }

    /// What is served now; None while there is no certificate yet.
    pub fn describe(&self) -> Option<Description> {
        let facts = self.shared.served.get()?.facts.clone();
        let source = match &self.source {
            Source::Files { certificate, key } => {
                format!("files {} and {}", certificate.display(), key.display())
            }
        };
        Some(Description {
            source,
            subject: facts.subject,
            names: facts.names,
            not_before: facts.not_before,
            not_after: facts.not_after,
            pin: facts.pin,
        })
    }
}

fn from_files(certificate: &Path, key: &Path) -> Result<Certificate, TlsError> {
    let chain = files::read(certificate)
        .and_then(|content| pem::certificates(&content.text))
        .map_err(|problem| problem.in_file(certificate))?;
    let private = files::read(key)
        .and_then(|content| pem::private_key(&content.text))
        .map_err(|problem| problem.in_file(key))?;
    let pair = Certificate::new(chain, certificate, &private, key)?;
    pair.check_time(clock::now()).map_err(|problem| problem.in_file(certificate))?;
    Ok(pair)
}
