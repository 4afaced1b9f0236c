//! grpc-web, as browsers speak it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::CallOutcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Function, Server, echo, mirror, until};

const V1: &str = "/openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request";
const ORIGIN: &str = "https://app.example";

/// A message that calls the function `f` with `in`.
const ASKED: &[u8] = b"\0\0\0\0\x07\x0a\x01f\x12\x02in";

async fn server(origins: &[&str]) -> Server {
    let mut config = GatewayConfig::default();
    config.grpc.web_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    server
}

/// Asks on a connection of its own, and returns head and body.
async fn ask(server: &Server, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = server.tcp().await;
    let head = format!("{head}\r\nhost: h\r\nconnection: close\r\norigin: {ORIGIN}\r\n");
    let length = body.len();
    stream.write_all(format!("{head}content-length: {length}\r\n\r\n").as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let body = answer.split_off(end);
    let head = String::from_utf8(answer).unwrap();
    (head.clone(), if head.contains("chunked") { dechunked(&body) } else { body })
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|bytes| bytes == b"\r\n").unwrap();
        let length = std::str::from_utf8(&body[..end]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..][..length]);
        body = &body[end + 2 + length + 2..];
    }
}

fn post(kind: &str) -> String {
    format!("POST {V1} HTTP/1.1\r\ncontent-type: application/{kind}\r\nx-grpc-web: 1")
}

#[tokio::test]
async fn a_page_calls_a_function() {
    let server = server(&[]).await;
    for kind in ["grpc-web", "grpc-web+proto", "grpc-web; charset=utf-8"] {
        let (head, body) = ask(&server, &post(kind), ASKED).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: application/grpc-web+proto\r\n"), "{head}");
        assert!(head.contains("x-tinyfaas-call-id: "), "{head}");
        assert!(!head.contains("access-control"), "{head}");
        let trailers = body.strip_prefix(b"\0\0\0\0\x04\x0a\x02in").unwrap();
        assert_eq!(trailers[0], 0x80);
        assert!(trailers.ends_with(b"grpc-status:0\r\n"), "{trailers:?}");
    }
    assert_eq!(server.counters().calls.count(CallOutcome::Succeeded), 3);
    let gateway = server.gateway.status();
    until(|| gateway.load().held_bytes.taken == 0).await;
}

#[tokio::test]
async fn a_page_calls_a_function_in_text() {
    let server = server(&[]).await;
    let head = format!("{}\r\naccept: application/grpc-web-text", post("grpc-web-text"));
    let (head, body) = ask(&server, &head, STANDARD.encode(ASKED).as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // Each part is encoded for itself.
    let first = STANDARD.decode(&body[..12]).unwrap();
    assert_eq!(first, b"\0\0\0\0\x04\x0a\x02in");
}

#[tokio::test]
async fn what_a_page_gets_wrong_is_told() {
    let server = server(&[]).await;
    let unknown = b"\0\0\0\0\x0c\x0a\x06nobody\x12\x02in";
    let (head, _) = ask(&server, &post("grpc-web"), unknown).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("grpc-status: 5\r\n"), "{head}");
    let (head, _) = ask(&server, &post("grpc-web").replace("/Request", "/Other"), ASKED).await;
    assert!(head.contains("grpc-status: 12\r\n"), "{head}");
    assert!(head.contains("content-type: application/grpc-web\r\n"), "{head}");
    let (head, _) = ask(&server, &post("grpc-web-text"), b"!!!!").await;
    assert!(head.contains("grpc-status: "), "{head}");
    let (head, _) = ask(&server, &post("grpc-web").replace("POST", "GET"), b"").await;
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
    let two = format!("{}\r\ntransfer-encoding: chunked", post("grpc-web"));
    let (head, _) = ask(&server, &two, b"0\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[tokio::test]
async fn a_browser_is_told_which_pages_may_call() {
    let question = format!(
        "OPTIONS {V1} HTTP/1.1\r\naccess-control-request-method: POST\r\n\
         access-control-request-headers: content-type,x-grpc-web"
    );
    let closed = server(&[]).await;
    let (head, body) = ask(&closed, &question, b"").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(!head.contains("access-control"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("TF_GRPC_WEB_ORIGINS"));
    let open = server(&[ORIGIN]).await;
    let (head, _) = ask(&open, &question, b"").await;
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    for line in [
        "access-control-allow-origin: https://app.example",
        "access-control-allow-methods: POST",
        "access-control-allow-headers: content-type,x-grpc-web",
        "vary: origin",
    ] {
        assert!(head.contains(line), "{head}");
    }
    let (head, _) = ask(&open, &post("grpc-web"), ASKED).await;
    assert!(head.contains("access-control-allow-origin: https://app.example\r\n"), "{head}");
    assert!(head.contains("access-control-expose-headers: grpc-status"), "{head}");
}

#[tokio::test]
async fn the_way_of_a_page_is_not_for_the_function() {
    let server = Server::with(mirror()).await;
    let (_, body) = ask(&server, &post("grpc-web"), ASKED).await;
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("origin: https://app.example\n"), "{text}");
    for dropped in ["content-type", "content-length", "te:", "accept-encoding", "x-grpc-web"] {
        assert!(!text.contains(dropped), "{dropped}: {text}");
    }
}
