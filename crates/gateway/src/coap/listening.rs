//! What a transport listens to for those who observe by it.
//!
//! Owns one watch for each resource. Must not know who observes, nor how they are
//! told.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::observe::ResourceId;

use super::watch::{State, Watch};

type Next = Pin<Box<dyn Future<Output = (Watch, Option<Arc<State>>)> + Send>>;

/// The resources that a transport listens to.
#[derive(Default)]
pub(super) struct Listening {
    next: FuturesUnordered<Abortable<Next>>,
    listened: HashMap<ResourceId, AbortHandle>,
}

impl Listening {
    /// Listens to what comes after the latest state that this watch was asked for.
    pub(super) fn begin(&mut self, watch: Watch) {
        if !self.listened.contains_key(&watch.id()) {
            self.wait(watch);
        }
    }

    /// Nobody observes it by this transport any more.
    pub(super) fn end(&mut self, resource: ResourceId) {
        if let Some(next) = self.listened.remove(&resource) {
            next.abort();
        }
    }

    /// Listens to nothing more. Returns what it listened to.
    pub(super) fn end_all(&mut self) -> Vec<ResourceId> {
        self.next.clear();
        self.listened.drain().map(|(resource, _)| resource).collect()
    }

    /// The next thing to be told; pending also while it listens to nothing.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(ResourceId, Response)> {
        while let Poll::Ready(Some(next)) = self.next.poll_next_unpin(cx) {
            let (watch, state) = match next {
                Ok(next) => next,
                Err(Aborted) => continue,
            };
            let resource = watch.id();
            self.listened.remove(&resource);
            // One that ended without a word is one whose server stops.
            let state = state.map(|state| (state.is_last(), state.response()));
            let (last, response) = state.unwrap_or_else(|| (true, Response::unavailable(1)));
            if !last {
                self.wait(watch);
            }
            return Poll::Ready((resource, response));
        }
        Poll::Pending
    }

    fn wait(&mut self, mut watch: Watch) {
        let resource = watch.id();
        let (abort, registration) = AbortHandle::new_pair();
        let next: Next = Box::pin(async move {
            let state = watch.next().await;
            (watch, state)
        });
        self.listened.insert(resource, abort);
        self.next.push(Abortable::new(next, registration));
    }
}
