//! One worker process: its start, its life, its end.
//!
//! Owns what belongs to one handler: the process, its socket, its output, its
//! copy of the function's folder. Must not know the handlers beside it, nor who
//! replaces it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tinyfaas_model::{DeployError, FunctionSpec, HandlerId};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::connection::{Connection, Ending, LoadError, load};
use super::family::Family;
use super::folders;
use super::interpreters::Program;
use super::output::{Log, Output};
use super::spawner::{Child, Exit, Launch, SpawnError, Spawner};
use crate::wire::{Load, PROTOCOL, PROTOCOL_EXIT_CODE};

/// Everything that makes one worker like another of its deployment.
pub(super) struct Recipe {
    pub(super) spec: Arc<FunctionSpec>,
    /// What runs the function.
    pub(super) program: Program,
    /// The function's folder as it was built; never run in.
    pub(super) artifact: PathBuf,
    /// What the build installed, if anything.
    pub(super) dependencies: Option<PathBuf>,
    pub(super) spawner: Arc<Spawner>,
    /// Whom all workers belong to.
    pub(super) family: Arc<Family>,
    /// One for each worker that the backend may have.
    pub(super) places: Arc<Semaphore>,
    pub(super) bounds: Bounds,
}

/// Of the backend's configuration, what concerns one worker.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) deadline_grace: Duration,
    pub(super) exit_wait: Duration,
    pub(super) start_output_bytes_max: usize,
}

/// A worker that is ready.
pub(super) struct Worker {
    pub(super) connection: Arc<Connection>,
    pub(super) born: Instant,
    process: Process,
    serving: Serving,
}

/// The task that reads the worker's frames; ended with the worker.
struct Serving(JoinHandle<Ending>);

/// Why a worker is asked to be let go of.
pub(super) enum Fate {
    /// It is gone; its calls have been told how.
    Gone {
        /// How it ended.
        how: String,
        /// The spawner died, and this worker with it: it is not to blame.
        with_the_spawner: bool,
        /// What is left of it, to be removed.
        folder: PathBuf,
    },
    /// A call of it has not ended, though it should have: the worker is to be
    /// retired and then [`Worker::finish`]ed.
    Overdue(Worker),
    /// It cannot run new calls, and says why; the same is to be done.
    Leaving(Worker, String),
}

/// A process with all that goes with it.
struct Process {
    child: Child,
    output: Output,
    folder: PathBuf,
    exit_wait: Duration,
    /// Given back when it is gone.
    _place: OwnedSemaphorePermit,
}

