//! From an [`Invocation`] to its [`Reply`]: route, place, deadline.
//!
//! Owns what is the same for every protocol. Must not know any of them, nor
//! which backend runs a function.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tinyfaas_model::{
    Admission, Body, BodyError, CallTarget, HandlerError, Invocation, InvokeError, Patience,
    Refusal, Reply, Route, Routes, WaitingRoom,
};
use tokio::time::{Sleep, sleep_until, timeout_at};

use crate::changes::Changes;
use crate::config::GatewayConfig;
use crate::tally::Tally;

/// Takes calls to handlers.
#[derive(Debug)]
pub(crate) struct Dispatch {
    routes: Routes,
    /// Where callers wait.
    callers: WaitingRoom,
    /// Where accepted calls wait: those are bounded by their own number, and
    /// must not be turned away for the callers' sake.
    accepted: WaitingRoom,
    /// Calls to names that no function has.
    unknown: AtomicU64,
    changes: Arc<Changes>,
    tries_max: usize,
    retry_after: Duration,
}

/// How far an accepted call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A handler has taken it.
    Started,
    /// The handler has handed it back before it started.
    PutBack,
}

/// What a call may change.
struct Change(CallTarget);

impl Change {
    fn of(invocation: &Invocation) -> Option<Self> {
        let target = || Self(invocation.target.clone());
        Changes::are_made_by(&invocation.method).then(target)
    }
}

impl Dispatch {
    /// Takes calls to the functions of these routes.
    #[must_use]
    pub(crate) fn new(config: &GatewayConfig, routes: Routes) -> Self {
        Self {
            routes,
            callers: WaitingRoom::new(config.waiting_max),
            accepted: WaitingRoom::new(config.async_waiting_max),
            unknown: AtomicU64::new(0),
            changes: Arc::default(),
            tries_max: config.tries_max.max(1),
            retry_after: config.retry_after,
        }
    }

