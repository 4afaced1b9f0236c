//! Limits: heads, bodies, connections, and patience with slow callers.

use std::sync::Arc;
use std::time::Duration;

use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::Reply;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::support::{Function, GET, Server, answers, echo, handler, post, until};

const CHUNKED: &str = "POST /f HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";

fn small() -> GatewayConfig {
    GatewayConfig { body_bytes_max: 10, ..GatewayConfig::default() }
}

async fn serve(config: GatewayConfig) -> Server {
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    server
}

#[tokio::test]
async fn header_lines_are_counted() {
    let server = serve(GatewayConfig::default()).await;
    for (lines, status) in [(100, 200), (101, 431), (1000, 431)] {
        let lines = "a: b\r\n".repeat(lines - 1);
        let mut client = server.connect().await;
        client.send(format!("GET /f HTTP/1.1\r\nhost: h\r\n{lines}\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.status, status);
        if status != 200 {
            assert!(response.text().contains("more than the 100 lines"), "{}", response.text());
            assert!(response.header("x-tinyfaas-call-id").is_some());
            client.ended().await;
        }
    }
}

#[tokio::test]
async fn header_lines_are_counted_by_another_number_too() {
    let config = GatewayConfig { header_lines_max: 3, ..GatewayConfig::default() };
    let server = serve(config).await;
    assert_eq!(server.ask("GET /f HTTP/1.1\r\nhost: h\r\na: b\r\nc: d\r\n\r\n").await.status, 200);
    let four = "GET /f HTTP/1.1\r\nhost: h\r\na: b\r\nc: d\r\ne: f\r\n\r\n";
    assert_eq!(server.ask(four).await.status, 431);
}

#[tokio::test]
async fn header_bytes_are_counted() {
    let server = serve(GatewayConfig::default()).await;
    for (bytes, status) in [(60 << 10, 200), (70 << 10, 431), (1 << 20, 431)] {
        let mut client = server.connect().await;
        let value = "x".repeat(bytes);
        let _ = client
            .try_send(format!("GET /f HTTP/1.1\r\nhost: h\r\nbig: {value}\r\n\r\n").as_bytes())
            .await;
        assert_eq!(client.response().await.status, status, "{bytes}");
        if status != 200 {
            client.ended().await;
        }
    }
}

#[tokio::test]
async fn a_body_known_to_be_too_large_is_refused_at_once() {
    let server = serve(small()).await;
    let mut client = server.connect().await;
    client.send("POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: 11\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.header("connection")), (413, Some("close")));
    assert!(response.text().contains("the 10 bytes that are allowed"), "{}", response.text());
    client.ended().await;
    assert_eq!(server.ask(post("0123456789")).await.status, 200);
}

#[tokio::test]
async fn a_refused_body_does_not_reset_the_connection() {
    let server = serve(small()).await;
    let mut client = server.connect().await;
    let body = vec![b'x'; 4 << 20];
    client
        .send(format!("POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", body.len()))
        .await;
    // All of it is taken, though none of it is wanted.
    assert!(client.try_send(&body).await);
    assert_eq!(client.response().await.status, 413);
    client.ended().await;
}

#[tokio::test]
async fn nor_does_a_body_that_nobody_asked_for() {
    let server = serve(GatewayConfig::default()).await;
    let mut client = server.connect().await;
    let body = vec![b'x'; 4 << 20];
    let head = "POST /unknown HTTP/1.1\r\nhost: h\r\ncontent-length: ";
    client.send(format!("{head}{}\r\n\r\n", body.len())).await;
    assert!(client.try_send(&body).await);
    assert_eq!(client.response().await.status, 404);
    client.ended().await;
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_then() {
    let server = serve(small()).await;
    let mut client = server.connect().await;
    client.send(CHUNKED).await;
    client.send("8\r\n01234567\r\n").await;
    client.send("8\r\n01234567\r\n").await;
    assert_eq!(client.response().await.status, 413);
    client.ended().await;
    let fits = format!("{CHUNKED}a\r\n0123456789\r\n0\r\n\r\n");
    assert_eq!(server.ask(fits).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_a_408() {
    let server = serve(GatewayConfig::default()).await;
    for head in [
        "POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n".to_owned(),
        format!("{CHUNKED}9\r\n"),
    ] {
        let mut client = server.connect().await;
        let began = Instant::now();
        client.send(head).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            client.send("x").await;
        }
        let response = client.response().await;
        assert_eq!((response.status, response.header("connection")), (408, Some("close")));
        assert_eq!(began.elapsed().as_secs(), 90);
        client.ended().await;
    }
}

/// How long a connection lasts on which this is sent at first, and then now and
/// then one byte more.
async fn lasts(first: &str, more: &[u8]) -> u64 {
    let server = serve(GatewayConfig::default()).await;
    let mut client = server.connect().await;
    let began = Instant::now();
    client.send(first).await;
    while began.elapsed() < Duration::from_secs(200) {
        match timeout(Duration::from_secs(7), client.closed()).await {
            Ok(()) => break,
            Err(_) => assert!(client.try_send(more).await),
        }
    }
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_closed_whatever_trickles_in() {
    for (first, more, expected) in [
        ("", "", 30),
        ("P", "", 30),
        ("\r\n", "\r\n", 30),
        ("GET /f HTTP/1.1\r\n", "a", 30),
        ("GET /f HTTP/1.1\r\na: b\r\n", "a", 30),
        ("PRI * HT", "", 30),
        ("PRI * HTTP/2.0\r\n", "", 30),
        // It does not answer a ping.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", 50),
    ] {
        let took = lasts(first, more.as_bytes()).await;
        assert!((expected..expected + 2).contains(&took), "{first:?} {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let slow = handler(|call, _| async move {
        tokio::time::sleep(Duration::from_secs(200)).await;
        Ok(Reply { body: call.body, ..Reply::from_bytes("") })
    });
    server.deploy(Function::default(), slow);
    let mut client = server.connect().await;
    client.send(post("patient")).await;
    assert_eq!(client.response().await.text(), "patient");
    let idle = Instant::now();
    client.ended().await;
    let took = idle.elapsed().as_secs();
    assert!((75..77).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_takes_nothing_is_cut_off() {
    let large = vec![b'x'; 32 << 20];
    let mut server = Server::start(GatewayConfig::default()).await;
    let large = bytes::Bytes::from(large);
    server.deploy(Function::default(), answers(move || Ok(Reply::from_bytes(large.clone()))));
    let mut client = server.connect().await;
    let began = Instant::now();
    client.send(GET).await;
    let mut stream = client.into_stream();
    // Taking a little now and then is enough to be waited for.
    let mut some = vec![0; 6 << 20];
    tokio::time::sleep(Duration::from_secs(25)).await;
    stream.read_exact(&mut some).await.unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    stream.read_exact(&mut some).await.unwrap();
    assert!(began.elapsed().as_secs() >= 54);
    tokio::time::sleep(Duration::from_secs(40)).await;
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest).await;
    assert!(end.is_err() || rest.len() < 20 << 20, "{} {end:?}", rest.len());
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let config = GatewayConfig { connections_max: 2, ..GatewayConfig::default() };
    let server = serve(config).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(GET).await;
        assert_eq!(client.response().await.status, 200);
        open.push(client);
    }
    for _ in 0..3 {
        let mut client = server.connect().await;
        client.send(GET).await;
        let response = client.response().await;
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        client.ended().await;
    }
    drop(open.pop());
    loop {
        let mut client = server.connect().await;
        client.send(GET).await;
        if client.response().await.status == 200 {
            break;
        }
    }
}

#[tokio::test]
async fn not_everybody_is_told_at_a_time() {
    let config = GatewayConfig { connections_max: 0, refusals_max: 1, ..GatewayConfig::default() };
    let server = serve(config).await;
    let mut told = server.connect().await;
    assert_eq!(told.response().await.status, 503);
    // The first has not closed yet: it still takes the one turn, and the next waits.
    let mut waiting = server.connect().await;
    assert!(timeout(Duration::from_millis(300), waiting.response()).await.is_err());
    drop(told);
    assert_eq!(waiting.response().await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_an_idle_connection() {
    let called = Arc::new(Notify::new());
    let told = Arc::clone(&called);
    let mut server = Server::start(GatewayConfig::default()).await;
    let never = handler(move |_, _| {
        told.notify_one();
        std::future::pending()
    });
    let deadline = Duration::from_secs(250);
    let handlers = server.deploy(Function { deadline, ..Function::default() }, never);
    let mut client = server.connect().await;
    client.send(GET).await;
    called.notified().await;
    let began = Instant::now();
    assert_eq!(client.response().await.status, 504);
    assert!(began.elapsed().as_secs() >= 249);
    until(|| handlers.load() == (0, 0)).await;
}
