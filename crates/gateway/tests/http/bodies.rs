//! Bodies on their way, in both directions.

use std::sync::Arc;

use http_body_util::BodyExt;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{Body, Reply};
use tokio::sync::Notify;

use crate::support::{Function, GET, Server, echo, handler, mirror, post, streamed};

const CHUNKED: &str = "POST /f HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_reply_arrives_as_it_is_produced() {
    let (parts, body) = streamed();
    let body = parking_lot::Mutex::new(Some(body));
    let server = Server::with(handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    }))
    .await;
    let mut client = server.connect().await;
    client.send(GET).await;
    parts.send(Ok("data: 1\n\n".into())).unwrap();
    client.head().await.unwrap();
    for number in 1..4 {
        // The next part is not made before this one has arrived.
        assert_eq!(client.chunk().await.unwrap(), format!("data: {number}\n\n").into_bytes());
        parts.send(Ok(format!("data: {}\n\n", number + 1).into())).unwrap();
    }
    drop(parts);
    assert_eq!(client.chunk().await.unwrap(), b"data: 4\n\n");
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn a_request_reaches_the_function_as_it_is_sent() {
    // Answers each part as it comes.
    let server = Server::with(handler(|call, _| async move {
        Ok(Reply { body: call.body, ..Reply::from_bytes("") })
    }))
    .await;
    let mut client = server.connect().await;
    client.send(CHUNKED).await;
    client.send("3\r\none\r\n").await;
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"one");
    client.send("3\r\ntwo\r\n").await;
    assert_eq!(client.chunk().await.unwrap(), b"two");
    client.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, None);
    client.send(GET).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn bodies_of_all_sizes_come_back() {
    let server = Server::with(echo()).await;
    let mut client = server.connect().await;
    for bytes in [1, 1000, 64 << 10, (64 << 10) + 1, 3 << 20] {
        let body = "0123456789abcdef".repeat(bytes / 16 + 1)[..bytes].to_owned();
        client.send(post(&body)).await;
        assert!(client.response().await.text() == body, "{bytes}");
        client.send(format!("{CHUNKED}{bytes:x}\r\n{body}\r\n0\r\n\r\n")).await;
        assert!(client.response().await.text() == body, "{bytes} chunked");
    }
}

#[tokio::test]
async fn a_small_body_is_there_before_a_place_is_taken() {
    let called = Arc::new(Notify::new());
    let told = Arc::clone(&called);
    let server = Server::with(handler(move |call, _| {
        told.notify_one();
        async move {
            assert!(matches!(call.body, Body::Full(_)), "{:?}", call.body);
            Ok(Reply { body: call.body, ..Reply::from_bytes("") })
        }
    }))
    .await;
    let mut client = server.connect().await;
    let request = post("slowly");
    let (first, last) = request.split_at(request.len() - 1);
    client.send(first).await;
    // Another call goes through meanwhile, so the first one is being read.
    assert_eq!(server.ask(post("x")).await.status, 200);
    called.notified().await;
    client.send(last).await;
    assert_eq!(client.response().await.text(), "slowly");
}

#[tokio::test]
async fn a_small_body_streams_where_none_may_be_held() {
    let config = GatewayConfig { held_bytes_max: 0, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    let mut client = server.connect().await;
    let request = post("slowly");
    for part in request.as_bytes().chunks(request.len() - 3) {
        client.send(part).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.response().await.text(), "slowly");
}

#[tokio::test]
async fn a_function_may_answer_before_it_has_read_everything() {
    let server = Server::with(handler(|mut call, _| async move {
        let first = call.body.frame().await.unwrap().unwrap().into_data().unwrap();
        Ok(Reply::from_bytes(first))
    }))
    .await;
    let mut client = server.connect().await;
    client.send(CHUNKED).await;
    client.send("5\r\nfirst\r\n").await;
    assert_eq!(client.response().await.text(), "first");
    // What it still sends neither blocks it nor resets the connection.
    let _ = client.try_send(&vec![b'x'; 1 << 20]).await;
    drop(client);
    assert_eq!(server.ask(post("again")).await.text(), "again");
}

#[tokio::test]
async fn a_body_is_asked_for_when_somebody_reads_it() {
    let server = Server::with(echo()).await;
    let mut client = server.connect().await;
    let head = "POST /f HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    client.send(head).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send("ok").await;
    assert_eq!(client.response().await.text(), "ok");

    let mut client = server.connect().await;
    client.send(head.replace("/f", "/unknown")).await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("connection")), (404, Some("close")));
}

#[tokio::test]
async fn a_small_body_that_nobody_wants_costs_no_connection() {
    let server = Server::with(echo()).await;
    let mut client = server.connect().await;
    client.send("POST /unknown HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nla").await;
    client.send("te").await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("connection")), (404, None));
    client.send(post("again")).await;
    assert_eq!(client.response().await.text(), "again");

    // A large one is not waited for, and its sender is told so.
    client.send("POST /unknown HTTP/1.1\r\nhost: h\r\ncontent-length: 400000\r\n\r\n").await;
    let refused = client.response().await;
    assert_eq!((refused.status, refused.header("connection")), (404, Some("close")));
}

#[tokio::test]
async fn a_requests_trailers_are_dropped() {
    let server = Server::with(mirror()).await;
    let mut client = server.connect().await;
    client.send(CHUNKED.replace("\r\n\r\n", "\r\ntrailer: x-late\r\n\r\n")).await;
    client.send("2\r\nhi\r\n0\r\nx-late: 1\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "POST / \nhost: h\n\nhi");
    client.send(GET).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_cut_off_ends_its_call() {
    let ended = Arc::new(Notify::new());
    let told = Arc::clone(&ended);
    let server = Server::with(handler(move |call, _| {
        let told = Arc::clone(&told);
        async move {
            let broken = call.body.collect().await.unwrap_err();
            told.notify_one();
            crate::support::failed(broken.into())
        }
    }))
    .await;
    let mut client = server.connect().await;
    client.send(CHUNKED).await;
    client.send("5\r\nabc").await;
    drop(client);
    ended.notified().await;
}
