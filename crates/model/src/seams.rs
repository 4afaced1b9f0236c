//! The two seams: gateway to handlers (hot), management to handlers (cold).
//!
//! Owns the traits by which the rooms meet and the errors that cross them. Each
//! has several implementations and a fake for tests.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::counters::FunctionCounters;
use crate::function::{FunctionSpec, Runtime};
use crate::handler_set::{HandlerSet, Place};
use crate::health::{Health, Usage};
use crate::invocation::{Invocation, InvokeError, Reply};

/// A future behind a pointer, as `dyn` traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A handler's name, unique while the server runs; it stands in the log.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerId(Arc<str>);

impl HandlerId {
    /// Names a handler.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HandlerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HandlerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a handler gave no reply.
#[derive(Debug)]
pub enum HandlerError {
    /// The call has not started and nobody has seen it: it is handed back whole,
    /// and another handler may run it.
    NotStarted(Box<Invocation>),
    /// The call started and failed.
    Failed(InvokeError),
}

/// One running instance of a function: a process, a container. Seam 1, the hot
/// path.
pub trait Handler: Send + Sync {
    /// Its name.
    fn id(&self) -> &HandlerId;

    /// Runs one call. `place` is given back when the function has really ended,
    /// not when its caller leaves. Dropping the future, or the reply's body
    /// before its end, cancels the call. The caller of this method watches the
    /// deadline; the handler learns it from the invocation to tell the function,
    /// and to be replaced if a call does not end then.
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<Reply, HandlerError>>;
}

/// Takes the lines that a function prints, and what its backend has to say of
/// it. Writing never blocks for long and never fails: what cannot be kept is
/// dropped, and a line says so.
pub trait LogSink: Send + Sync {
    /// Takes one line, without its line feed; it is stamped with the time now.
    fn line(&self, handler: &HandlerId, text: &[u8]);
}

/// What a build has made of a function's folder. Only the backend that made it
/// knows what `reference` means (a folder, an image).
#[derive(Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The backend's own word for it.
    pub reference: String,
}

/// Why a folder could not be made ready to run.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// This machine lacks what the environment needs.
    #[error("environment {runtime} is not available on this machine: {problem}")]
    RuntimeMissing {
        /// The environment.
        runtime: Runtime,
        /// What is missing, and what to install.
        problem: String,
    },
    /// The folder is not a function of its environment.
    #[error("{0}")]
    InvalidFunction(String),
    /// The installer of its dependencies failed.
    #[error("installing the dependencies failed: {command} {how}\n{output}")]
    InstallFailed {
        /// What was run.
        command: String,
        /// How it ended.
        how: String,
        /// The end of what it printed.
        output: String,
    },
    /// The server's own trouble: a full disk, no rights.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and where.
        what: String,
        /// The system's word for it.
        source: std::io::Error,
    },
}

/// Why handlers could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A handler said that it cannot load the function, or ended while loading.
    #[error("the function did not start: {how}\n{output}")]
    StartFailed {
        /// How it ended.
        how: String,
        /// The end of what it printed.
        output: String,
    },
    /// A handler was not ready in time.
    #[error(
        "the function was not ready after {after:?}; where it needs longer, set start_timeout in \
         its tinyfaas.toml\n{output}"
    )]
    StartTimedOut {
        /// The time it had.
        after: Duration,
        /// The end of what it printed.
        output: String,
    },
    /// The server's own trouble: no processes left, a full disk.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and where.
        what: String,
        /// The system's word for it.
        source: std::io::Error,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// Whether an environment can be used on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// The environment.
    pub runtime: Runtime,
    /// What runs it, with its version (`Python 3.11.2`), or why nothing can and
    /// what to install.
    pub found: Result<String, String>,
}

/// Makes handlers of folders. Seam 2, the cold path.
pub trait Backend: Send + Sync {
    /// Its name in `TF_BACKEND`.
    fn name(&self) -> &'static str;

    /// Which environments can be used.
    fn runtimes(&self) -> Vec<RuntimeStatus>;

    /// Why it can start no handlers now, as a sentence; none if it can.
    fn problem(&self) -> Option<String>;

    /// Makes a folder ready to run: checks it, installs its dependencies. The
    /// folder is the backend's from here on: it is removed when the build fails
    /// and when its deployment is destroyed. Dropping the future gives the build
    /// up: what it has made and started goes then, with [`Backend::shutdown`] at
    /// the latest.
    fn build<'a>(
        &'a self,
        folder: PathBuf,
        spec: &'a FunctionSpec,
        log: Arc<dyn LogSink>,
    ) -> BoxFuture<'a, Result<Artifact, BuildError>>;

    /// Starts `spec.threads` handlers and returns when all are ready; if one
    /// fails, all are stopped and the artifact is removed. Dropping the future
    /// gives it up in the same way as a build. What is to be counted of handlers
    /// is counted in `counters`.
    fn deploy(
        &self,
        artifact: Artifact,
        spec: Arc<FunctionSpec>,
        log: Arc<dyn LogSink>,
        counters: Arc<FunctionCounters>,
    ) -> BoxFuture<'_, Result<Box<dyn Deployment>, DeployError>>;

    /// Ends whatever is left of it: every handler is dead when this returns.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// The handlers of one deployed function. The backend keeps their number:
/// one that dies is replaced.
pub trait Deployment: Send + Sync {
    /// Where calls find them.
    fn handlers(&self) -> Arc<HandlerSet>;

    /// How they are now.
    fn health(&self) -> Health;

    /// What they take of the machine now, or did a moment ago: a backend may tell
    /// the same for a short time, so that who asks often costs little. Brings
    /// [`crate::HandlerCounters::cpu_us`] up to date too. The future outlives the
    /// deployment.
    fn usage(&self) -> BoxFuture<'static, Usage>;

    /// Kills what still runs and removes everything that the deployment made.
    /// The caller has drained the handlers as far as it wants.
    fn destroy(self: Box<Self>) -> BoxFuture<'static, ()>;
}
