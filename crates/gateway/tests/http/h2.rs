//! HTTP/2 with prior knowledge, on the same port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::Reply;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{Function, Server, answers, echo, handler, mirror, streamed, until};

type Sender = SendRequest<Full<Bytes>>;
type Connection = JoinHandle<hyper::Result<()>>;

async fn connect(server: &Server) -> (Sender, Connection) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    // Acknowledgements come in real time, of which a paused clock leaves none.
    stream.set_nodelay(true).unwrap();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).max_header_list_size(1 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn request(method: Method, body: &'static str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = "http://here/f/sub?q".parse().unwrap();
    request
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_call_looks_as_over_http_1() {
    let server = Server::with(mirror()).await;
    let (mut sender, _connection) = connect(&server).await;
    let mut request = request(Method::PUT, "hi");
    request.headers_mut().append("cookie", HeaderValue::from_static("a=1"));
    request.headers_mut().append("cookie", HeaderValue::from_static("b=2"));
    request.headers_mut().append("te", HeaderValue::from_static("trailers"));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_2));
    assert!(response.headers().contains_key("x-tinyfaas-call-id"));
    let text = text(response).await;
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "PUT /sub q");
    lines.sort_unstable();
    assert_eq!(lines, ["content-length: 2", "cookie: a=1; b=2", "host: here"]);
    assert_eq!(body, "hi");
}

#[tokio::test]
async fn calls_share_the_connection() {
    let (parts, body) = streamed();
    let body = parking_lot::Mutex::new(Some(body));
    let mut server = Server::with(handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    }))
    .await;
    server.deploy(Function { name: "echo", ..Function::default() }, echo());
    let (mut sender, _connection) = connect(&server).await;
    parts.send(Ok("one".into())).unwrap();
    let response = sender.send_request(request(Method::GET, "")).await.unwrap();
    let mut stream = response.into_body();
    let frame = stream.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "one");
    let mut other = request(Method::POST, "meanwhile");
    *other.uri_mut() = "http://here/echo".parse().unwrap();
    assert_eq!(text(sender.send_request(other).await.unwrap()).await, "meanwhile");
    parts.send(Ok("two".into())).unwrap();
    drop(parts);
    assert_eq!(stream.collect().await.unwrap().to_bytes(), "two");
}

#[tokio::test]
async fn head_and_errors() {
    let server = Server::with(answers(|| Ok(Reply::from_bytes("twelve bytes")))).await;
    let (mut sender, _connection) = connect(&server).await;
    let response = sender.send_request(request(Method::HEAD, "")).await.unwrap();
    assert_eq!(response.headers()["content-length"], "12");
    assert_eq!(text(response).await, "");
    let mut unknown = request(Method::GET, "");
    *unknown.uri_mut() = "http://here/unknown".parse().unwrap();
    let response = sender.send_request(unknown).await.unwrap();
    assert_eq!(response.status(), 404);
    assert!(text(response).await.contains("unknown"));
}

#[tokio::test]
async fn headers_are_limited() {
    let server = Server::with(echo()).await;
    for (lines, bytes, status) in
        [(100, 1, 200), (101, 1, 431), (1, 60 << 10, 200), (1, 70 << 10, 431)]
    {
        let (mut sender, _connection) = connect(&server).await;
        let mut request = request(Method::GET, "");
        let value = HeaderValue::from_str(&"x".repeat(bytes)).unwrap();
        // With the Host header that the target becomes.
        for _ in 0..lines {
            request.headers_mut().append("a", value.clone());
        }
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status, "{lines} lines of {bytes} bytes");
    }
}

