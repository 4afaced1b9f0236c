//! The embedded backend: a function's handlers are processes of this machine.
//!
//! Owns where deployments lie and which are alive. A deployment is a folder:
//! `artifact` (the function as it was built), `dependencies` (what the build
//! installed), and a folder for each handler with its own copy. Must not know
//! how calls arrive.

mod build;
mod census;
mod config;
mod connection;
mod dependencies;
mod family;
mod folders;
mod interpreters;
pub mod leftovers;
mod output;
mod run;
pub mod spawner;
mod supervisor;
mod sys;
mod vitals;
mod worker;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tinyfaas_model::{
    Artifact, Backend, BoxFuture, BuildError, DeployError, Deployment, FunctionCounters,
    FunctionSpec, LogSink, RuntimeStatus,
};
use tokio::sync::Semaphore;

use build::{ARTIFACT, Builder, DEPENDENCIES};
use census::{Census, Recent};
pub use config::{BINARY_WORKER, ProcessConfig};
use family::Family;
use interpreters::Interpreters;
pub use interpreters::RuntimeSurvey;
use spawner::Spawner;
use supervisor::Supervisor;
pub use sys::landlock_abi;
use worker::{Bounds, Recipe, blocking, remove_folder};

/// The backend whose handlers are processes, started by the spawner.
pub struct ProcessBackend {
    config: Arc<ProcessConfig>,
    spawner: Arc<Spawner>,
    /// One for each worker that there may be.
    places: Arc<Semaphore>,
    interpreters: Interpreters,
    /// Makes deployments' names different.
    deployments: AtomicU64,
    alive: Mutex<Alive>,
    /// The processes of this machine, for all deployments.
    machine: Arc<Recent<Arc<Census>>>,
}

#[derive(Default)]
struct Alive {
    supervisors: Vec<Weak<Supervisor>>,
    /// The server is stopping: none are added.
    closed: bool,
}

