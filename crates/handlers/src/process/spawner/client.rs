//! The server's side of the spawner: asking it, starting it anew.
//!
//! Owns which spawner process is the current one. Must not know why a program
//! is started.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::birth::{Recipe, SpawnerProcess};
use super::protocol::{Request, encode};
use super::session::{Child, Session, Wanted};
use super::{Instance, Step};
use crate::process::leftovers;

/// Programs that may be on their way to their start at a time; more wait.
const STARTING_MAX: usize = 64;

/// How often the spawner may be started anew within [`RESTARTS_WITHIN`].
const RESTARTS_MAX: usize = 5;
/// The time to which [`RESTARTS_MAX`] applies.
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);

/// How long a spawner may take to end everything when asked to; then it is
/// killed, and its guards end their trees for that.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(5);

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The system refused; nothing is left of the attempt.
    #[error("{label} could not be started: {step} ({}): {source}", program.display())]
    Step {
        /// Who was to be started.
        label: String,
        /// What was being done.
        step: Step,
        /// What was to be executed.
        program: PathBuf,
        /// The system's word for it.
        source: io::Error,
    },
    /// The request cannot be carried out as it is.
    #[error("{label} could not be started: {problem}")]
    Invalid {
        /// Who was to be started.
        label: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The spawner died, or could not be started anew.
    #[error("the process that starts all others died")]
    Lost,
    /// The spawner was shut down.
    #[error("the server is stopping and starts no more processes")]
    Stopped,
}

/// A program to start.
#[derive(Debug)]
pub struct Launch {
    /// Who it is, in messages.
    pub label: String,
    /// What to execute: an absolute path.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its whole environment; the mark of [`Instance`] is added.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub folder: PathBuf,
    /// Its descriptor 3.
    pub socket: Option<OwnedFd>,
    /// Its standard output. Its standard input is always `/dev/null`.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// Which spawner takes requests.
#[derive(Debug, Clone)]
enum Link {
    Up {
        session: Arc<Session>,
        pid: u32,
    },
    /// The last one died; the next is being started.
    Restarting,
    /// No more are started, for this reason.
    Failed(Arc<str>),
    Stopped,
}

/// The server's handle on its spawner. If the spawner dies, its children end as
/// [`super::Exit::SpawnerLost`] and another one is started, at most
/// 5 times within a minute.
#[derive(Debug)]
pub struct Spawner {
    link: watch::Sender<Link>,
    /// How many spawners have been lost.
    losses: watch::Sender<u64>,
    starting: Semaphore,
    next_id: AtomicU64,
}

impl Spawner {
    /// Takes up the conversation with a spawner, on the current tokio runtime
    /// (with I/O and time). It lasts until [`Spawner::shutdown`] or the
    /// runtime's end.
    #[must_use]
    pub fn connect(process: SpawnerProcess) -> Arc<Self> {
        let first = Connection::new(process);
        let spawner = Arc::new(Self {
            link: watch::Sender::new(first.link()),
            losses: watch::Sender::new(0),
            starting: Semaphore::new(STARTING_MAX),
            next_id: AtomicU64::new(1),
        });
        tokio::spawn(spawner.clone().keep(first));
        spawner
    }

    /// Starts a program and returns when it has been executed. Dropping the
    /// future kills what it started.
    ///
    /// # Errors
    /// The step that failed; the spawner's death; the server's stop.
    pub async fn spawn(&self, launch: Launch) -> Result<Child, SpawnError> {
        check(&launch)?;
        let _turn = self.starting.acquire().await.map_err(|_| SpawnError::Stopped)?;
        let session = self.session().await?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        session.submit(id, wanted(id, launch, reply)?);
        answer.await.unwrap_or(Err(SpawnError::Lost))
    }

