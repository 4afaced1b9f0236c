//! CoAP over TCP, with TLS or without (RFC 8323): accepting connections, and what all of
//! them share.
//!
//! Owns how many there are and their end with the server. Must not know what
//! becomes of one (`connection.rs`), nor the rules of a stream (`tinyfaas_coap`).

mod config;
mod connection;
mod patience;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tinyfaas_coap::Peer;
use tinyfaas_coap::block::Blocks;
use tinyfaas_coap::stream::frame::Frame;
use tinyfaas_coap::stream::signal;
use tinyfaas_model::random;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

pub use self::config::TcpConfig;
use super::{Coap, Stop};
use crate::dispatch::now;

/// How often it is told, while it lasts, that the system lets no connection in.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);

/// How often bodies and replies in blocks that nobody goes on with are dropped,
/// while there are connections.
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// The number of the first connection, far from those of DTLS sessions.
const FIRST_SESSION: u64 = 1 << 63;

/// What all connections share.
struct Tcp {
    coap: Arc<Coap>,
    blocks: Mutex<Blocks>,
}

/// A listening socket, and TLS where it is spoken there.
type Listener = (TcpListener, Option<tinyfaas_tls::Acceptor>);

/// The listening sockets and the connections.
pub(super) struct Acceptor {
    tcp: Arc<Tcp>,
    listeners: Vec<Listener>,
    stop: watch::Receiver<Stop>,
    places: Arc<Semaphore>,
    sessions: u64,
    told: Option<Instant>,
}

impl Acceptor {
    /// An acceptor on these sockets, which do not block.
    ///
    /// # Errors
    /// Where one of them cannot be used.
    pub(super) fn new(
        coap: Arc<Coap>,
        listeners: Vec<(std::net::TcpListener, Option<tinyfaas_tls::Acceptor>)>,
        stop: watch::Receiver<Stop>,
    ) -> io::Result<Self> {
        let listeners = listeners
            .into_iter()
            .map(|(listener, tls)| Ok((TcpListener::from_std(listener)?, tls)))
            .collect::<io::Result<_>>()?;
        let blocks = coap.config.blocks.clone();
        let secret = u128::from_ne_bytes(random::draw());
        Ok(Self {
            places: Arc::new(Semaphore::new(coap.config.tcp.connections_max)),
            tcp: Arc::new(Tcp { coap, blocks: Mutex::new(Blocks::new(blocks, secret)) }),
            listeners,
            stop,
            sessions: FIRST_SESSION,
            told: None,
        })
    }

    /// Accepts connections until the server stops, and ends with the last of them.
    pub(super) async fn run(mut self) {
        let (mut connections, mut refusals) = (JoinSet::new(), JoinSet::new());
        let mut expiry = interval(EXPIRE_EVERY);
        let mut stop = pin!(stopped(self.stop.clone()));
        let figures = Arc::clone(&self.tcp.coap);
        let figures = &figures.figures;
        loop {
            figures.connections.store(connections.len(), Ordering::Relaxed);
            tokio::select! {
                accepted = accept(&self.listeners) => match accepted {
                    Ok((stream, remote, tls)) => {
                        if let Some(place) = self.place() {
                            self.begin(&mut connections, stream, remote, tls, place);
                        } else {
                            figures.connections_refused.fetch_add(1, Ordering::Relaxed);
                            self.refuse(&mut refusals, stream, tls.is_some());
                        }
                    }
                    Err(error) => self.pause(&error).await,
                },
                // One that panicked has said so, and its socket is closed.
                Some(_) = connections.join_next() => {}
                Some(_) = refusals.join_next() => {}
                _ = expiry.tick(), if !connections.is_empty() => {
                    self.tcp.blocks.lock().expire(now());
                }
                _ = &mut stop => break,
            }
        }
        self.listeners.clear();
        while connections.join_next().await.is_some() {}
    }

    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    fn begin(
        &mut self,
        connections: &mut JoinSet<()>,
        stream: TcpStream,
        remote: SocketAddr,
        tls: Option<tinyfaas_tls::Acceptor>,
        place: OwnedSemaphorePermit,
    ) {
        // Without this a small message may wait for an acknowledgement; where it
        // cannot be had, replies are slower and nothing else.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok().map(|address| address.ip());
        let peer = Peer { remote, local, session: Some(self.sessions) };
        self.sessions += 1;
        let (tcp, stop) = (Arc::clone(&self.tcp), self.stop.clone());
        connections.spawn(async move {
            match tls {
                None => connection::serve(&tcp, stream, peer, stop).await,
                // In a box: what a handshake needs shall not make those larger that
                // have none.
                Some(tls) => Box::pin(serve_tls(&tcp, stream, tls, peer, stop)).await,
            }
            drop(place);
        });
    }

