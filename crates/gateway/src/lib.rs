//! ROOM 2: calls come in, replies go out.
//!
//! Owns the protocols by which functions are called and what is the same for
//! all of them: finding the route, a place, the deadline. Must not know how
//! functions come and go, nor what runs them.

mod asynchronous;
mod changes;
mod client;
mod coap;
mod config;
mod connections;
mod dispatch;
mod grpc;
mod held;
mod hop;
mod http;
mod load;
mod tally;
mod timing;
mod trace;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tinyfaas_model::{CallRegistry, GatewayStatus, Routes};
use tinyfaas_tls::{Acceptor, Tls};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use self::asynchronous::AcceptedCalls;
#[cfg(fuzzing)]
pub use self::coap::dtls_fuzzing;
use self::coap::{Coap, Transports};
pub use self::coap::{
    CoapConfig, CoapSockets, DtlsConfig, KeyMistakes, PskKeys, TcpConfig, WatchConfig,
};
pub use self::config::GatewayConfig;
use self::connections::Door;
use self::connections::watch::Order;
use self::dispatch::Dispatch;
pub use self::grpc::GrpcConfig;
use self::grpc::{About, Grpc};
use self::held::HeldBytes;
use self::http::Http;
#[cfg(fuzzing)]
pub use self::http::fuzzing;
use self::load::Load;

/// The gateway: all protocols, and the calls that are under way.
pub struct Gateway {
    door: Arc<Door>,
    http: Arc<Http>,
    grpc: Arc<Grpc>,
    coap: Arc<Coap>,
    transports: Mutex<Transports>,
    tasks: Mutex<Tasks>,
}

/// What runs for all connections.
#[derive(Default)]
struct Tasks {
    acceptors: Vec<JoinHandle<()>>,
    /// There is one once something is served.
    sweeper: Option<JoinHandle<()>>,
}

/// An HTTP endpoint that is being served, until [`Gateway::shutdown`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpEndpoint {
    /// The addresses that are really bound.
    pub addresses: Vec<SocketAddr>,
}

impl Gateway {
    /// A gateway to the functions of these routes. It serves nothing yet.
    #[must_use]
    pub fn new(config: GatewayConfig, routes: Routes) -> Arc<Self> {
        let config = Arc::new(config);
        let dispatch = Arc::new(Dispatch::new(&config, routes));
        let accepted = AcceptedCalls::new(&config, Arc::clone(&dispatch));
        let held = HeldBytes::new(config.held_bytes_max);
        Arc::new(Self {
            coap: Coap::new(
                &config,
                Arc::clone(&dispatch),
                Arc::clone(&accepted),
                Arc::clone(&held),
            ),
            transports: Mutex::default(),
            grpc: Arc::new(Grpc {
                accepted: Arc::clone(&accepted),
                dispatch: Arc::clone(&dispatch),
                held: Arc::clone(&held),
                config: Arc::clone(&config),
                about: About::new(),
            }),
            http: Arc::new(Http {
                accepted,
                dispatch,
                held,
                config: Arc::clone(&config),
                names: OnceLock::new(),
            }),
            door: Door::new(config),
            tasks: Mutex::default(),
        })
    }

    /// The asynchronous calls that this gateway knows, for who manages the
    /// server.
    #[must_use]
    pub fn calls(&self) -> Arc<dyn CallRegistry> {
        Arc::clone(&self.http.accepted) as _
    }

    /// Tells how busy this gateway is, for who manages the server.
    #[must_use]
    pub fn status(&self) -> Arc<dyn GatewayStatus> {
        Arc::new(Load {
            door: Arc::clone(&self.door),
            http: Arc::clone(&self.http),
            coap: Arc::clone(&self.coap),
        })
    }

    /// Has the HTTP endpoint prove to an ACME server that names are this server's
    /// (HTTP-01). The first to be told of does it.
    pub fn prove_names(&self, tls: Arc<Tls>) {
        drop(self.http.names.set(tls));
    }

    /// Serves HTTP/1.1 and HTTP/2 on these sockets, within the runtime that this
    /// is called in.
    ///
    /// # Errors
    /// Where a socket does not know its own address.
    pub fn serve_http(&self, listeners: Vec<TcpListener>) -> io::Result<HttpEndpoint> {
        self.serve_requests(listeners, None)
    }

