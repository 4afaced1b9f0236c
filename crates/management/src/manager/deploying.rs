//! A deploy, from the archive to the route.
//!
//! Owns the order of its steps and what becomes of it when one fails. Must not
//! know who asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tinyfaas_model::{Deployment, FunctionCounters, FunctionName, FunctionSpec, LogSink, Route};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::archive::{self, Folder, Formats, Subfolder, UnpackError};
use crate::download::{DownloadError, Downloaded, download};
use crate::logs::{FunctionLog, Logs};
use crate::request::{UrlSource, Wanted};
use crate::settings::Settings;
use crate::spool::Spooled;

use super::progress::{Attempt, BuildReport, Progress, Step};
use super::turns::QueuedTurn;
use super::view::FunctionView;
use super::{Live, Manager, UploadError, UploadSlot};

/// Where a function's archive comes from.
pub(crate) enum Source {
    /// It came with the request.
    Sent {
        archive: Spooled,
        /// The function's folder in it.
        subfolder: Subfolder,
    },
    /// It is to be downloaded.
    Url(UrlSource),
}

/// What is to be deployed.
pub(crate) struct Order {
    pub(crate) slot: UploadSlot,
    pub(crate) wanted: Wanted,
    pub(crate) source: Source,
    /// What the archive may be.
    pub(crate) formats: Formats,
    /// Whom to tell how it goes.
    pub(crate) progress: Progress,
}

/// What was deployed.
#[derive(Debug)]
pub(crate) struct Deployed {
    /// The function, just live.
    pub(crate) function: FunctionView,
    /// Whether there was one of that name before.
    pub(crate) replaced: bool,
}