impl ProcessBackend {
    /// Empties the folder of deployments (a server that was killed leaves its
    /// own), writes the workers' code and looks for interpreters. A missing one
    /// is no error: its environment cannot be used.
    ///
    /// # Errors
    /// If a folder cannot be made, emptied or written to.
    pub async fn start(config: ProcessConfig, spawner: Arc<Spawner>) -> io::Result<Arc<Self>> {
        for dir in [&config.dir, &config.runtimes_dir, &config.cache_dir] {
            if dir.to_str().is_none() || !dir.is_absolute() {
                let problem = format!("{}: must be an absolute path in UTF-8", dir.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
            }
        }
        let (dir, cache) = (config.dir.clone(), config.cache_dir.clone());
        blocking(move || {
            folders::remove(&dir)?;
            fs::create_dir_all(&dir)?;
            fs::create_dir_all(&cache)
        })
        .await?;
        let interpreters = Interpreters::find(&config, &spawner).await?;
        Ok(Arc::new(Self {
            machine: Arc::new(Recent::new(config.usage_age_max)),
            places: Arc::new(Semaphore::new(config.workers_max)),
            config: Arc::new(config),
            spawner,
            interpreters,
            deployments: AtomicU64::new(0),
            alive: Mutex::default(),
        }))
    }

    /// What this machine has for each environment, installers included.
    pub async fn survey(&self) -> Vec<RuntimeSurvey> {
        self.interpreters.survey(&self.spawner).await
    }

    async fn build_folder(
        &self,
        folder: PathBuf,
        spec: &FunctionSpec,
        log: Arc<dyn LogSink>,
    ) -> Result<Artifact, BuildError> {
        let number = self.deployments.fetch_add(1, Ordering::Relaxed);
        let place = self.config.dir.join(format!("{}-{number:04x}", spec.name));
        let mut doomed = Doomed(vec![folder.clone(), place.clone()]);
        let builder = Builder {
            config: &self.config,
            interpreters: &self.interpreters,
            spawner: &self.spawner,
            spec,
            log,
        };
        if let Err(error) = builder.build(&folder, &place).await {
            doomed.remove().await;
            return Err(error);
        }
        doomed.0.clear();
        let reference = place.to_str().expect("checked at start, and names are ASCII").to_owned();
        Ok(Artifact { reference })
    }

    async fn deploy_artifact(
        &self,
        artifact: Artifact,
        spec: Arc<FunctionSpec>,
        log: Arc<dyn LogSink>,
        counters: Arc<FunctionCounters>,
    ) -> Result<Box<dyn Deployment>, DeployError> {
        let place = PathBuf::from(artifact.reference);
        let program = match self.interpreters.program(spec.runtime) {
            Ok(program) => program,
            Err(how) => {
                remove_folder(place).await;
                return Err(DeployError::StartFailed { how, output: String::new() });
            }
        };
        let supervisor = self.supervisor(&place, program, spec, (log, counters));
        let registered = self.register(&supervisor);
        if !registered {
            remove_folder(place).await;
            return Err(DeployError::Stopping);
        }
        supervisor.start().await
    }

    fn supervisor(
        &self,
        place: &Path,
        program: interpreters::Program,
        spec: Arc<FunctionSpec>,
        (log, counters): (Arc<dyn LogSink>, Arc<FunctionCounters>),
    ) -> Arc<Supervisor> {
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dependencies = place.join(DEPENDENCIES);
        let (age, measured_max) = (self.config.usage_age_max, self.config.usage_measured_max);
        let family = Family::new(Arc::clone(&counters), age, measured_max);
        let recipe = Recipe {
            spec,
            family: Arc::clone(&family),
            program,
            artifact: place.join(ARTIFACT),
            dependencies: dependencies.is_dir().then_some(dependencies),
            spawner: Arc::clone(&self.spawner),
            places: Arc::clone(&self.places),
            bounds: Bounds {
                deadline_grace: self.config.deadline_grace,
                exit_wait: self.config.exit_wait,
                start_output_bytes_max: self.config.start_output_bytes_max,
            },
        };
        let config = Arc::clone(&self.config);
        let machine = Arc::clone(&self.machine);
        Supervisor::new(name, recipe, place.to_owned(), (log, counters), config, machine)
    }

    fn register(&self, supervisor: &Arc<Supervisor>) -> bool {
        let mut alive = self.alive.lock();
        alive.supervisors.retain(|other| other.strong_count() > 0);
        if !alive.closed {
            alive.supervisors.push(Arc::downgrade(supervisor));
        }
        !alive.closed
    }

    async fn end_all(&self) {
        let supervisors = {
            let mut alive = self.alive.lock();
            alive.closed = true;
            std::mem::take(&mut alive.supervisors)
        };
        let mut ending = tokio::task::JoinSet::new();
        for supervisor in supervisors.iter().filter_map(Weak::upgrade) {
            ending.spawn(async move { supervisor.end().await });
        }
        while ending.join_next().await.is_some() {}
        remove_folder(self.config.dir.clone()).await;
    }
}

impl Backend for ProcessBackend {
    fn name(&self) -> &'static str {
        "process"
    }

    fn runtimes(&self) -> Vec<RuntimeStatus> {
        self.interpreters.statuses()
    }

    fn problem(&self) -> Option<String> {
        self.spawner.problem()
    }

    fn build<'a>(
        &'a self,
        folder: PathBuf,
        spec: &'a FunctionSpec,
        log: Arc<dyn LogSink>,
    ) -> BoxFuture<'a, Result<Artifact, BuildError>> {
        Box::pin(self.build_folder(folder, spec, log))
    }

    fn deploy(
        &self,
        artifact: Artifact,
        spec: Arc<FunctionSpec>,
        log: Arc<dyn LogSink>,
        counters: Arc<FunctionCounters>,
    ) -> BoxFuture<'_, Result<Box<dyn Deployment>, DeployError>> {
        Box::pin(self.deploy_artifact(artifact, spec, log, counters))
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end_all())
    }
}

/// Folders that are removed unless they are taken out: by a failing build, and
/// by one whose caller went away.
struct Doomed(Vec<PathBuf>);

impl Doomed {
    async fn remove(mut self) {
        for folder in std::mem::take(&mut self.0) {
            remove_folder(folder).await;
        }
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        // Without a runtime the server is ending, and the next start removes them.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for folder in self.0.drain(..) {
            runtime.spawn(remove_folder(folder));
        }
    }
}
