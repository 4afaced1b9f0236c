//! The handshake.
//!
//! Owns its time, and what who fails is told. Must not know where certificates come
//! from, nor how many handshakes there are.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{
    Accepted, AcceptedAlert, NoServerSessionStorage, ResolvesServerCert, ServerSessionMemoryCache,
    WebPkiClientVerifier,
};
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::StartHandshake;

use crate::acme::challenges::Challenges;
use crate::client::{Client, ClientCertificates, ClientError};
use crate::hello::{self, NoHello};
use crate::plain_text::{self, LINE_BYTES_MAX, Speech};
use crate::resolver::{ACME_ALPN, Served};
use crate::stream::TlsStream;
use crate::tls::TlsConfig;

/// Bytes thrown away at a time while a refusal is on its way.
const DISCARD_BYTES: usize = 1024;

/// Makes TLS of an endpoint's connections. Its copies are one.
#[derive(Debug, Clone)]
pub struct Acceptor(Arc<Endpoint>);

/// Why there is no TLS on a connection. None of it is this server's fault; the
/// client was told by an alert or in words where it could be.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// It took too long.
    #[error("the handshake was not done within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The client spoke HTTP without TLS, and was told.
    #[error("the client speaks plain HTTP to a port that speaks TLS")]
    PlainText,
    /// The two could not agree.
    #[error("{0}")]
    Tls(rustls::Error),
    /// The client's certificate is good, but of no use.
    #[error("the client's certificate is refused: {0}")]
    Client(#[from] ClientError),
    /// An ACME server wanted to see a challenge's certificate, and has.
    #[error("an ACME server has looked at a name that is being proven")]
    Challenge,
    /// The connection broke or ended.
    #[error("the connection ended: {0}")]
    Gone(io::Error),
}

/// What the handshakes of one endpoint need.
#[derive(Debug)]
pub(crate) struct Endpoint {
    alpn: Vec<Vec<u8>>,
    clients: ClientCertificates,
    shared: Arc<Shared>,
    config: ArcSwap<ServerConfig>,
}

/// What the handshakes of all endpoints need.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: TlsConfig,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) served: Arc<Served>,
    pub(crate) challenges: Arc<Challenges>,
    /// For those who ask about a name that is being proven.
    challenge_config: Arc<ServerConfig>,
}

impl Shared {
    pub(crate) fn new(config: TlsConfig, provider: Arc<CryptoProvider>) -> Self {
        let challenges = Arc::new(Challenges::default());
        let resolver = Arc::clone(&challenges);
        let mut challenge_config = server_config(&provider, &ClientCertificates::None, resolver, 0);
        challenge_config.alpn_protocols = vec![ACME_ALPN.to_vec()];
        Self {
            config,
            provider,
            served: Arc::default(),
            challenges,
            challenge_config: Arc::new(challenge_config),
        }
    }
}

impl Endpoint {
    pub(crate) fn new(alpn: &[&[u8]], clients: ClientCertificates, shared: Arc<Shared>) -> Self {
        let alpn: Vec<_> = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let config = ArcSwap::new(endpoint_config(&alpn, &clients, &shared));
        Self { alpn, clients, shared, config }
    }

    /// Takes what its roots are now.
    pub(crate) fn renew(&self) {
        self.config.store(endpoint_config(&self.alpn, &self.clients, &self.shared));
    }

    pub(crate) fn clients(&self) -> &ClientCertificates {
        &self.clients
    }
}

fn endpoint_config(
    alpn: &[Vec<u8>],
    clients: &ClientCertificates,
    shared: &Shared,
) -> Arc<ServerConfig> {
    let served = Arc::clone(&shared.served);
    let sessions = shared.config.sessions_max;
    let mut config = server_config(&shared.provider, clients, served, sessions);
    config.alpn_protocols = alpn.to_vec();
    Arc::new(config)
}

/// TLS 1.2 and 1.3, nothing sent early. Sessions are resumed only where no
/// certificate was asked for: a resumed one would not be judged again, neither by
/// the clock nor by roots that have changed.
fn server_config(
    provider: &Arc<CryptoProvider>,
    clients: &ClientCertificates,
    certificates: Arc<dyn ResolvesServerCert>,
    sessions: usize,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has suites for both versions");
    let builder = match clients {
        ClientCertificates::None => builder.with_no_client_auth(),
        ClientCertificates::Optional(roots) | ClientCertificates::Required(roots) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.store(), Arc::clone(provider));
            let verifier = match clients {
                ClientCertificates::Required(_) => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(
                verifier.build().expect("roots are never empty, and there are no revocation lists"),
            )
        }
    };
    let mut config = builder.with_cert_resolver(certificates);
    if sessions > 0 && matches!(clients, ClientCertificates::None) {
        config.session_storage = ServerSessionMemoryCache::new(sessions);
        config.send_tls13_tickets = 1;
    } else {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config
}

