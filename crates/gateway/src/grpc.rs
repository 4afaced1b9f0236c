//! gRPC over HTTP/2: requests become calls, replies responses.
//!
//! Owns the way of one request through the files below this one: what it asks for,
//! and who answers. Must not know connections, nor handlers or their backends; what
//! is the same for every protocol is in [`crate::dispatch`].

mod about;
mod call;
mod config;
mod error;
mod health;
mod message;
mod metadata;
mod reply;
mod service;
mod timeout;
mod v1;
mod v2;
mod web;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use ::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use ::http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use futures_util::FutureExt;
use http_body::Body as _;
use hyper::body::Incoming;
use tinyfaas_model::{Body, CallId};
use tinyfaas_tls::Acceptor;
use tokio::net::TcpListener;

pub(crate) use self::about::About;
use self::call::Call;
pub use self::config::GrpcConfig;
use self::error::{CallError, Refused};
use self::reply::ReplyBody;
use self::service::Method as Served;
use crate::asynchronous::AcceptedCalls;
use crate::config::GatewayConfig;
use crate::connections::watch::{Activity, CallMark};
use crate::connections::{self, CALL_ID, Door, had_length};
use crate::dispatch::{Dispatch, now};
use crate::held::HeldBytes;
use crate::timing;

static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// What every gRPC request needs.
pub(crate) struct Grpc {
    pub(crate) config: Arc<GatewayConfig>,
    pub(crate) dispatch: Arc<Dispatch>,
    pub(crate) accepted: Arc<AcceptedCalls>,
    pub(crate) held: Arc<HeldBytes>,
    pub(crate) about: About,
}

/// Accepts connections until it is aborted, with TLS where `tls` is given.
pub(crate) async fn accept(
    grpc: Arc<Grpc>,
    door: Arc<Door>,
    listener: TcpListener,
    tls: Option<Acceptor>,
) {
    let answer = move |activity: Arc<Activity>, mark, request| {
        answer(Arc::clone(&grpc), activity, mark, request)
    };
    connections::accept(door, listener, tls, answer).await;
}

/// What a request is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// gRPC itself.
    Native,
    /// gRPC as browsers speak it, in this content type.
    Web(HeaderValue),
    /// A browser asks whether a page may call.
    Question,
    /// Something else.
    Plain(Plain),
}

/// Why a request is none of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    ContentType,
    Method,
    Version,
    TwoLengths,
    Origin,
}

/// One request, from its head to its response's head.
async fn answer(
    grpc: Arc<Grpc>,
    activity: Arc<Activity>,
    mark: CallMark,
    request: Request<Incoming>,
) -> Response<ReplyBody> {
    let version = request.version();
    let part_bytes_max = match version {
        Version::HTTP_2 => grpc.config.h2_send_bytes_max.max(1),
        _ => usize::MAX,
    };
    let (mut response, call) = match kind(&request, &activity) {
        Kind::Native => native(grpc, &activity, request).await,
        // Boxed: what is rarely asked shall not make each call's task larger.
        Kind::Web(kind) => Box::pin(page(grpc, &activity, request, kind)).await,
        Kind::Question => {
            if !request.body().is_end_stream() {
                activity.set_unread();
            }
            let allowed = web::allow(&grpc.config.grpc, request.headers());
            (allowed.unwrap_or_else(|| in_words(Plain::Origin)), None)
        }
        Kind::Plain(plain) => {
            if !request.body().is_end_stream() {
                activity.set_unread();
            }
            (in_words(plain), None)
        }
    };
    if version < Version::HTTP_2 && activity.has_unread_input() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| ReplyBody::new(body, part_bytes_max, call, mark))
}

async fn native(
    grpc: Arc<Grpc>,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
) -> (Answer, Option<Arc<Call>>) {
    match begin(grpc, activity, &request) {
        Ok((method, call)) => {
            let served = method.serve(Arc::clone(&call), request);
            (whatever_happens(method, &call, served).await, Some(call))
        }
        Err(response) => (*response, None),
    }
}

async fn page(
    grpc: Arc<Grpc>,
    activity: &Arc<Activity>,
    request: Request<Incoming>,
    kind: HeaderValue,
) -> (Answer, Option<Arc<Call>>) {
    let asked = request.headers().clone();
    let (mut response, call) = match begin(Arc::clone(&grpc), activity, &request) {
        Ok((method, call)) => {
            let served = web::serve(method, Arc::clone(&call), request, kind.clone());
            (whatever_happens(method, &call, served).await, Some(call))
        }
        Err(response) => {
            if !request.body().is_end_stream() {
                activity.set_unread();
            }
            (*response, None)
        }
    };
    web::finish(&grpc.config.grpc, &asked, response.headers_mut(), kind);
    (response, call)
}

