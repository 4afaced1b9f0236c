use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tinyfaas_model::{Patience, Routes, RoutesWriter, WaitingRoom};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::ManagementConfig;
use crate::fake::{FakeBackend, FakeCalls, zip_of};

use super::*;

pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) port: u16,
    pub(super) backend: Arc<FakeBackend>,
    pub(super) manager: Arc<Manager>,
    pub(super) routes: Routes,
    pub(super) calls: Arc<FakeCalls>,
    pub(super) stop: oneshot::Sender<()>,
    pub(super) served: JoinHandle<()>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let head = head.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") {
            unchunked(body)
        } else {
            body.to_owned()
        };
        Self { status, head, body }
    }

    #[track_caller]
    pub(super) fn check(&self, status: u16, part: &str) {
        assert!(
            self.status == status && self.body.contains(part),
            "{status} {part:?} expected, but {} {:?}",
            self.status,
            self.body
        );
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut ManagementConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ManagementConfig::new(dir.path().join("spool"), dir.path().join("logs"));
        change(&mut config);
        let backend = FakeBackend::new();
        let (writer, routes) = RoutesWriter::new();
        let manager = Manager::new(config, backend.clone(), writer);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoints = Endpoints {
            http: Some(8000),
            coap: Some(5683),
            coaps: Some(5684),
            management: Some(port),
            ..Endpoints::default()
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let calls = FakeCalls::new();
        let surroundings = Surroundings { endpoints, calls: calls.clone(), gateway: None };
        let served = tokio::spawn(serve(
            vec![Entrance { listener, tls: None }],
            manager.clone(),
            surroundings,
            shutdown,
        ));
        Self { dir, port, backend, manager, routes, calls, stop, served }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Sends these bytes and reads to the end of the connection.
    pub(super) async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        let answer = read_answer(&mut stream).await;
        let first = String::from_utf8_lossy(&request[..request.len().min(1000)]).into_owned();
        openapi::tests::check_described(&first, answer.status, &answer.head);
        answer
    }

    pub(super) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &str,
        body: &str,
    ) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{headers}\r\n{body}",
            self.port
        );
        self.raw(request.as_bytes()).await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.send("POST", path, form, body).await
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, "", "").await
    }

    pub(super) fn spooled(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("spool")).map_or(0, Iterator::count)
    }
}

async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    Answer::parse(&bytes)
}

