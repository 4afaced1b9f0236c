//! The worker of environment binary: runs `fn.sh` for every call.
//!
//! Owns the worker's side of docs/worker-protocol.md for scripts. It is a hidden
//! subcommand of the server's binary, so it stays small: one thread for all calls,
//! a few that start scripts and go when idle, and nothing initialised that it
//! does not use. Must not know the server.
//!
//! A call: `worker` reads its frames, `call` runs it with the environment that
//! `cgi` makes, in the process that `process` starts as `script` found out; where
//! the function asks for it, `head` takes header lines off its output.

mod call;
mod cgi;
#[cfg(fuzzing)]
pub mod fuzzing;
mod head;
mod outbox;
mod process;
mod script;
mod worker;

use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitCode;

use tinyfaas_handlers::process::spawner::take_worker_socket;
use tinyfaas_handlers::wire::PROTOCOL_EXIT_CODE;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use worker::{End, serve};

/// Scripts that are being started at a time; more wait. Measured on two cores
/// that others use as well: 4 keep up with the bare rate, 1 reaches half of it.
const STARTING_MAX: usize = 4;

/// A turn for each of them.
static STARTING: Semaphore = Semaphore::const_new(STARTING_MAX);

/// The worker. Its socket is file descriptor 3; it returns when the server is
/// gone, when the function cannot be loaded, or when the server breaks the
/// protocol.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(End::ServerGone) => ExitCode::SUCCESS,
        Ok(End::NotLoaded) => ExitCode::FAILURE,
        Err(problem) => {
            // Standard error is the function's log; nobody else would hear it.
            let _ = writeln!(io::stderr(), "tinyfaas binary worker: {problem}");
            match problem {
                Problem::Start(_) => ExitCode::FAILURE,
                Problem::Protocol(_) => u8::try_from(PROTOCOL_EXIT_CODE).unwrap_or(1).into(),
            }
        }
    }
}

/// Why the worker cannot go on.
#[derive(Debug)]
enum Problem {
    /// Its socket cannot be used.
    Start(io::Error),
    /// The server broke the protocol.
    Protocol(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(error) => write!(f, "its socket cannot be used: {error}"),
            Self::Protocol(how) => write!(f, "the server broke the protocol: {how}"),
        }
    }
}

fn run() -> Result<End, Problem> {
    let socket = take_worker_socket().map_err(Problem::Start)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .max_blocking_threads(STARTING_MAX)
        .build()
        .map_err(Problem::Start)?;
    // Calls that still run when this ends are dropped with the set, which kills
    // their scripts.
    let calls = LocalSet::new();
    let end = calls.block_on(&runtime, async {
        let socket = StdUnixStream::from(socket);
        socket.set_nonblocking(true).map_err(Problem::Start)?;
        serve(UnixStream::from_std(socket).map_err(Problem::Start)?).await
    });
    drop(calls);
    // A start that is under way needs the runtime: without it the script would run
    // and be nobody's to kill.
    drop(runtime.block_on(STARTING.acquire_many(STARTING_MAX as u32)));
    end
}