impl Recipe {
    /// Starts a worker in a folder of its own, made for it at `folder`, and
    /// waits until it is ready, or until `stopped`.
    ///
    /// # Errors
    /// Says why it is not ready; nothing is left of it then.
    pub(super) async fn start(
        &self,
        folder: PathBuf,
        log: &Log,
        stopped: impl Future<Output = ()>,
    ) -> Result<Worker, DeployError> {
        let born = Instant::now();
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            // As many workers as there are places have the files that they take.
            let source = io::Error::from_raw_os_error(nix::libc::EMFILE);
            DeployError::Io { what: "starting another handler".into(), source }
        })?;
        if let Err(source) = self.make_folder(&folder).await {
            remove_folder(folder).await;
            return Err(DeployError::Io { what: "copying the function's folder".into(), source });
        }
        let (process, socket) = match self.launch(folder.clone(), log, place).await {
            Ok(started) => started,
            Err(error) => {
                remove_folder(folder).await;
                return Err(error);
            }
        };
        let timeout = self.spec.limits.start_timeout;
        let asked = self.load(&process.folder, &log.handler);
        let loaded = tokio::select! {
            biased;
            () = stopped => Err(DeployError::Stopping),
            loaded = tokio::time::timeout(timeout, load(&socket, &asked)) => Ok(loaded),
        };
        match loaded {
            Ok(Ok(Ok(ready))) => {
                tracing::debug!(handler = %log.handler, runtime = ready.runtime, "ready");
                process.output.forget_tail();
                let handler = log.handler.clone();
                let connection = Connection::new(handler, socket, self.bounds.deadline_grace);
                let served = Arc::clone(&connection);
                let serving = Serving(tokio::spawn(async move { served.serve().await }));
                Ok(Worker { connection, born, process, serving })
            }
            Ok(Ok(Err(problem))) => Err(process.start_failed(problem).await),
            Ok(Err(_)) => {
                process.child.kill();
                let output = process.end().await;
                Err(DeployError::StartTimedOut { after: timeout, output })
            }
            Err(stopping) => {
                process.child.kill();
                process.end().await;
                Err(stopping)
            }
        }
    }

    async fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let (artifact, folder) = (self.artifact.clone(), folder.to_owned());
        let modules = self.dependencies.as_ref().map(|dir| dir.join("node_modules"));
        blocking(move || {
            std::fs::create_dir(&folder)?;
            std::fs::create_dir(folder.join(TMP))?;
            let function = folder.join(FUNCTION);
            folders::copy(&artifact, &function)?;
            // Node looks for packages beside the code and above it only. What
            // the build installed is shared by all handlers, not copied.
            match modules.filter(|modules| modules.is_dir()) {
                Some(modules) => std::os::unix::fs::symlink(modules, function.join("node_modules")),
                None => Ok(()),
            }
        })
        .await
    }

    async fn launch(
        &self,
        folder: PathBuf,
        log: &Log,
        place: OwnedSemaphorePermit,
    ) -> Result<(Process, UnixStream), DeployError> {
        let io = |source| DeployError::Io { what: "making a handler's streams".into(), source };
        let (socket, theirs) = socket_pair().map_err(io)?;
        let (output, streams) =
            Output::start(log, self.bounds.start_output_bytes_max).map_err(io)?;
        let launch = Launch {
            label: format!("handler {}", log.handler),
            program: self.program.path.clone(),
            args: self.program.args.clone(),
            env: self.environment(&folder),
            folder: folder.join(FUNCTION),
            socket: Some(theirs),
            stdout: streams.stdout,
            stderr: streams.stderr,
        };
        let child = self.spawner.spawn(launch).await.map_err(deploy_error)?;
        self.family.add(&child);
        let exit_wait = self.bounds.exit_wait;
        Ok((Process { child, output, folder, exit_wait, _place: place }, socket))
    }

    fn load(&self, folder: &Path, handler: &HandlerId) -> Load {
        Load {
            protocol: PROTOCOL,
            function: self.spec.name.as_str().to_owned(),
            handler: handler.as_str().to_owned(),
            folder: folder.join(FUNCTION),
            dependencies: self.dependencies.clone(),
            concurrency: self.spec.limits.calls_per_handler,
            cgi: self.spec.cgi,
        }
    }

    /// A clean environment: never the server's. The function's variables win.
    fn environment(&self, folder: &Path) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), self.program.search_path.clone()),
            ("HOME".into(), folder.join(FUNCTION).into()),
            ("TMPDIR".into(), folder.join(TMP).into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        all.extend(std::env::var_os("TZ").map(|zone| ("TZ".into(), zone)));
        for var in &self.spec.envs {
            let key = OsString::from(&var.key);
            all.retain(|(other, _)| *other != key);
            all.push((key, OsString::from(&var.value)));
        }
        all
    }
}

/// Within a handler's folder: the copy of the function's, its working directory.
const FUNCTION: &str = "fn";
/// Within a handler's folder: its temporary files.
const TMP: &str = "tmp";

impl Worker {
    /// Its process, for killing it.
    pub(super) fn child(&self) -> Child {
        self.process.child.clone()
    }

    /// Stays with the worker until it is gone or must be let go of. New calls
    /// may fail as not started before this returns; `retire` is called as soon
    /// as none should be given to it.
    pub(super) async fn tend(mut self, retire: impl FnOnce()) -> Fate {
        let ending = tokio::select! {
            biased;
            ending = &mut self.serving.0 => Some(served(ending)),
            _ = self.process.child.wait() => None,
            () = self.connection.overdue() => {
                retire();
                return Fate::Overdue(self);
            }
            why = self.connection.leaving() => {
                let why = why.to_owned();
                retire();
                return Fate::Leaving(self, why);
            }
        };
        retire();
        self.end(ending).await
    }

    /// For a worker that is overdue or leaves: waits until its other calls have ended or
    /// reached their deadlines, and kills it.
    pub(super) async fn finish(mut self) {
        let ending = tokio::select! {
            ending = &mut self.serving.0 => Some(served(ending)),
            _ = self.process.child.wait() => None,
            () = self.connection.settled() => None,
        };
        self.process.child.kill();
        if let Fate::Gone { folder, .. } = self.end(ending).await {
            remove_folder(folder).await;
        }
    }

    /// Kills the worker; its calls are told `why`.
    pub(super) async fn stop(mut self, why: &str) {
        self.process.child.kill();
        self.wait_served().await;
        self.connection.fail(why);
        self.process.end().await;
    }

