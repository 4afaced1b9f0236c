//! What is counted of a function, from its first deploy to its delete.
//!
//! Owns counters that every room may add to without a lock and anyone may read:
//! the gateway counts calls, backends count handlers, management counts builds
//! and shows it all. Must not know how the numbers are shown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::invocation::InvokeError;

/// The upper bounds of a [`Histogram`]'s buckets, in microseconds: from a call
/// that a warm worker echoes to one that uses up its five minutes.
pub const BOUNDS_US: [u64; 18] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
];

/// All that is counted of one function. It outlives its deployments: what replaces
/// a function goes on counting where the old one stopped.
#[derive(Debug, Default)]
pub struct FunctionCounters {
    /// Its calls; the gateway counts.
    pub calls: CallCounters,
    /// Its handlers; the backend counts.
    pub handlers: HandlerCounters,
    /// Its builds; management counts.
    pub builds: BuildCounters,
}

/// How a call ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// The function replied.
    Succeeded,
    /// The function raised an error, or its script exited with one.
    Failed,
    /// Too many calls waited; it was not run.
    Busy,
    /// There was no handler to run it.
    Unavailable,
    /// The server was stopping, or the function was deleted; it was not run.
    Stopping,
    /// Its time was over.
    DeadlineExceeded,
    /// The handler died while it ran the call.
    Crashed,
    /// Its reply could not be told, or broke off.
    ReplyBroken,
    /// The caller's body was too large, or did not come whole.
    RequestBroken,
    /// The caller went away before the reply's end, or cancelled it.
    Cancelled,
}

/// The calls of one function.
#[derive(Debug, Default)]
pub struct CallCounters {
    ended: [AtomicU64; CallOutcome::ALL.len()],
    /// How long calls took that have ended, from their arrival to their reply's
    /// end, whatever came of them.
    pub duration: Histogram,
    /// How long calls waited for a place that got one.
    pub queued: Histogram,
}

/// The handlers of one function.
#[derive(Debug, Default)]
pub struct HandlerCounters {
    /// How long each took from its start to being ready: a cold start.
    pub starts: Histogram,
    /// Starts that came to nothing.
    pub failed_starts: AtomicU64,
    /// Handlers that were started in place of one that died or was overdue.
    pub replaced: AtomicU64,
    /// Processor time that its processes have taken, in microseconds, those that
    /// have ended included. The backend adds what is new whenever it looks, and
    /// when a handler ends; it never goes down.
    pub cpu_us: AtomicU64,
}

/// The builds of one function.
#[derive(Debug, Default)]
pub struct BuildCounters {
    /// How long those took that succeeded.
    pub succeeded: Histogram,
    /// How many did not.
    pub failed: AtomicU64,
}

/// How often something took how long. Adding to it takes no lock.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each of [`BOUNDS_US`], then one for what is longer.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A [`Histogram`] at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// How many fell into each bucket alone: one for each of [`BOUNDS_US`], then
    /// those that took longer.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// All together.
    pub sum: Duration,
}

impl CallOutcome {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Succeeded,
        Self::Failed,
        Self::Busy,
        Self::Unavailable,
        Self::Stopping,
        Self::DeadlineExceeded,
        Self::Crashed,
        Self::ReplyBroken,
        Self::RequestBroken,
        Self::Cancelled,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Stopping => "stopping",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Crashed => "crashed",
            Self::ReplyBroken => "reply_broken",
            Self::RequestBroken => "request_broken",
            Self::Cancelled => "cancelled",
        }
    }

    /// How a call ended whose reply came to its end.
    #[must_use]
    pub const fn of_reply(failed: bool) -> Self {
        if failed { Self::Failed } else { Self::Succeeded }
    }

    /// How a call of a function ended that has no reply.
    #[must_use]
    pub const fn of_error(error: &InvokeError) -> Self {
        match error {
            InvokeError::FunctionBusy { .. } | InvokeError::ServerBusy { .. } => Self::Busy,
            InvokeError::Unavailable { .. } => Self::Unavailable,
            // The function was there when the call came, and is there no more.
            InvokeError::Stopping | InvokeError::NotFound { .. } => Self::Stopping,
            InvokeError::DeadlineExceeded { .. } => Self::DeadlineExceeded,
            InvokeError::Crashed { .. } => Self::Crashed,
            InvokeError::ReplyBroken { .. } => Self::ReplyBroken,
            InvokeError::Request(_) => Self::RequestBroken,
        }
    }
}

impl CallCounters {
    /// A call that has ended so, so long after it came.
    pub fn ended(&self, outcome: CallOutcome, after: Duration) {
        self.ended[outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.duration.observe(after);
    }

    /// How many have ended so.
    #[must_use]
    pub fn count(&self, outcome: CallOutcome) -> u64 {
        self.ended[outcome as usize].load(Ordering::Relaxed)
    }
}

impl Histogram {
    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What it holds now. What is added meanwhile may be in the sum and not yet
    /// in a bucket, or the other way round.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.sum_us.load(Ordering::Relaxed)),
        }
    }
}

impl HistogramSnapshot {
    /// How many in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(us: u64, bucket: usize) {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(us));
        let snapshot = histogram.snapshot();
        assert_eq!((snapshot.buckets[bucket], snapshot.count()), (1, 1), "{us}");
        assert_eq!(snapshot.sum, Duration::from_micros(us));
    }

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        check(0, 0);
        check(100, 0);
        check(101, 1);
        check(300_000_000, BOUNDS_US.len() - 1);
        check(300_000_001, BOUNDS_US.len());
    }

    #[test]
    fn outcomes_are_counted_each_for_itself() {
        for (at, outcome) in CallOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
            let calls = CallCounters::default();
            calls.ended(outcome, Duration::from_millis(1));
            let counted = CallOutcome::ALL.map(|outcome| calls.count(outcome));
            assert_eq!((counted[at], counted.iter().sum::<u64>()), (1, 1), "{}", outcome.name());
        }
    }
}