#[tokio::test]
async fn bodies_are_limited() {
    let config = GatewayConfig { body_bytes_max: 3, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    let (mut sender, _connection) = connect(&server).await;
    for (body, status) in [("abc", 200), ("abcd", 413), ("abc", 200)] {
        let response = sender.send_request(request(Method::POST, body)).await.unwrap();
        assert_eq!(response.status(), status, "{body}");
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_cancels_its_call_alone() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let never = handler(move |_, place| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let _place = place;
            std::future::pending().await
        }
    });
    let handlers = server.deploy(Function::default(), never);
    server.deploy(Function { name: "echo", ..Function::default() }, echo());
    let (mut sender, _connection) = connect(&server).await;
    let mut other = sender.clone();
    let call = tokio::spawn(async move { sender.send_request(request(Method::GET, "")).await });
    until(|| calls.load(Ordering::SeqCst) == 1).await;
    call.abort();
    while handlers.load() != (0, 0) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut echo = request(Method::POST, "still there");
    *echo.uri_mut() = "http://here/echo".parse().unwrap();
    assert_eq!(text(other.send_request(echo).await.unwrap()).await, "still there");
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_a_call_end_and_says_goodbye() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let slow = handler(|call, place| async move {
        let _place = place;
        tokio::time::sleep(Duration::from_secs(4)).await;
        Ok(Reply { body: call.body, ..Reply::from_bytes("") })
    });
    let handlers = server.deploy(Function::default(), slow);
    let (mut sender, connection) = connect(&server).await;
    let call = tokio::spawn(async move {
        text(sender.send_request(request(Method::POST, "kept")).await.unwrap()).await
    });
    until(|| handlers.load().0 == 1 || call.is_finished()).await;
    let began = Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert_eq!(began.elapsed().as_secs(), 4);
    assert_eq!(call.await.unwrap(), "kept");
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_shutdown() {
    let server = Server::with(echo()).await;
    let (mut sender, connection) = connect(&server).await;
    assert_eq!(text(sender.send_request(request(Method::POST, "x")).await.unwrap()).await, "x");
    let began = Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    connection.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn nor_does_one_whose_peer_takes_no_part_in_the_end() {
    let server = Server::with(echo()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // HTTP/2's preface and empty settings; nothing is read or answered after them.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.readable().await.unwrap();
    let began = Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_end_is_cut_off() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let never = handler(|_, place| async move {
        let _place = place;
        std::future::pending().await
    });
    let handlers = server.deploy(Function::default(), never);
    let (mut sender, _connection) = connect(&server).await;
    let call = tokio::spawn(async move { sender.send_request(request(Method::GET, "")).await });
    until(|| handlers.load().0 == 1).await;
    server.gateway.shutdown(Duration::from_secs(3)).await;
    assert!(call.await.unwrap().is_err());
    until(|| handlers.load() == (0, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let server = Server::with(echo()).await;
    let (mut sender, connection) = connect(&server).await;
    assert_eq!(text(sender.send_request(request(Method::POST, "x")).await.unwrap()).await, "x");
    let began = Instant::now();
    connection.await.unwrap().unwrap();
    let took = began.elapsed().as_secs();
    assert!((75..77).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_caller_takes_nothing_is_reset() {
    let large = Bytes::from(vec![b'x'; 16 << 20]);
    let mut server = Server::with(answers(move || Ok(Reply::from_bytes(large.clone())))).await;
    let (parts, body) = streamed();
    let body = parking_lot::Mutex::new(Some(body));
    let quiet = handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    });
    server.deploy(Function { name: "quiet", ..Function::default() }, quiet);
    let (mut sender, _connection) = connect(&server).await;
    let stalled = sender.send_request(request(Method::GET, "")).await.unwrap();
    let mut other = request(Method::GET, "");
    *other.uri_mut() = "http://here/quiet".parse().unwrap();
    parts.send(Ok("first".into())).unwrap();
    let mut quiet = sender.send_request(other).await.unwrap().into_body();
    assert_eq!(quiet.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(stalled.into_body().collect().await.is_err());
    // That the function says nothing is no stall.
    parts.send(Ok("second".into())).unwrap();
    assert_eq!(quiet.frame().await.unwrap().unwrap().into_data().unwrap(), "second");
}
