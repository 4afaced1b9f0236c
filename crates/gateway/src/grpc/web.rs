//! grpc-web: what browsers can speak, over HTTP/1.1 too
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>).
//!
//! Owns which pages may call (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//! The translation is tonic's. Must not know what is called.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use ::http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower_layer::Layer;
use tower_service::Service;

use super::Answer;
use super::call::Call;
use super::config::GrpcConfig;
use super::service::Method as Served;

/// What a page may see of a response beside its body.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "grpc-status, grpc-message, grpc-status-details-bin, grpc-retry-pushback-ms, \
     x-tinyfaas-call-id, server-timing",
);

/// How long a browser may remember that a page may call, in seconds: as long as any
/// browser does.
const REMEMBERED_S: HeaderValue = HeaderValue::from_static("7200");

/// The content type of grpc-web that these headers tell, as it is answered.
pub(super) fn kind(headers: &HeaderMap) -> Option<HeaderValue> {
    const KINDS: [&str; 4] = [
        "application/grpc-web+proto",
        "application/grpc-web",
        "application/grpc-web-text+proto",
        "application/grpc-web-text",
    ];
    let told = super::media_type(headers)?;
    let kind = KINDS.into_iter().find(|kind| told.eq_ignore_ascii_case(kind.as_bytes()))?;
    Some(HeaderValue::from_static(kind))
}

/// Whether a browser asks if a page may call.
pub(super) fn is_question<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers it; None where the page may not.
pub(super) fn allow(config: &GrpcConfig, headers: &HeaderMap) -> Option<Answer> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let told = response.headers_mut();
    if !allow_origin(config, headers, told) {
        return None;
    }
    told.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        told.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    told.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED_S);
    Some(response)
}

/// Tells the browser that the page may have the response, where it may.
pub(super) fn allow_origin(config: &GrpcConfig, headers: &HeaderMap, told: &mut HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let is = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
    if !config.web_origins.iter().any(is) {
        return false;
    }
    told.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    told.append(VARY, HeaderValue::from_static("origin"));
    true
}

/// Hands a call of a page to who answers it, translated.
pub(super) async fn serve(
    method: Served,
    call: Arc<Call>,
    mut request: Request<Incoming>,
    kind: HeaderValue,
) -> Answer {
    // As it is compared: without parameters, in lower case.
    request.headers_mut().insert(CONTENT_TYPE, kind);
    let mut service = GrpcWebLayer::new().layer(Native { method, call });
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// What every response to a page has, one that is an error too.
pub(super) fn finish(
    config: &GrpcConfig,
    asked: &HeaderMap,
    told: &mut HeaderMap,
    kind: HeaderValue,
) {
    // Where the call failed before it came to be, nobody has translated it.
    if told.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/grpc") {
        told.insert(CONTENT_TYPE, kind);
    }
    if allow_origin(config, asked, told) {
        told.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// A method, once a request is translated.
struct Native {
    method: Served,
    call: Arc<Call>,
}

impl Service<Request<Body>> for Native {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (method, call) = (self.method, Arc::clone(&self.call));
        Box::pin(async move { Ok(method.serve(call, request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &[&str], origin: Option<&'static str>, expected: Option<&str>) {
        let web_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        let config = GrpcConfig { web_origins, ..GrpcConfig::default() };
        let mut headers = HeaderMap::new();
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        let told = allow(&config, &headers);
        let told = told.as_ref().and_then(|told| told.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(told.map(HeaderValue::as_bytes), expected.map(str::as_bytes), "{origins:?}");
    }

    #[test]
    fn only_pages_of_known_origins_may_call() {
        let origin = "https://app.example";
        check(&[], Some(origin), None);
        check(&[origin], Some(origin), Some(origin));
        check(&[origin], None, None);
        check(&["http://localhost:3000", origin], Some(origin), Some(origin));
        check(&[origin], Some("https://app.example.evil"), None);
        check(&[origin], Some("http://app.example"), None);
        check(&["*"], Some(origin), Some(origin));
    }
}
