//! The only one who changes what is deployed.
//!
//! Owns the routing table's writing side, the live deployments, and the order of
//! things: unpack, build, start, swap the route, drain the old, destroy it.
//! Must not know how requests arrive, nor how a function is built or run.
//!
//! Every change runs in a task of its own: a caller who goes away leaves nothing
//! half done. Changes of one name take turns; those of different names do not
//! wait for each other.

mod deploying;
mod outcome;
mod progress;
mod retirement;
mod turns;
mod view;
mod watching;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
#[cfg(test)]
use tinyfaas_model::LogSink;
use tinyfaas_model::{
    Backend, Deployment, FunctionCounters, FunctionName, FunctionSpec, RoutesWriter,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::ManagementConfig;
use crate::logs::{LogError, LogReader, LogView, Logs};

pub(crate) use self::deploying::{Deployed, Order, Source};
pub(crate) use self::outcome::{DeleteError, UploadError};
pub(crate) use self::progress::{BuildReport, Progress, Step};
use self::retirement::Retirement;
use self::turns::{QueuedTurn, Turns};
pub(crate) use self::view::FunctionView;

/// Takes functions in, replaces them and removes them.
pub struct Manager {
    config: ManagementConfig,
    backend: Arc<dyn Backend>,
    logs: Arc<Logs>,
    turns: Turns,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    /// True once no more deploys are wanted; its receivers are what runs still.
    stop: watch::Sender<bool>,
    next_folder: AtomicU64,
}

struct State {
    routes: RoutesWriter,
    live: BTreeMap<FunctionName, Live>,
    /// Deployments without a route that are not gone yet.
    retiring: HashMap<u64, (FunctionName, Arc<Retirement>)>,
    next_retirement: u64,
    stopping: bool,
}

/// A deployment that calls are routed to.
struct Live {
    spec: Arc<FunctionSpec>,
    deployment: Box<dyn Deployment>,
    counters: Arc<FunctionCounters>,
    /// When it went live.
    deployed: SystemTime,
    /// Successful deploys of this name, this one included.
    version: u64,
    /// Of the last try to deploy this name.
    report: Arc<BuildReport>,
}

/// The right to be one of the uploads that run at a time.
#[derive(Debug)]
pub(crate) struct UploadSlot {
    _permit: OwnedSemaphorePermit,
}

impl Manager {
    /// Makes the manager, with nothing deployed. What an earlier server left in
    /// the room's own folders is removed. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(
        config: ManagementConfig,
        backend: Arc<dyn Backend>,
        routes: RoutesWriter,
    ) -> Arc<Self> {
        remove_tree(&config.spool_dir);
        remove_tree(&config.logs_dir);
        let state = State {
            routes,
            live: BTreeMap::new(),
            retiring: HashMap::new(),
            next_retirement: 0,
            stopping: false,
        };
        Arc::new(Self {
            logs: Arc::new(Logs::new(&config)),
            turns: Turns::default(),
            slots: Arc::new(Semaphore::new(config.uploads_max)),
            state: Mutex::new(state),
            stop: watch::Sender::new(false),
            next_folder: AtomicU64::new(0),
            config,
            backend,
        })
    }

    /// Ends everything that is deployed, all at once: running calls have `drain`
    /// to end, deploys under way are given up, and nothing of this room is left
    /// on disk. The program has drained the gateway before, and shuts the backend
    /// down after.
    pub async fn shutdown(self: &Arc<Self>, drain: Duration) {
        self.stop_deploys();
        {
            let mut state = self.state.lock();
            for (name, live) in std::mem::take(&mut state.live) {
                state.routes.remove(&name);
                self.retire(&mut state, live, drain);
            }
        }
        // A deploy that is given up may have to take its handlers down first.
        self.stop.closed().await;
        let until = Instant::now() + drain;
        loop {
            let retiring = std::mem::take(&mut self.state.lock().retiring);
            if retiring.is_empty() {
                break;
            }
            for (_, retirement) in retiring.values() {
                retirement.hurry(until);
            }
            for (_, retirement) in retiring.values() {
                retirement.gone().await;
            }
        }
        let dirs = [self.config.spool_dir.clone(), self.config.logs_dir.clone()];
        let logs = Arc::clone(&self.logs);
        let removed = tokio::task::spawn_blocking(move || {
            for name in logs.names() {
                logs.remove(&name);
            }
            dirs.iter().for_each(|dir| remove_tree(dir));
        });
        if let Err(error) = removed.await {
            tracing::error!(%error, "removing the spooled files and logs broke off");
        }
    }

    pub(crate) fn config(&self) -> &ManagementConfig {
        &self.config
    }

    /// Takes one of the places for uploads; none if all are taken.
    pub(crate) fn upload_slot(&self) -> Option<UploadSlot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        Some(UploadSlot { _permit: permit })
    }

    /// Gives up the deploys under way and refuses new ones.
    pub(crate) fn stop_deploys(&self) {
        self.state.lock().stopping = true;
        self.stop.send_replace(true);
    }

    /// The names of what is deployed, in their order.
    pub(crate) fn names(&self) -> Vec<FunctionName> {
        self.state.lock().live.keys().cloned().collect()
    }

    /// Deletes a function and returns when nothing of it is left. Its running
    /// calls have the configured time to end.
    pub(crate) async fn delete(self: &Arc<Self>, name: FunctionName) -> Result<(), DeleteError> {
        let turn = self.turns.queue(&name).await;
        let manager = Arc::clone(self);
        let task = tokio::spawn(async move { manager.delete_in_turn(turn, &name).await });
        task.await.unwrap_or_else(|error| Err(DeleteError::Fault(error.to_string())))
    }

    /// Deletes all functions, those too whose upload is under way.
    pub(crate) async fn wipe(self: &Arc<Self>) -> Result<(), DeleteError> {
        // In this order: an upload that ends meanwhile is in the one or the other.
        let changing = self.turns.names();
        let names: BTreeSet<_> = changing.into_iter().chain(self.names()).collect();
        let mut deletes = JoinSet::new();
        for name in names {
            let manager = Arc::clone(self);
            deletes.spawn(async move { manager.delete(name).await });
        }
        let all = tokio::spawn(async move { deletes.join_all().await });
        let outcomes = all.await.map_err(|error| DeleteError::Fault(error.to_string()))?;
        outcomes
            .into_iter()
            .find(|outcome| matches!(outcome, Err(DeleteError::Fault(_))))
            .unwrap_or(Ok(()))
    }

    /// A reader for one function's log or for all.
    ///
    /// # Errors
    /// Where there is no such log, or no place for one more follower.
    pub(crate) fn read_logs(
        &self,
        of: Option<FunctionName>,
        view: LogView,
    ) -> Result<LogReader, LogError> {
        self.logs.read(of, view)
    }

    /// A log to fill, without a deploy.
    #[cfg(test)]
    pub(crate) fn log_for_test(&self, name: &str) -> Arc<dyn LogSink> {
        let name = FunctionName::parse(name).expect("tests use good names");
        self.logs.open(&name).0.sink()
    }

    async fn delete_in_turn(
        self: &Arc<Self>,
        turn: QueuedTurn,
        name: &FunctionName,
    ) -> Result<(), DeleteError> {
        let _turn = turn.await;
        let leaving: Vec<_> = {
            let mut state = self.state.lock();
            state.routes.remove(name);
            let Some(live) = state.live.remove(name) else {
                return Err(DeleteError::Unknown { name: name.to_string() });
            };
            self.retire(&mut state, live, self.config.drain_delete);
            // Older versions that still drain are part of the function.
            let of_name = state.retiring.values().filter(|(of, _)| of == name);
            of_name.map(|(_, retirement)| Arc::clone(retirement)).collect()
        };
        let until = Instant::now() + self.config.drain_delete;
        for retirement in &leaving {
            retirement.hurry(until);
        }
        for retirement in &leaving {
            retirement.gone().await;
        }
        let (logs, of) = (Arc::clone(&self.logs), name.clone());
        let removed = tokio::task::spawn_blocking(move || logs.remove(&of)).await;
        removed.map_err(|error| DeleteError::Fault(error.to_string()))?;
        tracing::info!(function = %name, "deleted");
        Ok(())
    }

    /// Drains and destroys a deployment in the background.
    fn retire(self: &Arc<Self>, state: &mut State, live: Live, patience: Duration) {
        let number = state.next_retirement;
        state.next_retirement += 1;
        let name = live.spec.name.clone();
        let manager = Arc::clone(self);
        let retirement = Retirement::begin(&name, live.deployment, patience, move || {
            manager.state.lock().retiring.remove(&number);
        });
        state.retiring.insert(number, (name, retirement));
    }
}

fn remove_tree(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %dir.display(), %error, "a folder stays behind");
    }
}

#[cfg(test)]
mod tests;
