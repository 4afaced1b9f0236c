//! gRPC over HTTP/2: requests become calls, replies responses.
//!
//! Owns the way of one request through the files below this one: what it asks for,
//! and who answers. Must not know connections, nor handlers or their backends; what
//! is the same for every protocol is in [`crate::dispatch`].

mod about;
mod call;
mod config;
mod error;
mod message;
mod metadata;
mod reply;
mod service;
mod timeout;
mod v1;
mod v2;

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use ::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue};
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
use crate::connections::{self, CALL_ID, Door};
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

/// Why a request is none of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    ContentType,
    Method,
    Version,
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
    if let Some(plain) = plain(&request) {
        if !request.body().is_end_stream() {
            activity.set_unread();
        }
        let response = in_words(plain, version);
        return response.map(|body| ReplyBody::new(body, part_bytes_max, None, mark));
    }
    let (response, call) = match begin(grpc, activity, &request) {
        Ok((method, call)) => (method.answer(Arc::clone(&call), request).await, Some(call)),
        Err(response) => (*response, None),
    };
    response.map(|body| ReplyBody::new(body, part_bytes_max, call, mark))
}

type Answer = Response<tonic::body::Body>;

/// The call that a request is, and of which method.
fn begin(
    grpc: Arc<Grpc>,
    activity: Arc<Activity>,
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
        activity,
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

/// Why this request is none of gRPC, where it is none.
fn plain<B>(request: &Request<B>) -> Option<Plain> {
    if !is_grpc(request.headers()) {
        Some(Plain::ContentType)
    } else if request.method() != Method::POST {
        Some(Plain::Method)
    } else if request.version() != Version::HTTP_2 {
        Some(Plain::Version)
    } else {
        None
    }
}

/// Whether the request's content type is that of messages as they are served here.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    let kind = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let kind = kind.trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|served| kind.eq_ignore_ascii_case(served))
}

/// An answer for a person, or a program, that does not speak gRPC.
fn in_words(plain: Plain, version: Version) -> Answer {
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
    };
    let mut response = Response::new(tonic::body::Body::new(Body::from_bytes(words)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if plain == Plain::Method {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    if version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Served {
    /// Answers a call, whatever happens in it.
    async fn answer(self, call: Arc<Call>, request: Request<Incoming>) -> Answer {
        let served = AssertUnwindSafe(self.serve(Arc::clone(&call), request)).catch_unwind().await;
        let mut response =
            served.unwrap_or_else(|_| call.status(&Refused::Panicked.into()).into_http());
        if !self.is_call() {
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
}