type Answer = Response<tonic::body::Body>;

/// The call that a request is, and of which method.
fn begin(
    grpc: Arc<Grpc>,
    activity: &Arc<Activity>,
    request: &Request<Incoming>,
) -> Result<(Served, Arc<Call>), Box<Answer>> {
    let arrived = now();
    let refuse = |refused: Refused| {
        let status = CallError::from(refused).status(grpc.config.retry_after);
        Box::new(status.into_http())
    };
    let method = Served::find(request.uri().path()).map_err(refuse)?;
    let (lines, limit) = (request.headers().len(), grpc.config.header_lines_max);
    if lines > limit {
        return Err(refuse(Refused::TooManyHeaders { lines, limit }));
    }
    let timeout = match request.headers().get(&TIMEOUT) {
        None => None,
        Some(value) => Some(timeout::parse(value.as_bytes()).ok_or_else(|| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            refuse(Refused::BadTimeout { value })
        })?),
    };
    let call = Call {
        activity: Arc::clone(activity),
        id: CallId::random(),
        arrived,
        timeout,
        held: grpc.held.share(),
        times: OnceLock::new(),
        broke: OnceLock::new(),
        grpc,
    };
    Ok((method, Arc::new(call)))
}

fn kind(request: &Request<Incoming>, activity: &Activity) -> Kind {
    let h1 = request.version() < Version::HTTP_2;
    let kind = match media_type(request.headers()) {
        Some(kind) if is_grpc(kind) => Kind::Native,
        _ => match web::kind(request.headers()) {
            Some(kind) => Kind::Web(kind),
            None if web::is_question(request) => return Kind::Question,
            None => return Kind::Plain(Plain::ContentType),
        },
    };
    if request.method() != Method::POST {
        Kind::Plain(Plain::Method)
    } else if h1 && kind == Kind::Native {
        Kind::Plain(Plain::Version)
    } else if h1
        && request.headers().contains_key(TRANSFER_ENCODING)
        && had_length(request.method(), request.uri(), activity)
    {
        Kind::Plain(Plain::TwoLengths)
    } else {
        kind
    }
}

/// The content type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<&[u8]> {
    let kind = headers.get(CONTENT_TYPE)?.as_bytes();
    Some(kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
}

/// Whether messages of this type are served here.
fn is_grpc(kind: &[u8]) -> bool {
    let served = [&b"application/grpc"[..], b"application/grpc+proto"];
    served.iter().any(|served| kind.eq_ignore_ascii_case(served))
}

/// An answer for a person, or a program, that does not speak gRPC.
fn in_words(plain: Plain) -> Answer {
    let (status, words) = match plain {
        Plain::ContentType => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "gRPC is spoken here: POST over HTTP/2 with the content type application/grpc; \
             functions are called over plain HTTP on another port\n",
        ),
        Plain::Method => (StatusCode::METHOD_NOT_ALLOWED, "gRPC knows the method POST only\n"),
        Plain::Version => (
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "gRPC is spoken over HTTP/2, which the client must use from the start (prior \
             knowledge)\n",
        ),
        Plain::TwoLengths => (
            StatusCode::BAD_REQUEST,
            "the request has both Transfer-Encoding and Content-Length; send one of them \
             (RFC 9112, section 6.1)\n",
        ),
        Plain::Origin => (
            StatusCode::FORBIDDEN,
            "no page of that origin may call functions; whoever runs this server can allow it \
             (TF_GRPC_WEB_ORIGINS)\n",
        ),
    };
    let mut response = Response::new(tonic::body::Body::new(Body::from_bytes(words)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if plain == Plain::Method {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The answer to a call, should it panic too.
async fn whatever_happens(
    method: Served,
    call: &Call,
    served: impl Future<Output = Answer>,
) -> Answer {
    let answered = AssertUnwindSafe(served).catch_unwind().await;
    let mut response =
        answered.unwrap_or_else(|_| call.status(&Refused::Panicked.into()).into_http());
    if !method.is_call() {
        return response;
    }
    let headers = response.headers_mut();
    let id = HeaderValue::from_str(call.id.to_hex().as_str());
    headers.insert(CALL_ID, id.expect("hexadecimal digits are valid"));
    if let Some(times) = call.times.get() {
        headers.insert(&timing::SERVER_TIMING, timing::header(*times));
    }
    response
}
