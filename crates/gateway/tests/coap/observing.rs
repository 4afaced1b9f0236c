//! Observing functions and results: who is told what, and when functions run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tinyfaas_coap::message::{Code, Kind, Message, MessageId, OptionNumber, OptionsBuilder, Token};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{CallOutcome, CoapAttributes, FunctionName, Handler, Reply};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::support::*;

/// A client that observes.
struct Observer {
    socket: UdpSocket,
    next: u16,
    last: Option<u32>,
}

impl Observer {
    async fn new(server: &Server) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server.address).await.unwrap();
        Self { socket, next: 0, last: None }
    }

    /// Asks to observe that path, and returns what it is told first.
    async fn begin(server: &Server, url: &str) -> (Self, Message) {
        let mut observer = Self::new(server).await;
        let first = observer.ask(url, 0).await;
        observer.last = first.options.uint(OptionNumber::OBSERVE);
        (observer, first)
    }

    async fn ask(&mut self, url: &str, observe: u32) -> Message {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let mut options = OptionsBuilder::new();
        options.push_uint(OptionNumber::OBSERVE, observe);
        for segment in path.split('/').skip(1) {
            options.push(OptionNumber::URI_PATH, segment.as_bytes()).unwrap();
        }
        if !query.is_empty() {
            options.push(OptionNumber::URI_QUERY, query.as_bytes()).unwrap();
        }
        self.next += 1;
        let request = Message {
            code: Code::GET,
            token: Token::new(b"token").unwrap(),
            options: options.build(),
            ..Message::empty(Kind::Confirmable, MessageId(self.next))
        };
        self.socket.send(&request.encode()).await.unwrap();
        loop {
            let answer = self.receive().await;
            if !answer.code.is_empty() {
                return answer;
            }
        }
    }

    /// The next thing that it is told, which it acknowledges.
    async fn told(&mut self) -> Message {
        let message = self.receive().await;
        assert_eq!(message.token.as_slice(), b"token");
        if message.code.is_success() {
            let sequence = message.options.uint(OptionNumber::OBSERVE);
            assert!(sequence > self.last, "{sequence:?} after {:?}", self.last);
            self.last = sequence;
        } else {
            assert_eq!(message.options.get(OptionNumber::OBSERVE), None);
        }
        message
    }

    async fn receive(&mut self) -> Message {
        let mut datagram = vec![0; 2048];
        let read = timeout(PATIENCE, self.socket.recv(&mut datagram)).await;
        datagram.truncate(read.expect("nothing was told").unwrap());
        let message = Message::decode(&datagram.into()).unwrap();
        if message.kind == Kind::Confirmable {
            let taken = Message::empty(Kind::Acknowledgement, message.id);
            self.socket.send(&taken.encode()).await.unwrap();
        }
        message
    }

    /// Nothing has come that was not looked at.
    fn assert_silent(&self) {
        let mut datagram = [0; 2048];
        let read = self.socket.try_recv(&mut datagram);
        assert!(read.is_err(), "it was told {:?}", &datagram[..read.unwrap()]);
    }
}

fn text(message: &Message) -> (Code, &str) {
    (message.code, std::str::from_utf8(&message.payload).unwrap())
}

fn is_observed(message: &Message) -> bool {
    message.options.get(OptionNumber::OBSERVE).is_some()
}

/// What a function shows, and how often it was asked.
#[derive(Clone, Default)]
struct Shown {
    text: Arc<Mutex<String>>,
    gets: Arc<AtomicUsize>,
}

