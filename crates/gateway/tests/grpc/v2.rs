//! Version 2: bytes, headers and statuses, and calls that run later.

use http::{HeaderMap, StatusCode};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_grpc::v2::get_result_response::{Error, State};
use tinyfaas_grpc::v2::{GetResultRequest, GetResultResponse, Header, InvokeRequest};
use tinyfaas_model::{CallOutcome, Reply};
use tonic::{Code, Request};

use crate::support::{Server, answers, echo, mirror};

pub(crate) fn head(body: &'static [u8]) -> InvokeRequest {
    InvokeRequest { function: "f".into(), body: body.into(), ..InvokeRequest::default() }
}

fn header(name: &str, value: &'static [u8]) -> Header {
    Header { name: name.into(), value: value.into() }
}

#[tokio::test]
async fn a_function_sees_what_the_head_asks() {
    let server = Server::with(mirror()).await;
    let asked = InvokeRequest {
        headers: vec![header("Lab", b"one"), header("lab", b"two")],
        method: "PUT".into(),
        path: "/sub/path?key=value".into(),
        ..head(b"in")
    };
    let mut request = Request::new(asked);
    request.metadata_mut().insert("lab", "of the metadata".parse().unwrap());
    request.metadata_mut().insert("other", "kept".parse().unwrap());
    let reply = server.v2().await.invoke(request).await.unwrap();
    let told = reply.metadata().get("x-tinyfaas-call-id").unwrap().to_str().unwrap().to_owned();
    let reply = reply.into_inner();
    assert_eq!((reply.status, reply.call_id), (200, told));
    let text = String::from_utf8(reply.body.to_vec()).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.remove(0), "PUT /sub/path key=value");
    assert_eq!(lines.pop(), Some("in"));
    lines.sort_unstable();
    assert_eq!(lines, ["", "lab: one", "lab: two", "other: kept"]);
}

#[tokio::test]
async fn bytes_a_status_and_headers_come_back() {
    let server = Server::with(answers(|| {
        let mut headers = HeaderMap::new();
        headers.append("lab", "one".parse().unwrap());
        headers.append("lab", "two".parse().unwrap());
        headers.append("content-length", "7".parse().unwrap());
        headers.append("connection", "close".parse().unwrap());
        let status = Some(StatusCode::SERVICE_UNAVAILABLE);
        Ok(Reply { status, headers, ..Reply::from_bytes(&b"\xff\0"[..]) })
    }))
    .await;
    let reply = server.v2().await.invoke(head(b"")).await.unwrap().into_inner();
    assert_eq!((reply.status, &reply.body[..]), (503, &b"\xff\0"[..]));
    assert_eq!(reply.headers, [header("lab", b"one"), header("lab", b"two")]);
}

#[tokio::test]
async fn a_raised_error_is_internal() {
    let server =
        Server::with(answers(|| Ok(Reply { failed: true, ..Reply::from_bytes("no\n") }))).await;
    let status = server.v2().await.invoke(head(b"")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "no"));
    assert_eq!(server.counters().calls.count(CallOutcome::Failed), 1);
}

#[tokio::test]
async fn a_head_that_makes_no_sense_is_told() {
    let config = GatewayConfig { header_lines_max: 5, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(crate::support::Function::default(), echo());
    let mut client = server.v2().await;
    let many = vec![header("a", b""); 6];
    for (asked, code, words) in [
        (InvokeRequest { method: "a b".into(), ..head(b"") }, Code::InvalidArgument, "\"a b\""),
        (
            InvokeRequest { path: "x".into(), ..head(b"") },
            Code::InvalidArgument,
            "\"x\" is no path",
        ),
        (
            InvokeRequest { headers: vec![header("a", b"\n")], ..head(b"") },
            Code::InvalidArgument,
            "\"a\" is no header",
        ),
        (InvokeRequest { headers: many, ..head(b"") }, Code::ResourceExhausted, "at most 5"),
        (
            InvokeRequest { path: format!("/{}", "x".repeat(1 << 16)), ..head(b"") },
            Code::ResourceExhausted,
            "longer than 65536 bytes",
        ),
    ] {
        let status = client.invoke(asked).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
}

async fn result(server: &Server, call_id: &str, seconds: i64) -> GetResultResponse {
    let wait = Some(prost_types::Duration { seconds, nanos: 0 });
    let asked = GetResultRequest { call_id: call_id.into(), wait };
    server.v2().await.get_result(asked).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_call_runs_later_and_its_result_is_kept() {
    let server = Server::with(echo()).await;
    let accepted = server.v2().await.invoke_async(head(b"\xfflater")).await.unwrap().into_inner();
    let told = result(&server, &accepted.call_id, 30).await;
    assert_eq!(told.state(), State::Succeeded);
    let reply = told.response.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, &b"\xfflater"[..]));
    assert_eq!((reply.call_id, told.error), (accepted.call_id, None));
}

#[tokio::test]
async fn what_failed_later_is_told() {
    let server =
        Server::with(answers(|| Ok(Reply { failed: true, ..Reply::from_bytes("no") }))).await;
    let accepted = server.v2().await.invoke_async(head(b"")).await.unwrap().into_inner();
    let told = result(&server, &accepted.call_id, 30).await;
    assert_eq!((told.state(), told.response), (State::Failed, None));
    let error = Error { code: Code::Internal.into(), message: "no".into() };
    assert_eq!(told.error, Some(error));
}

#[tokio::test]
async fn a_call_that_nobody_knows_is_not_found() {
    let server = Server::with(echo()).await;
    let mut client = server.v2().await;
    for (call_id, seconds, code) in [
        ("", 0, Code::NotFound),
        ("00000000000000000000000000000000", 0, Code::NotFound),
        ("00000000000000000000000000000000", -1, Code::InvalidArgument),
    ] {
        let wait = Some(prost_types::Duration { seconds, nanos: 0 });
        let asked = GetResultRequest { call_id: call_id.into(), wait };
        let status = client.get_result(asked).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
    }
}

#[tokio::test]
async fn version_1_leaves_a_call_to_be_run_as_http_does() {
    let server = Server::with(echo()).await;
    let mut request = Request::new(crate::support::data("later"));
    request.metadata_mut().insert("x-tinyfaas-async", "1".parse().unwrap());
    let accepted = server.v1().await.request(request).await.unwrap();
    let id = accepted.metadata().get("x-tinyfaas-call-id").unwrap().to_str().unwrap().to_owned();
    assert_eq!(accepted.into_inner().response, "");
    let told = result(&server, &id, 30).await;
    assert_eq!(told.response.unwrap().body, "later");
}
