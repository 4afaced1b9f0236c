//! What a deployment's health is told from.
//!
//! Owns its counters and the last trouble. Must not know why handlers come and
//! go.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tinyfaas_model::{HandlerId, Health, Moment, Trouble};

/// How much of a trouble is kept, in characters: it may hold a handler's output.
const TROUBLE_CHARS_MAX: usize = 2_000;

/// The counters of one deployment.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    ready: AtomicUsize,
    restarts: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
}

/// A handler that takes calls, for as long as this is held.
pub(super) struct Ready<'a>(&'a Vitals);

impl Vitals {
    /// One more takes calls.
    pub(super) fn ready(&self) -> Ready<'_> {
        self.ready.fetch_add(1, Ordering::Relaxed);
        Ready(self)
    }

    /// One is started in place of another.
    pub(super) fn restarting(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Something happened to one.
    pub(super) fn trouble(&self, handler: &HandlerId, what: &str) {
        let what = what.chars().take(TROUBLE_CHARS_MAX).collect();
        let at = Moment { wall: SystemTime::now(), steady: Instant::now() };
        let trouble = Trouble { handler: handler.clone(), what, at };
        *self.trouble.lock() = Some(trouble);
    }

    /// All of it.
    pub(super) fn health(&self, wanted: usize) -> Health {
        Health {
            ready: self.ready.load(Ordering::Relaxed),
            wanted,
            restarts: self.restarts.load(Ordering::Relaxed),
            trouble: self.trouble.lock().clone(),
        }
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.0.ready.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_follows_what_happens() {
        let vitals = Vitals::default();
        let (one, other) = (vitals.ready(), vitals.ready());
        assert_eq!(vitals.health(2).ready, 2);
        assert!(vitals.health(2).trouble.is_none());
        drop(one);
        vitals.trouble(&HandlerId::new("echo-1"), &"x".repeat(5_000));
        vitals.restarting();
        let health = vitals.health(2);
        assert_eq!((health.ready, health.wanted, health.restarts), (1, 2, 1));
        let trouble = health.trouble.unwrap();
        assert_eq!((trouble.handler.as_str(), trouble.what.len()), ("echo-1", TROUBLE_CHARS_MAX));
        drop(other);
        assert_eq!(vitals.health(2).ready, 0);
    }
}