impl Shown {
    /// A GET shows it, anything else changes it to what it carries; no text is none.
    fn handler(&self, max_age: Option<u32>) -> Arc<dyn Handler> {
        let shown = self.clone();
        handler(move |call, _place| {
            let shown = shown.clone();
            async move {
                if call.method != Method::GET {
                    *shown.text.lock() =
                        String::from_utf8(whole(call.body).await?.to_vec()).unwrap();
                    return Ok(Reply::from_bytes("changed"));
                }
                shown.gets.fetch_add(1, Ordering::SeqCst);
                let text = shown.text.lock().clone();
                let mut reply = Reply::from_bytes(text.clone());
                if text.is_empty() {
                    reply.status = Some(StatusCode::NOT_FOUND);
                }
                if let Some(seconds) = max_age {
                    let value = HeaderValue::from_str(&format!("max-age={seconds}")).unwrap();
                    reply.headers.insert(CACHE_CONTROL, value);
                }
                Ok(reply)
            }
        })
    }

    fn set(&self, text: &str) {
        *self.text.lock() = text.to_owned();
    }

    fn gets(&self) -> usize {
        self.gets.load(Ordering::SeqCst)
    }
}

fn observable() -> Function {
    let coap = CoapAttributes { observable: true, ..CoapAttributes::default() };
    Function { coap, ..Function::default() }
}

fn serve(shown: &Shown, max_age: Option<u32>) -> Server {
    let mut server = Server::start(GatewayConfig::default());
    shown.set("one");
    server.deploy(observable(), shown.handler(max_age));
    server
}

#[tokio::test]
async fn all_observers_are_told_of_one_run() {
    let shown = Shown::default();
    let server = serve(&shown, None);
    let (mut one, first) = Observer::begin(&server, "/f").await;
    assert_eq!((text(&first), is_observed(&first)), ((Code::CONTENT, "one"), true));
    let (mut other, first) = Observer::begin(&server, "/f").await;
    assert_eq!((text(&first), shown.gets()), ((Code::CONTENT, "one"), 1));
    server.ask(post("/f", "two")).await;
    for observer in [&mut one, &mut other] {
        assert_eq!(text(&observer.told().await), (Code::CONTENT, "two"));
    }
    assert_eq!(shown.gets(), 2);
    // Another path, another query: resources of their own, one of them the same path.
    let (third, _) = Observer::begin(&server, "/f/path").await;
    let (mut fourth, _) = Observer::begin(&server, "/f?query").await;
    assert_eq!(shown.gets(), 4);
    server.ask(post("/f", "three")).await;
    assert_eq!(text(&fourth.told().await), (Code::CONTENT, "three"));
    assert_eq!(text(&one.told().await), (Code::CONTENT, "three"));
    assert_eq!(shown.gets(), 6);
    third.assert_silent();
}

#[tokio::test]
async fn it_is_run_again_at_the_end_of_max_age_and_told_if_it_changed() {
    let shown = Shown::default();
    let server = serve(&shown, Some(1));
    let (mut observer, first) = Observer::begin(&server, "/f").await;
    assert_eq!(first.options.uint(OptionNumber::MAX_AGE), Some(1));
    until(|| shown.gets() >= 3).await;
    observer.assert_silent();
    shown.set("two");
    assert_eq!(text(&observer.told().await), (Code::CONTENT, "two"));
}

#[tokio::test]
async fn a_change_without_effect_is_not_told() {
    let shown = Shown::default();
    let server = serve(&shown, None);
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    server.ask(post("/f", "one")).await;
    until(|| shown.gets() == 2).await;
    server.ask(post("/f", "two")).await;
    assert_eq!(text(&observer.told().await), (Code::CONTENT, "two"));
}

#[tokio::test]
async fn nothing_runs_for_nobody() {
    let shown = Shown::default();
    let server = serve(&shown, None);
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    let reply = observer.ask("/f", 1).await;
    assert_eq!((text(&reply), is_observed(&reply)), ((Code::CONTENT, "one"), false));
    server.ask(post("/f", "two")).await;
    // What would run for the observer would have begun ahead of this.
    server.ask(get("/f")).await;
    assert_eq!(shown.gets(), 3);
    observer.assert_silent();
    // A reset ends it as well.
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    server.ask(post("/f", "three")).await;
    let mut datagram = vec![0; 2048];
    let length = observer.socket.recv(&mut datagram).await.unwrap();
    datagram.truncate(length);
    let told = Message::decode(&datagram.into()).unwrap();
    let reset = Message::empty(Kind::Reset, told.id).encode();
    observer.socket.send(&reset).await.unwrap();
    observer.ask("/other", 1).await;
    let before = shown.gets();
    server.ask(post("/f", "four")).await;
    server.ask(get("/f")).await;
    assert_eq!(shown.gets(), before + 1);
}

