//! Calls that are accepted now and run later.
//!
//! Owns the three steps of an asynchronous call, kept apart so that a store can
//! take the place of memory: accept it (bounded), run it, and remember what came
//! of it (`memory.rs`, `result.rs`). Must not know any protocol.

mod memory;
mod result;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tinyfaas_model::{
    CallId, CallOutcome, CallPage, CallQuery, CallRecord, CallRegistry, CallResult, CallState,
    Cancelling, Invocation, InvokeError, Moment,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

pub(crate) use self::memory::Outcome;
use self::memory::{Ending, Memory};
use crate::config::GatewayConfig;
use crate::dispatch::{Dispatch, Progress, now};
use crate::held::{HeldBytes, Share};
use crate::tally::Tally;

/// How long what is to be forgotten waits for more of its kind. Nobody sees it
/// meanwhile.
const FORGETTING_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no answer about an asynchronous call, in whichever protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    #[error("no asynchronous call has that id: there was none, or it ended too long ago")]
    UnknownCall,
    #[error("wait: {problem}")]
    BadWait { problem: String },
    #[error("the call is still {}; ask again later, or wait for it: ?wait=30s", .0.name())]
    NotEnded(CallState),
    #[error("there is no result: {0}")]
    NoResult(&'static str),
    #[error("the call has {} already: it cannot be cancelled any more", .0.name())]
    TooLate(CallState),
}

/// The asynchronous calls: those that have not ended yet, and for a time those
/// that have.
pub(crate) struct AcceptedCalls {
    dispatch: Arc<Dispatch>,
    calls_max: usize,
    retry_after: Duration,
    result_bytes_max: usize,
    /// The budget for what functions replied.
    results: Arc<HeldBytes>,
    state: Mutex<State>,
    /// Told when the last call has ended.
    quiet: Notify,
}

struct State {
    memory: Memory,
    /// The calls that are not over: one that was cancelled is not, until it has
    /// let go of what it holds.
    tasks: HashMap<CallId, AbortHandle>,
    /// Forgets in time, while there is something to forget.
    forgetting: Option<AbortHandle>,
    stopping: bool,
}

impl AcceptedCalls {
    pub(crate) fn new(config: &GatewayConfig, dispatch: Arc<Dispatch>) -> Arc<Self> {
        let state = State {
            memory: Memory::new(config.async_keep, config.async_ended_max),
            tasks: HashMap::new(),
            forgetting: None,
            stopping: false,
        };
        Arc::new(Self {
            dispatch,
            calls_max: config.async_waiting_max,
            retry_after: config.retry_after,
            // A single one must fit, lest all others are given up in vain.
            result_bytes_max: config
                .async_result_bytes_max
                .min(config.async_results_bytes_max.saturating_sub(result::OVERHEAD_BYTES)),
            results: HeldBytes::new(config.async_results_bytes_max),
            state: Mutex::new(state),
            quiet: Notify::new(),
        })
    }

    /// Accepts a call, whose body is held whole on that share of the budget.
    /// Once this has returned, the call runs or the log says that it was given
    /// up.
    ///
    /// # Errors
    /// Where as many are accepted as may be, or the server is stopping.
    pub(crate) fn accept(
        self: &Arc<Self>,
        mut tally: Tally,
        invocation: Invocation,
        held: Share,
    ) -> Result<(), InvokeError> {
        let (id, accepted) = (invocation.id, moment());
        tally.queued(accepted.steady);
        let mut state = self.state.lock();
        if let Some(error) = self.refuse(&state) {
            drop(state);
            tally.end(CallOutcome::of_error(&error), accepted.steady);
            return Err(error);
        }
        state.memory.accept(id, tally.route.function.name.clone(), accepted);
        // The task cannot miss its own entry: ending it needs the lock held here.
        let over = Over { calls: Arc::clone(self), id };
        let task = tokio::spawn(over.run(tally, invocation, held)).abort_handle();
        state.tasks.insert(id, task);
        Ok(())
    }

