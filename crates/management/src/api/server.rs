//! Connections: accepted within a bound, with TLS where it is asked for, each given its
//! time, all ended at stop.
//!
//! Owns sockets and their patience. Must not know what a request says.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tinyfaas_model::Moment;
use tinyfaas_tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};

use crate::manager::Manager;

use super::guard::{Hosts, Reached};
use super::{Api, Surroundings};

/// How long accepting pauses when the system refuses: it is out of files, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often that is told while it lasts.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);

/// One socket at which management is reached.
#[derive(Debug)]
pub struct Entrance {
    /// Where connections come in.
    pub listener: TcpListener,
    /// TLS, where it is spoken there; it should offer `http/1.1` (ALPN).
    pub tls: Option<Acceptor>,
}

/// How many connections there may be: those with TLS have places of their own, where
/// there are both, so that strangers who begin handshakes and end none keep nobody out
/// on this machine itself.
struct Places {
    plain: Arc<Semaphore>,
    tls: Arc<Semaphore>,
}

impl Places {
    fn shared_out(all: usize, entrances: &[Entrance]) -> Self {
        let with_tls = entrances.iter().filter(|entrance| entrance.tls.is_some()).count();
        let both = with_tls > 0 && with_tls < entrances.len();
        let each = if both { (all / 2).max(1) } else { all };
        Self { plain: Arc::new(Semaphore::new(each)), tls: Arc::new(Semaphore::new(each)) }
    }

    fn of(&self, entrance: &Entrance) -> &Arc<Semaphore> {
        if entrance.tls.is_some() { &self.tls } else { &self.plain }
    }
}

/// Learns that the server stops.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Waits for it.
    pub(super) async fn stopped(&mut self) {
        // A sender that is gone means the same.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}

/// Serves the management API at these entrances until `shutdown` is done. Then
/// deploys under way are given up, requests that are being answered get a little
/// time, and all connections are closed when this returns.
pub async fn serve(
    entrances: Vec<Entrance>,
    manager: Arc<Manager>,
    surroundings: Surroundings,
    shutdown: impl Future<Output = ()>,
) {
    let hosts = Hosts::new(&manager.config().allowed_hosts);
    let places = Places::shared_out(manager.config().connections_max, &entrances);
    let started = Moment { wall: SystemTime::now(), steady: Instant::now() };
    let api = Arc::new(Api { manager: Arc::clone(&manager), surroundings, hosts, started });
    let stop = watch::Sender::new(false);
    for entrance in entrances {
        let places = Arc::clone(places.of(&entrance));
        tokio::spawn(accept(entrance, Arc::clone(&api), places, Stop(stop.subscribe())));
    }
    shutdown.await;
    manager.stop_deploys();
    stop.send_replace(true);
    stop.closed().await;
}

async fn accept(entrance: Entrance, api: Arc<Api>, places: Arc<Semaphore>, mut stop: Stop) {
    let Entrance { listener, tls } = entrance;
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.stopped() => return,
            accepted = accept_one(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (api, stop) = (Arc::clone(&api), stop.clone());
                tokio::spawn(welcome(stream, tls.clone(), api, place, stop));
            }
            Err(error) => {
                if told.is_none_or(|at| at.elapsed() > ACCEPT_TOLD_EVERY) {
                    tracing::warn!(%error, "management's connections wait, none can be accepted");
                    told = Some(Instant::now());
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepts only when there is a place.
async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Serves a connection, after its handshake where there is TLS.
async fn welcome(
    stream: TcpStream,
    tls: Option<Acceptor>,
    api: Arc<Api>,
    place: OwnedSemaphorePermit,
    mut stop: Stop,
) {
    let Ok(reached) = stream.local_addr() else { return };
    let reached = Reached { port: reached.port(), tls: tls.is_some() };
    let stream = Patient::new(stream, api.manager.config().idle_timeout);
    match tls {
        None => serve_connection(stream, reached, api, stop).await,
        Some(tls) => {
            // Else what comes after the handshake may wait for its acknowledgement.
            let _ = stream.stream.set_nodelay(true);
            let done = tokio::select! {
                () = stop.stopped() => return,
                done = tls.accept(stream) => done,
            };
            match done {
                Ok(stream) => serve_connection(stream, reached, api, stop).await,
                // The client was told; that it failed is mostly its own affair.
                Err(error) => tracing::debug!("no TLS with a client of management: {error}"),
            }
        }
    }
    drop(place);
}

async fn serve_connection<S>(stream: S, reached: Reached, api: Arc<Api>, mut stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = api.manager.config();
    let (header_timeout, stop_grace) = (config.header_timeout, config.stop_grace);
    let told = stop.clone();
    let service = service_fn(move |request| {
        let (api, told) = (Arc::clone(&api), told.clone());
        async move { Ok::<_, Infallible>(api.answer(reached, request, told).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // How a connection ends is its client's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = timeout(stop_grace, connection).await;
        }
    }
}

/// A stream that fails when its peer takes nothing for too long.
struct Patient {
    stream: TcpStream,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        Self { stream, write_timeout, stalled: None }
    }

    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let limit = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
