//! Which function is reached by which name, right now.
//!
//! Owns the table that the gateway reads for every call, without a lock, and
//! that management changes. Must not know how calls arrive or handlers run.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::counters::FunctionCounters;
use crate::function::{FunctionName, FunctionSpec};
use crate::handler_set::HandlerSet;

/// Where the calls of one function go.
#[derive(Debug)]
pub struct Route {
    /// What was deployed.
    pub function: Arc<FunctionSpec>,
    /// The handlers that run it.
    pub handlers: Arc<HandlerSet>,
    /// Where its calls are counted.
    pub counters: Arc<FunctionCounters>,
}

/// All routes at one moment.
#[derive(Debug, Clone, Default)]
struct Table {
    routes: HashMap<FunctionName, Arc<Route>>,
    /// How often it has been changed.
    revision: u64,
}

/// What both sides share.
#[derive(Debug, Default)]
struct Shared {
    table: ArcSwap<Table>,
    /// Told after each change.
    changed: Notify,
}

/// The readers' side. Cheap to clone; readers never wait.
#[derive(Debug, Clone, Default)]
pub struct Routes(Arc<Shared>);

/// The writer's side: there is one, and only management holds it.
#[derive(Debug)]
pub struct RoutesWriter(Routes);

impl Routes {
    /// The route of the function with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Route>> {
        self.0.table.load().routes.get(name).cloned()
    }

    /// All routes as they are now, in the order of names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Route>> {
        let mut all: Vec<_> = self.0.table.load().routes.values().cloned().collect();
        all.sort_by(|a, b| a.function.name.cmp(&b.function.name));
        all
    }

    /// A number that is another one after each change. What was made of [`all`]
    /// since it was asked for need not be made anew while it stays the same.
    ///
    /// [`all`]: Self::all
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.table.load().revision
    }

    /// Waits until [`revision`](Self::revision) is another one.
    pub async fn changed(&self, revision: u64) {
        loop {
            let mut changed = pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if self.revision() != revision {
                return;
            }
            changed.await;
        }
    }
}

impl RoutesWriter {
    /// An empty table.
    #[must_use]
    pub fn new() -> (Self, Routes) {
        let routes = Routes::default();
        (Self(routes.clone()), routes)
    }

    /// Routes the function's name to its new handlers and returns the route it
    /// had. Calls that come after this go to the new one.
    pub fn put(&mut self, route: Arc<Route>) -> Option<Arc<Route>> {
        self.change(|routes| routes.insert(route.function.name.clone(), route))
    }

    /// Takes the function's route away and returns it.
    pub fn remove(&mut self, name: &FunctionName) -> Option<Arc<Route>> {
        self.change(|routes| routes.remove(name))
    }

    fn change<R>(&mut self, change: impl FnOnce(&mut HashMap<FunctionName, Arc<Route>>) -> R) -> R {
        let mut table = Table::clone(&self.0.0.table.load());
        table.revision += 1;
        let changed = change(&mut table.routes);
        self.0.0.table.store(Arc::new(table));
        self.0.0.changed.notify_waiters();
        changed
    }
}
