//! The small process that starts and ends all others.
//!
//! Owns who is whose child. Four kinds of process always take part:
//!
//! - the **server** asks, through [`Spawner`] and [`Child`] (`client`, `session`);
//! - the **spawner** ([`main`], in `host`) is the server's binary, executed again
//!   before the server had a thread. It has one thread, forks cheaply, and ends
//!   everything when its socket to the server closes, however the server died;
//! - a **guard** (`guard`) per worker adopts whatever the worker puts into the
//!   background and ends all of it when the worker ends, when told to, or when
//!   the spawner dies;
//! - the **worker** is set up by ordered, named steps (`steps`) and executes the
//!   program asked for.
//!
//! Where the server has changed from root to a user of its own (`identity`),
//! programs run as that user too, and spawner and guards stay root's: no program
//! can harm its guard. Then a **keeper** (`keeper`) starts the spawners, as the
//! server may not any more.
//!
//! Must not know what a worker does, nor what a function is.

mod birth;
mod client;
mod descendants;
mod guard;
mod host;
mod identity;
mod keeper;
mod protocol;
mod session;
mod steps;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use super::sys::take_worker_socket;
pub use birth::SpawnerProcess;
pub use client::{Launch, SpawnError, Spawner};
pub(super) use descendants::parent_of;
pub use host::main;
pub use identity::{Identity, NoIdentity};
pub use keeper::{KEEPER, keeper_main};
pub use session::Child;
pub(super) use session::Sight;
pub use steps::Step;

/// The environment variable that every process started here carries:
/// `ID@DATA-DIRECTORY` of its server.
pub const INSTANCE_VARIABLE: &str = "TINYFAAS_INSTANCE";

/// Which server something belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Made once per data directory; without `@`.
    pub id: String,
    /// The server's data directory.
    pub data_dir: PathBuf,
}

impl Instance {
    /// The value of [`INSTANCE_VARIABLE`] that marks what is this server's.
    #[must_use]
    pub fn mark(&self) -> OsString {
        let mut mark = OsString::from(&self.id);
        mark.push("@");
        mark.push(&self.data_dir);
        mark
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Its guard was killed from outside, and it was ended for that.
    GuardLost,
    /// The spawner died, and with it all its children.
    SpawnerLost,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "was ended by signal {number} ({signal})"),
                Err(_) => write!(f, "was ended by signal {number}"),
            },
            Self::GuardLost => f.write_str("was ended because somebody killed its guard process"),
            Self::SpawnerLost => f.write_str("was ended because the spawner process died"),
        }
    }
}
