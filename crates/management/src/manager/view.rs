//! What is deployed, as others than the manager see it.
//!
//! Owns the picture of one function at one moment. Must not know how it is shown.

use std::sync::Arc;
use std::time::SystemTime;

use tinyfaas_model::{BoxFuture, FunctionCounters, FunctionSpec, Health, RuntimeStatus, Usage};
use tokio::time::{Instant, timeout_at};

use super::progress::BuildReport;
use super::{Live, Manager};

/// A function at one moment.
#[derive(Debug, Clone)]
pub(crate) struct FunctionView {
    /// What was deployed.
    pub(crate) spec: Arc<FunctionSpec>,
    /// When.
    pub(crate) deployed: SystemTime,
    /// Successful deploys of this name, this one included.
    pub(crate) version: u64,
    /// How its handlers are.
    pub(crate) health: Health,
    /// Calls that hold a place in them.
    pub(crate) running: usize,
    /// Calls that wait for one.
    pub(crate) waiting: usize,
    /// What is counted of it.
    pub(crate) counters: Arc<FunctionCounters>,
    /// Of the last try to deploy this name.
    pub(crate) report: Arc<BuildReport>,
    /// What it takes of the machine; none where that was not asked for, or could
    /// not be told in time.
    pub(crate) usage: Option<Usage>,
}

impl FunctionView {
    pub(super) fn of(live: &Live) -> Self {
        let (running, waiting) = live.deployment.handlers().load();
        Self {
            spec: Arc::clone(&live.spec),
            deployed: live.deployed,
            version: live.version,
            health: live.deployment.health(),
            running,
            waiting,
            counters: Arc::clone(&live.counters),
            report: Arc::clone(&live.report),
            usage: None,
        }
    }
}

fn measure(live: &Live) -> (FunctionView, BoxFuture<'static, Usage>) {
    (FunctionView::of(live), live.deployment.usage())
}

impl Manager {
    /// What is deployed, in the order of names.
    pub(crate) async fn functions(&self) -> Vec<FunctionView> {
        let until = Instant::now() + self.config.usage_timeout;
        let mut measured: Vec<_> = self.state.lock().live.values().map(measure).collect();
        for (view, usage) in &mut measured {
            view.usage = timeout_at(until, usage).await.ok();
        }
        measured.into_iter().map(|(view, _)| view).collect()
    }

    /// The function of this name.
    pub(crate) async fn function(&self, name: &str) -> Option<FunctionView> {
        let (mut view, usage) = self.state.lock().live.get(name).map(measure)?;
        view.usage = timeout_at(Instant::now() + self.config.usage_timeout, usage).await.ok();
        Some(view)
    }

    /// The backend's name.
    pub(crate) fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    /// Which environments can be used.
    pub(crate) fn runtimes(&self) -> Vec<RuntimeStatus> {
        self.backend.runtimes()
    }

    /// Why functions can be neither deployed nor kept alive now, a sentence each;
    /// none if they can.
    pub(crate) fn problems(&self) -> Vec<String> {
        let stopping = self.state.lock().stopping.then(|| "the server is stopping".to_owned());
        stopping.into_iter().chain(self.backend.problem()).collect()
    }
}
