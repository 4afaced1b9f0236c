//! Which function is reached by which name, right now.
//!
//! Owns the table that the gateway reads for every call, without a lock, and
//! that management changes. Must not know how calls arrive or handlers run.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

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

type Table = HashMap<FunctionName, Arc<Route>>;

/// The readers' side. Cheap to clone; readers never wait.
#[derive(Debug, Clone, Default)]
pub struct Routes(Arc<ArcSwap<Table>>);

/// The writer's side: there is one, and only management holds it.
#[derive(Debug)]
pub struct RoutesWriter(Routes);

impl Routes {
    /// The route of the function with this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Route>> {
        self.0.load().get(name).cloned()
    }

    /// All routes as they are now, in the order of names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Route>> {
        let mut all: Vec<_> = self.0.load().values().cloned().collect();
        all.sort_by(|a, b| a.function.name.cmp(&b.function.name));
        all
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
        let mut table = Table::clone(&self.0.0.load());
        let old = table.insert(route.function.name.clone(), route);
        self.0.0.store(Arc::new(table));
        old
    }

    /// Takes the function's route away and returns it.
    pub fn remove(&mut self, name: &FunctionName) -> Option<Arc<Route>> {
        let mut table = Table::clone(&self.0.0.load());
        let old = table.remove(name)?;
        self.0.0.store(Arc::new(table));
        Some(old)
    }
}
