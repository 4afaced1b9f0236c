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
use crate::acme::{Acme, AcmeConfig};
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
    /// An authority that is asked by ACME (RFC 8555). What it gave is kept; until
    /// there is something, a self-signed stand-in is served.
    Acme(Box<AcmeConfig>),
}

/// Limits and times.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// How long a handshake may take, from the connection on.
    pub handshake_timeout: Duration,
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
    Acme(Arc<Acme>),
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
            Source::Acme(config) => {
                let (keeper, certificate) = Acme::open((**config).clone())?;
                (Keeper::Acme(Arc::new(keeper)), certificate)
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
        let acme = match &*self.keeper.lock() {
            Keeper::Acme(acme) => Some(Arc::clone(acme)),
            Keeper::Files(_) | Keeper::SelfSigned(_) => None,
        };
        match acme {
            Some(acme) => {
                let shared = Arc::clone(&self.shared);
                tokio::join!(
                    self.look_regularly(),
                    acme.keep_fresh(&shared.served, &shared.challenges)
                );
            }
            None => self.look_regularly().await,
        }
    }

    async fn look_regularly(self: Arc<Self>) {
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
            Keeper::Acme(_) => (),
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

    /// What an ACME server that asks for `/.well-known/acme-challenge/TOKEN` over
    /// plain HTTP is answered (RFC 8555, section 8.3); None unless it was told to ask.
    pub fn http_challenge(&self, token: &str) -> Option<String> {
        self.shared.challenges.key_authorization(token)
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
            Source::Acme(_) => match &*self.keeper.lock() {
                Keeper::Acme(acme) => acme.describe(),
                Keeper::Files(_) | Keeper::SelfSigned(_) => "ACME".to_owned(),
            },
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::io::ErrorKind;

    use rcgen::DnType;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::testing::{Ask, Files, Issuer, acceptor, client, issuer, meet, pair};
    use crate::{Client, HandshakeError};

    /// Whom the server takes a client for that shows this certificate.
    async fn shown(
        acceptor: &Acceptor,
        server: &Issuer,
        pair: Option<&crate::testing::Pair>,
    ) -> Result<Option<Arc<Client>>, HandshakeError> {
        let mut ask = Ask::trusting(server);
        ask.pair = pair.cloned();
        meet(acceptor, ask.config()).await.server.map(|stream| stream.client().cloned())
    }

    fn roots(files: &Files, issuer: &Issuer) -> Roots {
        Roots::open(&files.put("clients.pem", &issuer.pem())).unwrap()
    }

    /// Looks after it until something holds.
    async fn until<F: Future<Output = bool>>(tls: &Arc<Tls>, holds: impl Fn() -> F) {
        let fresh = Arc::clone(tls).keep_fresh();
        let holding = async {
            while !holds().await {
                tokio::task::yield_now().await;
            }
        };
        let both = async {
            tokio::select! { () = fresh => (), () = holding => () }
        };
        tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    }

    fn quick() -> TlsConfig {
        TlsConfig { reload_interval: Duration::from_millis(5), ..TlsConfig::default() }
    }

    #[tokio::test]
    async fn who_shows_a_good_certificate_is_known() {
        let (files, server, ours) = (Files::new(), issuer("root"), issuer("ours"));
        let pump =
            client(&ours, &[(DnType::OrganizationName, "Works"), (DnType::CommonName, "pump")]);
        for clients in [
            ClientCertificates::Optional(roots(&files, &ours)),
            ClientCertificates::Required(roots(&files, &ours)),
        ] {
            let acceptor = acceptor(&server, TlsConfig::default(), clients);
            let known = shown(&acceptor, &server, Some(&pump)).await.unwrap().unwrap();
            assert_eq!(known.subject(), "CN=pump,O=Works");
            assert_eq!(known.fingerprint().len(), 64);
            // Each time anew: nothing is resumed where a certificate is asked for.
            assert_eq!(shown(&acceptor, &server, Some(&pump)).await.unwrap().unwrap(), known);
        }
    }

    #[tokio::test]
    async fn who_shows_none_or_a_foreign_one_is_judged_by_what_is_asked() {
        let (files, server, ours) = (Files::new(), issuer("root"), issuer("ours"));
        let foreign = client(&issuer("foreign"), &[(DnType::CommonName, "pump")]);
        let optional = ClientCertificates::Optional(roots(&files, &ours));
        let optional = acceptor(&server, TlsConfig::default(), optional);
        assert_eq!(shown(&optional, &server, None).await.unwrap(), None);
        let required = ClientCertificates::Required(roots(&files, &ours));
        let required = acceptor(&server, TlsConfig::default(), required);
        for (acceptor, pair) in
            [(&optional, Some(&foreign)), (&required, Some(&foreign)), (&required, None)]
        {
            let error = shown(acceptor, &server, pair).await.unwrap_err();
            assert!(matches!(error, HandshakeError::Tls(_)), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_of_roots_is_named() {
        let files = Files::new();
        let check = |text: &str, expected: &str| {
            let error = Roots::open(&files.put("clients.pem", text)).unwrap_err().to_string();
            assert!(error.contains("clients.pem: ") && error.contains(expected), "{error}");
        };
        check("", "it is empty");
        check(&pair(&issuer("root"), |_| ()).key, "it has no certificate, only PRIVATE KEY");
        check(
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            "certificate 1 in it cannot be a root",
        );
        let error = Roots::open(&files.path("none.pem")).unwrap_err().to_string();
        assert!(error.ends_with("none.pem: there is no such file"), "{error}");
    }

    #[tokio::test]
    async fn other_roots_judge_from_then_on() {
        let (files, server) = (Files::new(), issuer("root"));
        let (ours, theirs) = (issuer("ours"), issuer("theirs"));
        let pump = client(&ours, &[(DnType::CommonName, "pump")]);
        let valve = client(&theirs, &[(DnType::CommonName, "valve")]);
        let tls = Tls::open(files.put_pair(&pair(&server, |_| ())), quick()).unwrap();
        let roots = roots(&files, &ours);
        let one = tls.acceptor(&[b"h2"], ClientCertificates::Required(roots.clone()));
        let two = tls.acceptor(&[b"h2"], ClientCertificates::Optional(roots));
        assert!(shown(&one, &server, Some(&pump)).await.unwrap().is_some());
        files.put("clients.pem", &theirs.pem());
        for acceptor in [&one, &two] {
            until(&tls, async || shown(acceptor, &server, Some(&valve)).await.is_ok()).await;
            shown(acceptor, &server, Some(&pump)).await.unwrap_err();
        }
    }

    #[tokio::test]
    async fn connections_outlive_their_certificate() {
        let (files, old, new) = (Files::new(), issuer("old"), issuer("new"));
        let tls = Tls::open(files.put_pair(&pair(&old, |_| ())), quick()).unwrap();
        let acceptor = tls.acceptor(&[b"h2"], ClientCertificates::None);
        let met = meet(&acceptor, Ask::trusting(&old).config()).await;
        let (mut server, mut client) = (met.server.unwrap(), met.client.unwrap());
        let before = tls.describe().unwrap();
        files.put_pair(&pair(&new, |_| ()));
        until(&tls, async || meet(&acceptor, Ask::trusting(&new).config()).await.client.is_ok())
            .await;
        assert_ne!(tls.describe().unwrap().pin, before.pin);
        client.write_all(b"still here").await.unwrap();
        client.flush().await.unwrap();
        let mut said = [0; 10];
        server.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"still here");
    }

    #[tokio::test]
    async fn a_connection_that_is_cut_is_no_end() {
        let issuer = issuer("root");
        let acceptor = acceptor(&issuer, TlsConfig::default(), ClientCertificates::None);
        let met = meet(&acceptor, Ask::trusting(&issuer).config()).await;
        let (mut server, mut client) = (met.server.unwrap(), met.client.unwrap());
        client.write_all(b"half").await.unwrap();
        client.flush().await.unwrap();
        // Without TLS's own goodbye.
        let (mut socket, _) = client.into_inner();
        socket.shutdown().await.unwrap();
        let mut said = Vec::new();
        let error = server.read_to_end(&mut said).await.unwrap_err();
        assert_eq!((error.kind(), &said[..]), (ErrorKind::UnexpectedEof, &b"half"[..]));
    }

    #[tokio::test]
    async fn sessions_are_resumed_where_nobody_is_asked_for_a_certificate() {
        let (files, server, ours) = (Files::new(), issuer("root"), issuer("ours"));
        let pump = client(&ours, &[(DnType::CommonName, "pump")]);
        let tls = Tls::open(files.put_pair(&pair(&server, |_| ())), quick()).unwrap();
        let open = tls.acceptor(&[b"h2"], ClientCertificates::None);
        let asking = ClientCertificates::Required(roots(&files, &ours));
        let asking = tls.acceptor(&[b"h2"], asking);
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            for (acceptor, expected) in
                [(&open, rustls::HandshakeKind::Resumed), (&asking, rustls::HandshakeKind::Full)]
            {
                let mut ask = Ask::trusting(&server);
                ask.versions = vec![version];
                ask.pair = Some(pump.clone());
                let config = ask.config();
                let mut kind = None;
                for _ in 0..2 {
                    let met = meet(acceptor, Arc::clone(&config)).await;
                    let (mut server, mut client) = (met.server.unwrap(), met.client.unwrap());
                    // Tickets come with the first data.
                    server.write_all(b"x").await.unwrap();
                    server.flush().await.unwrap();
                    client.read_u8().await.unwrap();
                    kind = client.get_ref().1.handshake_kind();
                }
                assert_eq!(kind, Some(expected), "{version:?}");
            }
        }
    }
}
