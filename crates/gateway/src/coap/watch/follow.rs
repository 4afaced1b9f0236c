//! What makes the states of a watched resource.
//!
//! Owns when a function is run for those who observe it: once for all, again when
//! its reply's Max-Age ends, when a call has changed something, when it is
//! replaced. Must not know who observes.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, Message, OptionNumber};
use tinyfaas_model::{CallId, CallRegistry, CallTarget, Route};
use tokio::time::{Instant, sleep, sleep_until};

use super::{MAX_AGE_DEFAULT, Watched, fresh_for};
use crate::changes::{Listener, Place};
use crate::coap::Coap;
use crate::coap::answer::{Reply, ask};
use crate::coap::observing::Resource;

/// What a resource is.
pub(in crate::coap) enum Source {
    /// What a function replies to a GET of this.
    Function(PathAndQuery),
    /// What becomes of an asynchronous call.
    Call(CallId),
}

impl Source {
    /// How many changes were made there while it has been watched.
    pub(super) fn changes(&self, coap: &Coap) -> u64 {
        match self {
            Self::Function(whole) => {
                let (name, target) = CallTarget::split(whole);
                coap.dispatch.changes().count(&Place::new(name, &target))
            }
            Self::Call(_) => 0,
        }
    }
}

/// A resource while it is watched. It is off the table when this is dropped.
struct Following {
    coap: Arc<Coap>,
    resource: Resource,
    watched: Arc<Watched>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.coap.watches.end(&self.resource, self.watched.id);
    }
}

/// Watches a resource until it has ended, or nobody cares.
pub(super) async fn watch(
    coap: Arc<Coap>,
    resource: Resource,
    watched: Arc<Watched>,
    source: Source,
) {
    let following = Following { coap, resource, watched };
    let Following { coap, resource, watched } = &following;
    let follow = async {
        match source {
            Source::Function(whole) => following.function(&whole).await,
            Source::Call(id) => following.call(id).await,
        }
    };
    tokio::pin!(follow);
    loop {
        tokio::select! {
            last = &mut follow => {
                // Who comes from now on begins anew.
                coap.watches.end(resource, watched.id);
                watched.put_last(last);
                return;
            }
            // Dropping the run cancels it.
            () = watched.states.closed() => if coap.watches.leave(resource, watched) {
                return;
            },
        }
    }
}

impl Following {
    /// Runs a function again and again. Returns what is told at last.
    async fn function(&self, whole: &PathAndQuery) -> Response {
        let (coap, config) = (&self.coap, &self.coap.watches.config);
        let (name, target) = CallTarget::split(whole);
        let request = self.resource.request();
        let mut changes = coap.dispatch.changes().listen(Place::new(name, &target));
        let mut busy = 0;
        let mut format = None;
        loop {
            let began = Instant::now();
            // What changes from here on may not be seen by this run.
            let known = changes.forget();
            let revision = coap.dispatch.routes().revision();
            let route = coap.dispatch.routes().find(name);
            if route.as_ref().is_some_and(|route| !route.function.coap.observable) {
                return ended(Code::METHOD_NOT_ALLOWED, "it can be observed no more");
            }
            let reply = self.run(&request).await;
            let wait = fresh_for(&reply.response.options);
            if reply.response.code.is_success() {
                busy = 0;
                // Who observes has been told a format, which stays (RFC 7641 section 4.2).
                let has = reply.response.options.uint(OptionNumber::CONTENT_FORMAT);
                if has.is_some() && format.is_some() && has != format {
                    return ended(Code::NOT_ACCEPTABLE, "its content format is another one now");
                }
                format = has.or(format);
                if let Err(last) = self.put(reply, known, wait) {
                    return last;
                }
            } else {
                let is_busy = reply.response.code == Code::SERVICE_UNAVAILABLE;
                busy += 1;
                if !is_busy || !self.has_state() || busy > config.busy_runs_max {
                    return reply.response;
                }
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = changed(&mut changes, began + config.changes_pause) => {}
                () = self.replaced(name, route.as_ref(), revision) => {}
            }
        }
    }

    /// Tells when an asynchronous call has ended, and when it is forgotten. Returns
    /// what is told at last.
    async fn call(&self, id: CallId) -> Response {
        let coap = &self.coap;
        let request = self.resource.request();
        loop {
            let pending = coap.accepted.get(id).is_some_and(|call| !call.state.has_ended());
            let until = Instant::now() + MAX_AGE_DEFAULT;
            if pending {
                if let Err(last) = self.put(Reply::new(pending_state()), 0, MAX_AGE_DEFAULT) {
                    return last;
                }
                coap.accepted.ended(id, until).await;
            } else {
                let reply = self.run(&request).await;
                if !reply.response.code.is_success() {
                    return reply.response;
                }
                if let Err(last) = self.put(reply, 0, MAX_AGE_DEFAULT) {
                    return last;
                }
                sleep_until(until).await;
            }
        }
    }

    async fn run(&self, request: &Message) -> Reply {
        ask(&self.coap, request).await
    }

    fn has_state(&self) -> bool {
        self.watched.states.borrow().is_some()
    }

    /// Takes over a state as long as there is room for it.
    fn put(&self, reply: Reply, changes: u64, fresh_for: Duration) -> Result<(), Response> {
        let watches = &self.coap.watches;
        let held = watches.states.share();
        let bytes = reply.response.payload.len() + reply.response.options.as_encoded().len();
        if !held.grow(bytes) {
            // Who asked first is answered, and observes nothing.
            return Err(if self.has_state() {
                ended(Code::SERVICE_UNAVAILABLE, "there is no room for its state")
            } else {
                reply.response
            });
        }
        let retell = watches.config.retell_every;
        self.watched.put(reply.response, Some(held), changes, fresh_for, retell);
        Ok(())
    }

    /// Waits until the function is another one, or gone.
    async fn replaced(&self, name: &str, before: Option<&Arc<Route>>, mut revision: u64) {
        let routes = self.coap.dispatch.routes();
        loop {
            routes.changed(revision).await;
            revision = routes.revision();
            let route = routes.find(name);
            if !route.as_ref().zip(before).is_some_and(|(one, other)| Arc::ptr_eq(one, other)) {
                return;
            }
        }
    }
}

/// Waits for a change, and not to run too soon.
async fn changed(changes: &mut Listener, not_before: Instant) {
    changes.changed().await;
    sleep_until(not_before).await;
}

/// A call that has not ended: it is there, and has nothing in it yet.
fn pending_state() -> Response {
    Response::new(Code::CONTENT)
}

fn ended(code: Code, why: &'static str) -> Response {
    Response { payload: why.into(), ..Response::new(code) }
}
