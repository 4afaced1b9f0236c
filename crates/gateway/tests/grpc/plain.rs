//! What is not gRPC, or not as it should be.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::body::Body;

use crate::support::{Channel, Server, echo};

const PATH: &str = "/openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request";
const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

async fn ask(
    server: &Server,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &'static [u8],
) -> Response<Bytes> {
    let Channel(mut sender) = server.connect().await;
    let uri = format!("{}{}", server.origin().to_string().trim_end_matches('/'), path);
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(Full::new(Bytes::from_static(body)));
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

fn status(response: &Response<Bytes>) -> (&str, String) {
    let text = |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
    let message = percent_encoding::percent_decode_str(text("grpc-message")).decode_utf8().unwrap();
    (text("grpc-status"), message.into_owned())
}

#[tokio::test]
async fn a_client_of_plain_http_is_told_so() {
    let server = Server::with(echo()).await;
    let told = ask(&server, Method::GET, "/f", &[], b"").await;
    assert_eq!(told.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(std::str::from_utf8(told.body()).unwrap().starts_with("gRPC is spoken here"));
    let told = ask(&server, Method::GET, PATH, &GRPC, b"").await;
    assert_eq!(told.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(told.headers()["allow"], "POST");
    let mut stream = server.tcp().await;
    stream.write_all(b"GET /f HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 415 "), "{text}");
    assert!(text.contains("gRPC is spoken here"), "{text}");
    let mut stream = server.tcp().await;
    let head = "POST /a/b HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\n";
    // It has a body that nobody reads: the connection ends.
    stream.write_all(format!("{head}content-length: 3\r\n\r\nabc").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 505 "), "{text}");
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let server = Server::with(echo()).await;
    for (path, words) in [
        ("/", "no service"),
        ("/f", "tinyfaas.v2.TinyFaaS"),
        ("/tinyfaas.v2.TinyFaaS/Call", "Invoke, InvokeStream"),
    ] {
        let told = ask(&server, Method::POST, path, &GRPC, b"").await;
        assert_eq!(told.status(), StatusCode::OK);
        let (code, message) = status(&told);
        assert_eq!(code, "12", "{path}: {message}");
        assert!(message.contains(words), "{path}: {message}");
    }
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_told() {
    let server = Server::with(echo()).await;
    let gzip = [GRPC[0], GRPC[1], ("grpc-encoding", "gzip")];
    for (headers, body, code) in [
        // None, a cut one, one that is no protobuf, two of them.
        (&GRPC[..], &b""[..], "3"),
        (&GRPC, b"\0\0\0\0\x05ab", "3"),
        (&GRPC, b"\0\0\0\0\x02\xff\xff", "13"),
        (&GRPC, b"\0\0\0\0\0\0\0\0\0\0", "12"),
        // Compressed, said and not said.
        (&gzip, b"\x01\0\0\0\x01a", "12"),
        (&GRPC, b"\x01\0\0\0\x01a", "13"),
        (&GRPC, b"\x07\0\0\0\x01a", "13"),
        // 4 GiB of which nothing comes.
        (&GRPC, b"\0\xff\xff\xff\xff", "8"),
    ] {
        let told = ask(&server, Method::POST, PATH, headers, body).await;
        let (found, message) = status(&told);
        assert_eq!(found, code, "{body:?}: {message}");
        assert!(!message.is_empty());
    }
}