impl Acceptor {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self(endpoint)
    }

    /// The handshake, within [`TlsConfig::handshake_timeout`]. How many there are at a
    /// time is for who accepts connections to bound: a handshake mostly waits for its
    /// client, and a bound here would let those that stall keep others out.
    ///
    /// A peer that speaks plain HTTP is told so with a 400 before this returns an
    /// error, any other failure by an alert; both take no longer than
    /// [`TlsConfig::linger_timeout`] on top.
    pub async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // On the heap, as it is large and short: a connection's task has its size for
        // as long as it lives.
        Box::pin(self.handshake(stream)).await
    }

    async fn handshake<S>(&self, mut stream: S) -> Result<TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = &self.0.shared;
        let time = shared.config.handshake_timeout;
        let deadline = Instant::now() + time;
        let late = |_| HandshakeError::TimedOut(time);
        let hello = timeout_at(deadline, hello::read(&mut stream)).await.map_err(late)?;
        let accepted = match hello {
            Ok(accepted) => accepted,
            Err(no_hello) => return Err(self.refuse(stream, deadline, no_hello).await),
        };
        let config = self.config(&accepted);
        let handshake = StartHandshake::from_parts(accepted, stream).into_stream(config);
        let done = timeout_at(deadline, handshake.into_fallible()).await.map_err(late)?;
        match done {
            // It has seen what it came for; nothing is to be said (RFC 8737, section 3).
            Ok(stream) if stream.get_ref().1.alpn_protocol() == Some(ACME_ALPN) => {
                self.linger(stream).await;
                Err(HandshakeError::Challenge)
            }
            Ok(stream) => {
                let client = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
                    Some(certificate) => Some(Arc::new(Client::new(certificate)?)),
                    None => None,
                };
                Ok(TlsStream::new(stream, client))
            }
            Err((error, stream)) => {
                self.linger(stream).await;
                Err(handshake_error(error))
            }
        }
    }

    fn config(&self, accepted: &Accepted) -> Arc<ServerConfig> {
        if self.0.shared.challenges.concern(&accepted.client_hello()) {
            return Arc::clone(&self.0.shared.challenge_config);
        }
        self.0.config.load_full()
    }

    async fn refuse<S>(&self, mut stream: S, deadline: Instant, why: NoHello) -> HandshakeError
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (error, alert) = match why {
            NoHello::Gone(error) => return HandshakeError::Gone(error),
            NoHello::Refused { error, alert } => (error, alert),
            NoHello::NotTls { mut bytes, error, alert } => {
                let recognised = timeout_at(deadline, recognise(&mut stream, &mut bytes)).await;
                if let Ok(Some(head)) = recognised {
                    self.tell(stream, plain_text::answer(head).as_bytes()).await;
                    return HandshakeError::PlainText;
                }
                (error, alert)
            }
        };
        self.tell(stream, &bytes_of(alert)).await;
        HandshakeError::Tls(error)
    }

    /// Who does not listen is none the worse for it.
    async fn tell<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S, words: &[u8]) {
        let told = timeout(self.0.shared.config.linger_timeout, stream.write_all(words)).await;
        if matches!(told, Ok(Ok(()))) {
            self.linger(stream).await;
        }
    }

    /// Takes what still comes off the wire: closing a socket with unread input
    /// resets it, and the reset may overtake what the client was told.
    async fn linger<S: AsyncRead + AsyncWrite + Unpin>(&self, mut stream: S) {
        let gone = async {
            stream.shutdown().await?;
            let mut space = vec![0; DISCARD_BYTES];
            while stream.read(&mut space).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(self.0.shared.config.linger_timeout, gone).await;
    }
}

/// Reads on until it is clear whether it is HTTP, and then whether it is a HEAD.
async fn recognise<S>(stream: &mut S, bytes: &mut Vec<u8>) -> Option<bool>
where
    S: AsyncRead + Unpin,
{
    loop {
        match plain_text::recognise(bytes) {
            Speech::Http { head } => return Some(head),
            Speech::Other => return None,
            Speech::Unsure => (),
        }
        let mut space = vec![0; DISCARD_BYTES];
        let room = LINE_BYTES_MAX.saturating_sub(bytes.len()).clamp(1, DISCARD_BYTES);
        match stream.read(&mut space[..room]).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&space[..count]),
        }
    }
}

fn bytes_of(mut alert: AcceptedAlert) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A vector takes whatever is written.
    let _ = alert.write_all(&mut bytes);
    bytes
}

fn handshake_error(error: io::Error) -> HandshakeError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => HandshakeError::Tls(error),
        Err(error) => HandshakeError::Gone(error),
    }
}

#[cfg(test)]
mod tests {
    use instant_acme::Identifier;
    use tokio::net::TcpStream;

    use super::*;
    use crate::client::Roots;
    use crate::testing::{Ask, Files, acceptor, issuer, listen, meet};

    fn plain(config: TlsConfig) -> Acceptor {
        acceptor(&issuer("root"), config, ClientCertificates::None)
    }

