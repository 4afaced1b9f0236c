//! The load over CoAP: clients with a socket and one confirmable request each.
//!
//! Owns the sockets and the one loop that serves them all. It works on the kernel's
//! readiness itself and not on a runtime: a request costs it one system call to
//! send, one to receive, and its part of one that tells who has received. Must not
//! know what is measured with it.

mod exchange;
mod once;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tinyfaas_coap::message::{Code, Kind, Message, MessageId, OptionNumber, OptionsBuilder, Token};

use super::{BREAKS_MAX, Outcome, PATIENCE, Pace, Plan, Window};
use exchange::{Exchange, Taken};
pub(crate) use once::ask;

/// Between two looks at whether something was lost.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longer datagrams are cut, and so wrong; replies asked for are far shorter.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// What to ask, and what must be answered.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The request, but for its message ID and token.
    pub(crate) request: Message,
    /// The code of a right reply.
    pub(crate) code: Code,
    /// The payload of a right reply.
    pub(crate) expected: Bytes,
}

impl Target {
    /// A POST of `body` to the function `name` that must come back unchanged.
    pub(crate) fn echo(address: SocketAddr, name: &str, body: &[u8]) -> Self {
        let body = Bytes::copy_from_slice(body);
        let request = Message { payload: body.clone(), ..request(Code::POST, &[name]) };
        Self { address, request, code: Code::CONTENT, expected: body }
    }

    /// A GET of this path whose reply is known.
    pub(crate) fn fixed(address: SocketAddr, path: &[&str], expected: Bytes) -> Self {
        Self { address, request: request(Code::GET, path), code: Code::CONTENT, expected }
    }
}

/// A confirmable request without payload; whoever sends it gives it an ID and a
/// token.
pub(crate) fn request(code: Code, path: &[&str]) -> Message {
    let mut options = OptionsBuilder::new();
    for segment in path {
        let segment = segment.as_bytes();
        options.push(OptionNumber::URI_PATH, segment).expect("the bench's own paths are short");
    }
    Message {
        kind: Kind::Confirmable,
        code,
        id: MessageId(0),
        token: Token::EMPTY,
        options: options.build(),
        payload: Bytes::new(),
    }
}

/// Runs the load; blocks until every client is done. Its pace is a closed loop.
///
/// # Errors
/// Where there are no sockets, or the kernel does not tell of them.
pub(super) fn run(target: &Target, plan: Plan) -> anyhow::Result<Outcome> {
    debug_assert_eq!(plan.pace, Pace::Closed, "the loads over CoAP are closed loops");
    let mut clients = (0..plan.connections)
        .map(|_| Client::connect(target))
        .collect::<io::Result<Vec<_>>>()
        .context("cannot open a socket for a CoAP client")?;
    let ready = Ready::of(&clients).context("cannot wait for CoAP's sockets")?;
    let begun = Instant::now();
    let from = begun + plan.warm_up;
    let window = Window { from, until: from + plan.measured };
    let mut outcome = Outcome::default();
    drive(&mut clients, ready, window, &mut outcome).context("waiting for CoAP's sockets")?;
    Ok(outcome)
}

fn drive(
    clients: &mut [Client],
    mut ready: Ready,
    window: Window,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    for client in clients.iter_mut() {
        client.begin(window, outcome);
    }
    let mut look = Instant::now() + LOOK_EVERY;
    while clients.iter().any(|client| client.exchange.is_under_way()) {
        for at in ready.wait()? {
            clients[at].receive(&mut buffer, window, outcome);
        }
        let now = Instant::now();
        if now < look {
            continue;
        }
        look = now + LOOK_EVERY;
        for client in clients.iter_mut() {
            client.look_after(now, window, outcome);
        }
    }
    Ok(())
}

/// Which clients have something to receive.
struct Ready {
    epoll: std::os::fd::OwnedFd,
    events: Vec<Event>,
}

impl Ready {
    fn of(clients: &[Client]) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        for (at, client) in clients.iter().enumerate() {
            let data = EventData::new_u64(at as u64);
            epoll::add(&epoll, &client.socket, data, EventFlags::IN)?;
        }
        Ok(Self { epoll, events: Vec::with_capacity(clients.len()) })
    }

    /// Waits until there are any, or until something may have been lost.
    fn wait(&mut self) -> io::Result<impl Iterator<Item = usize>> {
        let longest = Timespec::try_from(LOOK_EVERY).expect("a part of a second fits");
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.iter().map(|event| event.data.u64() as usize))
    }
}

/// A socket with its exchange.
struct Client {
    socket: UdpSocket,
    exchange: Exchange,
    /// Replies that were wrong and datagrams that did not go out.
    breaks: u32,
}

