//! What is counted of calls: each exactly once, by how it ended.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{
    Body, BodyError, CallOutcome, FunctionCounters, Handler, HandlerError, InvokeError, Reply,
    Share,
};
use tokio::net::TcpStream;

use crate::asynchronous::later;
use crate::support::{
    Function, GET, Server, answers, echo, failed, handler, post, streamed, until,
};

/// How often each outcome was counted that was.
fn counted(counters: &FunctionCounters) -> Vec<(&'static str, u64)> {
    let calls = &counters.calls;
    let all = CallOutcome::ALL.map(|outcome| (outcome.name(), calls.count(outcome)));
    let found: Vec<_> = all.into_iter().filter(|(_, count)| *count > 0).collect();
    let sum: u64 = found.iter().map(|(_, count)| count).sum();
    assert_eq!(calls.duration.snapshot().count(), sum, "{found:?}");
    found
}

/// As [`until`], for what a socket must tell first.
async fn wait_until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A handler that never answers.
fn silent() -> Arc<dyn Handler> {
    handler(|_, place| async move {
        let _place = place;
        std::future::pending().await
    })
}

/// One call of `f`, as this function and this request make it, ends so.
async fn check(
    function: Function,
    handler: Arc<dyn Handler>,
    request: &str,
    (status, outcome): (u16, CallOutcome),
) {
    let config = GatewayConfig { body_bytes_max: 10, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(function, handler);
    let response = server.ask(request).await;
    assert_eq!(response.status, status, "{response:?}");
    assert_eq!(counted(&server.counters()), [(outcome.name(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_call_has_its_counter() {
    use CallOutcome::{
        Busy, Crashed, DeadlineExceeded, Failed, ReplyBroken, RequestBroken, Stopping, Succeeded,
        Unavailable,
    };
    let f = Function::default;
    check(f(), echo(), GET, (200, Succeeded)).await;
    check(f(), echo(), &post("body"), (200, Succeeded)).await;
    let own_status = || {
        let status = Some(http::StatusCode::SERVICE_UNAVAILABLE);
        Ok(Reply { status, ..Reply::from_bytes("no") })
    };
    check(f(), answers(own_status), GET, (503, Succeeded)).await;
    let error = || Ok(Reply { failed: true, ..Reply::from_bytes("ValueError") });
    check(f(), answers(error), GET, (500, Failed)).await;
    let none = || Function { places: 0, waiting_max: 0, ..Function::default() };
    check(none(), echo(), GET, (429, Busy)).await;
    let waits = || Function { places: 0, deadline: Duration::from_secs(1), ..Function::default() };
    check(waits(), echo(), GET, (504, DeadlineExceeded)).await;
    let short = || Function { deadline: Duration::from_secs(1), ..Function::default() };
    check(short(), silent(), GET, (504, DeadlineExceeded)).await;
    check(f(), echo(), &post("eleven byte"), (413, RequestBroken)).await;
    for (error, status, outcome) in [
        (InvokeError::Crashed { how: "9".to_owned() }, 500, Crashed),
        (InvokeError::ReplyBroken { how: "no".to_owned() }, 502, ReplyBroken),
        (InvokeError::Stopping, 503, Stopping),
        (
            InvokeError::Unavailable { reason: "no".to_owned(), retry_after: Duration::ZERO },
            503,
            Unavailable,
        ),
    ] {
        check(f(), answers(move || failed(error.clone())), GET, (status, outcome)).await;
    }
    let unseen = handler(|call, _| async { Err(HandlerError::NotStarted(Box::new(call))) });
    check(f(), unseen, GET, (503, Unavailable)).await;
    let no_status = || {
        let status = Some(http::StatusCode::CONTINUE);
        Ok(Reply { status, ..Reply::from_bytes("") })
    };
    check(f(), answers(no_status), GET, (502, ReplyBroken)).await;
}

#[tokio::test]
async fn a_function_that_goes_while_a_call_waits_is_stopping() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let handlers = server.deploy(Function { places: 0, ..Function::default() }, echo());
    let counters = server.counters();
    let mut client = server.connect().await;
    client.send(GET).await;
    until(|| handlers.load() == (0, 1)).await;
    server.writer.remove(&tinyfaas_model::FunctionName::parse("f").unwrap());
    handlers.close();
    assert_eq!(client.response().await.status, 404);
    assert_eq!(counted(&counters), [("stopping", 1)]);
}

#[tokio::test]
async fn a_caller_who_leaves_has_cancelled_its_call() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let handlers = server.deploy(Function { places: 1, ..Function::default() }, silent());
    let counters = server.counters();
    let (mut running, mut waiting) = (server.connect().await, server.connect().await);
    running.send(GET).await;
    until(|| handlers.load() == (1, 0)).await;
    waiting.send(GET).await;
    until(|| handlers.load() == (1, 1)).await;
    assert_eq!(counted(&counters), []);
    drop(waiting);
    wait_until(|| counted(&counters) == [("cancelled", 1)]).await;
    // It has had no place.
    assert_eq!(counters.calls.queued.snapshot().count(), 0);
    drop(running);
    wait_until(|| counted(&counters) == [("cancelled", 2)]).await;
    assert_eq!(counters.calls.queued.snapshot().count(), 1);
}

#[tokio::test]
async fn a_stream_that_is_reset_over_http_2_is_cancelled() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let handlers = server.deploy(Function::default(), silent());
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let driving = tokio::spawn(connection);
    let request = Request::builder().method(Method::GET).uri("http://h/f");
    let call =
        tokio::spawn(sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()));
    wait_until(|| handlers.load() == (1, 0)).await;
    call.abort();
    let counters = server.counters();
    wait_until(|| counted(&counters) == [("cancelled", 1)]).await;
    driving.abort();
}

/// A server whose function answers its one call with this body, after a second.
async fn streaming(body: Body, deadline: Duration) -> Server {
    let body = parking_lot::Mutex::new(Some(body));
    let mut server = Server::start(GatewayConfig::default()).await;
    let answers = handler(move |_, _place| {
        let body = body.lock().take().unwrap();
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Reply { body, ..Reply::from_bytes("") })
        }
    });
    server.deploy(Function { deadline, ..Function::default() }, answers);
    server
}