    /// The same over TLS, which should offer `h2` and `http/1.1` (ALPN). A function is
    /// told whose certificate its caller has shown.
    ///
    /// # Errors
    /// Where a socket does not know its own address.
    pub fn serve_https(
        &self,
        listeners: Vec<TcpListener>,
        tls: Acceptor,
    ) -> io::Result<HttpEndpoint> {
        self.serve_requests(listeners, Some(tls))
    }

    fn serve_requests(
        &self,
        listeners: Vec<TcpListener>,
        tls: Option<Acceptor>,
    ) -> io::Result<HttpEndpoint> {
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
        for listener in listeners {
            let (http, door) = (Arc::clone(&self.http), Arc::clone(&self.door));
            self.accept(http::accept(http, door, listener, tls.clone()));
        }
        Ok(HttpEndpoint { addresses })
    }

    /// Serves gRPC on these sockets, within the runtime that this is called in.
    pub fn serve_grpc(&self, listeners: Vec<TcpListener>) {
        self.serve_messages(listeners, None);
    }

    /// The same over TLS, which should offer `h2` and `http/1.1` (ALPN; the latter is
    /// for browsers). A function is told whose certificate its caller has shown.
    pub fn serve_grpc_tls(&self, listeners: Vec<TcpListener>, tls: Acceptor) {
        self.serve_messages(listeners, Some(tls));
    }

    fn serve_messages(&self, listeners: Vec<TcpListener>, tls: Option<Acceptor>) {
        for listener in listeners {
            let (grpc, door) = (Arc::clone(&self.grpc), Arc::clone(&self.door));
            self.accept(grpc::accept(grpc, door, listener, tls.clone()));
        }
    }

    /// Runs what accepts connections, and who looks after them.
    fn accept(&self, acceptor: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        let sweep = || tokio::spawn(Arc::clone(&self.door.connections).sweep());
        tasks.sweeper.get_or_insert_with(sweep);
        tasks.acceptors.push(tokio::spawn(acceptor));
    }

    /// Serves CoAP on these sockets, and over DTLS for who has one of these keys,
    /// within the runtime that this is called in.
    ///
    /// # Errors
    /// Where a socket cannot be used.
    pub fn serve_coap(&self, sockets: CoapSockets, keys: PskKeys) -> io::Result<()> {
        self.transports.lock().serve(&self.coap, sockets, keys)
    }

    /// Stops: accepts nothing more at once, lets what runs end for `drain` at
    /// most, and gives up the rest. A line in the log for each asynchronous call
    /// that is given up. Where nothing is under way, this takes no time.
    pub async fn shutdown(&self, drain: Duration) {
        let until = Instant::now() + drain;
        let connections = &self.door.connections;
        let Tasks { acceptors, sweeper } = std::mem::take(&mut *self.tasks.lock());
        for task in acceptors {
            task.abort();
            // Aborted or panicked: its socket is closed either way.
            let _ = task.await;
        }
        self.grpc.about.stop();
        connections.end_all(Order::Close);
        let transports = std::mem::take(&mut *self.transports.lock());
        let (ended, (), ()) = tokio::join!(
            timeout_at(until, self.connections_end()),
            transports.shutdown(until),
            self.http.accepted.drain(until)
        );
        if ended.is_err() {
            let open = connections.open();
            tracing::warn!("{open} connections cut off: their calls did not end in {drain:?}");
            connections.end_all(Order::CutOff);
            // They end when they are next polled; nothing depends on it.
            let _ = timeout(connections::CUT_OFF_GRACE, connections.ended()).await;
        }
        if let Some(task) = sweeper {
            task.abort();
        }
    }

    /// Waits until there is no connection, where all were told to end. Those that
    /// have no call and do not end, as their peers do not take part in it, are cut off.
    async fn connections_end(&self) {
        let connections = &self.door.connections;
        let grace = self.door.config.close_grace;
        while timeout(grace, connections.ended()).await.is_err() {
            connections.cut_off_quiet(grace);
        }
    }
}
