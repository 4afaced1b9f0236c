//! Asking for an asynchronous call: its state, its result, its end.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use serde_json::Value;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{
    BodyError, CallId, CallQuery, CallState, Cancelling, FunctionName, InvokeError, Reply,
};

use crate::asynchronous::{gated, later};
use crate::support::{Function, Response, Server, answers, echo, failed, handler, streamed, until};

/// Makes an asynchronous call and returns its `Location`.
async fn accepted(server: &Server, body: &str) -> String {
    let response = server.ask(later(body)).await;
    assert_eq!((response.status, response.text()), (202, ""));
    response.header("location").unwrap().to_owned()
}

async fn ask(server: &Server, method: &str, path: &str) -> Response {
    server.ask(format!("{method} {path} HTTP/1.1\r\nhost: h\r\n\r\n")).await
}

async fn get(server: &Server, path: &str) -> Response {
    ask(server, "GET", path).await
}

fn json(response: &Response) -> Value {
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

/// The state in which the call is when it has ended.
async fn ended(server: &Server, location: &str) -> Value {
    let response = get(server, &format!("{location}?wait=30s")).await;
    assert_eq!(response.status, 200, "{}", response.text());
    json(&response)
}

fn id(location: &str) -> CallId {
    CallId::parse(location.strip_prefix("/.tinyfaas/calls/").unwrap()).unwrap()
}

#[tokio::test]
async fn state_and_result_follow_the_call() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, gate, mut ran) = gated();
    server.deploy(Function { places: 1, ..Function::default() }, handler);
    let (first, second) = (accepted(&server, "1").await, accepted(&server, "2").await);
    let calls = server.gateway.calls();
    until(|| calls.get(id(&first)).unwrap().state == CallState::Running).await;
    let response = get(&server, &second).await;
    assert_eq!((response.status, response.header("retry-after")), (202, Some("1")));
    assert!(second.ends_with(response.header("x-tinyfaas-call-id").unwrap()));
    let state = json(&response);
    assert_eq!((&state["state"], &state["function"]), (&"waiting".into(), &"f".into()));
    assert!(second.ends_with(state["id"].as_str().unwrap()));
    assert!(state["accepted_at"].as_str().unwrap().ends_with('Z'), "{state}");
    for unknown_yet in ["started_at", "ended_at", "waited_ms", "ran_ms", "problem", "result"] {
        assert_eq!(state[unknown_yet], Value::Null, "{unknown_yet}");
    }
    assert_eq!(json(&get(&server, &first).await)["state"], "running");
    let early = get(&server, &format!("{first}/result")).await;
    assert_eq!((early.status, early.header("retry-after")), (409, Some("1")));
    assert!(early.text().contains("running") && early.text().contains("wait="), "{}", early.text());
    gate.add_permits(2);
    ran.recv().await.unwrap();
    let state = ended(&server, &second).await;
    assert_eq!(state["state"], "succeeded");
    assert_eq!((&state["result"]["kept"], &state["result"]["status"]), (&true.into(), &200.into()));
    assert_eq!(state["result"]["location"], format!("{second}/result"));
    assert!(state["waited_ms"].is_f64() && state["ran_ms"].is_f64(), "{state}");
    assert!(state["ended_at"].as_str() >= state["started_at"].as_str(), "{state}");
}

