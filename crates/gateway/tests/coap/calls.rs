//! Calls that a function answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tinyfaas_coap::message::{Code, OptionNumber};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{Body, Reply};

use crate::support::*;

/// A reply of this status and these headers.
fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &'static str) -> Outcome {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let status = (status > 0).then(|| StatusCode::from_u16(status).unwrap());
    Ok(Reply { status, headers: map, ..Reply::from_bytes(body) })
}

#[tokio::test]
async fn a_function_sees_the_request_as_over_http() {
    let server = Server::with(mirror());
    let answer = server.ask(get("/f")).await;
    assert_eq!((answer.told().as_str(), answer.text()), ("2.05 12=0", "GET / \n\n"));
    let typed = post("/f/a b/c?x=1&y", "hello").with(OptionNumber::CONTENT_FORMAT, b"\x32");
    let whole = typed.with(OptionNumber::URI_HOST, b"example.org").with(OptionNumber::ACCEPT, b"");
    let answer = server.ask(whole).await;
    let mut lines: Vec<_> = answer.text().lines().collect();
    lines[1..5].sort_unstable();
    assert_eq!(
        lines,
        [
            "POST /a%20b/c x=1&y",
            "accept: text/plain; charset=utf-8",
            "content-length: 5",
            "content-type: application/json",
            "host: example.org",
            "",
            "hello",
        ]
    );
    for (code, name, told) in [
        (Code::PUT, "PUT", "2.04 12=0"),
        (Code::DELETE, "DELETE", "2.02 12=0"),
        (Code::FETCH, "FETCH", "2.05 12=0"),
        (Code::PATCH, "PATCH", "2.04 12=0"),
        (Code::IPATCH, "iPATCH", "2.04 12=0"),
    ] {
        let answer = server.ask(ask(code, "/f")).await;
        assert_eq!((answer.told().as_str(), answer.text()), (told, &*format!("{name} / \n\n")));
    }
}

#[tokio::test]
async fn a_function_gets_one_trace() {
    let server = Server::with(handler(|call, _place| async move {
        let traces: Vec<_> = call.headers.get_all("traceparent").iter().cloned().collect();
        assert_eq!(traces.len(), 1);
        Ok(Reply::from_bytes(traces[0].as_bytes().to_vec()))
    }));
    let (one, other) = (server.ask(get("/f")).await, server.ask(get("/f")).await);
    assert_eq!(one.payload.len(), 55);
    assert_ne!(one.payload, other.payload);
}

#[tokio::test]
async fn status_and_headers_come_back_as_code_and_options() {
    let server = Server::with(handler(|call, _place| async move {
        match call.target.path() {
            "/created" => reply(201, &[("location", "/f/items/1?x=y")], "made"),
            "/json" => reply(
                200,
                &[("content-type", "application/json"), ("cache-control", "max-age=5")],
                "{}",
            ),
            "/gone" => reply(404, &[("content-type", "text/plain")], "there is no such thing"),
            "/conflict" => reply(409, &[], ""),
            "/moved" => reply(302, &[("location", "/g")], ""),
            "/bytes" => Ok(Reply::from_bytes(&b"\xff\xfe"[..])),
            _ => reply(0, &[], ""),
        }
    }));
    let check = async |url: &str, told: &str, text: &[u8]| {
        let answer = server.ask(get(url)).await;
        assert_eq!((answer.told().as_str(), &answer.payload[..]), (told, text), "{url}");
    };
    check("/f/created", "2.01 8=f 8=items 8=1 12=0 20=x=y", b"made").await;
    check("/f/json", "2.05 12=50 14=5", b"{}").await;
    check("/f/gone", "4.04", b"there is no such thing").await;
    check("/f/conflict", "4.09", b"").await;
    check("/f/bytes", "2.05 12=42", b"\xff\xfe").await;
    check("/f/other", "2.05", b"").await;
    let sentence = b"the function redirects (302) to \"/g\", and CoAP has no redirects";
    check("/f/moved", "5.02", sentence).await;
}

#[tokio::test]
async fn a_reply_that_the_client_has_is_validated() {
    let server = Server::with(handler(|call, _place| async move {
        let known = call.headers.get("if-none-match").cloned();
        match (call.target.path(), known) {
            // One that looks, and one that does not.
            ("/looks", Some(known)) if known == "\"v1\"" => reply(304, &[], ""),
            _ => reply(0, &[("etag", "\"v1\"")], "content"),
        }
    }));
    for url in ["/f/looks", "/f"] {
        assert_eq!(server.ask(get(url)).await.told(), "2.05 4=v1 12=0");
        let old = server.ask(get(url).with(OptionNumber::ETAG, b"v0")).await;
        assert_eq!((old.told().as_str(), old.text()), ("2.05 4=v1 12=0", "content"));
        let known = server.ask(get(url).with(OptionNumber::ETAG, b"v1")).await;
        assert_eq!((known.told().as_str(), known.text()), ("2.03 4=v1", ""));
    }
}

#[tokio::test]
async fn long_bodies_come_whole_and_run_once() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let server = Server::with(handler(move |call, _place| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { Ok(Reply::from_bytes(whole(call.body).await?)) }
    }));
    let body: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let answer = server.ask(post("/f", body.clone())).await;
    assert_eq!(answer.code, Code::CONTENT);
    assert_eq!(answer.payload, body);
    assert_eq!(runs.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_reply_that_streams_is_put_together() {
    let server = Server::with(answers(|| {
        let (sender, body) = streamed();
        for part in ["one ", "two ", "three"] {
            sender.send(Ok(part.into())).unwrap();
        }
        Ok(Reply { body, ..Reply::from_bytes("") })
    }));
    assert_eq!(server.ask(get("/f")).await.text(), "one two three");
}

/// What a reply takes while it is sent is given back.
#[tokio::test]
async fn bodies_are_held_within_the_budget_and_let_go() {
    let config = GatewayConfig { held_bytes_max: 3000, ..GatewayConfig::default() };
    let mut server = Server::start(config);
    server.deploy(Function::default(), echo());
    let long = handler(|_, _place| async { Ok(Reply::from_bytes(vec![b'x'; 3001])) });
    server.deploy(Function { name: "long", ..Function::default() }, long);
    for _ in 0..3 {
        let answer = server.ask(post("/f", vec![b'x'; 1500])).await;
        assert_eq!((answer.code, answer.payload.len()), (Code::CONTENT, 1500));
        let refused = server.ask(post("/f", vec![b'x'; 3001])).await;
        assert_eq!(refused.told(), "5.03 14=1");
        assert_eq!(
            refused.text(),
            "the server is busy: bodies take as much memory as they may; try again later"
        );
        let refused = server.ask(get("/long")).await;
        assert_eq!(refused.told(), "5.03 14=1");
        assert_eq!(
            refused.text(),
            "the server has no room to hold the function's reply; try again later"
        );
    }
    let held = server.gateway.status().load().held_bytes;
    assert_eq!((held.taken, held.limit), (0, 3000));
}

#[tokio::test]
async fn a_body_may_be_empty() {
    let server = Server::with(handler(|call, _place| async move {
        assert!(matches!(call.body, Body::Empty));
        Ok(Reply::from_bytes("nothing"))
    }));
    assert_eq!(server.ask(post("/f", "")).await.text(), "nothing");
}
