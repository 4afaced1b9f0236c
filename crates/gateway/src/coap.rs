//! CoAP over UDP, DTLS and TCP: requests become calls, replies responses.
//!
//! Owns what all of its transports share, and their life. Must not know handlers
//! or their backends; what is the same for every protocol is in
//! [`crate::dispatch`].

mod answer;
mod config;
mod discovery;
#[cfg(test)]
mod document;
mod dtls;
mod endpoint;
mod error;
mod figures;
mod keys;
mod listening;
mod location;
mod observing;
mod request;
mod response;
mod results;
mod socket;
mod tcp;
mod watch;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

pub use self::config::CoapConfig;
use self::discovery::Discovery;
pub use self::dtls::DtlsConfig;
#[cfg(fuzzing)]
pub use self::dtls::fuzzing as dtls_fuzzing;
use self::endpoint::Endpoint;
use self::figures::Figures;
pub use self::keys::{KeyMistakes, PskKeys};
use self::tcp::Acceptor;
pub use self::tcp::TcpConfig;
pub use self::watch::WatchConfig;
use self::watch::Watches;
use crate::asynchronous::AcceptedCalls;
use crate::config::GatewayConfig;
use crate::dispatch::Dispatch;
use crate::held::HeldBytes;
use tinyfaas_model::CoapLoad;
use tokio::sync::watch::Sender;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The sockets of the CoAP endpoints, bound and not blocking.
#[derive(Debug, Default)]
pub struct CoapSockets {
    /// For datagrams in the clear.
    pub udp: Vec<UdpSocket>,
    /// For connections.
    pub tcp: Vec<TcpListener>,
    /// For connections with TLS, which should offer `coap` (ALPN).
    pub tcp_secured: Vec<(TcpListener, tinyfaas_tls::Acceptor)>,
    /// For datagrams within DTLS.
    pub secured: Vec<UdpSocket>,
}

/// What every transport of CoAP needs.
pub(crate) struct Coap {
    pub(crate) config: CoapConfig,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) accepted: Arc<AcceptedCalls>,
    pub(crate) held: Arc<HeldBytes>,
    pub(crate) retry_after: Duration,
    pub(crate) async_wait_max: Duration,
    pub(crate) discovery: Discovery,
    pub(crate) figures: Figures,
    pub(crate) watches: Watches,
}

impl Coap {
    /// What all transports share, with nothing done yet.
    pub(crate) fn new(
        config: &GatewayConfig,
        dispatch: Arc<Dispatch>,
        accepted: Arc<AcceptedCalls>,
        held: Arc<HeldBytes>,
    ) -> Arc<Self> {
        Arc::new(Self {
            config: config.coap.clone(),
            dispatch,
            accepted,
            held,
            retry_after: config.retry_after,
            async_wait_max: config.async_wait_max,
            discovery: Discovery::default(),
            figures: Figures::default(),
            watches: Watches::new(&config.coap.watch),
        })
    }

    /// How busy CoAP is.
    pub(crate) fn load(&self) -> CoapLoad {
        self.figures.load(&self.config)
    }
}

/// How the server's stop stands with a transport: none while it serves, else when
/// it is over.
pub(crate) type Stop = Option<Instant>;

/// The transports that are being served.
#[derive(Default)]
pub(crate) struct Transports {
    stop: Sender<Stop>,
    tasks: Vec<JoinHandle<()>>,
}

impl Transports {
    /// Serves CoAP on these sockets, the secured ones for who has one of the keys.
    ///
    /// # Errors
    /// Where a socket cannot be used, or there is no randomness.
    pub(crate) fn serve(
        &mut self,
        coap: &Arc<Coap>,
        sockets: CoapSockets,
        keys: PskKeys,
    ) -> io::Result<()> {
        let CoapSockets { udp, tcp, tcp_secured, secured } = sockets;
        if !udp.is_empty() || !secured.is_empty() {
            let stop = self.stop.subscribe();
            let endpoint = Endpoint::new(Arc::clone(coap), udp, secured, keys, stop)?;
            self.tasks.push(tokio::spawn(endpoint));
        }
        let plain = tcp.into_iter().map(|listener| (listener, None));
        let over_tls = tcp_secured.into_iter().map(|(listener, tls)| (listener, Some(tls)));
        let connected: Vec<_> = plain.chain(over_tls).collect();
        if !connected.is_empty() {
            let acceptor = Acceptor::new(Arc::clone(coap), connected, self.stop.subscribe())?;
            self.tasks.push(tokio::spawn(acceptor.run()));
        }
        Ok(())
    }

    /// Takes no new requests and lets what runs end, until then at most.
    pub(crate) async fn shutdown(self, until: Instant) {
        self.stop.send_replace(Some(until));
        for task in self.tasks {
            // One that panicked has said so, and its sockets are closed.
            let _ = task.await;
        }
    }
}
