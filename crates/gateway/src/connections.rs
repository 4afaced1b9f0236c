//! Connections that carry HTTP/1.1 or HTTP/2, over TLS or not, whatever is asked over
//! them.
//!
//! Owns accepting, the bounds and the patience of a connection, and its end. Must
//! not know what a request asks for; who serves an endpoint answers them.

mod head_copy;
pub(crate) mod parts;
mod refusal;
mod socket;
pub(crate) mod stall;
pub(crate) mod watch;
mod wire;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::header::CONTENT_LENGTH;
use ::http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use bytes::Bytes;
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tinyfaas_model::CallId;
use tinyfaas_tls::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use self::refusal::HeadLimits;
use self::socket::Socket;
use self::stall::Streams;
use self::watch::{Activity, CallMark, Connections, Entry, Watched};
use self::wire::Wire;
use crate::client::Shown;
use crate::config::GatewayConfig;

/// Tells the caller, and the function, which call this is.
pub(crate) const CALL_ID: HeaderName = HeaderName::from_static("x-tinyfaas-call-id");

/// hyper takes no smaller buffer.
const H1_BUFFER_BYTES_MIN: usize = 8 << 10;

/// How often it is told, while it lasts, that the system lets no connection in.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long connections that were cut off may take to be gone.
pub(crate) const CUT_OFF_GRACE: Duration = Duration::from_millis(250);

/// What all endpoints share through which such connections come.
pub(crate) struct Door {
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) connections: Arc<Connections>,
    /// Connections that are being told that there are too many.
    refusals: Arc<Semaphore>,
}

impl Door {
    pub(crate) fn new(config: Arc<GatewayConfig>) -> Arc<Self> {
        Arc::new(Self {
            connections: Connections::new(&config),
            refusals: Arc::new(Semaphore::new(config.refusals_max)),
            config,
        })
    }
}

/// Accepts connections until it is aborted, with TLS where `tls` is given; `answer`
/// answers their requests.
pub(crate) async fn accept<A, F, B>(
    door: Arc<Door>,
    listener: TcpListener,
    tls: Option<Acceptor>,
    answer: A,
) where
    A: Fn(Arc<Activity>, CallMark, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let builder = Arc::new(builder(&door.config));
    let mut told: Option<Instant> = None;
    loop {
        let (stream, _): (TcpStream, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            // It went away before it was accepted: nothing is wrong here.
            Err(error) if is_the_callers(&error) => continue,
            Err(error) => {
                if told.is_none_or(|at| at.elapsed() > ACCEPT_TOLD_EVERY) {
                    tracing::warn!("connections wait, none can be accepted: {error}");
                    told = Some(Instant::now());
                }
                sleep(door.config.accept_pause).await;
                continue;
            }
        };
        let entry = match place(&door).await {
            Ok(entry) => entry,
            Err(refusal) => {
                refuse(&door, stream, tls.clone(), refusal);
                continue;
            }
        };
        // Without this a small part of a reply may wait for an acknowledgement;
        // where it cannot be had, replies are slower and nothing else.
        let _ = stream.set_nodelay(true);
        let stream = Wire::new(stream, Arc::clone(&entry.activity));
        let (door, builder, answer) = (Arc::clone(&door), Arc::clone(&builder), answer.clone());
        // A task of its own each: what a handshake needs shall not make those larger
        // that have none.
        match tls.clone() {
            None => tokio::spawn(serve(door, builder, stream, entry, answer)),
            Some(tls) => tokio::spawn(serve_tls(door, builder, tls, stream, entry, answer)),
        };
    }
}

fn is_the_callers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// A place for a connection, or else one among those that are told that there is
/// none; where that many are being told already, whichever comes first. Those
/// behind wait to be accepted.
async fn place(door: &Door) -> Result<Entry, OwnedSemaphorePermit> {
    loop {
        if let Some(entry) = door.connections.enter() {
            return Ok(entry);
        }
        let refusal = Arc::clone(&door.refusals).acquire_owned();
        if let Ok(Ok(refusal)) = timeout(door.config.accept_pause, refusal).await {
            return Err(refusal);
        }
    }
}

/// Tells a connection that there are too many.
fn refuse(door: &Door, stream: TcpStream, tls: Option<Acceptor>, refusal: OwnedSemaphorePermit) {
    door.connections.note_refused();
    let wait = seconds(door.config.retry_after);
    let patience = door.config.linger_timeout;
    tokio::spawn(async move {
        let told = async {
            match tls {
                None => tell(stream, &wait).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => tell(stream, &wait).await,
                    Err(_) => Ok(()),
                },
            }
        };
        // Who does not listen is none the worse for it.
        let _ = timeout(patience, told).await;
        drop(refusal);
    });
}