    /// The worker is gone or going: finds out how, and then tells its calls.
    async fn end(mut self, ending: Option<Ending>) -> Fate {
        if let Some(Ending::Broke(_)) = ending {
            self.process.child.kill();
        }
        let exit = self.process.exit().await;
        if ending.is_none() {
            // Replies that it wrote before its end still count.
            self.wait_served().await;
        }
        let how = match (ending, exit) {
            (Some(broke @ Ending::Broke(_)), _) => broke.to_string(),
            (_, Some(exit)) => describe_worker(exit),
            (_, None) => {
                "closed file descriptor 3, its socket to the server, but did not exit".into()
            }
        };
        self.connection.fail(&how);
        let (_, folder) = self.process.ended().await;
        Fate::Gone { how, with_the_spawner: exit == Some(Exit::SpawnerLost), folder }
    }

    async fn wait_served(&mut self) {
        let patience = self.process.exit_wait;
        drop(tokio::time::timeout(patience, &mut self.serving.0).await);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Process {
    /// How it ended, where it does so in time; killed where it does not.
    async fn exit(&self) -> Option<Exit> {
        let exit = tokio::time::timeout(self.exit_wait, self.child.wait()).await.ok();
        if exit.is_none() {
            self.child.kill();
        }
        exit
    }

    /// Waits for its end and removes what was its own. Returns the end of its
    /// output.
    async fn end(self) -> String {
        let (output, folder) = self.ended().await;
        remove_folder(folder).await;
        output
    }

    /// Waits for its end and for its last lines to be in the log. Returns the
    /// end of its output, and what is left to be removed.
    async fn ended(self) -> (String, PathBuf) {
        self.child.wait().await;
        (self.output.drain(self.exit_wait).await, self.folder)
    }

    async fn start_failed(self, problem: LoadError) -> DeployError {
        if !matches!(problem, LoadError::Ended(Ending::Closed)) {
            self.child.kill();
        }
        let exited = self.exit().await.map(describe_worker);
        let output = self.end().await;
        let how = match problem {
            LoadError::Failed(why) => why,
            LoadError::Ended(broke @ Ending::Broke(_)) => format!("its worker {broke}"),
            LoadError::Ended(Ending::Closed) => {
                let exited = exited.unwrap_or_else(|| "closed its socket".into());
                format!("its worker {exited} before it was ready")
            }
        };
        DeployError::StartFailed { how, output }
    }
}

fn served(ending: Result<Ending, tokio::task::JoinError>) -> Ending {
    // It is aborted only by whoever waits for it no more.
    ending.unwrap_or(Ending::Closed)
}

/// How a worker ended, as a caller is told.
fn describe_worker(exit: Exit) -> String {
    match exit {
        Exit::Code(PROTOCOL_EXIT_CODE) => format!(
            "{exit}, as a worker does whose socket to the server broke (file descriptor 3 is \
             tinyFaaS's own, and not to be closed); the function's log says more"
        ),
        _ => describe(exit),
    }
}

/// How a process ended, as a person is told.
pub(super) fn describe(exit: Exit) -> String {
    match exit {
        Exit::Signal(number) => match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => format!("killed by signal {number} ({signal})"),
            Err(_) => format!("killed by signal {number}"),
        },
        Exit::Code(_) | Exit::GuardLost | Exit::SpawnerLost => exit.to_string(),
    }
}

pub(super) fn deploy_error(error: SpawnError) -> DeployError {
    match error {
        SpawnError::Stopped => DeployError::Stopping,
        SpawnError::Step { label, step, program, source } => {
            let program = program.display();
            DeployError::Io { what: format!("starting {label} ({step}, {program})"), source }
        }
        error @ (SpawnError::Invalid { .. } | SpawnError::Lost) => {
            DeployError::Io { what: "starting a handler".into(), source: io::Error::other(error) }
        }
    }
}

/// Ours, for tokio, and the worker's, which blocks.
fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => Err(io::Error::other(panicked)),
    }
}

/// How often removing a folder is tried while the server is out of files, and how
/// long between: what has taken them mostly gives them back soon.
const REMOVE_TRIES: usize = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn remove_folder(folder: PathBuf) {
    for tries_left in (0..REMOVE_TRIES).rev() {
        let path = folder.clone();
        let Err(error) = blocking(move || folders::remove(&path)).await else { return };
        if tries_left == 0 || error.raw_os_error() != Some(nix::libc::EMFILE) {
            tracing::warn!("cannot remove {}: {error}; the next start does", folder.display());
            return;
        }
        tokio::time::sleep(REMOVE_PAUSE).await;
    }
}
