//! The handlers of one deployment: started together, kept at their number,
//! ended together.
//!
//! Owns one slot per thread of the function. A slot's worker that dies is
//! replaced at once, then after longer and longer waits; one whose call is
//! overdue is replaced at once and may finish its other calls beside its
//! successor. Must not know how a worker is started or spoken to.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tinyfaas_model::{
    BoxFuture, DeployError, Deployment, FunctionCounters, Handler, HandlerId, HandlerSet, Health,
    LogSink, Usage,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::census::{Census, Recent};
use super::config::ProcessConfig;
use super::output::Log;
use super::spawner::Child;
use super::vitals::Vitals;
use super::worker::{Fate, Recipe, Worker, remove_folder};

/// What a call is told whose handler is ended with its deployment.
const REMOVED: &str = "its function was replaced or removed";

/// One deployment and all that belongs to it.
pub(super) struct Supervisor {
    /// The function's name and a number: the handlers' names begin with it.
    pub(super) name: String,
    pub(super) recipe: Recipe,
    /// Everything of this deployment lies in here.
    pub(super) folder: PathBuf,
    pub(super) log: Arc<dyn LogSink>,
    counters: Arc<FunctionCounters>,
    pub(super) config: Arc<ProcessConfig>,
    set: Arc<HandlerSet>,
    vitals: Vitals,
    machine: Arc<Recent<Arc<Census>>>,
    starting: Semaphore,
    /// Set once, when all is to end.
    stop: watch::Sender<bool>,
    /// Set once, when nothing is left.
    ended: watch::Sender<bool>,
}

impl Supervisor {
    pub(super) fn new(
        name: String,
        recipe: Recipe,
        folder: PathBuf,
        (log, counters): (Arc<dyn LogSink>, Arc<FunctionCounters>),
        config: Arc<ProcessConfig>,
        machine: Arc<Recent<Arc<Census>>>,
    ) -> Arc<Self> {
        let set = HandlerSet::new(recipe.spec.limits.waiting_max);
        let starting = Semaphore::new(config.starts_at_a_time);
        let (stop, ended) = (watch::Sender::new(false), watch::Sender::new(false));
        let vitals = Vitals::default();
        Arc::new(Self {
            name,
            recipe,
            folder,
            log,
            counters,
            config,
            set,
            vitals,
            machine,
            starting,
            stop,
            ended,
        })
    }

    /// Starts a handler for each thread and returns when all are ready; if one
    /// is not, everything is ended. From here on the deployment's folder is
    /// removed when the deployment ends, however it does.
    ///
    /// # Errors
    /// The first handler's that was not ready.
    pub(super) async fn start(self: Arc<Self>) -> Result<Box<dyn Deployment>, DeployError> {
        let threads = self.recipe.spec.threads.max(1);
        let (ready, mut answers) = mpsc::channel(threads);
        let mut slots = JoinSet::new();
        for number in 0..threads {
            let slot = Slot { supervisor: Arc::clone(&self), number, generation: 0 };
            slots.spawn(slot.keep(ready.clone()));
        }
        drop(ready);
        tokio::spawn(Arc::clone(&self).clear_up(slots));
        let deployment = Box::new(Running { supervisor: self });
        for _ in 0..threads {
            // A slot that ends without an answer was told to stop.
            match answers.recv().await.unwrap_or(Err(DeployError::Stopping)) {
                Ok(()) => {}
                Err(error) => {
                    deployment.destroy().await;
                    return Err(error);
                }
            }
        }
        Ok(deployment)
    }

    /// Kills every handler, waits until all are gone and everything is removed.
    pub(super) async fn end(&self) {
        self.set.close();
        self.stop.send_replace(true);
        self.wait_ended().await;
    }

    /// Waits until nothing is left.
    pub(super) async fn wait_ended(&self) {
        // The sender is `self`: it cannot go away meanwhile.
        drop(self.ended.subscribe().wait_for(|ended| *ended).await);
    }

    async fn clear_up(self: Arc<Self>, mut slots: JoinSet<()>) {
        while slots.join_next().await.is_some() {}
        self.recipe.family.settle();
        remove_folder(self.folder.clone()).await;
        self.ended.send_replace(true);
    }

    async fn stopped(&self) {
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }
}

/// A deployment as management holds it. Dropping it ends the deployment too,
/// without anyone waiting for it.
struct Running {
    supervisor: Arc<Supervisor>,
}

