//! Asynchronous calls, and what is told of them.

use std::sync::Arc;
use std::time::Duration;

use tinyfaas_coap::message::{Code, OptionNumber};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{CallQuery, CallState, InvokeError, Reply};
use tokio::sync::Semaphore;

use crate::support::*;

/// The path that an accepted call is asked for by.
async fn accepted(server: &Server, ask: Ask) -> String {
    let answer = server.ask(ask).await;
    assert_eq!((answer.code, answer.text()), (Code::CREATED, ""));
    let path: Vec<_> = answer.options.all(OptionNumber::LOCATION_PATH).collect();
    let path = String::from_utf8(path.join(&b'/')).unwrap();
    let id = path.strip_prefix(".tinyfaas/calls/").unwrap();
    assert_eq!(id.len(), 32);
    format!("/{path}")
}

async fn check(server: &Server, ask: Ask, told: &str, text: &str) {
    let answer = server.ask(ask).await;
    assert_eq!((answer.told().as_str(), answer.text()), (told, text));
}

/// A function that waits for a permit before it says what it was asked.
fn gated(gate: &Arc<Semaphore>) -> Arc<dyn tinyfaas_model::Handler> {
    let gate = Arc::clone(gate);
    handler(move |call, _place| {
        let gate = Arc::clone(&gate);
        async move {
            gate.acquire().await.unwrap().forget();
            let asked = format!("{} {}{}", call.method, call.target.path(), call.target.query());
            let body = whole(call.body).await?;
            Ok(Reply::from_bytes([asked.as_bytes(), b" ", &body].concat()))
        }
    })
}

#[tokio::test]
async fn an_accepted_call_has_a_result() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::with(gated(&gate));
    let path = accepted(&server, post("/f/a?b&tinyfaas-async&c", "body")).await;
    until(|| {
        server
            .gateway
            .calls()
            .list(&CallQuery { state: Some(CallState::Running), limit: 1, ..CallQuery::default() })
            .calls
            .len()
            == 1
    })
    .await;
    let pending = "the call is still running; ask again later, or wait for it: ?wait=30s";
    check(&server, get(&path), "5.03 14=1", pending).await;
    check(&server, get(&format!("{path}?wait=1ms")), "5.03 14=1", pending).await;
    gate.add_permits(1);
    check(&server, get(&format!("{path}?wait=20s")), "2.05 12=0", "POST /ab&c body").await;
    check(&server, get(&path), "2.05 12=0", "POST /ab&c body").await;
    let sentence = "the call has succeeded already: it cannot be cancelled any more";
    check(&server, ask(Code::DELETE, &path), "4.09", sentence).await;
    assert_eq!(server.gateway.status().load().held_bytes.taken, 0);
}

#[tokio::test]
async fn a_call_can_be_cancelled() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::with(gated(&gate));
    let path = accepted(&server, post("/f?tinyfaas-async=1", "")).await;
    check(&server, ask(Code::DELETE, &path), "2.02", "").await;
    check(&server, ask(Code::DELETE, &path), "2.02", "").await;
    check(&server, get(&path), "4.04", "there is no result: the call was cancelled").await;
}

#[tokio::test]
async fn a_result_is_what_a_caller_would_have_got() {
    let failing = answers(|| failed(InvokeError::Crashed { how: "signal 9".into() }));
    let server = Server::with(failing);
    let path = accepted(&server, get("/f?tinyfaas-async")).await + "?wait=20s";
    let sentence = "the function's handler ended while it ran the call: signal 9";
    check(&server, get(&path), "5.00", sentence).await;
    let server = Server::with(answers(|| {
        let mut reply = Reply::from_bytes("{}");
        reply.headers.insert("content-type", "application/json".parse().unwrap());
        reply.headers.insert("etag", "\"v1\"".parse().unwrap());
        Ok(reply)
    }));
    let path = accepted(&server, get("/f?tinyfaas-async")).await + "?wait=20s";
    check(&server, get(&path), "2.05 4=v1 12=50", "{}").await;
    check(&server, get(&path).with(OptionNumber::ETAG, b"v1"), "2.03 4=v1", "").await;
}

#[tokio::test]
async fn a_long_result_comes_in_blocks() {
    let server = Server::with(echo());
    let body = vec![b'x'; 50_000];
    let path = accepted(&server, post("/f?tinyfaas-async", body.clone())).await + "?wait=20s";
    assert_eq!(server.ask(get(&path)).await.payload, body);
}

#[tokio::test]
async fn only_what_there_is_can_be_asked() {
    let server = Server::with(echo());
    let unknown = "no asynchronous call has that id: there was none, or it ended too long ago";
    let path = format!("/.tinyfaas/calls/{}", "0".repeat(32));
    check(&server, get(&path), "4.04", unknown).await;
    check(&server, ask(Code::DELETE, &path), "4.04", unknown).await;
    check(&server, get("/.tinyfaas/calls/x"), "4.04", unknown).await;
    let nothing = "nothing is served there; GET /.well-known/core lists what is";
    check(&server, get("/.tinyfaas/calls"), "4.04", nothing).await;
    check(&server, get(&format!("{path}/x")), "4.04", nothing).await;
    let method = "that method means nothing here; use one of: GET, DELETE";
    check(&server, post(&path, ""), "4.05", method).await;
    let wait = "wait: not a time; write 500ms, 30s, 10min or 1h";
    check(&server, get(&format!("{path}?wait=soon")), "4.00", wait).await;
    let none = "there is no function \"g\"; list shows those that there are";
    check(&server, post("/g?tinyfaas-async", ""), "4.04", none).await;
}

#[tokio::test]
async fn a_call_that_is_not_accepted_is_told_so() {
    let mut server =
        Server::start(GatewayConfig { async_waiting_max: 0, ..GatewayConfig::default() });
    server.deploy(Function { deadline: Duration::from_secs(5), ..Function::default() }, echo());
    let sentence = "the server is busy: too many asynchronous calls are waiting; try again later";
    check(&server, post("/f?tinyfaas-async", ""), "5.03 14=1", sentence).await;
}