    /// The route of the function with this name.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Route>, InvokeError> {
        let not_found = || InvokeError::NotFound { name: name.to_owned() };
        self.routes.find(name).ok_or_else(not_found)
    }

    /// All routes.
    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Where to hear of calls that may have changed something.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// A call named a function that there is not.
    pub(crate) fn note_unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    /// How many did.
    pub(crate) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// How many wait for a place: of those whose callers wait, and of those that
    /// are accepted.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.callers.taken(), self.accepted.taken())
    }

    /// Runs a call for a caller who waits. `invocation.deadline` bounds the wait
    /// for a place, the run, and the reply's body. Dropping the future cancels
    /// the call. The tally learns when it got its place, whatever becomes of it.
    ///
    /// # Errors
    /// Says why there is no reply.
    pub(crate) fn run<'a>(
        &'a self,
        tally: &'a mut Tally,
        invocation: Invocation,
    ) -> impl Future<Output = Result<Reply, InvokeError>> + Send + 'a {
        let deadline = invocation.deadline;
        tally.ends_by(deadline);
        let after = tally.route.function.limits.call_deadline;
        // Its timer starts once it has to be waited for, and nothing is in it twice,
        // as arguments of an async function are that it hands on.
        let within = timeout_at(deadline.into(), self.try_handlers(tally, invocation));
        within.map(move |outcome| {
            let reply = outcome.unwrap_or(Err(InvokeError::DeadlineExceeded { after }))?;
            Ok(until_deadline(reply, deadline, after))
        })
    }

    #[expect(clippy::manual_async_fn, reason = "an async function holds its arguments twice")]
    fn try_handlers<'a>(
        &'a self,
        tally: &'a mut Tally,
        mut invocation: Invocation,
    ) -> impl Future<Output = Result<Reply, InvokeError>> + Send + 'a {
        async move {
            for _ in 0..self.tries_max {
                let Admission { handler, place } = self.admit(tally, Patience::Caller).await?;
                tally.admitted(now());
                let change = Change::of(&invocation);
                match handler.invoke(invocation, place).await {
                    Ok(reply) => {
                        self.note(change, tally, &reply);
                        return Ok(reply);
                    }
                    Err(HandlerError::Failed(error)) => return Err(error),
                    Err(HandlerError::NotStarted(unseen)) => invocation = *unseen,
                }
            }
            Err(self.nobody_took_it())
        }
    }

    /// Runs a call whose caller was told that it is accepted. It waits as long
    /// as it must; its deadline starts when it runs.
    ///
    /// # Errors
    /// Says why there is no reply.
    pub(crate) async fn run_accepted(
        &self,
        tally: &mut Tally,
        mut invocation: Invocation,
        progress: impl Fn(Progress),
    ) -> Result<Reply, InvokeError> {
        for _ in 0..self.tries_max {
            let Admission { handler, place } = self.admit(tally, Patience::Accepted).await?;
            progress(Progress::Started);
            let (after, admitted) = (tally.route.function.limits.call_deadline, now());
            tally.admitted(admitted);
            let deadline = deadline(admitted, after);
            tally.ends_by(deadline);
            invocation.deadline = deadline;
            let change = Change::of(&invocation);
            match timeout_at(deadline.into(), handler.invoke(invocation, place)).await {
                Ok(Ok(reply)) => {
                    self.note(change, tally, &reply);
                    return Ok(until_deadline(reply, deadline, after));
                }
                Ok(Err(HandlerError::Failed(error))) => return Err(error),
                Ok(Err(HandlerError::NotStarted(unseen))) => {
                    invocation = *unseen;
                    progress(Progress::PutBack);
                }
                Err(_) => return Err(InvokeError::DeadlineExceeded { after }),
            }
        }
        Err(self.nobody_took_it())
    }

    /// Tells who listens of what a call that has succeeded may have changed.
    fn note(&self, change: Option<Change>, tally: &Tally, reply: &Reply) {
        let succeeded = !reply.failed && reply.status.is_none_or(|status| status.is_success());
        if let Some(Change(target)) = change.filter(|_| succeeded) {
            self.changes.note(&tally.route.function.name, &target);
        }
    }

    /// Waits for a place; follows the route where it leads elsewhere meanwhile.
    async fn admit(&self, tally: &mut Tally, patience: Patience) -> Result<Admission, InvokeError> {
        let route = &mut tally.route;
        let room = match patience {
            Patience::Caller => &self.callers,
            Patience::Accepted => &self.accepted,
        };
        // Each turn needs a deployment that is younger than the one before.
        loop {
            match route.handlers.admit(patience, room).await {
                Ok(admission) => return Ok(admission),
                Err(Refusal::Gone) => {
                    let next = self.find(route.function.name.as_str())?;
                    if Arc::ptr_eq(&next.handlers, &route.handlers) {
                        return Err(InvokeError::Stopping);
                    }
                    *route = next;
                }
                Err(refusal) => return Err(self.refused(refusal, route)),
            }
        }
    }

    fn refused(&self, refusal: Refusal, route: &Route) -> InvokeError {
        match refusal {
            Refusal::FunctionFull { limit } => InvokeError::FunctionBusy {
                name: route.function.name.to_string(),
                limit,
                retry_after: self.retry_after,
            },
            Refusal::ServerFull => InvokeError::ServerBusy {
                what: "too many calls are waiting",
                retry_after: self.retry_after,
            },
            Refusal::Unavailable { reason, retry_after } => {
                InvokeError::Unavailable { reason, retry_after }
            }
            Refusal::Gone => InvokeError::Stopping,
        }
    }

    fn nobody_took_it(&self) -> InvokeError {
        InvokeError::Unavailable {
            reason: format!("{} handlers in a row ended before they took the call", self.tries_max),
            retry_after: self.retry_after,
        }
    }
}

/// The time now, on the clock that timers follow.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// When a call that came then must have ended.
#[must_use]
pub(crate) fn deadline(arrived: Instant, after: Duration) -> Instant {
    // What no clock can name is as good as never: a day is longer than any call.
    arrived.checked_add(after).unwrap_or_else(|| arrived + Duration::from_secs(86_400))
}

/// Lets a reply that streams break off at the deadline; a whole one is there.
fn until_deadline(mut reply: Reply, deadline: Instant, after: Duration) -> Reply {
    reply.body = match reply.body {
        Body::Stream(stream) => Body::Stream(Box::pin(UntilDeadline {
            stream: Some(stream),
            sleep: Box::pin(sleep_until(deadline.into())),
            after,
        })),
        whole => whole,
    };
    reply
}

struct UntilDeadline {
    /// None once it broke off: dropping it has cancelled the call.
    stream: Option<Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>>,
    sleep: Pin<Box<Sleep>>,
    after: Duration,
}

impl HttpBody for UntilDeadline {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(stream) = &mut this.stream else { return Poll::Ready(None) };
        // The time comes first: a function that never pauses ends as well.
        if this.sleep.as_mut().poll(cx).is_ready() {
            this.stream = None;
            let late = InvokeError::DeadlineExceeded { after: this.after };
            return Poll::Ready(Some(Err(BodyError::Broken(late.to_string()))));
        }
        stream.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.as_ref().map_or_else(|| SizeHint::with_exact(0), |stream| stream.size_hint())
    }
}
