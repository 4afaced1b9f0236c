//! How the handlers of a deployment are.
//!
//! Owns the words for it, which backends fill in and management shows. Must not
//! know what a handler is made of.

use crate::calls::Moment;
use crate::seams::HandlerId;

/// How the handlers of a deployment are at one moment.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Handlers that take calls.
    pub ready: usize,
    /// How many there should be.
    pub wanted: usize,
    /// How often a handler was started in place of another, whether or not it
    /// became ready.
    pub restarts: u64,
    /// What happened last to one of them.
    pub trouble: Option<Trouble>,
}

/// Why a handler had to be replaced, or could not be.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// The handler, as it stands in the log.
    pub handler: HandlerId,
    /// What happened, in words; the backend bounds it.
    pub what: String,
    /// When.
    pub at: Moment,
}

/// What the handlers of a deployment take of the machine at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processes that live, guards and what functions started included.
    pub processes: u64,
    /// Their memory, in bytes: what is shared with others counts in part
    /// (proportional set size) where the system tells.
    pub memory_bytes: u64,
}

/// A deployment's health in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Every handler is there.
    Healthy,
    /// Some are missing; calls are run.
    Degraded,
    /// None is there; calls wait or are refused.
    Unavailable,
}

impl Health {
    /// It in one word.
    #[must_use]
    pub const fn condition(&self) -> Condition {
        if self.ready >= self.wanted {
            Condition::Healthy
        } else if self.ready > 0 {
            Condition::Degraded
        } else {
            Condition::Unavailable
        }
    }
}

impl Condition {
    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ready: usize, wanted: usize, expected: &str) {
        let health = Health { ready, wanted, ..Health::default() };
        assert_eq!(health.condition().name(), expected, "{ready} of {wanted}");
    }

    #[test]
    fn health_in_one_word() {
        check(2, 2, "healthy");
        check(1, 2, "degraded");
        check(0, 2, "unavailable");
    }
}
