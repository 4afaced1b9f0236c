//! Requests whose length may be read in two ways, or that are malformed
//! (RFC 9112, sections 3.2, 5.1, 6 and 7).

use crate::support::{Server, mirror, post};

async fn check(request: &str, expected: u16) {
    let server = Server::with(mirror()).await;
    let mut client = server.connect().await;
    // A second request behind it shows what is taken for one.
    client.send(format!("{request}GET /f/smuggled HTTP/1.1\r\nhost: h\r\n\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status, expected, "{request:?} {}", response.text());
    if expected >= 400 {
        client.ended().await;
    } else {
        assert!(client.response().await.text().starts_with("GET /smuggled"));
    }
}

#[tokio::test]
async fn two_lengths_are_refused() {
    check(
        "POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\n",
        400,
    )
    .await;
    check(
        "POST /f HTTP/1.1\r\nhost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n\
         0\r\n\r\n",
        400,
    )
    .await;
    check(
        "POST http://h/f HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\
         transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    )
    .await;
    check("POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na", 400)
        .await;
    check("POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: 1, 2\r\n\r\na", 400).await;
}

#[tokio::test]
async fn two_lengths_are_noticed_after_other_calls() {
    let server = Server::with(mirror()).await;
    let conflict = "POST /f HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\
                    content-length: 4\r\n\r\n0\r\n\r\n";
    let mut client = server.connect().await;
    client.send(post("one")).await;
    assert_eq!(client.response().await.status, 200);
    client.send(conflict).await;
    assert_eq!(client.response().await.status, 400);
    client.ended().await;

    // Not where they are only spoken of.
    let mut client = server.connect().await;
    let talk = format!("{:x}\r\n{conflict}\r\n0\r\n\r\n", conflict.len());
    let chunked = "POST /f HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    for _ in 0..2 {
        client.send(format!("{chunked}{talk}")).await;
        assert_eq!(client.response().await.status, 200);
    }
}

#[tokio::test]
async fn one_length_said_twice_is_one_length() {
    check("POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na", 200)
        .await;
}

#[tokio::test]
async fn odd_lengths_are_refused() {
    for length in ["-1", "+1", "1 ", "0x1", "", "99999999999999999999", "1\u{b}"] {
        let expected = if length == "1 " { 200 } else { 400 };
        let head = format!("POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        check(&if expected == 200 { head + "a" } else { head }, expected).await;
    }
}

#[tokio::test]
async fn odd_encodings_are_refused() {
    for encoding in ["identity", "gzip", "chunked, identity", "xchunked", "\u{b}chunked"] {
        let head = format!("POST /f HTTP/1.1\r\nhost: h\r\ntransfer-encoding: {encoding}\r\n\r\n");
        check(&(head + "0\r\n\r\n"), 400).await;
    }
    check("POST /f HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400).await;
}

#[tokio::test]
async fn broken_chunks_are_refused() {
    for body in ["x\r\n", "-1\r\n", "1\r\nabc\r\n", "ffffffffffffffffff\r\n", "1;\na\n0\n\n"] {
        let head = "POST /f HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{head}{body}"), 400).await;
    }
}

#[tokio::test]
async fn broken_heads_are_refused() {
    for request in [
        "GET /f HTTP/1.1\r\n\r\n",
        "GET /f HTTP/1.1\r\nhost: h\r\nhost: i\r\n\r\n",
        "GET /f HTTP/1.1\r\nhost: h\r\nbad name: x\r\n\r\n",
        "GET /f HTTP/1.1\r\nhost: h\r\nname : x\r\n\r\n",
        "GET /f HTTP/1.1\r\nhost: h\r\na: b\r\n folded\r\n\r\n",
        "GET /f HTTP/1.1\r\nhost: h\r\na: \0\r\n\r\n",
        "GET /f\r\n HTTP/1.1\r\nhost: h\r\n\r\n",
        "G@T /f HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /f HTTP/3.0\r\nhost: h\r\n\r\n",
        "\u{16}\u{3}\u{1}hello",
    ] {
        check(request, 400).await;
    }
}
