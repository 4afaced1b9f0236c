//! Calls that are accepted now and run later.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{Handler, InvokeError, Reply};
use tokio::sync::{Semaphore, mpsc};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Function, Server, answers, echo, failed, handler, streamed, until, whole};

/// An asynchronous POST with this body.
pub(crate) fn later(body: &str) -> String {
    let length = body.len();
    format!(
        "POST /f HTTP/1.1\r\nhost: h\r\nX-tinyFaaS-Async: no\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// A handler that tells the bodies it got, once the gate opens for each.
pub(crate) fn gated() -> (Arc<dyn Handler>, Arc<Semaphore>, mpsc::UnboundedReceiver<String>) {
    let gate = Arc::new(Semaphore::new(0));
    let (told, ran) = mpsc::unbounded_channel();
    let gate_in = Arc::clone(&gate);
    let handler = handler(move |call, place| {
        let (gate, told) = (Arc::clone(&gate_in), told.clone());
        async move {
            gate.acquire().await.unwrap().forget();
            let body = whole(call.body).await?;
            told.send(String::from_utf8(body.to_vec()).unwrap()).unwrap();
            drop(place);
            Ok(Reply::from_bytes(""))
        }
    });
    (handler, gate, ran)
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    /// Takes what this thread logs from now on.
    fn take(&self) -> tracing::subscriber::DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(false);
        tracing::subscriber::set_default(subscriber.finish())
    }
}

#[tokio::test]
async fn it_is_accepted_at_once_and_runs() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, gate, mut ran) = gated();
    server.deploy(Function::default(), handler);
    let response = server.ask(later("work")).await;
    assert_eq!((response.status, response.text()), (202, ""));
    let id = response.header("x-tinyfaas-call-id").unwrap();
    assert_eq!(response.header("location"), Some(&*format!("/.tinyfaas/calls/{id}")));
    gate.add_permits(1);
    assert_eq!(ran.recv().await.unwrap(), "work");
}

#[tokio::test]
async fn its_chunked_body_is_read_whole_first() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, gate, mut ran) = gated();
    let handlers = server.deploy(Function::default(), handler);
    gate.add_permits(1);
    let mut client = server.connect().await;
    let head = "POST /f HTTP/1.1\r\nhost: h\r\nx-tinyfaas-async;\r\n";
    let head = head.replace(';', ":") + "transfer-encoding: chunked\r\n\r\n";
    client.send(head + "3\r\none\r\n").await;
    client.send("3\r\ntwo\r\n").await;
    assert_eq!(handlers.load(), (0, 0));
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 202);
    assert_eq!(ran.recv().await.unwrap(), "onetwo");
}

#[tokio::test]
async fn an_unknown_function_is_a_404_at_once() {
    let server = Server::with(echo()).await;
    let response = server.ask(later("x").replace("/f", "/unknown")).await;
    assert_eq!(response.status, 404);
}

