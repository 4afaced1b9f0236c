//! What tests of this crate share: certificates made for them, and rustls' own
//! client over real sockets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, DistinguishedName, DnType, KeyPair};
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, client};

use crate::{Acceptor, ClientCertificates, HandshakeError, Source, Tls, TlsConfig, TlsStream};

pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

/// Who certifies.
pub(crate) fn issuer(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A certificate of a client.
pub(crate) fn client(issuer: &Issuer, subject: &[(DnType, &str)]) -> Pair {
    pair(issuer, |params| {
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.subject_alt_names.clear();
    })
}

/// A certificate for localhost.
pub(crate) fn pair(issuer: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "tests");
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap().pem();
    Pair { certificate, key: key.serialize_pem() }
}

/// A directory with files for a test.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Written anew, as `mv` does it: never half there.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        let fresh = self.path(&format!("{name}.fresh"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, &path).unwrap();
        path
    }

    pub(crate) fn put_pair(&self, pair: &Pair) -> Source {
        Source::Files {
            certificate: self.put("cert.pem", &pair.certificate),
            key: self.put("key.pem", &pair.key),
        }
    }
}

/// How a client asks.
pub(crate) struct Ask {
    pub(crate) roots: RootCertStore,
    pub(crate) pair: Option<Pair>,
    pub(crate) alpn: Vec<Vec<u8>>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
}

impl Ask {
    pub(crate) fn trusting(issuer: &Issuer) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).unwrap();
        Self { roots, pair: None, alpn: Vec::new(), versions: vec![&TLS13, &TLS12] }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                use rustls_pki_types::pem::PemObject;
                let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes())
                    .collect::<Result<_, _>>()
                    .unwrap();
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }
}

pub(crate) type ClientStream = client::TlsStream<TcpStream>;

/// A server's and a client's side of one attempt.
pub(crate) struct Met {
    pub(crate) server: Result<TlsStream<TcpStream>, HandshakeError>,
    pub(crate) client: std::io::Result<ClientStream>,
}

/// Lets a client of this kind meet the acceptor.
pub(crate) async fn meet(acceptor: &Acceptor, config: Arc<ClientConfig>) -> Met {
    let (listener, at) = listen().await;
    let connecting = async {
        let stream = TcpStream::connect(at).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(config).connect(name, stream).await
    };
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await
    };
    let (server, client) = tokio::join!(accepting, connecting);
    Met { server, client }
}

pub(crate) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

/// An acceptor for a certificate of this issuer.
pub(crate) fn acceptor(
    issuer: &Issuer,
    config: TlsConfig,
    clients: ClientCertificates,
) -> Acceptor {
    let files = Files::new();
    let source = files.put_pair(&pair(issuer, |_| ()));
    let tls = Tls::open(source, config).unwrap();
    tls.acceptor(&[b"h2", b"http/1.1"], clients)
}