impl Deployment for Running {
    fn handlers(&self) -> Arc<HandlerSet> {
        Arc::clone(&self.supervisor.set)
    }

    fn health(&self) -> Health {
        self.supervisor.vitals.health(self.supervisor.recipe.spec.threads.max(1))
    }

    fn usage(&self) -> BoxFuture<'static, Usage> {
        let family = Arc::clone(&self.supervisor.recipe.family);
        Box::pin(family.usage(Arc::clone(&self.supervisor.machine)))
    }

    fn destroy(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.supervisor.end().await })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.supervisor.set.close();
        self.supervisor.stop.send_replace(true);
    }
}

/// The place of one handler, whoever fills it.
struct Slot {
    supervisor: Arc<Supervisor>,
    number: usize,
    /// Counts the workers that were started in it.
    generation: u64,
}

impl Slot {
    async fn keep(mut self, ready: mpsc::Sender<Result<(), DeployError>>) {
        let mut retired = Retired::default();
        let mut deaths = Deaths::new(&self.supervisor.config);
        let mut ready = Some(ready);
        loop {
            let (worker, told) = match (self.start().await, ready.take()) {
                (Err(DeployError::Stopping), None) => break,
                (Ok(worker), told) => (worker, told),
                (Err(error), Some(ready)) => {
                    drop(ready.send(Err(error)).await);
                    break;
                }
                (Err(error), None) => {
                    let wait = deaths.note(Duration::ZERO);
                    if self.wait(&format!("could not be started: {error}"), wait).await.is_break() {
                        break;
                    }
                    continue;
                }
            };
            let born = worker.born;
            match self.tend(worker, told).await {
                None => break,
                Some(Fate::Overdue(worker)) => {
                    let grace = self.supervisor.config.deadline_grace;
                    let how = format!("a call did not end within {grace:?} after its deadline");
                    self.trouble(&how);
                    self.say(&format!("{how}; replacing this handler"));
                    retired.add(worker, self.supervisor.config.retired_max);
                }
                Some(Fate::Leaving(worker, why)) => {
                    retired.add(worker, self.supervisor.config.retired_max);
                    // As if it had died: it may do so again and again.
                    if self.wait(&why, deaths.note(born.elapsed())).await.is_break() {
                        break;
                    }
                }
                Some(Fate::Gone { how, with_the_spawner, folder }) => {
                    retired.remove(folder);
                    let wait = match with_the_spawner {
                        true => Duration::ZERO,
                        false => deaths.note(born.elapsed()),
                    };
                    if self.wait(&how, wait).await.is_break() {
                        break;
                    }
                }
            }
        }
        retired.end().await;
    }

    /// Starts the slot's next worker.
    async fn start(&mut self) -> Result<Worker, DeployError> {
        self.generation += 1;
        let supervisor = &self.supervisor;
        let counters = &supervisor.counters.handlers;
        if self.generation > 1 {
            supervisor.vitals.restarting();
            counters.replaced.fetch_add(1, Ordering::Relaxed);
        }
        let folder = supervisor.folder.join(format!("handler-{}-{}", self.number, self.generation));
        let _turn = tokio::select! {
            biased;
            () = supervisor.stopped() => return Err(DeployError::Stopping),
            turn = supervisor.starting.acquire() => turn,
        };
        let began = Instant::now();
        let started = supervisor.recipe.start(folder, &self.log(), supervisor.stopped()).await;
        match &started {
            Ok(_) => counters.starts.observe(began.elapsed()),
            Err(DeployError::Stopping) => {}
            Err(_) => drop(counters.failed_starts.fetch_add(1, Ordering::Relaxed)),
        }
        started
    }

    /// Gives the worker calls and stays with it; `None`: it was stopped.
    async fn tend(
        &self,
        worker: Worker,
        told: Option<mpsc::Sender<Result<(), DeployError>>>,
    ) -> Option<Fate> {
        let (set, id) = (&self.supervisor.set, worker.connection.id().clone());
        let handler = Arc::clone(&worker.connection) as Arc<dyn Handler>;
        let ready = self.supervisor.vitals.ready();
        set.add(handler, self.supervisor.recipe.spec.limits.calls_per_handler);
        if let Some(told) = told {
            // Not before: who is told that it is ready finds it in the set.
            drop(told.send(Ok(())).await);
        }
        let child = worker.child();
        let connection = Arc::clone(&worker.connection);
        let tending = worker.tend(|| {
            set.retire(&id);
            drop(ready);
        });
        tokio::pin!(tending);
        tokio::select! {
            biased;
            () = self.supervisor.stopped() => {}
            fate = &mut tending => return Some(fate),
        }
        set.retire(&id);
        child.kill();
        connection.fail(REMOVED);
        match tending.await {
            Fate::Overdue(worker) | Fate::Leaving(worker, _) => worker.stop(REMOVED).await,
            Fate::Gone { folder, .. } => remove_folder(folder).await,
        }
        None
    }

