//! The load generator: connections that ask, wait, check, and ask again.
//!
//! Owns how hard and how long a run is, its window and what is counted; who asks
//! over which protocol stands below. Must not know which server answers. It shares
//! the machine with that server, so it runs on one thread and does as little as it
//! can.

mod busy;
mod callers;
pub(crate) mod coap;
mod conversation;
pub(crate) mod grpc;
pub(crate) mod http;
mod pace;

use std::time::{Duration, Instant};

use crate::latency::Latencies;

/// A connection that broke more often than this in a run is given up.
const BREAKS_MAX: u32 = 16;
/// How long a reply may be outstanding when a run has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to ask, and what must be answered.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Over HTTP/1.1.
    Http(http::Target),
    /// Over gRPC.
    Grpc(grpc::Target),
    /// Over CoAP, in a closed loop only.
    Coap(coap::Target),
}

/// When a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As soon as the connection's last one is answered.
    Closed,
    /// So many a second, whether or not earlier ones are answered; latency counts
    /// from when a request should have begun.
    Open(u64),
}

/// How hard and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Connections at a time, each with one request at a time; over gRPC they are
    /// calls, several of which share a connection.
    pub(crate) connections: usize,
    /// When requests begin.
    pub(crate) pace: Pace,
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
    /// Right replies in all, warm-up included.
    pub(crate) answered: u64,
    /// Of every request to begin within the measured time and answered rightly. In
    /// an open loop those that never began are in it with the time they waited.
    pub(crate) latencies: Latencies,
    /// How much later than intended a free connection began: the generator's fault.
    pub(crate) lateness: Latencies,
    /// The share of the run in which the generator ran or waited for a processor;
    /// `None` where the kernel does not say.
    pub(crate) busy: Option<f64>,
    /// Requests over CoAP that were sent again, as no answer had come to them.
    pub(crate) losses: u64,
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
        self.answered += other.answered;
        self.latencies.merge(&other.latencies);
        self.lateness.merge(&other.lateness);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn count(&mut self, begun: Instant, ended: Instant, window: Window) {
        self.answered += 1;
        if window.holds(begun) {
            self.latencies.add(ended - begun);
        }
        if window.holds(ended) {
            self.replies += 1;
        }
    }
}

/// When a run counts.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Window {
    fn holds(&self, moment: Instant) -> bool {
        self.from <= moment && moment < self.until
    }
}

/// Runs the load; blocks until every connection is done.
///
/// # Errors
/// Where this process cannot run it at all. What goes wrong between it and the
/// server is counted in the outcome.
pub(crate) fn run(target: &Target, plan: Plan) -> anyhow::Result<Outcome> {
    let meter = busy::Meter::start();
    let mut outcome = match target {
        Target::Http(target) => http::run(target, plan)?,
        Target::Grpc(target) => grpc::run(target, plan)?,
        Target::Coap(target) => coap::run(target, plan)?,
    };
    outcome.busy = meter.share();
    Ok(outcome)
}
