//! Calls that are accepted now and run later.
//!
//! Owns the three steps of an asynchronous call: accept it (bounded), run it,
//! and receive its outcome. Only [`AcceptedCalls::accept`] and
//! [`AcceptedCalls::drain`] are seen from outside, so that a store can take the
//! place of memory here. Must not know any protocol.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use http_body::Body as HttpBody;
use parking_lot::Mutex;
use tinyfaas_model::{CallId, FunctionName, Invocation, InvokeError, Reply, Route};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::config::GatewayConfig;
use crate::dispatch::Dispatch;
use crate::held::Share;

/// The asynchronous calls that have not ended yet.
pub(crate) struct AcceptedCalls {
    dispatch: Arc<Dispatch>,
    calls_max: usize,
    retry_after: std::time::Duration,
    state: Mutex<State>,
    /// Told when the last call has ended.
    quiet: Notify,
}

#[derive(Default)]
struct State {
    calls: HashMap<CallId, Accepted>,
    stopping: bool,
}

struct Accepted {
    function: FunctionName,
    task: AbortHandle,
}

impl AcceptedCalls {
    pub(crate) fn new(config: &GatewayConfig, dispatch: Arc<Dispatch>) -> Arc<Self> {
        Arc::new(Self {
            dispatch,
            calls_max: config.async_waiting_max,
            retry_after: config.retry_after,
            state: Mutex::default(),
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
        route: Arc<Route>,
        invocation: Invocation,
        held: Share,
    ) -> Result<(), InvokeError> {
        let mut state = self.state.lock();
        if state.stopping {
            return Err(InvokeError::Stopping);
        }
        if state.calls.len() >= self.calls_max {
            return Err(InvokeError::ServerBusy {
                what: "too many asynchronous calls are waiting",
                retry_after: self.retry_after,
            });
        }
        let (id, function) = (invocation.id, route.function.name.clone());
        // The task cannot miss its own entry: ending it needs the lock held here.
        let task = tokio::spawn(Arc::clone(self).run(route, invocation, held)).abort_handle();
        state.calls.insert(id, Accepted { function, task });
        Ok(())
    }

    async fn run(self: Arc<Self>, route: Arc<Route>, invocation: Invocation, held: Share) {
        let (id, function) = (invocation.id, route.function.name.clone());
        let _ended = Ended { calls: &self, id };
        let outcome = match self.dispatch.run_accepted(route, invocation).await {
            Ok(reply) => complete(reply).await,
            Err(error) => Err(error),
        };
        // Here the outcome is known; nobody can ask for it yet, so a failure is
        // told to the log.
        if let Err(error) = outcome {
            tracing::warn!(%function, call = %id, "asynchronous call failed: {error}");
        }
        drop(held);
    }

    fn ended(&self, id: CallId) {
        let mut state = self.state.lock();
        state.calls.remove(&id);
        let quiet = state.calls.is_empty();
        drop(state);
        if quiet {
            self.quiet.notify_waiters();
        }
    }

    /// Accepts no more and waits until all have ended, or until then. What is
    /// left is given up: stopped, and a line in the log for each.
    pub(crate) async fn drain(&self, until: Instant) {
        self.state.lock().stopping = true;
        let drained = timeout_at(until, self.ended_all()).await;
        if drained.is_ok() {
            return;
        }
        let given_up = std::mem::take(&mut self.state.lock().calls);
        for (id, call) in given_up {
            call.task.abort();
            let function = call.function;
            tracing::warn!(%function, call = %id, "asynchronous call given up: the server stops");
        }
    }

    async fn ended_all(&self) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            quiet.as_mut().enable();
            if self.state.lock().calls.is_empty() {
                return;
            }
            quiet.await;
        }
    }
}

/// Reads the reply to its end: leaving earlier would cancel the function.
async fn complete(mut reply: Reply) -> Result<(), InvokeError> {
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut reply.body).poll_frame(cx)).await {
        frame.map_err(|error| InvokeError::ReplyBroken { how: error.to_string() })?;
    }
    // Where the function failed, its own log says how.
    Ok(())
}

/// Takes the call off the list, however its task ends.
struct Ended<'a> {
    calls: &'a AcceptedCalls,
    id: CallId,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.calls.ended(self.id);
    }
}
