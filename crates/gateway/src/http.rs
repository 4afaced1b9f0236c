//! HTTP/1.1 and HTTP/2 on one port: requests become calls, replies responses.
//!
//! Owns the way of one request through the files below this one. Must not know
//! connections, nor handlers or their backends; what is the same for every protocol
//! is in [`crate::dispatch`].

mod accepted;
mod body;
mod challenge;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod reply;
mod request;

use std::sync::{Arc, OnceLock};

use ::http::header::LOCATION;
use ::http::request::Parts;
use ::http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tinyfaas_model::{
    Body, BodyError, CallId, CallOutcome, CallTarget, FunctionName, Invocation, InvokeError,
};
use tinyfaas_tls::{Acceptor, Tls};
use tokio::net::TcpListener;

use self::body::RequestBody;
use self::error::{CallError, Manner, Refused};
use self::reply::{Deadline, Ending, ReplyBody};
use self::request::Seen;
use crate::asynchronous::AcceptedCalls;
use crate::config::GatewayConfig;
use crate::connections::watch::{Activity, CallMark};
use crate::connections::{self, CALL_ID, Door};
use crate::dispatch::{Dispatch, deadline, now};
use crate::held::HeldBytes;
use crate::tally::Tally;
use crate::timing;

/// What every HTTP request needs.
pub(crate) struct Http {
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) accepted: Arc<AcceptedCalls>,
    pub(crate) held: Arc<HeldBytes>,
    /// Who proves to an ACME server that names are this server's, if anybody.
    pub(crate) names: OnceLock<Arc<Tls>>,
}

/// Accepts connections until it is aborted, with TLS where `tls` is given.
pub(crate) async fn accept(
    http: Arc<Http>,
    door: Arc<Door>,
    listener: TcpListener,
    tls: Option<Acceptor>,
) {
    let answer = move |activity: Arc<Activity>, call, request| {
        let http = Arc::clone(&http);
        async move { answer(&http, &activity, call, request).await }
    };
    connections::accept(door, listener, tls, answer).await;
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
            if let Some(told) = challenge::answer(http, name, &parts.method, &target) {
                return Ok(told);
            }
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
    let held = http.held.share();
    if !incoming.is_end_stream() {
        let body = RequestBody::new(incoming, &http.config, invocation.deadline, activity)
            .map_err(InvokeError::Request)?;
        invocation.body = body.read_held(&held, http.config.retry_after).await?;
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