#[tokio::test]
async fn an_error_of_the_function_is_told_and_ends_it() {
    let shown = Shown::default();
    let server = serve(&shown, None);
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    server.ask(ask(Code::DELETE, "/f")).await;
    assert_eq!(observer.told().await.code, Code::NOT_FOUND);
    // Nobody can observe what is not there.
    let (again, reply) = Observer::begin(&server, "/f").await;
    assert_eq!((reply.code, is_observed(&reply)), (Code::NOT_FOUND, false));
    server.ask(post("/f", "back")).await;
    server.ask(get("/f")).await;
    again.assert_silent();
    observer.assert_silent();
    assert_eq!(shown.gets(), 4);
}

#[tokio::test]
async fn a_function_that_is_replaced_keeps_its_observers_and_a_deleted_one_does_not() {
    let shown = Shown::default();
    let mut server = serve(&shown, None);
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    let other = Shown::default();
    other.set("new");
    server.deploy(observable(), other.handler(None));
    assert_eq!(text(&observer.told().await), (Code::CONTENT, "new"));
    server.writer.remove(&FunctionName::parse("f").unwrap());
    assert_eq!(observer.told().await.code, Code::NOT_FOUND);
    // One that cannot be observed any more ends it as well.
    server.deploy(observable(), other.handler(None));
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    server.deploy(Function::default(), other.handler(None));
    assert_eq!(observer.told().await.code, Code::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn what_cannot_be_observed_is_answered_as_ever() {
    let shown = Shown::default();
    let mut server = serve(&shown, None);
    server.deploy(Function { name: "plain", ..Function::default() }, shown.handler(None));
    let (_, reply) = Observer::begin(&server, "/plain").await;
    assert_eq!((text(&reply), is_observed(&reply)), ((Code::CONTENT, "one"), false));
    let (_, reply) = Observer::begin(&server, "/.well-known/core").await;
    assert_eq!((reply.code, is_observed(&reply)), (Code::CONTENT, false));
}

#[tokio::test]
async fn what_is_watched_is_bounded() {
    let mut config = GatewayConfig::default();
    config.coap.watch.resources_max = 1;
    config.coap.watch.states_bytes_max = 10;
    let mut server = Server::start(config);
    let shown = Shown::default();
    shown.set("one");
    server.deploy(observable(), shown.handler(None));
    let (mut observer, first) = Observer::begin(&server, "/f").await;
    assert!(is_observed(&first));
    let (_, reply) = Observer::begin(&server, "/f/other").await;
    assert_eq!((text(&reply), is_observed(&reply)), ((Code::CONTENT, "one"), false));
    server.ask(post("/f", "far too long")).await;
    assert_eq!(observer.told().await.code, Code::SERVICE_UNAVAILABLE);
    let (_, reply) = Observer::begin(&server, "/f").await;
    assert_eq!((text(&reply), is_observed(&reply)), ((Code::CONTENT, "far too long"), false));
}

/// A function that takes one call at a time, and a POST as long as it may.
#[tokio::test]
async fn a_busy_function_has_a_few_runs_before_that_is_told() {
    let gate = Arc::new(Semaphore::new(0));
    let (opened, busy) = (Arc::clone(&gate), Arc::new(AtomicUsize::new(0)));
    let begun = Arc::clone(&busy);
    let mut server = Server::start(GatewayConfig::default());
    let function = Function { places: 1, waiting_max: 0, ..observable() };
    server.deploy(
        function,
        handler(move |call, place| {
            let (gate, begun) = (Arc::clone(&opened), Arc::clone(&begun));
            async move {
                let _place = place;
                let count = begun.load(Ordering::SeqCst);
                if call.method == Method::POST {
                    begun.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                }
                let mut reply = Reply::from_bytes(count.to_string());
                reply.headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
                Ok(reply)
            }
        }),
    );
    let server = Arc::new(server);
    let (mut observer, first) = Observer::begin(&server, "/f").await;
    assert_eq!(text(&first), (Code::CONTENT, "0"));
    let hold = |count| {
        let (server, busy) = (Arc::clone(&server), Arc::clone(&busy));
        async move {
            // A run may have the place just then.
            while busy.load(Ordering::SeqCst) < count {
                let server = Arc::clone(&server);
                let call = tokio::spawn(async move { server.ask(post("/f", "")).await });
                until(|| busy.load(Ordering::SeqCst) == count || call.is_finished()).await;
            }
        }
    };
    hold(1).await;
    let refused = || server.counters().calls.count(CallOutcome::Busy);
    let before = refused();
    until(|| refused() > before).await;
    gate.add_permits(1);
    assert_eq!(text(&observer.told().await), (Code::CONTENT, "1"));
    hold(2).await;
    assert_eq!(observer.told().await.code, Code::SERVICE_UNAVAILABLE);
    gate.add_permits(1);
}

#[tokio::test]
async fn the_end_of_a_call_is_told() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let server = Server::with(handler(move |_, _| {
        let gate = Arc::clone(&opened);
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(Reply::from_bytes("the result"))
        }
    }));
    let mut accepted = Vec::new();
    for _ in 0..2 {
        let answer = server.ask(post("/f?tinyfaas-async", "")).await;
        let path: Vec<_> = answer.options.all(OptionNumber::LOCATION_PATH).collect();
        accepted.push(format!("/{}", String::from_utf8(path.join(&b'/')).unwrap()));
    }
    let (mut cancelled, first) = Observer::begin(&server, &accepted[1]).await;
    assert_eq!((text(&first), is_observed(&first)), ((Code::CONTENT, ""), true));
    assert_eq!(server.ask(get(&accepted[1])).await.code, Code::SERVICE_UNAVAILABLE);
    server.ask(ask(Code::DELETE, &accepted[1])).await;
    assert_eq!(cancelled.told().await.code, Code::NOT_FOUND);
    let (mut observer, first) = Observer::begin(&server, &accepted[0]).await;
    assert_eq!((text(&first), is_observed(&first)), ((Code::CONTENT, ""), true));
    gate.add_permits(2);
    assert_eq!(text(&observer.told().await), (Code::CONTENT, "the result"));
    // Who comes later has it at once.
    let (_, first) = Observer::begin(&server, &accepted[0]).await;
    assert_eq!((text(&first), is_observed(&first)), ((Code::CONTENT, "the result"), true));
    let unknown = format!("/.tinyfaas/calls/{}", "0".repeat(32));
    let (_, reply) = Observer::begin(&server, &unknown).await;
    assert_eq!((reply.code, is_observed(&reply)), (Code::NOT_FOUND, false));
}

#[tokio::test]
async fn a_stop_is_told_and_takes_no_time() {
    let shown = Shown::default();
    let server = serve(&shown, None);
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    let stop = server.gateway.shutdown(Duration::from_secs(60));
    timeout(Duration::from_secs(5), stop).await.expect("nothing is under way");
    assert_eq!(observer.told().await.code, Code::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_long_state_comes_in_blocks() {
    let shown = Shown::default();
    let server = serve(&shown, None);
    let (mut observer, _) = Observer::begin(&server, "/f").await;
    let long = "long ".repeat(1000);
    server.ask(post("/f", long.clone())).await;
    let told = observer.told().await;
    assert_eq!((&told.payload[..], is_observed(&told)), (&long.as_bytes()[..1024], true));
    assert!(told.options.get(OptionNumber::BLOCK2).is_some());
}