#[tokio::test]
async fn a_body_too_large_is_a_413() {
    let config = GatewayConfig { body_bytes_max: 3, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    assert_eq!(server.ask(later("four")).await.status, 413);
}

#[tokio::test]
async fn they_are_bounded_in_number_and_not_by_the_functions_queue() {
    let config = GatewayConfig { async_waiting_max: 3, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    let (handler, gate, mut ran) = gated();
    let function = Function { places: 1, waiting_max: 0, ..Function::default() };
    server.deploy(function, handler);
    for body in ["0", "1", "2"] {
        assert_eq!(server.ask(later(body)).await.status, 202);
    }
    let full = server.ask(later("3")).await;
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    assert!(full.text().contains("asynchronous"), "{}", full.text());
    gate.add_permits(3);
    for body in ["0", "1", "2"] {
        assert_eq!(ran.recv().await.unwrap(), body);
    }
    gate.add_permits(1);
    while server.ask(later("4")).await.status != 202 {}
    assert_eq!(ran.recv().await.unwrap(), "4");
}

#[tokio::test]
async fn they_are_bounded_in_bytes() {
    let config = GatewayConfig { held_bytes_max: 10, ..GatewayConfig::default() };
    let mut server = Server::start(config).await;
    let (handler, gate, mut ran) = gated();
    server.deploy(Function::default(), handler);
    assert_eq!(server.ask(later("1234567")).await.status, 202);
    let full = server.ask(later("1234")).await;
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    assert!(full.text().contains("bytes"), "{}", full.text());
    assert_eq!(server.ask(later("123")).await.status, 202);
    gate.add_permits(3);
    ran.recv().await.unwrap();
    ran.recv().await.unwrap();
    while server.ask(later("1234567890")).await.status != 202 {}
}

#[tokio::test(start_paused = true)]
async fn its_deadline_starts_when_it_runs() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let (told, mut ran) = mpsc::unbounded_channel();
    let slow = handler(move |call, place| {
        let told = told.clone();
        async move {
            let left = call.deadline - tokio::time::Instant::now().into_std();
            told.send(left.as_secs()).unwrap();
            tokio::time::sleep(Duration::from_secs(4)).await;
            drop(place);
            Ok(Reply::from_bytes(""))
        }
    });
    let deadline = Duration::from_secs(5);
    server.deploy(Function { places: 1, deadline, ..Function::default() }, slow);
    for _ in 0..3 {
        assert_eq!(server.ask(later("x")).await.status, 202);
    }
    for _ in 0..3 {
        let left = ran.recv().await.unwrap();
        assert!((4..=5).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn its_streamed_reply_is_read_to_the_end() {
    let (parts, body) = streamed();
    let body = Mutex::new(Some(body));
    let server = Server::with(handler(move |_, _| {
        let body = body.lock().take().unwrap();
        async { Ok(Reply { body, ..Reply::from_bytes("") }) }
    }))
    .await;
    assert_eq!(server.ask(later("x")).await.status, 202);
    for _ in 0..3 {
        parts.send(Ok("part".into())).unwrap();
        tokio::task::yield_now().await;
    }
    assert!(!parts.is_closed());
}

#[tokio::test]
async fn a_failure_is_told_to_the_log() {
    let log = Log::default();
    let _guard = log.take();
    let crash = answers(|| failed(InvokeError::Crashed { how: "signal 9".to_owned() }));
    let response = Server::with(crash).await.ask(later("x")).await;
    assert_eq!(response.status, 202);
    until(|| !log.text().is_empty()).await;
    let (text, id) = (log.text(), response.header("x-tinyfaas-call-id").unwrap());
    assert!(text.contains("function=f") && text.contains(id), "{text}");
    assert!(text.contains("signal 9"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_drains_them_and_logs_what_it_gives_up() {
    let log = Log::default();
    let _guard = log.take();
    let mut server = Server::start(GatewayConfig::default()).await;
    let (handler, gate, mut ran) = gated();
    let handlers = server.deploy(Function { places: 1, ..Function::default() }, handler);
    let mut ids = Vec::new();
    for body in ["0", "1", "2"] {
        let response = server.ask(later(body)).await;
        ids.push(response.header("x-tinyfaas-call-id").unwrap().to_owned());
    }
    gate.add_permits(1);
    let began = tokio::time::Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(ran.recv().await.unwrap(), "0");
    until(|| handlers.load() == (0, 0)).await;
    let text = log.text();
    assert!(!text.contains(&ids[0]), "{text}");
    for id in &ids[1..] {
        let line = text.lines().find(|line| line.contains(id)).unwrap();
        assert!(line.contains("function=f") && line.contains("given up"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_returns_when_the_last_one_has_ended() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let slow = handler(|_, _| async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(Reply::from_bytes(""))
    });
    server.deploy(Function::default(), slow);
    assert_eq!(server.ask(later("x")).await.status, 202);
    let began = tokio::time::Instant::now();
    server.gateway.shutdown(Duration::from_secs(10)).await;
    assert_eq!(began.elapsed().as_secs(), 3);
}