/// The body of an upload of these files.
fn upload_of(name: &str, files: &[(&str, &str)]) -> String {
    let zip = STANDARD.encode(zip_of(files));
    format!(r#"{{"name":"{name}","env":"python3","threads":1,"zip":"{zip}"}}"#)
}

fn echo() -> String {
    upload_of("echo", &[("fn.py", "def fn(i): return i"), ("version", "v1")])
}

#[tokio::test]
async fn all_six_calls_work() {
    let world = World::new().await;
    world.get("/list").await.check(200, "");
    let answer = world.post("/upload", &echo()).await;
    answer.check(200, "");
    assert_eq!(answer.body, "coap://localhost:5683/echo\nhttp://localhost:8000/echo\n");
    world.post("/upload", &upload_of("b", &[("fn.py", "")])).await.check(200, "");
    assert_eq!(world.get("/list").await.body, "b\necho\n");
    let logs = world.get("/logs").await;
    assert!(logs.head.contains("content-type: text/plain; charset=utf-8"), "{}", logs.head);
    let lines: Vec<&str> = logs.body.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[1].starts_with("function=b handler=b-1 20") && lines[1].ends_with("Z started"));
    assert!(lines[3].starts_with("function=echo handler=echo-1 "));
    assert_eq!(world.get("/logs?name=echo").await.body.lines().count(), 2);
    assert_eq!(world.get("/logs?name=").await.body.lines().count(), 4);
    world.get("/logs?name=nobody").await.check(404, "there is no function \"nobody\"");
    let deleted = world.post("/delete", r#"{"name":"b"}"#).await;
    assert_eq!((deleted.status, deleted.body.as_str()), (200, ""));
    world.post("/delete", r#"{"name":"b"}"#).await.check(404, "there is no function \"b\"");
    assert_eq!(world.get("/list").await.body, "echo\n");
    world.post("/wipe", "").await.check(200, "");
    assert_eq!(world.get("/list").await.body, "");
    assert_eq!(world.spooled(), 0);
}

#[tokio::test]
async fn the_host_of_the_request_is_answered() {
    let world = World::new().await;
    let body = echo();
    for (host, expected) in [
        ("127.0.0.1:9", "http://127.0.0.1:8000/echo"),
        ("[::1]:9", "http://[::1]:8000/echo"),
        ("localhost", "http://localhost:8000/echo"),
    ] {
        let request = format!(
            "POST /upload HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        world.raw(request.as_bytes()).await.check(200, expected);
    }
}

#[tokio::test]
async fn strangers_are_kept_out() {
    let world = World::with(|config| config.allowed_hosts = vec!["faas.example".into()]).await;
    let list = |head: &str| format!("GET /list HTTP/1.1\r\n{head}Connection: close\r\n\r\n");
    let ask = async |head: &str| world.raw(list(head).as_bytes()).await;
    ask("Host: faas.example:81\r\n").await.check(200, "");
    ask("Host: evil.example\r\n").await.check(403, "allowed hosts");
    ask("").await.check(400, "Host");
    ask("Host: localhost\r\nOrigin: http://evil.example\r\n").await.check(403, "evil.example");
    ask("Host: localhost\r\nOrigin: null\r\n").await.check(403, "null");
    let own = format!("Host: localhost:{0}\r\nOrigin: http://localhost:{0}\r\n", world.port);
    ask(&own).await.check(200, "");
    world.raw(b"GET /list HTTP/1.0\r\n\r\n").await.check(400, "Host");
    world.raw(b"GET /list HTTP/1.0\r\nHost: localhost\r\n\r\n").await.check(200, "");
    let foreign = "Origin: http://localhost:1234\r\n";
    world.send("POST", "/upload", foreign, &echo()).await.check(403, "localhost:1234");
    world.get("/list").await.check(200, "");
    assert!(world.backend.events().is_empty());
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told() {
    let world = World::new().await;
    world.get("/").await.check(404, "POST /uploadURL\n  POST /delete\n  GET /list");
    world.get("/list/").await.check(404, "/list/");
    let answer = world.get("/upload").await;
    answer.check(405, "use POST");
    assert!(answer.head.contains("\r\nallow: post"), "{}", answer.head);
    let answer = world.send("DELETE", "/logs", "", "").await;
    answer.check(405, "does not take DELETE");
    assert!(answer.head.contains("\r\nallow: get, head"), "{}", answer.head);
    let head = world.send("HEAD", "/list", "", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn bad_uploads_are_told_apart() {
    let world = World::new().await;
    let upload = async |body: &str| world.post("/upload", body).await;
    upload("").await.check(400, "the body is empty");
    upload("name=echo").await.check(400, "no JSON object");
    upload("[1]").await.check(400, "no JSON object");
    upload(&echo()[..echo().len() / 2]).await.check(400, "ends within");
    let with = |fields: &str| format!(r#"{{"name":"a","env":"python3",{fields}}}"#);
    upload(&with(r#""zip":"!""#)).await.check(400, "not base64");
    upload(&with(r#""zip":"","ZIP":"""#)).await.check(400, "twice");
    upload(&with(r#""zip":"aGVsbG8=""#)).await.check(400, "no zip archive");
    upload(&with(r#""zip":"""#)).await.check(400, "the zip has no bytes");
    upload(&with(r#""zip":null"#)).await.check(422, "lacks \"zip\"");
    upload(&with(r#""zip":3"#)).await.check(422, "\"zip\" is a number");
    upload(&with(r#""threads":0,"zip":"""#)).await.check(422, "from 1 to 256");
    upload(r#"{"name":"a","env":"cobol","zip":""}"#).await.check(422, "python3, nodejs, binary");
    upload(r#"{"name":"a/b","env":"nodejs","zip":""}"#).await.check(422, "name holds '/'");
    for (file, status, expected) in [
        ("fail-build", 422, "no fn.py"),
        ("fail-install", 422, "no matching distribution"),
        ("fail-start", 422, "SyntaxError"),
        ("no-runtime", 503, "install python3"),
        ("../fn.py", 422, "'..'"),
    ] {
        upload(&upload_of("a", &[(file, "")])).await.check(status, expected);
    }
    world.get("/list").await.check(200, "");
    assert_eq!(world.spooled(), 0);
}

/// The management service itself stands for any web server.
#[tokio::test]
async fn failed_downloads_are_told_apart() {
    let world = World::new().await;
    let from = async |url: &str| {
        let body = format!(r#"{{"name":"a","env":"python3","url":"{url}"}}"#);
        world.post("/uploadURL", &body).await
    };
    let here = format!("localhost:{}", world.port);
    from(&format!("http://{here}/none"))
        .await
        .check(502, &format!("{here} failed: it answers 404"));
    from(&format!("http://{here}/list"))
        .await
        .check(422, &format!("{here} sent cannot be unpacked: the zip has no bytes\n"));
    from("ftp://localhost/").await.check(422, "http:// or https://");
    from("nonsense").await.check(422, "not a URL");
    assert_eq!(world.spooled(), 0);
}

#[tokio::test]
async fn json_is_answered_to_who_reads_it() {
    let world = World::new().await;
    let accept = "Accept: application/json\r\n";
    let answer = world.send("POST", "/delete", accept, r#"{"name":"x"}"#).await;
    answer.check(404, "");
    assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
    let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((problem["status"].as_u64(), &problem["title"]), (Some(404), &"Not Found".into()));
    assert!(problem["detail"].as_str().unwrap().contains("there is no function"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_as_it_comes() {
    let world = World::with(|config| {
        config.archive.packed_bytes_max = 1000;
        config.request_bytes_max = 500;
    })
    .await;
    let zip = "A".repeat(8000);
    let body = format!(r#"{{"name":"a","env":"python3","zip":"{zip}"}}"#);
    world.post("/upload", &body).await.check(413, "larger than the 1000 bytes");
    let body = format!(r#"{{"name":"{}"}}"#, "a".repeat(600));
    world.post("/upload", &body).await.check(413, "larger than the 500 bytes");
    world.post("/delete", &body).await.check(413, "larger than the 500 bytes");
    // The body never ends: it is answered all the same.
    let mut stream = world.connect().await;
    let head = "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(format!(r#"{{"zip":"{zip}"#).as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

/// A client that sends all before it reads sees the answer, and one that asks
/// first is not told to send.
#[tokio::test]
async fn an_early_answer_reaches_its_client() {
    let world = World::with(|config| config.request_bytes_max = 500).await;
    let body = "x".repeat(8 << 20);
    world.post("/delete", &body).await.check(413, "500 bytes");
    world.post("/nowhere", &body).await.check(404, "/nowhere");
    let asks = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let answer = world.raw(asks.as_bytes()).await;
    answer.check(404, "/nowhere");
    assert!(!answer.body.contains("100 Continue"), "{}", answer.body);
}

#[tokio::test]
async fn too_many_uploads_are_sent_away() {
    let world = World::with(|config| config.uploads_max = 1).await;
    let slow = upload_of("slow", &[("gate", "")]);
    let first = world.post("/upload", &slow);
    let second = async {
        world.backend.wait_for("build slow").await;
        let answer = world.post("/upload", &echo()).await;
        world.backend.open_gate();
        answer
    };
    let (first, second) = tokio::join!(first, second);
    first.check(200, "");
    second.check(503, "1 uploads are under way");
    assert!(second.head.contains("\r\nretry-after: 2"), "{}", second.head);
    world.post("/upload", &echo()).await.check(200, "");
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let quick = Duration::from_millis(50);
    let world = World::with(|config| {
        config.header_timeout = quick;
        config.idle_timeout = quick;
        config.body_rate_min = u64::MAX;
    })
    .await;
    // Half a header.
    let mut stream = world.connect().await;
    stream.write_all(b"GET /list HT").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    // A kept connection without a next request.
    let mut stream = world.connect().await;
    stream.write_all(b"GET /list HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream.read_to_end(&mut rest).await.unwrap();
    // Half a body.
    let half = "POST /delete HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Length: 50\r\n\r\n{\"na";
    world.raw(half.as_bytes()).await.check(408, "no part of the body came for 50ms");
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let world = World::with(|config| {
        config.idle_timeout = Duration::from_millis(1100);
        config.body_rate_min = 1 << 20;
    })
    .await;
    let mut stream = world.connect().await;
    let head = "POST /delete HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Length: 500000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut every = tokio::time::interval(Duration::from_millis(100));
    let mut start = [0; 12];
    loop {
        tokio::select! {
            read = reading.read_exact(&mut start) => {
                read.unwrap();
                break;
            }
            _ = every.tick() => writing.write_all(b" ").await.unwrap(),
        }
    }
    assert_eq!(&start, b"HTTP/1.1 408");
}

#[tokio::test]
async fn connections_are_bounded() {
    let world = World::with(|config| config.connections_max = 1).await;
    let first = world.connect().await;
    let mut second = world.connect().await;
    let request = b"GET /list HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    second.write_all(request).await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(50), second.readable()).await;
    assert!(waits.is_err(), "the second is served beside the first");
    drop(first);
    read_answer(&mut second).await.check(200, "");
}

#[tokio::test]
async fn a_reader_who_takes_nothing_is_let_go() {
    let world = World::with(|config| {
        config.idle_timeout = Duration::from_millis(100);
        config.connections_max = 1;
    })
    .await;
    // More than the sockets' buffers hold.
    let log = world.manager.log_for_test("echo");
    let line = vec![b'x'; 10_000];
    for _ in 0..500 {
        log.line(&tinyfaas_model::HandlerId::new("echo-1"), &line);
        tokio::task::yield_now().await;
    }
    let mut stalled = world.connect().await;
    stalled.write_all(b"GET /logs HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    // The one place becomes free again.
    world.get("/list").await.check(200, "");
    drop(stalled);
}

#[tokio::test]
async fn a_stop_answers_and_ends() {
    let world = World::new().await;
    world.post("/upload", &echo()).await.check(200, "");
    let idle = world.connect().await;
    let slow = upload_of("slow", &[("gate", "")]);
    let mut uploading = world.connect().await;
    let head = "POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length";
    uploading.write_all(format!("{head}: {}\r\n\r\n{slow}", slow.len()).as_bytes()).await.unwrap();
    world.backend.wait_for("build slow").await;
    let mut half = world.connect().await;
    half.write_all(format!("{head}: 5000\r\n\r\n{{").as_bytes()).await.unwrap();
    let route = world.routes.find("echo").unwrap();
    let room = WaitingRoom::new(1);
    let running = route.handlers.admit(Patience::Caller, &room).await.unwrap();
    world.stop.send(()).unwrap();
    world.served.await.unwrap();
    read_answer(&mut uploading).await.check(503, "stopping");
    drop((running, idle, half));
    world.manager.shutdown(Duration::ZERO).await;
    assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 0);
}
