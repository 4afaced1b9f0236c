//! How a spawner process is started and ended: by the server, or by its keeper.
//!
//! Owns what a spawner gets from whoever starts it. Must not know what is asked
//! of it later.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, getrlimit};

use super::Instance;
use super::identity::Identity;
use super::keeper::{self, Keeper, SPAWNER};

/// How a spawner process is started, the first time and again.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    program: PathBuf,
    args: Vec<OsString>,
    pub(super) instance: Instance,
    /// The server's soft limit of open files at its start.
    pub(super) open_files: u64,
    /// Who starts it in the server's place.
    keeper: Option<Arc<Keeper>>,
}

/// A spawner process that nobody talks to yet. Dropping it ends the process.
#[derive(Debug)]
pub struct SpawnerProcess {
    // In the order in which they are to be dropped: a spawner ends when its
    // socket closes, and its keeper ends after it.
    pub(super) socket: UnixStream,
    pub(super) process: Process,
    pub(super) recipe: Recipe,
}

/// Whose child it is.
#[derive(Debug)]
pub(super) enum Process {
    /// The server's.
    Own(Child),
    /// The keeper's.
    Kept { keeper: Arc<Keeper>, pid: u32 },
}

impl SpawnerProcess {
    /// Starts the spawner: this program's own binary with the hidden subcommand
    /// `spawner`. To be called before any thread exists, and before the limit of
    /// open files is raised: workers get the limit found here.
    ///
    /// # Errors
    /// The system's.
    pub fn start(instance: &Instance) -> io::Result<Self> {
        Self::start_with(Path::new("/proc/self/exe"), &[SPAWNER], instance)
    }

    /// The same for a server that is root and will give that up: what is started
    /// later runs as `identity`. The program's own binary must have the hidden
    /// subcommand [`super::KEEPER`], too.
    ///
    /// # Errors
    /// The system's.
    pub fn start_for(instance: &Instance, identity: &Identity) -> io::Result<Self> {
        let keeper = Keeper::start(identity).map_err(not_started)?;
        Self::from_recipe(Recipe {
            keeper: Some(Arc::new(keeper)),
            ..recipe(Path::new("/proc/self/exe"), &[SPAWNER], instance)
        })
    }

    /// Starts another program as the spawner: one that calls [`super::main`].
    ///
    /// # Errors
    /// The system's.
    pub fn start_with(program: &Path, args: &[&str], instance: &Instance) -> io::Result<Self> {
        Self::from_recipe(recipe(program, args, instance))
    }

    pub(super) fn from_recipe(recipe: Recipe) -> io::Result<Self> {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = match &recipe.keeper {
            Some(keeper) => {
                let pid = keeper.start_spawner(&theirs).map_err(not_started)?;
                Process::Kept { keeper: Arc::clone(keeper), pid }
            }
            None => {
                let mut command = keeper::program(&recipe.program, &recipe.args);
                Process::Own(command.stdin(theirs).spawn().map_err(not_started)?)
            }
        };
        Ok(Self { socket: socket.into(), process, recipe })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Own(child) => child.id(),
            Process::Kept { pid, .. } => *pid,
        }
    }
}

impl Process {
    /// Ends a spawner that has closed its socket or must go, and says how it
    /// ended.
    pub(super) fn end(self) -> String {
        match self {
            Self::Own(mut child) => keeper::end(&mut child),
            Self::Kept { keeper, .. } => keeper.end_spawner(),
        }
    }
}

fn recipe(program: &Path, args: &[&str], instance: &Instance) -> Recipe {
    Recipe {
        program: program.to_owned(),
        args: args.iter().map(OsString::from).collect(),
        instance: instance.clone(),
        open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        keeper: None,
    }
}

fn not_started(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("starting the spawner process: {error}"))
}