const LONG: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn a_reply_that_streams_ends_its_call_when_it_ends() {
    let (parts, body) = streamed();
    let server = streaming(body, LONG).await;
    let counters = server.counters();
    let mut client = server.connect().await;
    client.send(GET).await;
    parts.send(Ok("first".into())).unwrap();
    client.head().await.unwrap();
    client.chunk().await.unwrap();
    assert_eq!(counted(&counters), []);
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(parts);
    assert_eq!(client.chunk().await, None);
    assert_eq!(counted(&counters), [("succeeded", 1)]);
    let took = counters.calls.duration.snapshot().sum;
    assert!((6_000..6_500).contains(&took.as_millis()), "{took:?}");
    assert!(counters.calls.queued.snapshot().sum < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_breaks_off_is_counted_once_for_why() {
    for (first, waits, outcome) in [
        (Some("first"), Duration::ZERO, "reply_broken"),
        (None, Duration::ZERO, "reply_broken"),
        (Some("first"), Duration::from_secs(4), "deadline_exceeded"),
        (None, Duration::from_secs(4), "deadline_exceeded"),
    ] {
        let (parts, body) = streamed();
        let server = streaming(body, Duration::from_secs(3)).await;
        let counters = server.counters();
        let mut client = server.connect().await;
        client.send(GET).await;
        if let Some(first) = first {
            parts.send(Ok(first.into())).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(2) + waits).await;
        // Nobody hears it where the time was over.
        let _ = parts.send(Err(BodyError::Broken("the worker died".to_owned())));
        client.head().await.unwrap();
        wait_until(|| counted(&counters) == [(outcome, 1)]).await;
        client.closed().await;
        drop((client, parts));
        assert_eq!(counted(&counters), [(outcome, 1)]);
    }
}

#[tokio::test]
async fn a_caller_who_leaves_a_stream_has_cancelled_its_call() {
    let (parts, body) = streamed();
    let server = streaming(body, LONG).await;
    let counters = server.counters();
    let mut client = server.connect().await;
    client.send(GET).await;
    parts.send(Ok("first".into())).unwrap();
    client.head().await.unwrap();
    drop(client);
    wait_until(|| counted(&counters) == [("cancelled", 1)]).await;
}

#[tokio::test(start_paused = true)]
async fn what_head_leaves_unread_was_not_cancelled() {
    let (parts, body) = streamed();
    let server = streaming(body, LONG).await;
    parts.send(Ok("first".into())).unwrap();
    assert_eq!(server.ask(GET.replace("GET", "HEAD")).await.status, 200);
    assert_eq!(counted(&server.counters()), [("succeeded", 1)]);
}

#[tokio::test(start_paused = true)]
async fn asynchronous_calls_are_counted_when_they_end() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let handlers = server.deploy(
        Function { places: 1, deadline: Duration::from_secs(9), ..Function::default() },
        handler(|call, place| async move {
            let body = crate::support::whole(call.body).await?;
            let secs = std::str::from_utf8(&body).unwrap().parse().unwrap();
            tokio::time::sleep(Duration::from_secs(secs)).await;
            drop(place);
            Ok(Reply { failed: secs == 1, ..Reply::from_bytes("done") })
        }),
    );
    let counters = server.counters();
    let mut locations = Vec::new();
    for secs in ["0", "1", "2", "100", "0"] {
        let accepted = server.ask(later(secs)).await;
        locations.push(accepted.header("location").unwrap().to_owned());
    }
    wait_until(|| handlers.load() == (1, 1)).await;
    assert_eq!(counted(&counters), [("succeeded", 2), ("failed", 1)]);
    server.ask(format!("DELETE {} HTTP/1.1\r\nhost: h\r\n\r\n", locations[4])).await;
    wait_until(|| handlers.load().1 == 0).await;
    assert_eq!(counted(&counters), [("succeeded", 2), ("failed", 1), ("cancelled", 1)]);
    wait_until(|| handlers.load() == (0, 0)).await;
    wait_until(|| counters.calls.count(CallOutcome::DeadlineExceeded) == 1).await;
    // Of those that got a place: none waited for less than those before it ran.
    let queued = counters.calls.queued.snapshot();
    assert_eq!((queued.count(), queued.sum.as_secs()), (4, 1 + 3));
}

#[tokio::test]
async fn calls_that_are_not_accepted_are_counted_as_well() {
    let config =
        GatewayConfig { async_waiting_max: 0, body_bytes_max: 10, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    assert_eq!(server.ask(later("x")).await.status, 503);
    assert_eq!(counted(&server.counters()), [("busy", 1)]);
    assert_eq!(server.ask(later("eleven byte")).await.status, 413);
    assert_eq!(counted(&server.counters()), [("busy", 1), ("request_broken", 1)]);
}

#[tokio::test]
async fn the_gateway_tells_its_load() {
    let config = GatewayConfig { connections_max: 2, waiting_max: 7, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    let status = server.gateway.status();
    assert_eq!(status.load().connections, Share { taken: 0, limit: 2 });
    let handlers = server.deploy(Function { places: 0, ..Function::default() }, echo());
    for unknown in ["/unknown", "/Unknown/x", "/no%20name"] {
        assert_eq!(server.ask(GET.replace("/f", unknown)).await.status, 404);
    }
    assert_eq!(server.ask(GET.replace("/f", "/")).await.status, 404);
    assert_eq!(status.load().unknown_functions, 3);
    wait_until(|| status.load().connections.taken == 0).await;
    assert_eq!(server.ask(later("abc")).await.status, 202);
    wait_until(|| status.load().connections.taken == 0).await;
    let mut waiting = server.connect().await;
    waiting.send(GET).await;
    until(|| handlers.load() == (0, 2)).await;
    let load = status.load();
    assert_eq!(load.waiting, Share { taken: 1, limit: 7 });
    assert_eq!(load.accepted_waiting.taken, 1);
    assert_eq!(load.held_bytes.taken, 3);
    let (_second, mut third) = (server.connect().await, server.connect().await);
    assert_eq!(third.response().await.status, 503);
    let load = status.load();
    assert_eq!((load.connections, load.connections_refused), (Share { taken: 2, limit: 2 }, 1));
}
