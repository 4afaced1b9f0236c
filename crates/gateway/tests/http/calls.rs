//! What a call looks like to the function, and its reply to the caller.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use tinyfaas_model::{Body, BodyError, InvokeError, Reply};

use crate::support::{GET, Server, answers, echo, failed, mirror, post, streamed};

#[tokio::test]
async fn method_path_query_headers_and_body_reach_the_function() {
    let server = Server::with(mirror()).await;
    let request = "PATCH /f/a%20b/c?d=e&f HTTP/1.1\r\nHost: h\r\nLab: one\r\nlab: two\r\n\
                   X-tinyFaaS-Call-Id: forged\r\ncontent-length: 2\r\n\r\nhi";
    let response = server.ask(request).await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.text(),
        "PATCH /a%20b/c d=e&f\nhost: h\nlab: one\nlab: two\ncontent-length: 2\n\nhi"
    );
    let id = response.header("x-tinyfaas-call-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    assert!(response.header("date").is_some());
}

#[tokio::test]
async fn a_connection_serves_call_after_call() {
    let server = Server::with(echo()).await;
    let mut client = server.connect().await;
    let mut ids = Vec::new();
    for body in ["one", "", "three"] {
        client.send(post(body)).await;
        let response = client.response().await;
        assert_eq!(response.text(), body);
        ids.push(response.header("x-tinyfaas-call-id").unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    client.send([post("a"), post("b")].concat()).await;
    assert_eq!(client.response().await.text(), "a");
    assert_eq!(client.response().await.text(), "b");
}

#[tokio::test]
async fn hop_by_hop_headers_pass_in_no_direction() {
    let server = Server::with(mirror()).await;
    let request = "GET /f HTTP/1.1\r\nhost: h\r\nconnection: x-mine, keep-alive\r\nx-mine: 1\r\n\
                   keep-alive: 5\r\nte: trailers\r\nproxy-authorization: x\r\nupgrade: foo\r\n\
                   expect: 100-continue\r\nkept: yes\r\n\r\n";
    let response = server.ask(request).await;
    assert_eq!(response.text(), "GET / \nhost: h\nkept: yes\n\n");

    let reply = || {
        let mut reply = Reply::from_bytes("body");
        for (name, value) in [
            ("connection", "x-mine"),
            ("x-mine", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "400"),
            ("date", "yesterday"),
            ("x-tinyfaas-call-id", "forged"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ] {
            reply.headers.append(name, HeaderValue::from_static(value));
        }
        reply.status = Some(StatusCode::IM_A_TEAPOT);
        Ok(reply)
    };
    let response = Server::with(answers(reply)).await.ask(GET).await;
    assert_eq!((response.status, response.text()), (418, "body"));
    assert_eq!(response.header("content-length"), Some("4"));
    assert_ne!(response.header("date"), Some("yesterday"));
    assert_ne!(response.header("x-tinyfaas-call-id"), Some("forged"));
    for gone in ["connection", "x-mine", "transfer-encoding"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    let cookies = response.headers.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["a=1", "b=2"]);
}

#[tokio::test]
async fn a_body_without_type_is_judged() {
    for (body, expected) in [
        (&b"text"[..], Some("text/plain; charset=utf-8")),
        (b"\xff\x00", Some("application/octet-stream")),
        (b"", None),
    ] {
        let server = Server::with(answers(move || Ok(Reply::from_bytes(body)))).await;
        assert_eq!(server.ask(GET).await.header("content-type"), expected, "{body:?}");
    }
    let typed = || {
        let mut reply = Reply::from_bytes("{}");
        reply.headers.insert("content-type", HeaderValue::from_static("application/json"));
        Ok(reply)
    };
    let response = Server::with(answers(typed)).await.ask(GET).await;
    assert_eq!(response.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn a_stream_without_type_is_judged_by_its_first_part() {
    for (first, expected) in
        [("\u{e4}".as_bytes(), "text/plain; charset=utf-8"), (b"\xfe", "application/octet-stream")]
    {
        let reply = move || {
            let (parts, body) = streamed();
            parts.send(Ok("".into())).unwrap();
            parts.send(Ok(first.into())).unwrap();
            parts.send(Ok("!".into())).unwrap();
            Ok(Reply { body, ..Reply::from_bytes("") })
        };
        let response = Server::with(answers(reply)).await.ask(GET).await;
        assert_eq!(response.header("content-type"), Some(expected));
        assert_eq!(response.body, [first, b"!"].concat());
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let server = Server::with(answers(|| Ok(Reply::from_bytes("twelve bytes")))).await;
    let mut client = server.connect().await;
    for _ in 0..2 {
        client.send("HEAD /f HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let head = client.head().await.unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, Some("12")));
        assert_eq!(head.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    client.send(GET).await;
    assert_eq!(client.response().await.text(), "twelve bytes");
}

#[tokio::test]
async fn head_believes_the_length_that_a_function_gives() {
    let reply = || {
        let mut reply = Reply::from_bytes("");
        reply.headers.insert("content-length", HeaderValue::from_static("77"));
        Ok(reply)
    };
    let server = Server::with(answers(reply)).await;
    let mut client = server.connect().await;
    client.send("HEAD /f HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().header("content-length"), Some("77"));
    client.send(GET).await;
    assert_eq!(client.response().await.header("content-length"), Some("0"));
}

#[tokio::test]
async fn statuses_without_body_have_none() {
    for status in [204, 205, 304] {
        let reply = move || {
            let status = StatusCode::from_u16(status).ok();
            Ok(Reply { status, ..Reply::from_bytes("ignored") })
        };
        let server = Server::with(answers(reply)).await;
        let mut client = server.connect().await;
        for _ in 0..2 {
            client.send(GET).await;
            let response = client.response().await;
            assert_eq!((response.status, response.text()), (status, ""));
            assert_eq!(response.header("content-type"), None);
        }
    }
}

#[tokio::test]
async fn a_function_that_fails_is_a_500_with_its_words() {
    let reply = || {
        let status = Some(StatusCode::OK);
        Ok(Reply { failed: true, status, ..Reply::from_bytes("no such key") })
    };
    let response = Server::with(answers(reply)).await.ask(GET).await;
    assert_eq!((response.status, response.text()), (500, "no such key"));
}

#[tokio::test]
async fn every_error_has_its_status_and_a_sentence() {
    let second = Duration::from_millis(1500);
    let reason = || "x".to_owned();
    for (error, status, retry_after) in [
        (InvokeError::NotFound { name: reason() }, 404, None),
        (
            InvokeError::FunctionBusy { name: reason(), limit: 1, retry_after: second },
            429,
            Some("2"),
        ),
        (InvokeError::ServerBusy { what: "x", retry_after: second }, 503, Some("2")),
        (InvokeError::Unavailable { reason: reason(), retry_after: second }, 503, Some("2")),
        (InvokeError::Stopping, 503, Some("1")),
        (InvokeError::DeadlineExceeded { after: second }, 504, None),
        (InvokeError::Crashed { how: reason() }, 500, None),
        (InvokeError::ReplyBroken { how: reason() }, 502, None),
        (InvokeError::Request(BodyError::TooLarge { limit_bytes: 1 }), 413, None),
        (InvokeError::Request(BodyError::TimedOut), 408, None),
        (InvokeError::Request(BodyError::Broken(reason())), 400, None),
    ] {
        let sentence = error.to_string();
        let server = Server::with(answers(move || failed(error.clone()))).await;
        let response = server.ask(GET).await;
        assert_eq!(response.status, status);
        assert_eq!(response.text(), sentence + "\n");
        assert_eq!(response.header("retry-after"), retry_after, "{status}");
        assert!(response.header("x-tinyfaas-call-id").is_some());
    }
}

#[tokio::test]
async fn an_error_is_told_in_json_where_that_is_accepted() {
    let server = Server::with(echo()).await;
    let request = "GET /no HTTP/1.1\r\nhost: h\r\naccept: text/html, application/json\r\n\r\n";
    let response = server.ask(request).await;
    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert!(response.text().contains("\"status\":404"), "{}", response.text());
}

#[tokio::test]
async fn paths_that_name_no_function_are_404_with_help() {
    let server = Server::with(echo()).await;
    for (path, help) in [
        ("/", "/NAME"),
        ("/?x", "/NAME"),
        ("//f", "/NAME"),
        ("/other", "\"other\""),
        ("/F", "\"F\""),
        ("/f%2Fg", "use only ASCII letters"),
        ("/-f", "start it with a letter"),
    ] {
        let response = server.ask(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
        assert_eq!(response.status, 404, "{path}");
        assert!(response.text().contains(help), "{path}: {}", response.text());
    }
}

#[tokio::test]
async fn other_forms_of_target() {
    let server = Server::with(mirror()).await;
    let absolute = "GET http://there:1/f/x?q HTTP/1.1\r\nhost: here\r\n\r\n";
    assert_eq!(server.ask(absolute).await.text(), "GET /x q\nhost: there:1\n\n");
    let bare = "GET http://there HTTP/1.1\r\nhost: here\r\n\r\n";
    assert_eq!(server.ask(bare).await.status, 404);
    let asterisk = "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n";
    assert_eq!(server.ask(asterisk).await.status, 204);
    assert_eq!(server.ask("GET * HTTP/1.1\r\nhost: h\r\n\r\n").await.status, 404);
    let connect = "CONNECT there:443 HTTP/1.1\r\nhost: there:443\r\n\r\n";
    assert_eq!(server.ask(connect).await.status, 501);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let server = Server::with(mirror()).await;
    let mut client = server.connect().await;
    client.send("GET /f HTTP/1.0\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.text()), (200, "GET / \n\n"));
    client.ended().await;
}

#[tokio::test]
async fn a_status_that_cannot_be_last_is_a_broken_reply() {
    let reply = || Ok(Reply { status: Some(StatusCode::CONTINUE), ..Reply::from_bytes("") });
    assert_eq!(Server::with(answers(reply)).await.ask(GET).await.status, 502);
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_byte_is_a_502_and_later_is_cut() {
    let broken = || BodyError::Broken("the worker died".to_owned());
    let reply = move || {
        let (parts, body) = streamed();
        parts.send(Err(broken())).unwrap();
        Ok(Reply { body, ..Reply::from_bytes("") })
    };
    let response = Server::with(answers(reply)).await.ask(GET).await;
    assert_eq!(response.status, 502);
    assert!(response.text().contains("the worker died"));

    let reply = move || {
        let (parts, body) = streamed();
        parts.send(Ok("begun".into())).unwrap();
        parts.send(Err(broken())).unwrap();
        Ok(Reply { body, ..Reply::from_bytes("") })
    };
    let server = Server::with(answers(reply)).await;
    let mut client = server.connect().await;
    client.send(GET).await;
    assert_eq!(client.head().await.unwrap().header("transfer-encoding"), Some("chunked"));
    assert_eq!(client.chunk().await.unwrap(), b"begun");
    client.ended().await;
}

#[tokio::test]
async fn a_functions_trailers_are_dropped() {
    let reply = || {
        let mut frames = vec![
            http_body::Frame::trailers(HeaderMap::new()),
            http_body::Frame::data("data".into()),
        ];
        let body = crate::support::poll_body(move |_| std::task::Poll::Ready(frames.pop().map(Ok)));
        Ok(Reply { body, ..Reply::from_bytes("") })
    };
    let request = "GET /f HTTP/1.1\r\nhost: h\r\nte: trailers\r\n\r\n";
    assert_eq!(Server::with(answers(reply)).await.ask(request).await.text(), "data");
}

#[tokio::test]
async fn an_empty_reply_has_no_type_and_length_zero() {
    let reply = || Ok(Reply { body: Body::Empty, ..Reply::from_bytes("") });
    let response = Server::with(answers(reply)).await.ask(GET).await;
    assert_eq!(response.header("content-type"), None);
    assert_eq!(response.header("content-length"), Some("0"));
}
