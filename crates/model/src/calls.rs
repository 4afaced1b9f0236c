//! The asynchronous calls that are known, as others than their callers see them.
//!
//! Owns the words for a call's state and the seam by which management lists and
//! cancels calls; the gateway keeps them. Must not know how long they are kept,
//! nor where.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;

use crate::function::FunctionName;
use crate::invocation::CallId;

/// The most calls on one page of [`CallRegistry::list`].
pub const PAGE_CALLS_MAX: usize = 500;

/// How far an accepted call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallState {
    /// It waits for a place in one of its function's handlers.
    Waiting,
    /// A handler runs it.
    Running,
    /// The function has replied.
    Succeeded,
    /// The function raised an error, or the call has no reply.
    Failed,
    /// Somebody cancelled it before it had ended.
    Cancelled,
    /// The server gave it up: what became of it is not known.
    Lost,
}

impl CallState {
    /// All states, in the order in which a call may come to them.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Lost];

    /// The state that users call by this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// The name by which users know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
        }
    }

    /// Whether the call comes to no other state any more.
    #[must_use]
    pub const fn has_ended(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }
}

/// When something happened: on the clock that people read, which may jump, and
/// on the one that measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// For people.
    pub wall: SystemTime,
    /// For measuring.
    pub steady: Instant,
}

/// What is kept of what a call's function replied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// There was no reply, or none yet.
    None,
    /// The whole reply can be had from the gateway.
    Kept {
        /// The status, where the function set one.
        status: Option<StatusCode>,
        /// Bytes of its body.
        body_bytes: usize,
    },
    /// The reply is larger than one that is kept may be.
    TooLarge,
    /// The reply made room for younger ones, or found none itself.
    NoRoom,
}

/// What is known of an accepted call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// Its id. Who knows it may have the result: it is for the call's owner and
    /// for who may manage the server.
    pub id: CallId,
    /// Its place in the order in which calls were accepted, from 0.
    pub number: u64,
    /// The function that was called.
    pub function: FunctionName,
    /// How far it has come.
    pub state: CallState,
    /// When it was accepted.
    pub accepted: Moment,
    /// When a handler took it; the last one, where one handed it back.
    pub started: Option<Moment>,
    /// When it ended.
    pub ended: Option<Moment>,
    /// Why it has no reply, as a sentence.
    pub problem: Option<String>,
    /// What is kept of its reply.
    pub result: CallResult,
}

impl CallRecord {
    /// How long it waited for a handler; None where it still does.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        let until = self.started.or(self.ended)?;
        Some(until.steady.saturating_duration_since(self.accepted.steady))
    }

    /// How long a handler ran it; None where none did, or one still does.
    #[must_use]
    pub fn ran(&self) -> Option<Duration> {
        Some(self.ended?.steady.saturating_duration_since(self.started?.steady))
    }
}

/// Which calls are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallQuery {
    /// Only those of this function.
    pub function: Option<FunctionName>,
    /// Only those in this state.
    pub state: Option<CallState>,
    /// Only those with a lower [`CallRecord::number`]: the next page.
    pub before: Option<u64>,
    /// At most so many; more than [`PAGE_CALLS_MAX`] are never given.
    pub limit: usize,
}

/// Some of the calls asked for, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallPage {
    /// The calls.
    pub calls: Vec<CallRecord>,
    /// [`CallQuery::before`] of the next page, where there are more.
    pub next: Option<u64>,
}

/// What became of the wish to cancel a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelling {
    /// The call is cancelled; it may have been so before.
    Cancelled(CallRecord),
    /// It had ended in another way already.
    TooLate(CallRecord),
    /// There is no such call, or it is forgotten.
    Unknown,
}

/// The accepted calls that are known: those that have not ended, and for a time
/// those that have. Gateway to management.
pub trait CallRegistry: Send + Sync {
    /// The calls that are asked for, the newest first.
    fn list(&self, query: &CallQuery) -> CallPage;

    /// What is known of this call; None where nothing is, or no longer.
    fn get(&self, id: CallId) -> Option<CallRecord>;

    /// Cancels a call that has not ended. A handler that runs it is told; the
    /// function's place is free again when its worker says so.
    fn cancel(&self, id: CallId) -> Cancelling;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_found_by_their_names() {
        for state in CallState::ALL {
            assert_eq!(CallState::from_name(state.name()), Some(state));
        }
        assert_eq!(CallState::from_name("Waiting"), None);
    }
}