    /// Tells a connection that there are too many; where that many are being told
    /// already, or there would have to be a handshake first, it is closed without a word.
    fn refuse(&self, refusals: &mut JoinSet<()>, stream: TcpStream, tls: bool) {
        let config = &self.tcp.coap.config.tcp;
        if !tls && refusals.len() < config.refusals_max {
            refusals.spawn(refuse(stream, config.linger_timeout));
        }
    }

    /// After an error the next connection may be sound, but not at once.
    async fn pause(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        // It went away before it was accepted: nothing is wrong here.
        if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
            return;
        }
        let now = now();
        if self.told.is_none_or(|told| now - told > ACCEPT_TOLD_EVERY) {
            tracing::warn!("CoAP connections wait, none can be accepted: {error}");
            self.told = Some(now);
        }
        sleep(self.tcp.coap.config.tcp.accept_pause).await;
    }
}

/// Waits for the server to stop. Returns when that is to be over.
async fn stopped(mut stop: watch::Receiver<Stop>) -> Instant {
    let until = stop.wait_for(Option::is_some).await.ok().and_then(|until| *until);
    // Who could stop it is gone, so it is over.
    until.map_or_else(now, tokio::time::Instant::into_std)
}

/// A connection on whichever of these sockets has one.
async fn accept(
    listeners: &[Listener],
) -> io::Result<(TcpStream, SocketAddr, Option<tinyfaas_tls::Acceptor>)> {
    poll_fn(|cx| {
        for (listener, tls) in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, from)| (stream, from, tls.clone())));
            }
        }
        Poll::Pending
    })
    .await
}

/// The handshake, which ends at once when the server stops; then as without TLS.
async fn serve_tls(
    tcp: &Tcp,
    stream: TcpStream,
    tls: tinyfaas_tls::Acceptor,
    peer: Peer,
    stop: watch::Receiver<Stop>,
) {
    let done = tokio::select! {
        _ = stopped(stop.clone()) => return,
        done = tls.accept(stream) => done,
    };
    match done {
        Ok(stream) => connection::serve(tcp, stream, peer, stop).await,
        // The client was told; that it failed is mostly its own affair.
        Err(error) => tracing::debug!("no TLS with a client of CoAP: {error}"),
    }
}

/// Tells a connection that there are too many.
async fn refuse(mut stream: TcpStream, patience: Duration) {
    let why = "the server has as many connections as it may have; try again later";
    let abort = Frame { payload: why.into(), ..Frame::new(signal::ABORT) };
    // The CSM comes first even here (RFC 8323 section 5.3).
    let csm = Frame::new(signal::CSM).encode_head();
    let told = async {
        stream.write_all(&[&csm[..], &abort.encode_head(), &abort.payload].concat()).await?;
        stream.shutdown().await?;
        discard(&mut stream).await
    };
    // Who does not listen is none the worse for it.
    let _ = timeout(patience, told).await;
}

/// Reads and forgets what still comes: closing a socket with unread input resets
/// it, and the reset may overtake what was said last.
async fn discard(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests;
