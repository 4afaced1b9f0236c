//! What is remembered of accepted calls, in memory.
//!
//! Owns the records, and which of them are forgotten when: at most so many that
//! have ended, each for so long, and results as far as there is room. What has
//! not ended is never forgotten. Must not know who runs calls or asks for them;
//! a store on disk can take its place.
//!
//! Calls are found by their id in a hash table. Its hash is keyed at random, so
//! how long a search takes tells nothing of the ids that are in it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tinyfaas_model::calls::PAGE_CALLS_MAX;
use tinyfaas_model::{
    CallId, CallPage, CallQuery, CallRecord, CallResult, CallState, FunctionName, InvokeError,
    Moment,
};
use tokio::sync::Notify;

use super::result::{Kept, Replied, Unkept};

/// Bytes that a function may add to the sentence that says why a call has no
/// reply; the rest is cut off.
const WORDS_BYTES_MAX: usize = 1 << 10;

/// The calls that are remembered.
#[derive(Debug)]
pub(super) struct Memory {
    keep: Duration,
    ended_max: usize,
    numbers: HashMap<CallId, u64>,
    calls: BTreeMap<u64, Remembered>,
    next_number: u64,
    /// Those that have ended, the first to end first.
    ended: VecDeque<u64>,
    /// Of these, those whose result is kept.
    results: VecDeque<u64>,
}

#[derive(Debug)]
struct Remembered {
    record: CallRecord,
    outcome: Option<Outcome>,
    /// Told when the call ends, where somebody waits for that.
    news: Option<Arc<Notify>>,
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The function replied.
    Replied(Replied),
    /// There is no reply.
    NoReply(InvokeError),
    /// Somebody cancelled it.
    Cancelled,
    /// It was given up, and nobody knows how it would have ended.
    Lost(&'static str),
}

/// What a caller would have got who had waited.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// The function's reply.
    Reply(Arc<Kept>),
    /// An error.
    Error(InvokeError),
}

impl Memory {
    /// Remembers so many calls that have ended, each for so long.
    pub(super) fn new(keep: Duration, ended_max: usize) -> Self {
        Self {
            keep,
            ended_max,
            numbers: HashMap::new(),
            calls: BTreeMap::new(),
            next_number: 0,
            ended: VecDeque::new(),
            results: VecDeque::new(),
        }
    }

    /// A call has been accepted.
    pub(super) fn accept(&mut self, id: CallId, function: FunctionName, now: Moment) {
        let number = self.next_number;
        self.next_number += 1;
        let record = CallRecord {
            id,
            number,
            function,
            state: CallState::Waiting,
            accepted: now,
            started: None,
            ended: None,
            problem: None,
            result: CallResult::None,
        };
        self.numbers.insert(id, number);
        self.calls.insert(number, Remembered { record, outcome: None, news: None });
    }

    /// A handler has taken the call.
    pub(super) fn start(&mut self, id: CallId, now: Moment) {
        let Some(call) = self.open(id) else { return };
        call.record.state = CallState::Running;
        call.record.started = Some(now);
    }

    /// The handler has handed the call back: it waits for another.
    pub(super) fn put_back(&mut self, id: CallId) {
        let Some(call) = self.open(id) else { return };
        call.record.state = CallState::Waiting;
        call.record.started = None;
    }

    /// The call has ended. Only its first end counts: one that was cancelled
    /// stays so, whatever comes of it.
    pub(super) fn end(&mut self, id: CallId, ending: Ending, now: Moment) {
        let Some(call) = self.open(id) else { return };
        call.end(ending, now);
        let number = call.record.number;
        let has_result = matches!(call.record.result, CallResult::Kept { .. });
        self.ended.push_back(number);
        if has_result {
            self.results.push_back(number);
        }
        while self.ended.len() > self.ended_max {
            self.forget_oldest();
        }
    }

    /// Forgets the result that is kept longest, so that there is room for
    /// another; its call's state says so. False where none is kept.
    pub(super) fn drop_oldest_result(&mut self) -> bool {
        let Some(number) = self.results.pop_front() else { return false };
        if let Some(call) = self.calls.get_mut(&number) {
            call.outcome = None;
            call.record.result = CallResult::NoRoom;
        }
        true
    }