    /// The current spawner's process id, while there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match &*self.link.borrow() {
            Link::Up { pid, .. } => Some(*pid),
            Link::Restarting | Link::Failed(_) | Link::Stopped => None,
        }
    }

    /// Why no program can be started now, as a sentence; none if one can.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &*self.link.borrow() {
            Link::Up { .. } => None,
            Link::Restarting => {
                Some("the process that starts all others died; it is being started anew".to_owned())
            }
            Link::Failed(reason) => {
                Some(format!("the process that starts all others died: {reason}"))
            }
            Link::Stopped => Some(SpawnError::Stopped.to_string()),
        }
    }

    /// Resolves when the spawner process dies that is there now, or the next one
    /// to come. All its children are gone then. Stopping is no death.
    pub async fn lost(&self) {
        let mut losses = self.losses.subscribe();
        if losses.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Resolves when the spawner has died too often or cannot be started anew,
    /// and says what happened: the server cannot go on.
    pub async fn failed(&self) -> String {
        let mut link = self.link.subscribe();
        match link.wait_for(|link| matches!(link, Link::Failed(_))).await.as_deref() {
            Ok(Link::Failed(reason)) => reason.to_string(),
            _ => std::future::pending().await,
        }
    }

    /// Ends everything that was started, and the spawner. Returns when all of it
    /// is gone.
    pub async fn shutdown(&self) {
        self.starting.close();
        let mut link = self.link.subscribe();
        loop {
            // The borrow must not last until the change that it waits for.
            let now = link.borrow_and_update().clone();
            match now {
                Link::Stopped | Link::Failed(_) => return,
                Link::Restarting => {}
                Link::Up { session, .. } => session.close(),
            }
            if link.changed().await.is_err() {
                return;
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>, SpawnError> {
        let mut link = self.link.subscribe();
        let settled = link.wait_for(|link| !matches!(link, Link::Restarting)).await;
        match settled.as_deref() {
            Ok(Link::Up { session, .. }) if !session.is_closing() => Ok(session.clone()),
            Ok(Link::Failed(_)) => Err(SpawnError::Lost),
            _ => Err(SpawnError::Stopped),
        }
    }

    /// Keeps a spawner there until the server stops or too many have died.
    async fn keep(self: Arc<Self>, mut connection: Connection) {
        let mut starts = VecDeque::new();
        let last = loop {
            let session = connection.session.clone();
            let (ended, recipe) = connection.run().await;
            let stopping = session.is_closing();
            self.link.send_replace(Link::Restarting);
            if !stopping {
                // Its guards end what they guard, but a function may have killed
                // a guard as well.
                clean(&recipe.instance).await;
            }
            session.end_all();
            if stopping || self.starting.is_closed() {
                break Link::Stopped;
            }
            tracing::error!("the spawner process died ({ended}); starting it anew");
            self.losses.send_modify(|losses| *losses += 1);
            connection = match restart(&mut starts, recipe).await {
                Ok(connection) => connection,
                Err(reason) => break Link::Failed(reason.into()),
            };
            self.link.send_replace(connection.link());
        };
        self.link.send_replace(last);
    }
}

/// One spawner process and the conversation with it.
struct Connection {
    process: SpawnerProcess,
    session: Arc<Session>,
}

impl Connection {
    fn new(process: SpawnerProcess) -> Self {
        let recipe = &process.recipe;
        let mark = recipe.instance.mark().into();
        let hello = Request::Hello { mark, open_files: recipe.open_files };
        let hello = encode(&hello).expect("a path is shorter than the longest message");
        Self { process, session: Session::new(hello) }
    }

    fn link(&self) -> Link {
        Link::Up { session: self.session.clone(), pid: self.process.pid() }
    }

    /// Talks until the spawner's end, makes sure that it has ended, and says how.
    async fn run(self) -> (String, Recipe) {
        let Self { process: SpawnerProcess { socket, process, recipe }, session } = self;
        let said = match socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket)) {
            Ok(stream) => {
                let patience = session.clone();
                tokio::select! {
                    said = session.run(&stream) => said.err(),
                    () = patience.outstay(SHUTDOWN_PATIENCE) => Some("it did not stop".into()),
                }
            }
            Err(error) => Some(format!("its socket cannot be used: {error}")),
        };
        let ended = tokio::task::spawn_blocking(move || process.end()).await;
        let ended = ended.unwrap_or_else(|error| error.to_string());
        (said.map_or(ended.clone(), |said| format!("{ended}: {said}")), recipe)
    }
}

/// Ends whatever still carries this server's mark.
async fn clean(instance: &Instance) {
    let instance = instance.clone();
    let cleaned = tokio::task::spawn_blocking(move || leftovers::kill_leftovers(&instance)).await;
    if let Ok(Err(error)) = cleaned {
        tracing::error!("processes of the dead spawner may be left: {error}");
    }
}

async fn restart(starts: &mut VecDeque<Instant>, recipe: Recipe) -> Result<Connection, String> {
    let now = Instant::now();
    starts.retain(|start| now.duration_since(*start) < RESTARTS_WITHIN);
    if starts.len() >= RESTARTS_MAX {
        return Err(format!(
            "the spawner process died {} times within {} s; look in the system's log for why \
             (out of memory?)",
            RESTARTS_MAX + 1,
            RESTARTS_WITHIN.as_secs()
        ));
    }
    starts.push_back(now);
    match tokio::task::spawn_blocking(move || SpawnerProcess::from_recipe(recipe)).await {
        Ok(Ok(process)) => Ok(Connection::new(process)),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn check(launch: &Launch) -> Result<(), SpawnError> {
    let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
    let problem = if !launch.program.is_absolute() {
        "its program is not an absolute path"
    } else if launch.env.iter().any(|(name, _)| name.is_empty() || name.as_bytes().contains(&b'='))
    {
        "a variable of its environment has no name or one with '='"
    } else if has_nul(launch.program.as_os_str())
        || has_nul(launch.folder.as_os_str())
        || launch.args.iter().any(|arg| has_nul(arg))
        || launch.env.iter().any(|(name, value)| has_nul(name) || has_nul(value))
    {
        "its paths, arguments or environment hold a NUL"
    } else {
        return Ok(());
    };
    Err(SpawnError::Invalid { label: launch.label.clone(), problem })
}

fn wanted(
    id: u64,
    launch: Launch,
    reply: oneshot::Sender<Result<Child, SpawnError>>,
) -> Result<Wanted, SpawnError> {
    let Launch { label, program, args, env, folder, socket, stdout, stderr } = launch;
    let request = Request::Spawn {
        id,
        program: program.as_os_str().into(),
        args: args.into_iter().map(Into::into).collect(),
        env: env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        folder: folder.into(),
        socket: socket.is_some(),
    };
    let Some(bytes) = encode(&request) else {
        let problem = "its arguments and environment are too long";
        return Err(SpawnError::Invalid { label, problem });
    };
    let fds = [Some(stdout), Some(stderr), socket].into_iter().flatten().collect();
    Ok(Wanted { label, program, bytes, fds, reply })
}