    /// Why no call is accepted now.
    fn refuse(&self, state: &State) -> Option<InvokeError> {
        if state.stopping {
            return Some(InvokeError::Stopping);
        }
        let (what, retry_after) = ("too many asynchronous calls are waiting", self.retry_after);
        let is_full = state.tasks.len() >= self.calls_max;
        is_full.then_some(InvokeError::ServerBusy { what, retry_after })
    }

    /// The budget for results.
    pub(crate) fn results(&self) -> &HeldBytes {
        &self.results
    }

    /// Makes a share of the results' budget larger, at the cost of the oldest.
    fn make_room(&self, share: &Share, bytes: usize) -> bool {
        while !share.grow(bytes) {
            if !self.state.lock().memory.drop_oldest_result() {
                return false;
            }
        }
        true
    }

    fn end(self: &Arc<Self>, id: CallId, ending: Ending, at: Moment) {
        let mut state = self.state.lock();
        state.memory.end(id, ending, at);
        self.forget_later(&mut state);
    }

    fn forget_later(self: &Arc<Self>, state: &mut State) {
        if state.forgetting.is_some() || state.stopping {
            return;
        }
        // There is none where the last calls are dropped with the runtime.
        if let Ok(runtime) = Handle::try_current() {
            let task = runtime.spawn(forget_in_time(Arc::downgrade(self)));
            state.forgetting = Some(task.abort_handle());
        }
    }

    /// Waits until the call has ended, until then at most, and returns what is
    /// known of it; None where nothing is.
    pub(crate) async fn ended(&self, id: CallId, until: Instant) -> Option<CallRecord> {
        let news = self.state.lock().memory.news(id);
        if let Some(news) = news {
            let told = news.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let still = self.get(id).is_some_and(|record| !record.state.has_ended());
            if still {
                // Either way the record says how it stands.
                let _ = timeout_at(until, told).await;
            }
        }
        self.get(id)
    }

    /// What a caller would have got who had waited; None where the call has not
    /// ended, or nothing of it is kept.
    pub(crate) fn outcome(&self, id: CallId) -> Option<Outcome> {
        self.remembered().memory.outcome(id)
    }

    /// What is remembered, less what is to be forgotten by now.
    fn remembered(&self) -> parking_lot::MutexGuard<'_, State> {
        let mut state = self.state.lock();
        state.memory.forget_old(now());
        state
    }

    /// Accepts no more and waits until all have ended, or until then. What is
    /// left is given up: stopped, and a line in the log for each.
    pub(crate) async fn drain(self: &Arc<Self>, until: Instant) {
        let forgetting = {
            let mut state = self.state.lock();
            state.stopping = true;
            state.forgetting.take()
        };
        if let Some(task) = forgetting {
            task.abort();
        }
        let drained = timeout_at(until, self.all_over()).await;
        if drained.is_ok() {
            return;
        }
        let given_up: Vec<_> = self.state.lock().tasks.drain().collect();
        for (id, task) in given_up {
            // First what became of it, then its end: that would say it otherwise.
            if let Some(record) = self.get(id).filter(|record| !record.state.has_ended()) {
                let lost = Ending::Lost("the server stopped before the call had ended");
                self.end(id, lost, moment());
                let function = record.function;
                tracing::warn!(%function, call = %id, "asynchronous call given up: the server stops");
            }
            task.abort();
        }
    }

    async fn all_over(&self) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            quiet.as_mut().enable();
            if self.state.lock().tasks.is_empty() {
                return;
            }
            quiet.await;
        }
    }
}

impl CallRegistry for AcceptedCalls {
    fn list(&self, query: &CallQuery) -> CallPage {
        self.remembered().memory.list(query)
    }

    fn get(&self, id: CallId) -> Option<CallRecord> {
        self.remembered().memory.get(id).cloned()
    }

