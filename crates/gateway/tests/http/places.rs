//! Who waits, who is turned away, who is cancelled, and when time is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{Handler, HandlerError, InvokeError, Reply};
use tokio::sync::Semaphore;

use crate::support::{
    Function, GET, Server, answers, echo, failed, handler, post, streamed, until,
};

/// A handler whose calls end when the test lets them, in the order in which it
/// took them; and the number of those that were cancelled.
fn gated() -> (Arc<dyn Handler>, Arc<Semaphore>, Arc<AtomicUsize>) {
    struct Cancelled(Option<Arc<AtomicUsize>>);
    impl Drop for Cancelled {
        fn drop(&mut self) {
            if let Some(count) = &self.0 {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    let (gate, cancelled) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate_in, cancelled_in) = (Arc::clone(&gate), Arc::clone(&cancelled));
    let handler = handler(move |call, place| {
        let gate = Arc::clone(&gate_in);
        let cancelled = Cancelled(Some(Arc::clone(&cancelled_in)));
        async move {
            let mut cancelled = cancelled;
            gate.acquire().await.unwrap().forget();
            cancelled.0 = None;
            drop(place);
            Ok(Reply { body: call.body, ..Reply::from_bytes("") })
        }
    });
    (handler, gate, cancelled)
}

fn one_place(waiting_max: usize) -> Function {
    Function { places: 1, waiting_max, ..Function::default() }
}

#[tokio::test]
async fn callers_wait_in_order_and_the_next_one_is_turned_away() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, gate, _) = gated();
    let handlers = server.deploy(one_place(2), handler);
    let mut clients = Vec::new();
    for (number, load) in [(1, 0), (1, 1), (1, 2)] {
        let mut client = server.connect().await;
        client.send(post(&clients.len().to_string())).await;
        until(|| handlers.load() == (number, load)).await;
        clients.push(client);
    }
    let full = server.ask(GET).await;
    assert_eq!((full.status, full.header("retry-after")), (429, Some("1")));
    assert!(full.text().contains("2 calls are waiting"), "{}", full.text());
    for (number, client) in clients.iter_mut().enumerate() {
        gate.add_permits(1);
        assert_eq!(client.response().await.text(), number.to_string());
    }
    assert_eq!(handlers.load(), (0, 0));
}

#[tokio::test]
async fn the_whole_server_has_a_waiting_room_too() {
    let config = GatewayConfig { waiting_max: 1, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    let (handler, _gate, _) = gated();
    let handlers = server.deploy(one_place(9), handler);
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.send(GET).await;
    until(|| handlers.load() == (1, 0)).await;
    two.send(GET).await;
    until(|| handlers.load() == (1, 1)).await;
    let full = server.ask(GET).await;
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_its_call() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, _gate, cancelled) = gated();
    let handlers = server.deploy(one_place(9), handler);
    let mut running = server.connect().await;
    running.send(post("read whole")).await;
    until(|| handlers.load() == (1, 0)).await;
    let mut waiting = server.connect().await;
    waiting.send(GET).await;
    until(|| handlers.load() == (1, 1)).await;
    drop(waiting);
    wait_until(|| handlers.load() == (1, 0)).await;
    assert_eq!(cancelled.load(Ordering::SeqCst), 0);
    drop(running);
    wait_until(|| cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(handlers.load(), (0, 0));
}

/// As [`until`], for what a socket must tell first.
async fn wait_until(so: impl Fn() -> bool) {
    while !so() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_caller_who_leaves_a_stream_cancels_it() {
    let (parts, body) = streamed();
    let body = parking_lot::Mutex::new(Some(body));
    let server = Server::with(handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    }))
    .await;
    let mut client = server.connect().await;
    client.send(GET).await;
    parts.send(Ok("first".into())).unwrap();
    client.head().await.unwrap();
    drop(client);
    parts.closed().await;
}

#[tokio::test(start_paused = true)]
async fn time_is_over_in_the_function_and_in_the_queue() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, _gate, cancelled) = gated();
    let function = Function { deadline: Duration::from_secs(5), ..one_place(9) };
    let handlers = server.deploy(function, handler);
    let began = tokio::time::Instant::now();
    let mut running = server.connect().await;
    running.send(GET).await;
    until(|| handlers.load() == (1, 0)).await;
    let waiting = server.ask(GET).await;
    let running = running.response().await;
    assert_eq!((waiting.status, running.status), (504, 504));
    assert!(running.text().contains("longer than the 5s"), "{}", running.text());
    let took = began.elapsed().as_secs();
    assert!((5..6).contains(&took), "{took}");
    // The one in the queue got the place that the other one left, for no time.
    until(|| cancelled.load(Ordering::SeqCst) >= 1 && handlers.load() == (0, 0)).await;
}