    /// Says why the slot is empty and waits before it is filled again.
    async fn wait(&self, how: &str, wait: Duration) -> std::ops::ControlFlow<()> {
        let supervisor = &self.supervisor;
        self.trouble(how);
        if wait.is_zero() {
            self.say(&format!("{how}; starting another handler"));
        } else {
            self.say(&format!("{how}, again; starting another handler in {wait:?}"));
            // What a handler printed is for the log, not for callers.
            let how = how.lines().next().unwrap_or_default();
            let reason = format!("its handlers end again and again; the last one {how}");
            supervisor.set.set_unavailable(&reason, wait);
        }
        tokio::select! {
            biased;
            () = supervisor.stopped() => std::ops::ControlFlow::Break(()),
            () = tokio::time::sleep(wait) => std::ops::ControlFlow::Continue(()),
        }
    }

    /// Keeps what has happened to the slot's worker, for who asks how it is.
    fn trouble(&self, how: &str) {
        self.supervisor.vitals.trouble(&self.log().handler, how);
    }

    /// Puts a line into the function's log.
    fn say(&self, what: &str) {
        let log = self.log();
        tracing::warn!(handler = %log.handler, "{what}");
        for line in what.lines() {
            log.sink.line(&log.handler, format!("tinyfaas: {line}").as_bytes());
        }
    }

    fn log(&self) -> Log {
        let supervisor = &self.supervisor;
        let name = format!("{}-{}.{}", supervisor.name, self.number, self.generation);
        Log {
            sink: Arc::clone(&supervisor.log),
            handler: HandlerId::new(&name),
            line_bytes_max: supervisor.config.log_line_bytes_max,
        }
    }
}

/// What is left of a slot's former workers: those that were let go of finish
/// their calls by themselves, and the folders of those that died are removed.
#[derive(Default)]
struct Retired {
    finishing: JoinSet<()>,
    /// Oldest first; those that are gone already are among them.
    children: VecDeque<Child>,
}

impl Retired {
    fn add(&mut self, worker: Worker, retired_max: usize) {
        self.children.push_back(worker.child());
        while self.finishing.try_join_next().is_some() {}
        self.finishing.spawn(worker.finish());
        while self.children.len() > retired_max {
            if let Some(oldest) = self.children.pop_front() {
                oldest.kill();
            }
        }
    }

    /// Beside the start of its successor, who does not wait for it.
    fn remove(&mut self, folder: PathBuf) {
        while self.finishing.try_join_next().is_some() {}
        self.finishing.spawn(remove_folder(folder));
    }

    async fn end(mut self) {
        for child in &self.children {
            child.kill();
        }
        while self.finishing.join_next().await.is_some() {}
    }
}

/// The deaths of a slot's workers in a row.
struct Deaths {
    in_a_row: u32,
    proven_after: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
}

impl Deaths {
    fn new(config: &ProcessConfig) -> Self {
        let ProcessConfig { proven_after, backoff_min, backoff_max, .. } = *config;
        Self { in_a_row: 0, proven_after, backoff_min, backoff_max }
    }

    /// One more has died, after having lived so long. Returns how long to wait
    /// before the next is started.
    fn note(&mut self, lived: Duration) -> Duration {
        self.in_a_row =
            if lived >= self.proven_after { 1 } else { self.in_a_row.saturating_add(1) };
        match self.in_a_row.checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => {
                let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
                self.backoff_min.saturating_mul(factor).min(self.backoff_max)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_in_a_row_are_made_good_later_and_later() {
        let config = ProcessConfig::new("/a".into(), "/b".into(), "/c".into());
        let mut deaths = Deaths::new(&config);
        let millis = [0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30_000, 30_000];
        for expected in millis {
            assert_eq!(deaths.note(Duration::from_secs(9)), Duration::from_millis(expected));
        }
        assert_eq!(deaths.note(Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(deaths.note(Duration::ZERO), Duration::from_millis(100));
        deaths.in_a_row = u32::MAX;
        assert_eq!(deaths.note(Duration::ZERO), Duration::from_secs(30));
    }
}
