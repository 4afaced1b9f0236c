//! The baselines that this program is itself: started again as one of them.
//!
//! Owns the process it runs in, so that it is to the load what the real server is:
//! another process. Must not know what a baseline is compared with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;
use tokio::net::TcpListener;

use crate::{bare_hyper, bare_tonic};

/// As many as the machines that the figures are compared with have cores.
const THREADS: usize = 2;

/// Which baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// HTTP by hyper.
    Hyper,
    /// gRPC by tonic.
    Tonic,
}

impl Baseline {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Hyper, Self::Tonic];

    /// The hidden subcommand by which this program runs as it.
    pub(crate) fn subcommand(self) -> &'static str {
        match self {
            Self::Hyper => "bare-hyper",
            Self::Tonic => "bare-tonic",
        }
    }
}

/// A running baseline; it ends with this.
#[derive(Debug)]
pub(crate) struct Bare {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    // Its end tells the server to stop, however this process ends.
    stdin: Option<ChildStdin>,
}

impl Bare {
    /// Starts this program again as a baseline.
    ///
    /// # Errors
    /// Where it does not start or says no address.
    pub(crate) fn start(baseline: Baseline) -> anyhow::Result<Self> {
        let name = baseline.subcommand();
        let program = std::env::current_exe().context("cannot find this program itself")?;
        let mut child = Command::new(program)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start the server {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout was just asked to be a pipe");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .with_context(|| format!("reading the address of {name}"))?;
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("{name} said {line:?} and not where it listens"))?;
        Ok(Self { address, child, stdin })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stdin.take();
        // It ends by itself now; waiting only collects it.
        let _ = self.child.wait();
    }
}

/// Is a baseline until standard input ends.
///
/// # Errors
/// Where it cannot listen.
pub(crate) fn serve_until_orphaned(baseline: Baseline) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("cannot start the bare server's runtime")?;
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .context("the bare server cannot listen on loopback")?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    match baseline {
        Baseline::Hyper => drop(runtime.spawn(bare_hyper::accept(listener))),
        Baseline::Tonic => drop(runtime.spawn(bare_tonic::serve(listener))),
    }
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    runtime.shutdown_background();
    Ok(())
}