    fn cancel(&self, id: CallId) -> Cancelling {
        let mut state = self.remembered();
        let Some(record) = state.memory.get(id) else { return Cancelling::Unknown };
        if record.state.has_ended() && record.state != CallState::Cancelled {
            return Cancelling::TooLate(record.clone());
        }
        state.memory.end(id, Ending::Cancelled, moment());
        let task = state.tasks.get(&id).cloned();
        let record = state.memory.get(id).cloned();
        drop(state);
        // Its end needs the lock.
        if let Some(task) = task {
            task.abort();
        }
        record.map_or(Cancelling::Unknown, Cancelling::Cancelled)
    }
}

/// An accepted call until it is over. It takes the call off the list however its
/// task ends, one that is aborted before it was ever polled too.
struct Over {
    calls: Arc<AcceptedCalls>,
    id: CallId,
}

impl Over {
    async fn run(self, mut tally: Tally, invocation: Invocation, held: Share) {
        let Self { ref calls, id } = self;
        let function = tally.route.function.name.clone();
        let progress = |progress| {
            let memory = &mut calls.state.lock().memory;
            match progress {
                Progress::Started => memory.start(id, moment()),
                Progress::PutBack => memory.put_back(id),
            }
        };
        let outcome = match calls.dispatch.run_accepted(&mut tally, invocation, progress).await {
            Ok(reply) => {
                let share = calls.results.share();
                let grow = |share: &Share, bytes| calls.make_room(share, bytes);
                let after = tally.route.function.limits.call_deadline;
                let read = result::read(reply, share, calls.result_bytes_max, grow).await;
                // What breaks off at its deadline broke off for that reason.
                read.map_err(|error| match tally.is_late(now()) {
                    true => InvokeError::DeadlineExceeded { after },
                    false => error,
                })
            }
            Err(error) => Err(error),
        };
        // Where the function failed, its own log says how.
        if let Err(error) = &outcome {
            // Most callers never ask what became of their call.
            tracing::warn!(%function, call = %id, "asynchronous call failed: {error}");
        }
        drop(held);
        let ended = moment();
        let counted = match &outcome {
            Ok(replied) => CallOutcome::of_reply(replied.failed),
            Err(error) => CallOutcome::of_error(error),
        };
        tally.end(counted, ended.steady);
        calls.end(id, outcome.map_or_else(Ending::NoReply, Ending::Replied), ended);
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        let lost = Ending::Lost("the server gave the call up; its log says why");
        let mut state = self.calls.state.lock();
        // One that has ended as it should has said so already.
        state.memory.end(self.id, lost, moment());
        self.calls.forget_later(&mut state);
        state.tasks.remove(&self.id);
        let quiet = state.tasks.is_empty();
        drop(state);
        if quiet {
            self.calls.quiet.notify_waiters();
        }
    }
}

/// Why nothing is kept of a call that has ended, in words for who asks for it.
pub(crate) fn no_result(record: &CallRecord) -> &'static str {
    match (record.state, record.result) {
        (CallState::Cancelled, _) => "the call was cancelled",
        (CallState::Lost, _) => "the server gave the call up",
        (_, CallResult::TooLarge) => "the function's reply was too large to keep",
        _ => "the function's reply made room for younger ones",
    }
}

/// Forgets what is to be forgotten, until there is nothing that ever will be.
async fn forget_in_time(calls: Weak<AcceptedCalls>) {
    loop {
        let next = {
            let Some(calls) = calls.upgrade() else { return };
            let mut state = calls.state.lock();
            let next = state.memory.forget_old(now());
            if next.is_none() {
                state.forgetting = None;
            }
            next
        };
        let Some(next) = next else { return };
        sleep_until(Instant::from_std(next).max(Instant::now() + FORGETTING_PAUSE)).await;
    }
}

fn moment() -> Moment {
    Moment { wall: SystemTime::now(), steady: now() }
}