impl Client {
    fn connect(target: &Target) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(target.address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, exchange: Exchange::new(target), breaks: 0 })
    }

    /// Asks anew, unless the run is over or this client broke too often.
    fn begin(&mut self, window: Window, outcome: &mut Outcome) {
        let now = Instant::now();
        if now < window.until && self.breaks <= BREAKS_MAX {
            let sent = self.socket.send(self.exchange.begin(now));
            self.check(sent, outcome);
        }
    }

    fn receive(&mut self, buffer: &mut [u8], window: Window, outcome: &mut Outcome) {
        let read = match self.socket.recv(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                // Nobody listens there: waiting for a reply would be in vain.
                self.exchange.give_up();
                self.check(Err(error), outcome);
                return self.begin(window, outcome);
            }
        };
        let taken = self.exchange.take(&buffer[..read]);
        if let Some(acknowledgement) = self.exchange.acknowledgement() {
            let sent = self.socket.send(&acknowledgement);
            self.check(sent, outcome);
        }
        match taken {
            Taken::Right(begun) => outcome.count(begun, Instant::now(), window),
            Taken::Wrong(what) => self.fail(outcome, || what),
            Taken::Stray(what) => return self.fail(outcome, || what),
            Taken::Nothing => return,
        }
        self.begin(window, outcome);
    }

    /// Sends again what is without an answer for too long.
    fn look_after(&mut self, now: Instant, window: Window, outcome: &mut Outcome) {
        if now > window.until + PATIENCE && self.exchange.give_up() {
            let waited = PATIENCE.as_secs();
            self.fail(outcome, || format!("no reply within {waited} s of the run's end"));
        } else if let Some(copy) = self.exchange.copy_if_lost(now) {
            outcome.losses += 1;
            let sent = self.socket.send(copy);
            self.check(sent, outcome);
        }
    }

    fn check(&mut self, sent: io::Result<usize>, outcome: &mut Outcome) {
        if let Err(error) = sent {
            self.fail(outcome, || format!("a CoAP client's socket: {error}"));
        }
    }

    fn fail(&mut self, outcome: &mut Outcome, what: impl FnOnce() -> String) {
        outcome.fail(what);
        self.breaks += 1;
        if self.breaks > BREAKS_MAX {
            self.exchange.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        connections: 2,
        pace: Pace::Closed,
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(100),
    };

    /// Runs an echo's load against a server that treats the n-th request so.
    fn outcome_of(reply: impl Fn(usize, &Message) -> Option<Message> + Send + 'static) -> Outcome {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        // It ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = [0; DATAGRAM_BYTES_MAX];
            for at in 0.. {
                let (read, from) = socket.recv_from(&mut buffer).expect("receives");
                let request = Message::decode(&Bytes::copy_from_slice(&buffer[..read]));
                if let Some(reply) = reply(at, &request.expect("a message")) {
                    socket.send_to(&reply.encode(), from).expect("sends");
                }
            }
        });
        run(&Target::echo(address, "echo", b"hello"), PLAN).expect("runs")
    }

    fn right(request: &Message) -> Message {
        Message { kind: Kind::Acknowledgement, code: Code::CONTENT, ..request.clone() }
    }

    #[test]
    fn right_replies_are_counted() {
        let outcome = outcome_of(|_, request| Some(right(request)));
        assert_eq!((outcome.errors, outcome.first_error, outcome.losses), (0, None, 0));
        assert!(outcome.replies > 0 && outcome.answered >= outcome.replies);
        assert!(outcome.latencies.percentile(0.5).expect("some") > Duration::ZERO);
    }

    #[test]
    fn wrong_replies_are_errors_and_end_the_client() {
        let payload = Bytes::from_static(b"hullo");
        let outcome = outcome_of(move |_, request| {
            Some(Message { payload: payload.clone(), ..right(request) })
        });
        assert_eq!((outcome.replies, outcome.answered), (0, 0));
        assert_eq!(outcome.errors, PLAN.connections as u64 * u64::from(BREAKS_MAX + 1));
        assert_eq!(outcome.first_error.as_deref(), Some("2.05, payload \"hullo\""));
    }

    #[test]
    fn a_lost_request_is_sent_again_and_its_wait_counts() {
        let outcome = outcome_of(|at, request| (at > 0).then(|| right(request)));
        assert_eq!((outcome.errors, outcome.first_error, outcome.losses), (0, None, 1));
        // The other client was answered meanwhile.
        assert!(outcome.answered > 1);
    }

    #[test]
    fn a_server_that_is_gone_is_given_up() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        drop(socket);
        let outcome = run(&Target::echo(address, "echo", b"hello"), PLAN).expect("runs");
        assert_eq!(outcome.answered, 0);
        let error = outcome.first_error.expect("told");
        assert!(error.contains("refused"), "{error}");
    }
}
