//! The server's certificate and who serves it.
//!
//! Owns choosing between the sources. Must not know endpoints but as a list of
//! those to be told when something has changed.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::crypto::ring;

use tokio::time::{MissedTickBehavior, interval};

use crate::acceptor::{Acceptor, Endpoint, Shared};
use crate::client::{ClientCertificates, Roots};
use crate::error::TlsError;
use crate::expiry::Expiry;
use crate::from_files::FromFiles;
use crate::self_signed::SelfSigned;

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
    /// Made at first start, for a trial. Its key stays when it is made anew before
    /// it expires.
    SelfSigned {
        /// Where both are kept, as `self-signed.pem` and `self-signed-key.pem`. Made
        /// where it is missing, for this user alone.
        directory: PathBuf,
        /// Names and addresses beside those of this machine: its host name, that
        /// name in `.local`, localhost and the loopback addresses.
        names: Vec<String>,
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
    keeper: Mutex<Keeper>,
    shared: Arc<Shared>,
    endpoints: Mutex<Vec<Weak<Endpoint>>>,
}

/// Who has the certificate that is to be served.
#[derive(Debug)]
enum Keeper {
    Files(FromFiles),
    SelfSigned(SelfSigned),
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
        let (keeper, certificate) = match &source {
            Source::Files { certificate, key } => {
                let (keeper, certificate) = FromFiles::open(certificate, key)?;
                (Keeper::Files(keeper), certificate)
            }
            Source::SelfSigned { directory, names } => {
                let (keeper, certificate) = SelfSigned::open(directory, names)?;
                (Keeper::SelfSigned(keeper), certificate)
            }
        };
        shared.served.set(certificate);
        let keeper = Mutex::new(keeper);
        Ok(Arc::new(Self { source, keeper, shared, endpoints: Mutex::default() }))
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

    /// Looks after the certificate, and after the roots of clients', until it is
    /// dropped. What goes wrong is logged, and what was served is served on.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut ticks = interval(self.shared.config.reload_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expiry = Expiry::default();
        loop {
            ticks.tick().await;
            let tls = Arc::clone(&self);
            // Disks of small machines can take seconds.
            if tokio::task::spawn_blocking(move || tls.look()).await.is_err() {
                // It panicked, and was told by that; or the runtime ends.
                continue;
            }
            if let Some(certificate) = self.shared.served.get() {
                expiry.look(&certificate, &self.shared.config.expected_names);
            }
        }
    }

    fn look(&self) {
        match &mut *self.keeper.lock() {
            Keeper::Files(files) => files.look(&self.shared.served),
            Keeper::SelfSigned(own) => own.look(&self.shared.served),
        }
        let endpoints: Vec<_> = self.endpoints.lock().iter().filter_map(Weak::upgrade).collect();
        // Several endpoints may share a file, which is read once.
        let mut looked: Vec<(Roots, bool)> = Vec::new();
        for endpoint in endpoints {
            let Some(roots) = endpoint.clients().roots() else { continue };
            let known = looked.iter().find(|(it, _)| it.is(roots)).map(|(_, changed)| *changed);
            let changed = known.unwrap_or_else(|| {
                let changed = roots.look();
                looked.push((roots.clone(), changed));
                changed
            });
            if changed {
                endpoint.renew();
            }
        }
    }

    /// What is served now; None while there is no certificate yet.
    pub fn describe(&self) -> Option<Description> {
        let facts = self.shared.served.get()?.facts.clone();
        let source = match &self.source {
            Source::Files { certificate, key } => {
                format!("files {} and {}", certificate.display(), key.display())
            }
            Source::SelfSigned { directory, .. } => {
                format!("self-signed, kept in {}", directory.display())
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