#[cfg(test)]
mod tests {
    use tinyfaas_model::{
        Body, BoxFuture, CallTarget, CoapAttributes, FunctionName, FunctionSpec, Handler,
        HandlerError, HandlerId, HandlerSet, Limits, Place, Reply, Route, RoutesWriter, Runtime,
    };

    use super::*;

    struct Answers(HandlerId);

    impl Handler for Answers {
        fn id(&self) -> &HandlerId {
            &self.0
        }

        fn invoke(
            self: Arc<Self>,
            call: Invocation,
            _: Place,
        ) -> BoxFuture<'static, Result<Reply, HandlerError>> {
            assert!(call.method != http::Method::TRACE, "a handler that panics, as none should");
            Box::pin(async { Ok(Reply::from_bytes("answer")) })
        }
    }

    fn route() -> Arc<Route> {
        let handlers = HandlerSet::new(1);
        handlers.add(Arc::new(Answers(HandlerId::new("f-1"))), 1);
        let limits = Limits {
            call_deadline: Duration::from_secs(300),
            start_timeout: Duration::from_secs(60),
            calls_per_handler: 1,
            waiting_max: 1,
            build_timeout: Duration::from_secs(600),
        };
        let function = FunctionSpec {
            name: FunctionName::parse("f").expect("it follows the rules"),
            description: None,
            runtime: Runtime::Binary,
            threads: 1,
            envs: Vec::new(),
            limits,
            cgi: false,
            coap: CoapAttributes::default(),
        };
        Arc::new(Route { function: Arc::new(function), handlers, counters: Arc::default() })
    }

    fn accept(calls: &Arc<AcceptedCalls>, method: http::Method) -> CallId {
        let (_, target) = CallTarget::split(&http::uri::PathAndQuery::from_static("/f"));
        let (id, headers) = (CallId::random(), http::HeaderMap::new());
        let call = Invocation { id, method, target, headers, body: Body::Empty, deadline: now() };
        calls
            .accept(Tally::new(route(), now()), call, HeldBytes::new(0).share())
            .expect("there is room");
        id
    }

    fn calls() -> Arc<AcceptedCalls> {
        let config = GatewayConfig::default();
        let (_writer, routes) = RoutesWriter::new();
        AcceptedCalls::new(&config, Arc::new(Dispatch::new(&config, routes)))
    }

    async fn state(calls: &Arc<AcceptedCalls>, id: CallId) -> CallState {
        let until = Instant::now() + Duration::from_secs(5);
        calls.ended(id, until).await.expect("it is known").state
    }

    /// Nobody asks, and still it is gone, and so is who forgets.
    #[tokio::test(start_paused = true)]
    async fn results_are_forgotten_in_time_by_themselves() {
        let calls = calls();
        let id = accept(&calls, http::Method::POST);
        assert_eq!(state(&calls, id).await, CallState::Succeeded);
        tokio::time::sleep(Duration::from_secs(599)).await;
        assert!(calls.results.taken() > 0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(calls.results.taken(), 0);
        assert!(calls.state.lock().forgetting.is_none());
    }

    #[tokio::test]
    async fn a_call_that_is_cancelled_before_its_task_begins_holds_nothing() {
        let calls = calls();
        let id = accept(&calls, http::Method::POST);
        // On one thread nothing has run since.
        assert!(matches!(calls.cancel(id), Cancelling::Cancelled(_)));
        let over = timeout_at(Instant::now() + Duration::from_secs(5), calls.all_over()).await;
        assert!(over.is_ok(), "it counts for ever");
        assert_eq!(state(&calls, id).await, CallState::Cancelled);
    }

    #[tokio::test]
    async fn a_call_whose_task_breaks_is_lost_and_holds_nothing() {
        let calls = calls();
        let id = accept(&calls, http::Method::TRACE);
        assert_eq!(state(&calls, id).await, CallState::Lost);
        calls.drain(Instant::now() + Duration::from_secs(5)).await;
        assert!(calls.state.lock().tasks.is_empty());
    }
}