impl Manager {
    /// Deploys a function and returns when it takes calls. Its turn is taken with
    /// the first poll; it goes on if its caller goes away.
    pub(crate) async fn deploy(self: &Arc<Self>, order: Order) -> Result<Deployed, UploadError> {
        order.progress.step(Step::Queued);
        let turn = self.turns.queue(&order.wanted.name).await;
        let manager = Arc::clone(self);
        let mut stop = self.stop.subscribe();
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let Order { slot, wanted, source, formats, progress } = order;
            let _slot = slot;
            let name = wanted.name.clone();
            let stopped = async {
                // The sender is in the manager, which this task holds.
                drop(stop.wait_for(|stop| *stop).await);
            };
            let outcome = tokio::select! {
                biased;
                () = stopped => Err(UploadError::Stopping),
                outcome = manager.deploy_in_turn(turn, wanted, (source, formats), progress) => outcome,
            };
            if let Err(Err(error)) = answer.send(outcome) {
                tracing::warn!(function = %name, %error, "not deployed, and nobody waits for the answer");
            }
        });
        answered.await.unwrap_or_else(|_| Err(UploadError::Fault("the deploy broke off".into())))
    }

    async fn deploy_in_turn(
        self: &Arc<Self>,
        turn: QueuedTurn,
        wanted: Wanted,
        from: (Source, Formats),
        progress: Progress,
    ) -> Result<Deployed, UploadError> {
        let _turn = turn.await;
        let name = wanted.name.clone();
        let attempt = Attempt::begin(progress, self.config.build_output_bytes_max);
        match self.bring_up(wanted, from, &attempt).await {
            Ok((started, log)) => self.go_live(started, attempt.end(None), log),
            Err(error) => {
                let report = attempt.end(Some(error.to_string()));
                if let Some(live) = self.state.lock().live.get_mut(&name) {
                    live.report = Arc::new(report);
                }
                Err(error)
            }
        }
    }

    /// Everything up to handlers that are ready.
    async fn bring_up(
        &self,
        wanted: Wanted,
        (source, formats): (Source, Formats),
        attempt: &Attempt,
    ) -> Result<(Started, OpenLog<'_>), UploadError> {
        let name = wanted.name.clone();
        let (folder, settings) = match source {
            Source::Sent { archive, subfolder } => {
                attempt.step(Step::Unpacking);
                self.unpack(&name, archive, subfolder, formats).await?
            }
            Source::Url(from) => self.fetch(&name, from, formats, attempt).await?,
        };
        let spec = Arc::new(wanted.complete(settings, &self.config)?);
        let log = OpenLog::new(&self.logs, &spec.name);
        let counters = self.counters(&name);
        attempt.step(Step::Building);
        let built = Instant::now();
        let sink = attempt.sink(log.sink());
        let artifact = match self.backend.build(folder.into_path(), &spec, Arc::clone(&sink)).await
        {
            Ok(artifact) => artifact,
            Err(error) => {
                counters.builds.failed.fetch_add(1, Ordering::Relaxed);
                return Err(error.into());
            }
        };
        counters.builds.succeeded.observe(built.elapsed());
        attempt.step(Step::Starting);
        let of_handlers = Arc::clone(&counters);
        let deployment =
            self.backend.deploy(artifact, Arc::clone(&spec), sink, of_handlers).await?;
        Ok((Started { spec, deployment, counters }, log))
    }

    /// Downloads and unpacks. A download that is no archive is not the request's
    /// fault, as an upload would be.
    async fn fetch(
        &self,
        name: &FunctionName,
        from: UrlSource,
        formats: Formats,
        attempt: &Attempt,
    ) -> Result<(Folder, Settings), UploadError> {
        attempt.step(Step::Downloading);
        let Downloaded { archive, host } = download(&from.url, &self.config).await?;
        attempt.step(Step::Unpacking);
        let unpacked = self.unpack(name, archive, from.subfolder, formats).await;
        unpacked.map_err(|error| match error {
            UploadError::Unpack(UnpackError::NoArchive(why)) => {
                DownloadError::NoArchive { host, why }.into()
            }
            other => other,
        })
    }

    /// Unpacks an archive and reads the folder's settings, on a thread of its own,
    /// which ends early if this future is dropped.
    async fn unpack(
        &self,
        name: &FunctionName,
        archive: Spooled,
        subfolder: Subfolder,
        formats: Formats,
    ) -> Result<(Folder, Settings), UploadError> {
        let number = self.next_folder.fetch_add(1, Ordering::Relaxed);
        let into = self.config.spool_dir.join(format!("{name}-{number}"));
        let config = self.config.clone();
        let cancel = CancelOnDrop(Arc::default());
        let cancelled = Arc::clone(&cancel.0);
        let running = self.stop.subscribe();
        let unpacking = tokio::task::spawn_blocking(move || {
            let archive = archive.into_file();
            let (limits, cancelled) = (&config.archive, &*cancelled);
            let unpacked = archive::unpack(archive, formats, into, &subfolder, limits, cancelled);
            let outcome = unpacked.map_err(UploadError::from).and_then(|folder| {
                let settings = Settings::read(folder.path(), &config)?;
                Ok((folder, settings))
            });
            drop(running);
            outcome
        });
        match unpacking.await {
            Ok(outcome) => outcome,
            Err(error) => Err(UploadError::Fault(error.to_string())),
        }
    }

    /// Where the function is counted: what replaces it goes on counting there.
    fn counters(&self, name: &FunctionName) -> Arc<FunctionCounters> {
        let state = self.state.lock();
        state.live.get(name).map(|live| Arc::clone(&live.counters)).unwrap_or_default()
    }

    /// Gives the function its new route. The old handlers take no new call from
    /// here on and go when those that run have ended.
    fn go_live(
        self: &Arc<Self>,
        started: Started,
        report: BuildReport,
        log: OpenLog<'_>,
    ) -> Result<Deployed, UploadError> {
        let mut state = self.state.lock();
        let name = started.spec.name.clone();
        let before = state.live.get(&name).map_or(0, |live| live.version);
        let Started { spec, deployment, counters } = started;
        let (deployed, version) = (SystemTime::now(), before + 1);
        let new = Live { spec, deployment, counters, deployed, version, report: Arc::new(report) };
        if state.stopping {
            self.retire(&mut state, new, Duration::ZERO);
            return Err(UploadError::Stopping);
        }
        let handlers = new.deployment.handlers();
        let (function, counters) = (Arc::clone(&new.spec), Arc::clone(&new.counters));
        state.routes.put(Arc::new(Route { function, handlers, counters }));
        log.keep();
        tracing::info!(function = %name, env = %new.spec.runtime, threads = new.spec.threads, "deployed");
        let function = FunctionView::of(&new);
        let old = state.live.insert(name, new);
        let replaced = old.is_some();
        if let Some(old) = old {
            old.deployment.handlers().hand_over();
            let patience = old.spec.limits.call_deadline;
            self.retire(&mut state, old, patience);
        }
        Ok(Deployed { function, replaced })
    }
}

/// A function whose handlers are ready.
struct Started {
    spec: Arc<FunctionSpec>,
    deployment: Box<dyn Deployment>,
    counters: Arc<FunctionCounters>,
}

/// A function's log while it is being deployed: one that is new goes again
/// unless the deploy succeeds.
struct OpenLog<'a> {
    logs: &'a Logs,
    name: FunctionName,
    log: Arc<FunctionLog>,
    remove: bool,
}

impl<'a> OpenLog<'a> {
    fn new(logs: &'a Logs, name: &FunctionName) -> Self {
        let (log, is_new) = logs.open(name);
        Self { logs, name: name.clone(), log, remove: is_new }
    }

    fn sink(&self) -> Arc<dyn LogSink> {
        self.log.sink()
    }

    fn keep(mut self) {
        self.remove = false;
    }
}

impl Drop for OpenLog<'_> {
    fn drop(&mut self) {
        if self.remove {
            self.logs.remove(&self.name);
        }
    }
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