async fn tell<S>(mut stream: S, wait: &HeaderValue) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let body = "the server has as many connections as it may have; try again later\n";
    let text = format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\ncontent-length: {}\r\n\
         content-type: text/plain; charset=utf-8\r\n{CALL_ID}: {}\r\nconnection: close\r\n\r\n\
         {body}",
        wait.to_str().unwrap_or("1"),
        body.len(),
        CallId::random(),
    );
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    // What was asked is read, lest a reset overtakes the answer.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

fn builder(config: &GatewayConfig) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams { stall_timeout: config.write_stall_timeout });
    builder
        .http1()
        // The sweeper has the timeouts: a timer here costs every request.
        .header_read_timeout(None)
        // A head must fit the buffer, or is answered with 431.
        .max_buf_size((config.header_bytes_max as usize).max(H1_BUFFER_BYTES_MIN));
    // hyper's own number costs nothing, any other an allocation per request.
    if config.header_lines_max != 100 {
        builder.http1().max_headers(config.header_lines_max);
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.h2_streams_max)
        .max_header_list_size(config.header_bytes_max)
        .max_pending_accept_reset_streams(config.h2_pending_resets_max)
        .max_local_error_reset_streams(config.h2_error_resets_max)
        .initial_stream_window_size(config.h2_window_bytes)
        .initial_connection_window_size(config.h2_window_bytes)
        .max_send_buf_size(config.h2_send_bytes_max)
        .keep_alive_interval(config.h2_ping_interval)
        .keep_alive_timeout(config.h2_ping_timeout);
    builder
}

/// The handshake, then as without TLS. It has a time of its own, and ends at once
/// when the server stops.
async fn serve_tls<A, F, B>(
    door: Arc<Door>,
    builder: Arc<auto::Builder<Streams>>,
    tls: Acceptor,
    stream: Wire<TcpStream>,
    entry: Entry,
    answer: A,
) where
    A: Fn(Arc<Activity>, CallMark, Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let activity = &entry.activity;
    let setting_up = activity.setting_up();
    let done = tokio::select! {
        () = activity.told() => return,
        done = tls.accept(stream) => done,
    };
    let stream = match done {
        Ok(stream) => stream,
        // The client was told; that it failed is mostly its own affair.
        Err(error) => {
            tracing::debug!("no TLS with a client: {error}");
            return;
        }
    };
    activity.set_up(stream.client().map(|client| Shown::of(client)));
    drop(setting_up);
    serve(door, builder, stream, entry, answer).await;
}

async fn serve<S, A, F, B>(
    door: Arc<Door>,
    builder: Arc<auto::Builder<Streams>>,
    stream: S,
    entry: Entry,
    answer: A,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Arc<Activity>, CallMark, Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let activity = &entry.activity;
    let io = TokioIo::new(Socket::new(stream, Arc::clone(activity), HeadLimits::of(&door.config)));
    let service = service_fn(|request| {
        let answer = answer(Arc::clone(activity), activity.call(), request);
        async move {
            let mut answer = pin!(answer);
            Ok::<_, Infallible>(poll_fn(|cx| stall::note(answer.as_mut().poll(cx))).await)
        }
    });
    let connection = pin!(builder.serve_connection(io, service));
    // How it ended concerns the caller alone: a broken request was answered, a
    // broken connection cannot be.
    let watched = Watched::new(connection, activity, |connection| connection.graceful_shutdown());
    let _ = stall::with_streams(watched).await;
}

/// Whether the head that was read last, of this request over HTTP/1, told a length:
/// beside a transfer encoding, hyper leaves none to be seen.
pub(crate) fn had_length(method: &Method, uri: &Uri, activity: &Activity) -> bool {
    let target = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let method = method.as_str().as_bytes();
    // A target in absolute form is compared up to the method only.
    let line: &[&[u8]] = match uri.authority() {
        None => &[method, target.as_bytes(), b"HTTP/1."],
        Some(_) => &[method, b""],
    };
    activity.head_has_line(line, &CONTENT_LENGTH)
}

/// Whole seconds, one at least: less would not be waiting.
pub(crate) fn seconds(wait: Duration) -> HeaderValue {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    HeaderValue::from(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_whole_and_never_none() {
        for (millis, expected) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2")] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
    }
}