#[tokio::test(start_paused = true)]
async fn time_is_over_in_the_middle_of_a_reply() {
    let (parts, body) = streamed();
    let body = parking_lot::Mutex::new(Some(body));
    let mut server = Server::start(GatewayConfig::default()).await;
    let handler = handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    });
    server.deploy(Function { deadline: Duration::from_secs(5), ..Function::default() }, handler);
    let mut client = server.connect().await;
    client.send(GET).await;
    parts.send(Ok("first".into())).unwrap();
    client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), b"first");
    client.ended().await;
    assert!(parts.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_reply_without_a_first_byte_is_a_504_when_time_is_over() {
    let (parts, body) = streamed();
    let body = parking_lot::Mutex::new(Some(body));
    let mut server = Server::start(GatewayConfig::default()).await;
    let handler = handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    });
    server.deploy(Function { deadline: Duration::from_secs(5), ..Function::default() }, handler);
    assert_eq!(server.ask(GET).await.status, 504);
    assert!(parts.is_closed());
}

#[tokio::test]
async fn a_call_that_nobody_has_seen_is_offered_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&tries);
    let server = Server::with(handler(move |call, _| {
        let attempt = tried.fetch_add(1, Ordering::SeqCst);
        async move {
            if attempt < 2 {
                return Err(HandlerError::NotStarted(Box::new(call)));
            }
            Ok(Reply { body: call.body, ..Reply::from_bytes("") })
        }
    }))
    .await;
    assert_eq!(server.ask(post("kept")).await.text(), "kept");

    let never = handler(|call, _| async { Err(HandlerError::NotStarted(Box::new(call))) });
    let response = Server::with(never).await.ask(GET).await;
    assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn who_waits_follows_the_route() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (old, _gate, _) = gated();
    let old_handlers = server.deploy(one_place(9), old);
    let (mut running, mut waiting) = (server.connect().await, server.connect().await);
    running.send(GET).await;
    until(|| old_handlers.load() == (1, 0)).await;
    waiting.send(post("moved")).await;
    until(|| old_handlers.load() == (1, 1)).await;
    server.deploy(one_place(9), echo());
    old_handlers.close();
    assert_eq!(waiting.response().await.text(), "moved");
}

#[tokio::test]
async fn who_waits_for_a_function_that_goes_is_told() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, _gate, _) = gated();
    let handlers = server.deploy(one_place(9), handler);
    let (mut running, mut waiting) = (server.connect().await, server.connect().await);
    running.send(GET).await;
    until(|| handlers.load() == (1, 0)).await;
    waiting.send(GET).await;
    until(|| handlers.load() == (1, 1)).await;
    server.writer.remove(&tinyfaas_model::FunctionName::parse("f").unwrap()).unwrap();
    handlers.close();
    assert_eq!(waiting.response().await.status, 404);

    // Closed and still routed: the server is going.
    let handlers = server.deploy(one_place(9), echo());
    handlers.close();
    assert_eq!(server.ask(GET).await.status, 503);
}

#[tokio::test]
async fn no_handler_at_all_is_a_503_with_the_reason() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let handlers = server.deploy(Function::default(), echo());
    handlers.retire(&tinyfaas_model::HandlerId::new("fake-0"));
    handlers.set_unavailable("it exits with 1", Duration::from_secs(7));
    let response = server.ask(GET).await;
    assert_eq!((response.status, response.header("retry-after")), (503, Some("7")));
    assert!(response.text().contains("it exits with 1"));
}

#[tokio::test]
async fn a_crash_is_not_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let tried = Arc::clone(&tries);
    let crash = answers(move || {
        tried.fetch_add(1, Ordering::SeqCst);
        failed(InvokeError::Crashed { how: "signal 9".to_owned() })
    });
    let response = Server::with(crash).await.ask(GET).await;
    assert_eq!((response.status, tries.load(Ordering::SeqCst)), (500, 1));
    assert!(response.text().contains("signal 9"));
}
