//! A program that is run to its end: an installer, an interpreter's `--version`.
//!
//! Owns the time limit and the output of such a program. It is started by the
//! spawner like everything else, so that nothing of it outlives the server.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tinyfaas_model::{HandlerId, LogSink};

use super::output::{Log, Output};
use super::spawner::{Exit, Launch, SpawnError, Spawner};
use super::worker::describe;

/// How long the last lines of a program that has ended are waited for.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Command {
    /// As a user would type it, for messages.
    pub(super) shown: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) folder: PathBuf,
}

/// How it ended, and the end of what it printed.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) ending: RunEnding,
    pub(super) output: String,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunEnding {
    /// By itself or by others.
    Exited(Exit),
    /// It was killed after so long.
    TimedOut(Duration),
}

/// Why it was not run.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("making its streams: {0}")]
    Streams(#[from] io::Error),
}

impl Finished {
    pub(super) fn succeeded(&self) -> bool {
        self.ending == RunEnding::Exited(Exit::Code(0))
    }
}

impl fmt::Display for RunEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(exit) => f.write_str(&describe(*exit)),
            Self::TimedOut(after) => write!(f, "was killed, as it took longer than {after:?}"),
        }
    }
}

/// Runs a program until its end, at most for `time_limit`. Its lines go to the
/// log as they come; the last `output_bytes_max` bytes are kept. Dropping the
/// future kills it.
///
/// # Errors
/// If it cannot be started.
pub(super) async fn run(
    spawner: &Spawner,
    command: Command,
    log: &Log,
    output_bytes_max: usize,
    time_limit: Duration,
) -> Result<Finished, RunError> {
    let (output, streams) = Output::start(log, output_bytes_max)?;
    let launch = Launch {
        label: command.shown,
        program: command.program,
        args: command.args,
        env: command.env,
        folder: command.folder,
        socket: None,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let child = spawner.spawn(launch).await?;
    let ending = match tokio::time::timeout(time_limit, child.wait()).await {
        Ok(exit) => RunEnding::Exited(exit),
        Err(_) => {
            child.kill();
            child.wait().await;
            RunEnding::TimedOut(time_limit)
        }
    };
    Ok(Finished { ending, output: output.drain(DRAIN_PATIENCE).await })
}

/// A log for what nobody reads.
pub(super) fn no_log() -> Log {
    struct Nowhere;
    impl LogSink for Nowhere {
        fn line(&self, _: &HandlerId, _: &[u8]) {}
    }
    Log {
        sink: std::sync::Arc::new(Nowhere),
        handler: HandlerId::new("probe"),
        line_bytes_max: 1 << 10,
    }
}
