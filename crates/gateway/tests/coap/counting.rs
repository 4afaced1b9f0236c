//! Each call is counted once, by how it ended.

use std::time::Duration;

use tinyfaas_coap::message::{Code, OptionNumber};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{CallOutcome, InvokeError, Reply};

use crate::support::*;

/// How often the function `f` was counted to have ended so, and in all.
fn counted(server: &Server, outcome: CallOutcome) -> (u64, u64) {
    let counters = server.counters();
    let all = CallOutcome::ALL.map(|outcome| counters.calls.count(outcome));
    assert_eq!(counters.calls.duration.snapshot().count(), all.iter().sum::<u64>());
    (counters.calls.count(outcome), all.iter().sum())
}

async fn check(server: &Server, ask: Ask, code: Code, outcome: CallOutcome) {
    assert_eq!(server.ask(ask).await.code, code);
    until(|| counted(server, outcome) == (1, 1)).await;
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended() {
    let ok = || Server::with(echo());
    check(&ok(), get("/f"), Code::CONTENT, CallOutcome::Succeeded).await;
    check(&ok(), post("/f?tinyfaas-async", "x"), Code::CREATED, CallOutcome::Succeeded).await;
    let failing = answers(|| Ok(Reply { failed: true, ..Reply::from_bytes("no") }));
    check(&Server::with(failing), get("/f"), Code::INTERNAL_SERVER_ERROR, CallOutcome::Failed)
        .await;
    let crashing = answers(|| failed(InvokeError::Crashed { how: "signal 9".into() }));
    check(&Server::with(crashing), get("/f"), Code::INTERNAL_SERVER_ERROR, CallOutcome::Crashed)
        .await;
    let broken = answers(|| {
        let (sender, body) = streamed();
        sender.send(Err(tinyfaas_model::BodyError::Broken("cut".into()))).unwrap();
        Ok(Reply { body, ..Reply::from_bytes("") })
    });
    check(&Server::with(broken), get("/f"), Code::BAD_GATEWAY, CallOutcome::ReplyBroken).await;
    // What came of it does not suit this caller: the function did its part.
    let typed = answers(|| {
        let mut reply = Reply::from_bytes("x");
        reply.headers.insert("content-type", "text/plain".parse().unwrap());
        Ok(reply)
    });
    let picky = get("/f").with(OptionNumber::ACCEPT, b"\x32");
    check(&Server::with(typed), picky, Code::NOT_ACCEPTABLE, CallOutcome::Succeeded).await;
}

#[tokio::test]
async fn calls_that_find_no_room_are_counted() {
    let full = Function { places: 0, waiting_max: 0, ..Function::default() };
    let mut server = Server::start(GatewayConfig::default());
    server.deploy(full, echo());
    check(&server, get("/f"), Code::SERVICE_UNAVAILABLE, CallOutcome::Busy).await;
    let mut server = Server::start(GatewayConfig { held_bytes_max: 0, ..GatewayConfig::default() });
    server.deploy(Function::default(), echo());
    check(&server, post("/f", "x"), Code::SERVICE_UNAVAILABLE, CallOutcome::Busy).await;
    let mut server = Server::start(GatewayConfig { held_bytes_max: 0, ..GatewayConfig::default() });
    server.deploy(Function::default(), answers(|| Ok(Reply::from_bytes("x"))));
    check(&server, get("/f"), Code::SERVICE_UNAVAILABLE, CallOutcome::ReplyBroken).await;
}

#[tokio::test]
async fn calls_that_take_too_long_are_counted() {
    let mut server = Server::start(GatewayConfig::default());
    let deadline = Duration::from_millis(20);
    server.deploy(
        Function { deadline, ..Function::default() },
        handler(|_, _place| std::future::pending()),
    );
    check(&server, get("/f"), Code::GATEWAY_TIMEOUT, CallOutcome::DeadlineExceeded).await;
    let mut server = Server::start(GatewayConfig::default());
    let endless = answers(|| {
        let (sender, body) = streamed();
        std::mem::forget(sender);
        Ok(Reply { body, ..Reply::from_bytes("") })
    });
    server.deploy(Function { deadline, ..Function::default() }, endless);
    check(&server, get("/f"), Code::GATEWAY_TIMEOUT, CallOutcome::DeadlineExceeded).await;
}

#[tokio::test]
async fn what_never_became_a_call_is_counted_of_no_function() {
    let server = Server::with(echo());
    for url in ["/f/..", "/g", "/.well-known/core", ""] {
        server.ask(get(url)).await;
    }
    assert_eq!(counted(&server, CallOutcome::Succeeded), (0, 0));
}