    /// Forgets the calls whose time is over; returns when the next one's is.
    pub(super) fn forget_old(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let oldest = self.calls.get(self.ended.front()?)?;
            // Where no clock can name it, it is never over.
            let until = oldest.record.ended?.steady.checked_add(self.keep)?;
            if until > now {
                return Some(until);
            }
            self.forget_oldest();
        }
    }

    /// What is known of this call.
    pub(super) fn get(&self, id: CallId) -> Option<&CallRecord> {
        self.find(id).map(|call| &call.record)
    }

    /// What a caller would have got; None where the call has not ended, or
    /// nothing of it is kept.
    pub(super) fn outcome(&self, id: CallId) -> Option<Outcome> {
        self.find(id)?.outcome.clone()
    }

    /// What tells when this call ends; None where it has ended or is not known.
    pub(super) fn news(&mut self, id: CallId) -> Option<Arc<Notify>> {
        let call = self.open(id)?;
        Some(Arc::clone(call.news.get_or_insert_default()))
    }

    /// The calls that are asked for, the newest first.
    pub(super) fn list(&self, query: &CallQuery) -> CallPage {
        let wanted = |record: &&CallRecord| {
            query.function.as_ref().is_none_or(|function| record.function == *function)
                && query.state.is_none_or(|state| record.state == state)
        };
        let limit = query.limit.min(PAGE_CALLS_MAX);
        let before = query.before.unwrap_or(u64::MAX);
        let mut found =
            self.calls.range(..before).rev().map(|(_, call)| &call.record).filter(wanted);
        let calls: Vec<_> = found.by_ref().take(limit).cloned().collect();
        let more = found.next().is_some();
        let next = calls.last().filter(|_| more).map(|last| last.number);
        CallPage { calls, next }
    }

    fn find(&self, id: CallId) -> Option<&Remembered> {
        self.calls.get(self.numbers.get(&id)?)
    }

    /// The call, where it has not ended.
    fn open(&mut self, id: CallId) -> Option<&mut Remembered> {
        let call = self.calls.get_mut(self.numbers.get(&id)?)?;
        (!call.record.state.has_ended()).then_some(call)
    }

    fn forget_oldest(&mut self) {
        let Some(number) = self.ended.pop_front() else { return };
        if self.results.front() == Some(&number) {
            self.results.pop_front();
        }
        if let Some(call) = self.calls.remove(&number) {
            self.numbers.remove(&call.record.id);
        }
    }
}

impl Remembered {
    fn end(&mut self, ending: Ending, now: Moment) {
        let record = &mut self.record;
        let by_reply = |failed| if failed { CallState::Failed } else { CallState::Succeeded };
        record.ended = Some(now);
        match ending {
            Ending::Replied(Replied { failed, kept: Ok(kept) }) => {
                record.state = by_reply(failed);
                let body_bytes = kept.body_bytes();
                record.result = CallResult::Kept { status: kept.status, body_bytes };
                self.outcome = Some(Outcome::Reply(kept));
            }
            Ending::Replied(Replied { failed, kept: Err(why) }) => {
                record.state = by_reply(failed);
                record.result = match why {
                    Unkept::TooLarge => CallResult::TooLarge,
                    Unkept::NoRoom => CallResult::NoRoom,
                };
            }
            Ending::NoReply(error) => {
                let error = clipped(error);
                // A function that is being stopped has not failed.
                let stopping = matches!(error, InvokeError::Stopping);
                record.state = if stopping { CallState::Lost } else { CallState::Failed };
                record.problem = Some(problem(&error, &record.function));
                self.outcome = Some(Outcome::Error(error));
            }
            Ending::Cancelled => record.state = CallState::Cancelled,
            Ending::Lost(why) => {
                record.state = CallState::Lost;
                record.problem = Some(why.to_owned());
            }
        }
        if let Some(news) = self.news.take() {
            news.notify_waiters();
        }
    }
}

/// Why there is no reply, in words for who was told that the call is accepted.
fn problem(error: &InvokeError, function: &FunctionName) -> String {
    match error {
        InvokeError::NotFound { .. } => {
            format!("function {function} was deleted before it could run the call")
        }
        other => other.to_string(),
    }
}

/// The error with no more of a stranger's words than are worth remembering.
fn clipped(mut error: InvokeError) -> InvokeError {
    if let InvokeError::Crashed { how: words }
    | InvokeError::ReplyBroken { how: words }
    | InvokeError::Unavailable { reason: words, .. } = &mut error
        && words.len() > WORDS_BYTES_MAX
    {
        let mut end = WORDS_BYTES_MAX;
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        // Not cut in place: the rest would be remembered with it.
        *words = format!("{} …", &words[..end]);
    }
    error
}

#[cfg(test)]
mod tests;
