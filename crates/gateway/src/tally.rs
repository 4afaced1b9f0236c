//! Counting a call of a function: exactly once, however it ends.
//!
//! Owns a call's course through the gateway, the times of which are counted and
//! told to the caller. Must not know protocols; each says how its call ended, and
//! one that says nothing was cancelled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tinyfaas_model::{CallOutcome, Route};

use crate::dispatch::now;

/// A call that has not ended yet. It takes no lock, and no look at the clock
/// that the call does not need anyway: whoever has the time hands it over.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Where the call goes: another route, where its function was replaced while
    /// it waited.
    pub(crate) route: Arc<Route>,
    arrived: Instant,
    /// When it asked for a place; when it came, as long as it has not.
    queued: Instant,
    /// When it got one.
    admitted: Option<Instant>,
    /// When its time is over, once it has asked for a place.
    deadline: Option<Instant>,
    open: bool,
}

impl Tally {
    /// A call of this route's function that came then.
    pub(crate) fn new(route: Arc<Route>, arrived: Instant) -> Self {
        Self { route, arrived, queued: arrived, admitted: None, deadline: None, open: true }
    }

    /// It asks for a place now, later than it came: its body had to be read.
    pub(crate) fn queued(&mut self, at: Instant) {
        self.queued = at;
    }

    /// It has got a place.
    pub(crate) fn admitted(&mut self, at: Instant) {
        self.admitted = Some(at);
    }

    /// Its time is over then.
    pub(crate) fn ends_by(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// Whether its time is over.
    pub(crate) fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// How long it waited for a place until now, and how long it has had it; None
    /// where it has not asked for one.
    pub(crate) fn times(&self, now: Instant) -> Option<(Duration, Option<Duration>)> {
        self.deadline?;
        let queue = self.admitted.unwrap_or(now).saturating_duration_since(self.queued);
        Some((queue, self.admitted.map(|admitted| now.saturating_duration_since(admitted))))
    }

    /// It has ended so.
    pub(crate) fn end(mut self, outcome: CallOutcome, at: Instant) {
        self.count(outcome, at);
    }

    fn count(&mut self, outcome: CallOutcome, at: Instant) {
        self.open = false;
        let calls = &self.route.counters.calls;
        if let Some(admitted) = self.admitted {
            calls.queued.observe(admitted.saturating_duration_since(self.queued));
        }
        calls.ended(outcome, at.saturating_duration_since(self.arrived));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.open {
            self.count(CallOutcome::Cancelled, now());
        }
    }
}
