//! How calls end before their function does: deadlines, cancelling, a busy server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_grpc::v2::GetResultRequest;
use tinyfaas_model::{CallOutcome, Handler, InvokeError, Reply};
use tokio::sync::Notify;
use tonic::body::Body;
use tonic::{Code, Request};

use crate::support::{Channel, Function, Server, data, echo, handler, until};
use crate::v2::head;

/// A function that never ends, and tells when it is called.
fn never() -> (Arc<dyn Handler>, Arc<Notify>) {
    let called = Arc::new(Notify::new());
    let told = Arc::clone(&called);
    let never = handler(move |_, place| {
        told.notify_one();
        async move {
            let _place = place;
            std::future::pending().await
        }
    });
    (never, called)
}

#[tokio::test]
async fn the_callers_deadline_is_kept_and_handed_on() {
    let server = Server::with(handler(|call, place| async move {
        let left = call.deadline.saturating_duration_since(std::time::Instant::now());
        assert!(left <= Duration::from_millis(100), "{left:?}");
        let _place = place;
        std::future::pending().await
    }))
    .await;
    let mut request = Request::new(data("x"));
    request.metadata_mut().insert("grpc-timeout", "100m".parse().unwrap());
    let status = server.v1().await.request(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("100ms"), "{status}");
    assert_eq!(server.counters().calls.count(CallOutcome::DeadlineExceeded), 1);
}

#[tokio::test(start_paused = true)]
async fn a_function_may_have_less_time_than_its_caller() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let deadline = Duration::from_secs(2);
    server.deploy(Function { deadline, ..Function::default() }, never().0);
    let mut request = Request::new(head(b""));
    request.metadata_mut().insert("grpc-timeout", "9S".parse().unwrap());
    let status = server.v2().await.invoke(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("2s"), "{status}");
}

#[tokio::test]
async fn a_timeout_that_is_none_is_told_and_one_of_nothing_is_over() {
    let server = Server::with(echo()).await;
    for (timeout, code) in [
        ("soon", Code::InvalidArgument),
        ("123456789S", Code::InvalidArgument),
        ("0n", Code::DeadlineExceeded),
    ] {
        let mut request = Request::new(data("x"));
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let status = server.v1().await.request(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{timeout}: {status}");
    }
}

#[tokio::test]
async fn waiting_for_a_result_ends_with_the_callers_deadline() {
    let server = Server::with(never().0).await;
    let mut client = server.v2().await;
    let call_id = client.invoke_async(head(b"")).await.unwrap().into_inner().call_id;
    let wait = Some(prost_types::Duration { seconds: 30, nanos: 0 });
    let mut request = Request::new(GetResultRequest { call_id, wait });
    request.metadata_mut().insert("grpc-timeout", "50m".parse().unwrap());
    let status = client.get_result(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_its_call() {
    let (never, called) = never();
    let mut server = Server::start(GatewayConfig::default()).await;
    let handlers = server.deploy(Function::default(), never);
    let mut client = server.v1().await;
    let asked = tokio::spawn(async move { client.request(data("x")).await });
    called.notified().await;
    assert_eq!(handlers.load().0, 1);
    asked.abort();
    until(|| handlers.load().0 == 0).await;
    let counters = server.counters();
    until(|| counters.calls.count(CallOutcome::Cancelled) == 1).await;
}

#[tokio::test]
async fn a_full_function_says_when_to_try_again() {
    let (never, called) = never();
    let mut server = Server::start(GatewayConfig::default()).await;
    server.deploy(Function { places: 1, waiting_max: 0, ..Function::default() }, never);
    let mut client = server.v1().await;
    let mut other = client.clone();
    let first = tokio::spawn(async move { client.request(data("x")).await });
    called.notified().await;
    let status = other.request(data("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert_eq!(status.metadata().get("grpc-retry-pushback-ms").unwrap(), "1000");
    first.abort();
}

#[tokio::test]
async fn bodies_have_no_more_room_than_there_is() {
    let config = GatewayConfig { held_bytes_max: 100_000, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    let mut client = server.v1().await;
    let status = client.request(data(vec![b'x'; 200_000])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("as much memory as they may"), "{status}");
    // The input fits and the reply beside it does not.
    let status = client.request(data(vec![b'x'; 60_000])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(client.request(data(vec![b'x'; 40_000])).await.is_ok());
    let gateway = server.gateway.status();
    until(|| gateway.load().held_bytes.taken == 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_may_end_when_the_server_stops() {
    let called = Arc::new(Notify::new());
    let told = Arc::clone(&called);
    let server = Server::with(handler(move |call, _| {
        told.notify_one();
        async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok(Reply { body: call.body, ..Reply::from_bytes("") })
        }
    }))
    .await;
    let mut client = server.v1().await;
    let mut later = client.clone();
    let asked = tokio::spawn(async move { client.request(data("kept")).await });
    called.notified().await;
    let ((), reply) = tokio::join!(server.gateway.shutdown(Duration::from_secs(10)), asked);
    assert_eq!(reply.unwrap().unwrap().into_inner().response, "kept");
    assert!(later.request(data("x")).await.is_err());
}

#[tokio::test]
async fn a_stopping_function_has_run_nothing() {
    let server =
        Server::with(crate::support::answers(|| crate::support::failed(InvokeError::Stopping)))
            .await;
    let status = server.v1().await.request(data("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

/// A byte resets no clock but that of a stall.
#[tokio::test(start_paused = true)]
async fn a_message_that_trickles_has_an_end() {
    let server = Server::with(echo()).await;
    let Channel(mut sender) = server.connect().await;
    let prefix = Bytes::from_static(&[0, 0, 0, 4, 0]);
    let trickle = futures_util::stream::unfold(prefix, |next| async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(next)), Bytes::from_static(b"x")))
    });
    let path = "openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request";
    let request = http::Request::post(format!("{}{path}", server.origin()))
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(trickle)))
        .unwrap();
    let began = tokio::time::Instant::now();
    let response = sender.send_request(request).await.unwrap();
    let took = began.elapsed();
    assert_eq!(response.headers()["grpc-status"], "4", "{response:?}");
    assert!((299..=321).contains(&took.as_secs()), "{took:?}");
}
