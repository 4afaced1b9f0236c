//! Stopping: nothing new, what runs may end, the rest is cut off.

use std::sync::Arc;
use std::time::Duration;

use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::Reply;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::support::{Function, GET, Server, echo, handler, post};

#[tokio::test]
async fn an_idle_gateway_stops_at_once_and_closes_what_is_open() {
    let server = Server::with(echo()).await;
    let mut fresh = server.connect().await;
    let mut used = server.connect().await;
    used.send(post("x")).await;
    used.response().await;
    let mut refused = server.connect().await;
    refused.send("GET /f HTTP/1.1\r\n").await;
    drop(refused);
    let began = Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    fresh.ended().await;
    used.ended().await;
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_running_call_ends_and_its_connection_then_closes() {
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
    let mut client = server.connect().await;
    client.send(post("kept")).await;
    called.notified().await;
    let began = Instant::now();
    let (response, ()) =
        tokio::join!(client.response(), server.gateway.shutdown(Duration::from_secs(10)));
    assert_eq!((response.status, response.text()), (200, "kept"));
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(began.elapsed().as_secs(), 4);
    client.ended().await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_end_is_cut_off() {
    let called = Arc::new(Notify::new());
    let told = Arc::clone(&called);
    let mut server = Server::start(GatewayConfig::default()).await;
    let never = handler(move |_, place| {
        told.notify_one();
        async move {
            let _place = place;
            std::future::pending().await
        }
    });
    let handlers = server.deploy(Function::default(), never);
    let mut client = server.connect().await;
    client.send(GET).await;
    called.notified().await;
    let began = Instant::now();
    server.gateway.shutdown(Duration::from_secs(3)).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!(handlers.load(), (0, 0));
    client.ended().await;
}

#[tokio::test]
async fn a_gateway_that_serves_nothing_stops_too() {
    let (_writer, routes) = tinyfaas_model::RoutesWriter::new();
    let gateway = tinyfaas_gateway::Gateway::new(GatewayConfig::default(), routes);
    gateway.shutdown(Duration::from_secs(10)).await;
    gateway.shutdown(Duration::from_secs(10)).await;
}
