//! HTTP/1.1 and HTTP/2 on one port: requests become calls, replies responses.
//!
//! Owns accepting, the life of a connection, and the way of one request through
//! the files below this one. Must not know handlers or their backends; what is
//! the same for every protocol is in [`crate::dispatch`].

mod accepted;
mod body;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod head_copy;
mod hop;
mod refusal;
mod reply;
mod request;
mod socket;
mod stall;
mod timing;
pub(crate) mod watch;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::http::header::LOCATION;
use ::http::request::Parts;
use ::http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tinyfaas_model::{
    Body, BodyError, CallId, CallOutcome, CallTarget, FunctionName, Invocation, InvokeError,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use self::body::RequestBody;
use self::error::{CallError, Manner, Refused};
use self::refusal::HeadLimits;
use self::reply::{Deadline, Ending, ReplyBody};
use self::request::{CALL_ID, Seen};
use self::socket::Socket;
use self::stall::Streams;
use self::watch::{Activity, CallMark, Connections, Entry, Watched};
use crate::asynchronous::AcceptedCalls;
use crate::config::GatewayConfig;
use crate::dispatch::{Dispatch, deadline, now};
use crate::held::HeldBytes;
use crate::tally::Tally;

/// hyper takes no smaller buffer.
const H1_BUFFER_BYTES_MIN: usize = 8 << 10;

/// How often it is told, while it lasts, that the system lets no connection in.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(60);

/// How long connections that were cut off may take to be gone.
pub(crate) const CUT_OFF_GRACE: Duration = Duration::from_millis(250);

/// What every HTTP connection needs.
pub(crate) struct Http {
    pub(crate) config: GatewayConfig,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) accepted: Arc<AcceptedCalls>,
    pub(crate) held: Arc<HeldBytes>,
    pub(crate) connections: Arc<Connections>,
    /// Connections that are being told that there are too many.
    pub(crate) refusals: Arc<Semaphore>,
}

/// Accepts connections until it is aborted.
pub(crate) async fn accept(http: Arc<Http>, listener: TcpListener) {
    let builder = Arc::new(builder(&http.config));
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
                sleep(http.config.accept_pause).await;
                continue;
            }
        };
        let entry = match place(&http).await {
            Ok(entry) => entry,
            Err(refusal) => {
                refuse(&http, stream, refusal);
                continue;
            }
        };
        // Without this a small part of a reply may wait for an acknowledgement;
        // where it cannot be had, replies are slower and nothing else.
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(Arc::clone(&http), Arc::clone(&builder), stream, entry));
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
async fn place(http: &Http) -> Result<Entry, OwnedSemaphorePermit> {
    loop {
        if let Some(entry) = http.connections.enter() {
            return Ok(entry);
        }
        let refusal = Arc::clone(&http.refusals).acquire_owned();
        if let Ok(Ok(refusal)) = timeout(http.config.accept_pause, refusal).await {
            return Err(refusal);
        }
    }
}