#[tokio::test]
async fn a_result_is_what_who_waits_would_have_got() {
    let reply = || {
        let mut reply = Reply::from_bytes("{}");
        reply.status = Some(StatusCode::IM_A_TEAPOT);
        for (name, value) in [
            ("content-type", "application/json"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "close"),
        ] {
            reply.headers.append(name, HeaderValue::from_static(value));
        }
        Ok(reply)
    };
    let server = Server::with(answers(reply)).await;
    let location = accepted(&server, "x").await;
    let state = ended(&server, &location).await;
    assert_eq!((&state["state"], &state["result"]["status"]), (&"succeeded".into(), &418.into()));
    let path = format!("{location}/result");
    for _ in 0..2 {
        let result = get(&server, &path).await;
        assert_eq!((result.status, result.text()), (418, "{}"));
        assert_eq!(result.header("content-type"), Some("application/json"));
        assert_eq!(result.header("connection"), None);
        let cookies = result.headers.iter().filter(|(name, _)| name == "set-cookie");
        assert_eq!(cookies.count(), 2);
        assert!(location.ends_with(result.header("x-tinyfaas-call-id").unwrap()));
    }
    let mut client = server.connect().await;
    for path in [&path, &location] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
        let head = client.head().await.unwrap();
        assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 1);
    }
    client.send(format!("GET {location} HTTP/1.1\r\nhost: h\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_streamed_reply_is_kept_whole() {
    let (parts, body) = streamed();
    let body = parking_lot::Mutex::new(Some(body));
    let server = Server::with(handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    }))
    .await;
    let location = accepted(&server, "x").await;
    for _ in 0..3 {
        parts.send(Ok("part".into())).unwrap();
    }
    assert_eq!(json(&get(&server, &location).await)["state"], "running");
    drop(parts);
    assert_eq!(ended(&server, &location).await["result"]["bytes"], 12);
    let result = get(&server, &format!("{location}/result")).await;
    assert_eq!(result.text(), "partpartpart");
    assert_eq!(result.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[tokio::test]
async fn failures_are_told_as_to_who_waits() {
    let raised = || Ok(Reply { failed: true, ..Reply::from_bytes("ValueError: no") });
    let server = Server::with(answers(raised)).await;
    let location = accepted(&server, "x").await;
    let state = ended(&server, &location).await;
    assert_eq!((&state["state"], &state["result"]["status"]), (&"failed".into(), &500.into()));
    let result = get(&server, &format!("{location}/result")).await;
    assert_eq!((result.status, result.text()), (500, "ValueError: no"));

    let crashed = || failed(InvokeError::Crashed { how: "signal 9".to_owned() });
    let server = Server::with(answers(crashed)).await;
    let location = accepted(&server, "x").await;
    let state = ended(&server, &location).await;
    assert_eq!((&state["state"], &state["result"]), (&"failed".into(), &Value::Null));
    assert!(state["problem"].as_str().unwrap().contains("signal 9"), "{state}");
    let result = get(&server, &format!("{location}/result")).await;
    assert_eq!(result.status, 500);
    assert!(result.text().contains("signal 9"), "{}", result.text());

    let broken = || {
        let (parts, body) = streamed();
        parts.send(Ok("half".into())).unwrap();
        parts.send(Err(BodyError::Broken("it ended".to_owned()))).unwrap();
        Ok(Reply { body, ..Reply::from_bytes("") })
    };
    let server = Server::with(answers(broken)).await;
    let location = accepted(&server, "x").await;
    assert_eq!(ended(&server, &location).await["state"], "failed");
    assert_eq!(get(&server, &format!("{location}/result")).await.status, 502);
}

#[tokio::test]
async fn a_deleted_function_is_named_as_the_reason() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, _gate, _ran) = gated();
    let handlers = server.deploy(Function { places: 1, ..Function::default() }, handler);
    let (running, waiting) = (accepted(&server, "1").await, accepted(&server, "2").await);
    until(|| handlers.load() == (1, 1)).await;
    server.writer.remove(&FunctionName::parse("f").unwrap());
    handlers.close();
    let state = ended(&server, &waiting).await;
    assert_eq!(state["state"], "failed");
    assert!(state["problem"].as_str().unwrap().contains("function f was deleted"), "{state}");
    assert_eq!(json(&get(&server, &running).await)["state"], "running");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let server = Server::with(echo()).await;
    let unknown = format!("/.tinyfaas/calls/{}", CallId::random());
    for path in [&*unknown, &format!("{unknown}/result"), "/.tinyfaas/calls/x", "/.tinyfaas/"] {
        let response = get(&server, path).await;
        assert_eq!(response.status, 404, "{path}");
        assert!(response.text().contains("asynchronous call"), "{path}: {}", response.text());
    }
    let post = ask(&server, "POST", &unknown).await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD, DELETE")));
    let bad = get(&server, &format!("{unknown}?wait=soon")).await;
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("30s"), "{}", bad.text());
    assert_eq!(ask(&server, "DELETE", &unknown).await.status, 404);
    // The id of a call that somebody waited for names nothing.
    let response = server.ask(crate::support::GET).await;
    let id = response.header("x-tinyfaas-call-id").unwrap();
    assert_eq!(get(&server, &format!("/.tinyfaas/calls/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_request_body_there_does_not_put_the_connection_out_of_step() {
    let server = Server::with(echo()).await;
    let mut client = server.connect().await;
    let path = format!("/.tinyfaas/calls/{}", CallId::random());
    let body = "GET /f HTTP/1.1\r\nhost: h\r\n\r\n";
    let length = body.len();
    client
        .send(format!(
            "DELETE {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .await;
    assert_eq!(client.response().await.status, 404);
    client.send(crate::support::GET).await;
    if let Some(next) = client.try_response().await {
        assert_eq!(next.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_the_call_or_its_time() {
    let config =
        GatewayConfig { async_wait_max: Duration::from_secs(20), ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    let slow = handler(|_, _| async {
        tokio::time::sleep(Duration::from_secs(50)).await;
        Ok(Reply::from_bytes("done"))
    });
    server.deploy(Function::default(), slow);
    let location = accepted(&server, "x").await;
    let began = tokio::time::Instant::now();
    let elapsed = || began.elapsed().as_secs();
    assert_eq!(get(&server, &format!("{location}?wait=10s")).await.status, 202);
    assert_eq!(elapsed(), 10);
    // No longer than may be.
    assert_eq!(get(&server, &format!("{location}/result?wait=1h")).await.status, 409);
    assert_eq!(elapsed(), 30);
    let path = format!("{location}?wait=20s");
    let (one, other) = tokio::join!(get(&server, &path), get(&server, &path));
    assert_eq!((one.status, other.status, elapsed()), (200, 200, 50));
    let result = get(&server, &format!("{location}/result?wait=20s")).await;
    assert_eq!((result.text(), elapsed()), ("done", 50));
}

#[tokio::test]
async fn a_call_can_be_cancelled_until_it_ends() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, gate, mut ran) = gated();
    let handlers = server.deploy(Function { places: 1, ..Function::default() }, handler);
    let (running, waiting) = (accepted(&server, "1").await, accepted(&server, "2").await);
    until(|| handlers.load() == (1, 1)).await;
    let poll = format!("{waiting}?wait=30s");
    let (told, cancelled) = tokio::join!(get(&server, &poll), ask(&server, "DELETE", &waiting));
    assert_eq!((cancelled.status, &json(&cancelled)["state"]), (200, &"cancelled".into()));
    assert_eq!((told.status, &json(&told)["state"]), (200, &"cancelled".into()));
    until(|| handlers.load() == (1, 0)).await;
    let gone = get(&server, &format!("{waiting}/result")).await;
    assert_eq!(gone.status, 410);
    assert!(gone.text().contains("cancelled"), "{}", gone.text());
    // Dropping the running one's future tells its handler.
    assert_eq!(ask(&server, "DELETE", &running).await.status, 200);
    until(|| handlers.load() == (0, 0)).await;
    assert_eq!(ask(&server, "DELETE", &running).await.status, 200);
    gate.add_permits(1);
    let third = accepted(&server, "3").await;
    assert_eq!(ended(&server, &third).await["state"], "succeeded");
    assert_eq!(ran.recv().await.unwrap(), "3");
    let late = ask(&server, "DELETE", &third).await;
    assert_eq!(late.status, 409);
    assert!(late.text().contains("succeeded"), "{}", late.text());
}

#[tokio::test]
async fn results_are_bounded_each_and_in_all() {
    let config = GatewayConfig {
        async_result_bytes_max: 1_000,
        async_results_bytes_max: 2_600,
        ..GatewayConfig::default()
    };
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    let mut locations = Vec::new();
    for bytes in [1_001, 900, 1_000, 901] {
        let location = accepted(&server, &"x".repeat(bytes)).await;
        ended(&server, &location).await;
        locations.push(location);
    }
    let mut outcomes = Vec::new();
    for location in &locations {
        let state = ended(&server, location).await;
        assert_eq!(state["state"], "succeeded");
        let result = get(&server, &format!("{location}/result")).await;
        outcomes.push((result.status, state["result"]["why"].as_str().map(str::to_owned)));
    }
    let why = |text: &str| Some(text.to_owned());
    assert_eq!(outcomes[0], (410, why("it was too large to keep")));
    assert_eq!(outcomes[1], (410, why("there was no room to keep it")));
    assert_eq!(outcomes[2..], [(200, None), (200, None)]);
}

#[tokio::test]
async fn those_that_have_ended_are_bounded_in_number() {
    let config = GatewayConfig { async_ended_max: 2, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    let mut locations = Vec::new();
    for _ in 0..3 {
        let location = accepted(&server, "x").await;
        ended(&server, &location).await;
        locations.push(location);
    }
    assert_eq!(get(&server, &locations[0]).await.status, 404);
    for location in &locations[1..] {
        assert_eq!(get(&server, location).await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_have_ended_are_forgotten_in_time() {
    let held = Arc::new(());
    let witness = Arc::downgrade(&held);
    let server = Server::with(handler(move |_, _| {
        // A body that tells when its memory is free.
        struct Owned(#[expect(dead_code, reason = "held, not read")] Arc<()>);
        impl AsRef<[u8]> for Owned {
            fn as_ref(&self) -> &[u8] {
                b"done"
            }
        }
        let body = bytes::Bytes::from_owner(Owned(Arc::clone(&held)));
        async { Ok(Reply::from_bytes(body)) }
    }))
    .await;
    let location = accepted(&server, "x").await;
    ended(&server, &location).await;
    // What is kept is a copy: the frame that it came in is free.
    assert_eq!(witness.strong_count(), 1);
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(get(&server, &format!("{location}/result")).await.text(), "done");
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(get(&server, &location).await.status, 404);
}

#[tokio::test]
async fn management_lists_and_cancels_through_the_seam() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (gated, _gate, _ran) = gated();
    server.deploy(Function { places: 1, ..Function::default() }, gated);
    let (first, second) = (accepted(&server, "1").await, accepted(&server, "2").await);
    let calls = server.gateway.calls();
    until(|| calls.get(id(&first)).unwrap().state == CallState::Running).await;
    let query = CallQuery { limit: 10, ..CallQuery::default() };
    let ids: Vec<_> = calls.list(&query).calls.iter().map(|call| call.id).collect();
    assert_eq!(ids, [id(&second), id(&first)]);
    let running = CallQuery { state: Some(CallState::Running), ..query };
    assert_eq!(calls.list(&running).calls.len(), 1);
    assert!(matches!(calls.cancel(id(&first)), Cancelling::Cancelled(_)));
    assert_eq!(calls.cancel(CallId::random()), Cancelling::Unknown);
    assert_eq!(ended(&server, &first).await["state"], "cancelled");
}

#[tokio::test(start_paused = true)]
async fn what_a_stop_gives_up_is_lost() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (gated, _gate, _ran) = gated();
    server.deploy(Function::default(), gated);
    let location = accepted(&server, "x").await;
    server.gateway.shutdown(Duration::from_secs(1)).await;
    let record = server.gateway.calls().get(id(&location)).unwrap();
    assert_eq!(record.state, CallState::Lost);
    assert!(record.problem.unwrap().contains("stopped"));
}
