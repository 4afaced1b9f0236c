//! The load generator: connections that ask, wait, check, and ask again.
//!
//! Owns a run's connections, its clock and its count of wrong replies. Must not
//! know which server answers. It shares the machine with that server, so it runs
//! on one thread and does as little as it can.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::latency::Latencies;
use crate::reply;

/// A connection that broke more often than this in a run is given up.
const BREAKS_MAX: u32 = 16;
/// How long a reply may be outstanding when a run has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to ask, and what must be answered.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// A whole request, head and body.
    pub(crate) request: Vec<u8>,
    /// The body of a right reply; its status is 200.
    pub(crate) expected: Vec<u8>,
}

impl Target {
    /// A POST of `body` that must come back unchanged.
    pub(crate) fn echo(address: SocketAddr, path: &str, body: &[u8]) -> Self {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        Self { address, request, expected: body.to_vec() }
    }
}

/// How hard and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Connections at a time, each with one request at a time.
    pub(crate) connections: usize,
    /// Not counted, at the start.
    pub(crate) warm_up: Duration,
    /// Counted.
    pub(crate) measured: Duration,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Right replies within the measured time.
    pub(crate) replies: u64,
    /// Of every request begun within the measured time and answered rightly.
    pub(crate) latencies: Latencies,
    /// Wrong replies and broken connections, warm-up included.
    pub(crate) errors: u64,
    /// What the first of them was.
    pub(crate) first_error: Option<String>,
}

impl Outcome {
    fn fail(&mut self, error: impl FnOnce() -> String) {
        self.errors += 1;
        self.first_error.get_or_insert_with(error);
    }

    fn merge(&mut self, other: Self) {
        self.replies += other.replies;
        self.latencies.merge(&other.latencies);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// When a run counts.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

/// Runs the load; blocks until every connection is done.
///
/// # Errors
/// Where this process cannot run it at all. What goes wrong between it and the
/// server is counted in the outcome.
pub(crate) fn run(target: &Target, plan: Plan) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the load generator's runtime")?;
    Ok(runtime.block_on(drive(target, plan)))
}

async fn drive(target: &Target, plan: Plan) -> Outcome {
    let from = Instant::now() + plan.warm_up;
    let window = Window { from, until: from + plan.measured };
    let mut connections = JoinSet::new();
    for _ in 0..plan.connections {
        connections.spawn(patiently(target.clone(), window));
    }
    let mut outcome = Outcome::default();
    while let Some(connection) = connections.join_next().await {
        outcome.merge(connection.expect("a connection's task neither panics nor is aborted"));
    }
    outcome
}

/// One connection's part of the run, ended by force where the server hangs.
async fn patiently(target: Target, window: Window) -> Outcome {
    let mut outcome = Outcome::default();
    let all = keep_asking(&target, window, &mut outcome);
    if timeout_at((window.until + PATIENCE).into(), all).await.is_err() {
        outcome.fail(|| format!("no reply within {} s of the run's end", PATIENCE.as_secs()));
    }
    outcome
}

async fn keep_asking(target: &Target, window: Window, outcome: &mut Outcome) {
    for _ in 0..=BREAKS_MAX {
        match converse(target, window, outcome).await {
            Ok(()) => return,
            Err(error) => outcome.fail(|| format!("{error:#}")),
        }
    }
}

/// Asks on one connection until the run ends or the connection breaks.
async fn converse(target: &Target, window: Window, outcome: &mut Outcome) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(target.address).await.context("connecting")?;
    stream.set_nodelay(true).context("connecting")?;
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut begun = Instant::now();
    while begun < window.until {
        stream.write_all(&target.request).await.context("sending a request")?;
        let (length, right) = answer(&mut stream, &mut buffer, target, outcome).await?;
        buffer.advance(length);
        let ended = Instant::now();
        if right && begun >= window.from {
            outcome.latencies.add(ended - begun);
        }
        if right && ended >= window.from && ended < window.until {
            outcome.replies += 1;
        }
        begun = ended;
    }
    Ok(())
}

/// Reads one reply: the bytes it takes up, and whether it is right.
async fn answer(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    target: &Target,
    outcome: &mut Outcome,
) -> anyhow::Result<(usize, bool)> {
    loop {
        buffer.reserve(4 * 1024);
        let read = stream.read_buf(buffer).await.context("reading a reply")?;
        anyhow::ensure!(read > 0, "the server closed the connection before it had replied");
        let Some(reply) = reply::parse(buffer).context("reading a reply")? else { continue };
        let right = reply.status == 200 && *reply.body == *target.expected;
        if !right {
            outcome.fail(|| {
                let shown = &reply.body[..reply.body.len().min(200)];
                format!("status {}, body {:?}", reply.status, String::from_utf8_lossy(shown))
            });
        }
        return Ok((reply.length, right));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const PLAN: Plan = Plan {
        connections: 2,
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(100),
    };

    /// Runs the load against a server that gives every request this reply, or
    /// hangs up instead of one.
    fn outcome_of(reply: Option<&'static str>) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepts");
                std::thread::spawn(move || {
                    let mut request = [0; 1024];
                    while let Some(reply) = reply
                        && stream.read(&mut request).is_ok_and(|read| read > 0)
                        && stream.write_all(reply.as_bytes()).is_ok()
                    {}
                });
            }
        });
        run(&Target::echo(address, "/echo", b"hello"), PLAN).expect("runs")
    }

    #[test]
    fn right_replies_are_counted() {
        let outcome = outcome_of(Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"));
        assert_eq!((outcome.errors, outcome.first_error), (0, None));
        assert!(outcome.replies > 0);
        assert!(outcome.latencies.percentile(0.5).expect("some") > Duration::ZERO);
    }

    #[test]
    fn wrong_replies_are_errors_and_not_counted() {
        let outcome = outcome_of(Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhullo"));
        assert_eq!(outcome.replies, 0);
        assert!(outcome.errors > 0);
        assert_eq!(outcome.first_error.as_deref(), Some("status 200, body \"hullo\""));
        let outcome = outcome_of(Some("HTTP/1.1 500 Oh\r\ncontent-length: 5\r\n\r\nhello"));
        assert_eq!(outcome.first_error.as_deref(), Some("status 500, body \"hello\""));
    }

    #[test]
    fn a_server_that_hangs_up_is_given_up() {
        let outcome = outcome_of(None);
        assert_eq!(outcome.errors, PLAN.connections as u64 * u64::from(BREAKS_MAX + 1));
        assert_eq!(outcome.replies, 0);
    }
}