    async fn say(acceptor: Acceptor, words: &[u8]) -> (HandshakeError, Vec<u8>) {
        let (listener, at) = listen().await;
        let accepting = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.err().unwrap()
        });
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(words).await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        drop(stream);
        (accepting.await.unwrap(), said)
    }

    #[tokio::test]
    async fn both_versions_are_spoken_and_a_protocol_agreed_on() {
        let issuer = issuer("root");
        let acceptor = acceptor(&issuer, TlsConfig::default(), ClientCertificates::None);
        for version in [&TLS12, &TLS13] {
            let mut ask = Ask::trusting(&issuer);
            ask.versions = vec![version];
            ask.alpn = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
            let met = meet(&acceptor, ask.config()).await;
            let (mut server, mut client) = (met.server.unwrap(), met.client.unwrap());
            assert_eq!(server.alpn(), Some(&b"h2"[..]));
            assert_eq!(server.client(), None);
            client.write_all(b"ping").await.unwrap();
            client.shutdown().await.unwrap();
            let mut said = String::new();
            server.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "ping");
            // Its side is closed, ours is not.
            server.write_all(b"pong").await.unwrap();
            server.shutdown().await.unwrap();
            said.clear();
            client.read_to_string(&mut said).await.unwrap();
            assert_eq!(said, "pong");
        }
    }

    #[tokio::test]
    async fn plain_http_is_told_in_words() {
        for words in
            [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
        {
            let (error, said) = say(plain(TlsConfig::default()), words).await;
            assert!(matches!(error, HandshakeError::PlainText), "{error}");
            let said = String::from_utf8(said).unwrap();
            assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
            assert!(said.contains("https://"), "{said}");
        }
    }

    #[tokio::test]
    async fn an_acme_server_sees_a_challenge_and_nothing_else() {
        let issuer = issuer("root");
        let roots = Files::new();
        let roots = Roots::open(&roots.put("ca.pem", &issuer.pem())).unwrap();
        // Its own certificate is of no interest to those who ask for one.
        let acceptor = acceptor(&issuer, TlsConfig::default(), ClientCertificates::Required(roots));
        let name = Identifier::Dns("localhost".to_owned());
        let challenges = Arc::clone(&acceptor.0.shared.challenges);
        let ask = || {
            let mut ask = Ask::trusting(&issuer);
            ask.alpn = vec![ACME_ALPN.to_vec()];
            ask.config()
        };
        let showing = challenges.show();
        showing.certificate(&name, &[1; 32]).unwrap();
        // The client trusts no such certificate, as an ACME server would not ask it to.
        let met = meet(&acceptor, ask()).await;
        let refused = met.client.err().unwrap().to_string();
        assert!(refused.contains("UnsupportedCriticalExtension"), "{refused}");
        drop(showing);
        let met = meet(&acceptor, ask()).await;
        let refused = met.server.err().unwrap().to_string();
        assert!(refused.contains("any known protocol"), "{refused}");
    }

    #[tokio::test]
    async fn what_is_neither_gets_an_alert() {
        let (error, said) = say(plain(TlsConfig::default()), b"EHLO example.org\r\n").await;
        assert!(matches!(error, HandshakeError::Tls(_)), "{error}");
        // A record with a fatal alert (RFC 8446, sections 5.1 and 6).
        assert_eq!((said[0], said[5]), (21, 2), "{said:?}");
    }

    #[tokio::test]
    async fn a_handshake_that_stalls_is_ended() {
        let config =
            TlsConfig { handshake_timeout: Duration::from_millis(50), ..TlsConfig::default() };
        for words in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET /"] {
            let (error, _) = say(plain(config.clone()), words).await;
            let fits = matches!(error, HandshakeError::TimedOut(_) | HandshakeError::Tls(_));
            assert!(fits, "{words:?}: {error}");
        }
    }

    #[tokio::test]
    async fn a_client_that_is_silent_keeps_nobody_out() {
        let issuer = issuer("root");
        let acceptor = acceptor(&issuer, TlsConfig::default(), ClientCertificates::None);
        let (listener, at) = listen().await;
        let silent = TcpStream::connect(at).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let waiting = acceptor.clone();
        let waiting = tokio::spawn(async move { waiting.accept(stream).await.err().unwrap() });
        meet(&acceptor, Ask::trusting(&issuer).config()).await.server.unwrap();
        drop(silent);
        assert!(matches!(waiting.await.unwrap(), HandshakeError::Gone(_)));
    }

    /// Closing at once would reset the connection, as the request is not read, and
    /// the reset overtake the answer.
    #[tokio::test]
    async fn an_answer_in_words_survives_a_long_request() {
        let mut words = b"POST /f HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n".to_vec();
        words.resize(words.len() + 1_000_000, b'x');
        let (error, said) = say(plain(TlsConfig::default()), &words).await;
        assert!(matches!(error, HandshakeError::PlainText), "{error}");
        assert!(said.starts_with(b"HTTP/1.1 400 "), "{said:?}");
    }
}
