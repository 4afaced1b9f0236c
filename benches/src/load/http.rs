//! The load over HTTP: a connection each caller.
//!
//! Owns what is asked. Must not know which server answers.

use std::iter;
use std::net::SocketAddr;

use bytes::Bytes;

use super::callers;
use super::{Outcome, Plan};

/// What to ask, and what must be answered.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// A whole request, head and body.
    pub(crate) request: Bytes,
    /// The body of a right reply; its status is 200.
    pub(crate) expected: Bytes,
}

impl Target {
    /// A POST of `body` that must come back unchanged.
    pub(crate) fn echo(address: SocketAddr, path: &str, body: &[u8]) -> Self {
        // The original's Node handler reads only bodies that say what they are.
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: text/plain\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        Self { address, request: request.into(), expected: Bytes::copy_from_slice(body) }
    }
}

/// Runs the load; blocks until every connection is done.
///
/// # Errors
/// Where there is no runtime or no timer.
pub(super) fn run(target: &Target, plan: Plan) -> anyhow::Result<Outcome> {
    callers::run(iter::repeat(callers::Target::Http(target.clone())), plan)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::super::{BREAKS_MAX, Pace};
    use super::*;

    const PLAN: Plan = Plan {
        connections: 2,
        pace: Pace::Closed,
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(100),
    };

    /// Runs the load against a server that gives every request this reply after
    /// this time, or hangs up instead of one.
    fn outcome_of(plan: Plan, reply: Option<&'static str>, after: Duration) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepts");
                std::thread::spawn(move || {
                    let mut request = [0; 1024];
                    while let Some(reply) = reply
                        && stream.read(&mut request).is_ok_and(|read| read > 0)
                    {
                        std::thread::sleep(after);
                        if stream.write_all(reply.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        run(&Target::echo(address, "/echo", b"hello"), plan).expect("runs")
    }

    const RIGHT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

    #[test]
    fn right_replies_are_counted() {
        let outcome = outcome_of(PLAN, Some(RIGHT), Duration::ZERO);
        assert_eq!((outcome.errors, outcome.first_error), (0, None));
        assert!(outcome.replies > 0 && outcome.answered >= outcome.replies);
        assert!(outcome.latencies.percentile(0.5).expect("some") > Duration::ZERO);
    }

    #[test]
    fn wrong_replies_are_errors_and_not_counted() {
        let wrong = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhullo";
        let outcome = outcome_of(PLAN, Some(wrong), Duration::ZERO);
        assert_eq!((outcome.replies, outcome.answered), (0, 0));
        assert!(outcome.errors > 0);
        assert_eq!(outcome.first_error.as_deref(), Some("status 200, body \"hullo\""));
        let wrong = "HTTP/1.1 500 Oh\r\ncontent-length: 5\r\n\r\nhello";
        let outcome = outcome_of(PLAN, Some(wrong), Duration::ZERO);
        assert_eq!(outcome.first_error.as_deref(), Some("status 500, body \"hello\""));
    }

    #[test]
    fn a_server_that_hangs_up_is_given_up() {
        let outcome = outcome_of(PLAN, None, Duration::ZERO);
        assert_eq!(outcome.errors, PLAN.connections as u64 * u64::from(BREAKS_MAX + 1));
        assert_eq!(outcome.replies, 0);
    }

    /// A closed loop would see 20 ms throughout and say nothing of the requests
    /// that never began; from the intended starts the wait grows with the run.
    #[test]
    fn an_open_loop_counts_the_wait_for_a_slow_server() {
        let slow = Duration::from_millis(20);
        let plan = Plan {
            connections: 1,
            pace: Pace::Open(500),
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(400),
        };
        let outcome = outcome_of(plan, Some(RIGHT), slow);
        assert!(outcome.replies <= 20, "{}", outcome.replies);
        let median = outcome.latencies.percentile(0.5).expect("some");
        assert!(median > Duration::from_millis(150), "{median:?}");
    }

    #[test]
    fn an_open_loop_keeps_its_rate_where_the_server_does() {
        let plan = Plan { pace: Pace::Open(200), measured: Duration::from_millis(500), ..PLAN };
        let outcome = outcome_of(plan, Some(RIGHT), Duration::ZERO);
        assert_eq!((outcome.errors, outcome.first_error), (0, None));
        // 520 ms of them, each answered, however busy this machine is.
        assert_eq!(outcome.answered, 104);
        assert!(outcome.lateness.longest().is_some());
    }
}