/// Tells a connection that there are too many.
fn refuse(http: &Http, mut stream: TcpStream, refusal: OwnedSemaphorePermit) {
    http.connections.note_refused();
    let wait = error::seconds(http.config.retry_after);
    let patience = http.config.linger_timeout;
    tokio::spawn(async move {
        let body = "the server has as many connections as it may have; try again later\n";
        let text = format!(
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\ncontent-length: {}\r\n\
             content-type: text/plain; charset=utf-8\r\n{CALL_ID}: {}\r\nconnection: close\r\n\r\n\
             {body}",
            wait.to_str().unwrap_or("1"),
            body.len(),
            CallId::random(),
        );
        let told = async {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await?;
            // What was asked is read, lest a reset overtakes the answer.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        };
        // Who does not listen is none the worse for it.
        let _ = timeout(patience, told).await;
        drop(refusal);
    });
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

async fn serve(
    http: Arc<Http>,
    builder: Arc<auto::Builder<Streams>>,
    stream: TcpStream,
    entry: Entry,
) {
    let activity = &entry.activity;
    let io = TokioIo::new(Socket::new(stream, Arc::clone(activity), HeadLimits::of(&http.config)));
    let service = service_fn(|request| {
        let call = activity.call();
        let (http, activity) = (Arc::clone(&http), Arc::clone(activity));
        async move {
            let mut answer = pin!(answer(&http, &activity, call, request));
            Ok::<_, Infallible>(poll_fn(|cx| stall::note(answer.as_mut().poll(cx))).await)
        }
    });
    let connection = pin!(builder.serve_connection(io, service));
    // How it ended concerns the caller alone: a broken request was answered, a
    // broken connection cannot be.
    let _ = Watched::new(connection, activity, |connection| connection.graceful_shutdown()).await;
}

/// What is told of a request with its response.
struct Course {
    id: CallId,
    /// The call that it is, once its function is found; who ends it takes it.
    tally: Option<Tally>,
    /// The function's reply is an error.
    failed: bool,
}

impl Course {
    /// Ends the call where its response is whole, and leaves the end to a reply
    /// that streams. Its times, for its caller.
    fn end(
        &mut self,
        answered: Result<&Body, &CallError>,
    ) -> (Option<HeaderValue>, Option<Ending>) {
        let Some(tally) = self.tally.take() else { return (None, None) };
        let now = now();
        let timing = tally.times(now).map(timing::header);
        let outcome = match answered {
            Ok(_) => CallOutcome::of_reply(self.failed),
            Err(error) => error.outcome(),
        };
        if matches!(answered, Ok(Body::Stream(_))) {
            return (timing, Some(Ending { tally, outcome }));
        }
        tally.end(outcome, now);
        (timing, None)
    }
}

/// One request, from its head to its response's head.
async fn answer(
    http: &Http,
    activity: &Arc<Activity>,
    call: CallMark,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let mut course = Course { id: CallId::random(), tally: None, failed: false };
    let part_bytes_max = match request.version() {
        Version::HTTP_2 => http.config.h2_send_bytes_max.max(1),
        _ => usize::MAX,
    };
    let seen = request::look(request.headers());
    let manner = Manner::of(request.version(), request.headers(), seen.accept);
    let (parts, incoming) = request.into_parts();
    let read_whole = is_small(&incoming, http);
    let mut body = Some(incoming);
    let answered = respond(http, activity, &mut course, &seen, parts, &mut body).await;
    let (timing, ending) = course.end(answered.as_ref().map(Response::body));
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => {
            // Whoever took the body has read it whole, if it was small. One that
            // nobody took is not asked for only to be thrown away.
            let read = match body {
                Some(left) if left.is_end_stream() => true,
                Some(_) if error.closes() || seen.expect => false,
                Some(left) => discard(left, http, activity).await,
                None => read_whole,
            };
            if !read {
                activity.set_unread();
            }
            error::respond(&error, manner, read, http.config.retry_after)
        }
    };
    let told = course.id.to_hex();
    let told = HeaderValue::from_str(told.as_str()).expect("hexadecimal digits are valid");
    response.headers_mut().insert(CALL_ID, told);
    if let Some(timing) = timing {
        // Beside what the function has to say of itself.
        response.headers_mut().append(&timing::SERVER_TIMING, timing);
    }
    response.map(|body| ReplyBody::new(body, part_bytes_max, call, ending))
}

async fn respond(
    http: &Http,
    activity: &Arc<Activity>,
    course: &mut Course,
    seen: &Seen,
    mut parts: Parts,
    body: &mut Option<Incoming>,
) -> Result<Response<Body>, CallError> {
    let arrived = now();
    request::check(&mut parts, seen, http.config.header_lines_max, activity)?;
    let Some(whole) = parts.uri.path_and_query() else { return Err(Refused::NoName.into()) };
    if whole == "*" && parts.method == Method::OPTIONS {
        return Ok(status_only(StatusCode::NO_CONTENT));
    }
    let (name, target) = CallTarget::split(whole);
    let route = match http.dispatch.find(name) {
        Ok(route) => route,
        Err(_) if name == accepted::ROOM => {
            if body.as_ref().is_some_and(|left| !left.is_end_stream()) {
                activity.set_unread();
            }
            // Boxed: what is rarely asked shall not make each call's task larger.
            let ask = accepted::answer(http, &mut course.id, &parts.method, &target);
            return Box::pin(ask).await;
        }
        Err(error) => {
            if !name.is_empty() {
                http.dispatch.note_unknown();
            }
            return Err(no_such_function(name, error));
        }
    };
    let incoming = body.take().expect("nobody has taken it before");
    let after = route.function.limits.call_deadline;
    let tally = course.tally.insert(Tally::new(route, arrived));
    let at = deadline(arrived, after);
    let head_only = parts.method == Method::HEAD;
    let mut invocation = Invocation {
        id: course.id,
        method: parts.method,
        target,
        headers: parts.headers,
        body: Body::Empty,
        deadline: at,
    };
    if seen.later {
        return accept_later(http, activity, &mut course.tally, invocation, incoming).await;
    }
    if !incoming.is_end_stream() {
        let body =
            RequestBody::new(incoming, &http.config, at, activity).map_err(InvokeError::Request)?;
        invocation.body = receive(body, http).await.map_err(InvokeError::Request)?;
        // A slow sender has not been waiting for the function.
        tally.queued(now());
    }
    let reply = http.dispatch.run(tally, invocation).await?;
    course.failed = reply.failed;
    Ok(reply::respond(reply, head_only, Deadline { at, after }).await?)
}

/// Reads the body of an asynchronous call, and leaves the call to be run.
async fn accept_later(
    http: &Http,
    activity: &Arc<Activity>,
    tally: &mut Option<Tally>,
    mut invocation: Invocation,
    incoming: Incoming,
) -> Result<Response<Body>, CallError> {
    let mut held = http.held.share();
    if !incoming.is_end_stream() {
        let body = RequestBody::new(incoming, &http.config, invocation.deadline, activity)
            .map_err(InvokeError::Request)?;
        invocation.body = body.read_held(&mut held, http.config.retry_after).await?;
    }
    let id = invocation.id;
    let tally = tally.take().expect("the call is this request's, and has not ended");
    http.accepted.accept(tally, invocation, held)?;
    let mut response = status_only(StatusCode::ACCEPTED);
    response.headers_mut().insert(LOCATION, accepted::location(id));
    Ok(response)
}

fn is_small(incoming: &Incoming, http: &Http) -> bool {
    let length = incoming.size_hint().exact();
    length.is_some_and(|bytes| bytes <= http.config.whole_body_bytes_max as u64)
}

/// Reads a small body that nobody wants, so that its connection can be used
/// again. False where it is not small, or does not come whole.
async fn discard(incoming: Incoming, http: &Http, activity: &Arc<Activity>) -> bool {
    if !is_small(&incoming, http) {
        return false;
    }
    let patience = deadline(now(), http.config.body_idle_timeout);
    match RequestBody::new(incoming, &http.config, patience, activity) {
        Ok(body) => body.discard().await.is_ok(),
        Err(_) => false,
    }
}

/// Reads a small body whole, so that a slow sender takes no place; lets a large
/// one, or one of unknown length, come as it is read.
async fn receive(body: RequestBody, http: &Http) -> Result<Body, BodyError> {
    match body.length() {
        Some(bytes) if bytes <= http.config.whole_body_bytes_max as u64 => {
            body.read_small(http.held.share()).await
        }
        _ => Ok(Body::Stream(Box::pin(body))),
    }
}

fn no_such_function(name: &str, error: InvokeError) -> CallError {
    match FunctionName::parse(name) {
        _ if name.is_empty() => Refused::NoName.into(),
        Err(problem) => Refused::BadName(problem).into(),
        Ok(_) => error.into(),
    }
}

fn status_only(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}
