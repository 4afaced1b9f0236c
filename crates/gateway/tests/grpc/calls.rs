//! Version 1: a call and what comes of it.

use std::time::Duration;

use http::StatusCode;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_grpc::v1::Data;
use tinyfaas_grpc::v2::InvokeRequest;
use tinyfaas_model::{CallOutcome, InvokeError, Reply};
use tonic::{Code, Request};

use crate::support::{Function, Server, answers, data, echo, failed, mirror};

#[tokio::test]
async fn a_call_returns_the_reply_and_its_id() {
    let server = Server::with(echo()).await;
    let mut client = server.v1().await;
    for input in ["hello", "", "ä\n\0"] {
        let reply = client.request(data(input)).await.unwrap();
        assert_eq!(reply.metadata().get("x-tinyfaas-call-id").unwrap().len(), 32);
        assert!(reply.metadata().contains_key("server-timing"), "{reply:?}");
        assert_eq!(reply.into_inner().response, input);
    }
    assert_eq!(server.counters().calls.count(CallOutcome::Succeeded), 3);
}

#[tokio::test]
async fn metadata_become_headers() {
    let server = Server::with(mirror()).await;
    let mut request = Request::new(data("in"));
    let metadata = request.metadata_mut();
    metadata.append("lab", "one".parse().unwrap());
    metadata.append("lab", "two".parse().unwrap());
    metadata.insert("x-tinyfaas-call-id", "forged".parse().unwrap());
    metadata.insert("x-tinyfaas-client-subject", "CN=forged".parse().unwrap());
    metadata.insert_bin("key-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 1]));
    request.set_timeout(Duration::from_secs(9));
    let reply = server.v1().await.request(request).await.unwrap().into_inner();
    let text = String::from_utf8(reply.response.to_vec()).unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    assert_eq!(body, "in");
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST / ");
    lines.sort_unstable();
    assert_eq!(lines, ["key-bin: AAE", "lab: one", "lab: two"]);
}

#[tokio::test]
async fn what_cannot_be_called_is_told() {
    let server = Server::with(echo()).await;
    let mut client = server.v1().await;
    for (name, code, words) in [
        ("nobody", Code::NotFound, "there is no function \"nobody\""),
        ("", Code::InvalidArgument, "names no function"),
        ("../etc", Code::InvalidArgument, "no function can have that name"),
    ] {
        let asked = Data { function_identifier: name.into(), data: "x".into() };
        let status = client.request(asked).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
        assert!(status.metadata().contains_key("x-tinyfaas-call-id"));
    }
}

async fn check(
    outcome: impl Fn() -> crate::support::Outcome + Send + Sync + 'static,
    code: Code,
    words: &str,
    counted: CallOutcome,
) {
    let server = Server::with(answers(outcome)).await;
    let status = server.v1().await.request(data("x")).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(words), "{status}");
    assert_eq!(server.counters().calls.count(counted), 1, "{status}");
}

#[tokio::test]
async fn what_comes_of_a_call_has_its_code() {
    let raised = || Ok(Reply { failed: true, ..Reply::from_bytes("no such line: ä") });
    check(raised, Code::Internal, "no such line: ä", CallOutcome::Failed).await;
    let silent = || Ok(Reply { failed: true, ..Reply::from_bytes("") });
    check(silent, Code::Internal, "function f raised an error", CallOutcome::Failed).await;
    let status = || Some(StatusCode::SERVICE_UNAVAILABLE);
    let own = move || Ok(Reply { status: status(), ..Reply::from_bytes("not now") });
    check(own, Code::Internal, "not now", CallOutcome::Succeeded).await;
    let own = || Ok(Reply { status: Some(StatusCode::NOT_FOUND), ..Reply::from_bytes("") });
    check(own, Code::NotFound, "answered with 404", CallOutcome::Succeeded).await;
    let bytes = || Ok(Reply::from_bytes(&b"\xff\xfe"[..]));
    check(bytes, Code::Internal, "tinyfaas.v2", CallOutcome::ReplyBroken).await;
    let crashed = || failed(InvokeError::Crashed { how: "signal 9".into() });
    check(crashed, Code::Internal, "signal 9", CallOutcome::Crashed).await;
    let down = || {
        let retry_after = Duration::from_secs(2);
        failed(InvokeError::Unavailable { reason: "it dies".into(), retry_after })
    };
    check(down, Code::Unavailable, "it dies", CallOutcome::Unavailable).await;
    check(|| panic!("on purpose"), Code::Internal, "a panic", CallOutcome::Cancelled).await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let mut config = GatewayConfig::default();
    config.grpc.message_bytes_max = 1000;
    let mut server = Server::start(config).await;
    let grows = answers(|| Ok(Reply::from_bytes(vec![b'x'; 1001])));
    server.deploy(Function { name: "large", ..Function::default() }, grows);
    server.deploy(Function::default(), echo());
    let mut client = server.v1().await;
    let status = client.request(data(vec![b'x'; 2000])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("1000 bytes"), "{status}");
    let asked = Data { function_identifier: "large".into(), ..Data::default() };
    let status = client.request(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("1000 bytes"), "{status}");
    assert!(client.request(data("small")).await.is_ok(), "the connection goes on");
}

/// What goes beside the reply counts, as it does where messages come in.
#[tokio::test]
async fn a_reply_may_fill_a_message_and_no_more() {
    let mut config = GatewayConfig::default();
    config.grpc.message_bytes_max = 1000;
    let mut server = Server::start(config).await;
    for (name, bytes) in [("fits", 997), ("large", 998)] {
        let reply = answers(move || Ok(Reply::from_bytes(vec![b'x'; bytes])));
        server.deploy(Function { name, ..Function::default() }, reply);
    }
    let mut client = server.v1().await;
    let ask = |name: &str| Data { function_identifier: name.into(), ..Data::default() };
    assert_eq!(client.request(ask("fits")).await.unwrap().into_inner().response.len(), 997);
    let status = client.request(ask("large")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let mut client = server.v2().await;
    let ask = |name: &str| InvokeRequest { function: name.into(), ..InvokeRequest::default() };
    let status = client.invoke(ask("fits")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() {
    let server = Server::with(echo()).await;
    let mut client = server.v1().await;
    client.request(data("x")).await.unwrap();
    let began = std::time::Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert!(client.request(data("x")).await.is_err());
}
