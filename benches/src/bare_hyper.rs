//! The ceiling: an HTTP server that echoes by itself, with no function behind.
//!
//! Owns that server and the process it runs in, so that it is to the load what
//! the real server is: another process. Must not know what it is compared with.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The hidden subcommand by which this program runs as that server.
pub(crate) const SUBCOMMAND: &str = "bare-hyper";
/// What an echo is asked by default: 64 bytes.
pub(crate) const PAYLOAD: &[u8; 64] =
    b"sixty-four bytes of text that a function gives back unchanged...";
/// What an echo is asked: text of this length.
pub(crate) fn body(bytes: usize) -> Vec<u8> {
    PAYLOAD.iter().copied().cycle().take(bytes).collect()
}

/// As many as the machines that the figures are compared with have cores.
const THREADS: usize = 2;

/// A running bare server; it ends with this.
#[derive(Debug)]
pub(crate) struct BareHyper {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    child: Child,
    // Its end tells the server to stop, however this process ends.
    stdin: Option<ChildStdin>,
}

impl BareHyper {
    /// Starts this program again as the bare server.
    ///
    /// # Errors
    /// Where it does not start or says no address.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program itself")?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the bare hyper server")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("stdout was just asked to be a pipe");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("reading the bare server's address")?;
        let address = line.trim().parse().with_context(|| {
            format!("the bare hyper server said {line:?} and not where it listens")
        })?;
        Ok(Self { address, child, stdin })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for BareHyper {
    fn drop(&mut self) {
        self.stdin.take();
        // It ends by itself now; waiting only collects it.
        let _ = self.child.wait();
    }
}

/// Is the bare server until standard input ends.
///
/// # Errors
/// Where it cannot listen.
pub(crate) fn serve_until_orphaned() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_io()
        .build()
        .context("cannot start the bare server's runtime")?;
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .context("the bare server cannot listen on loopback")?;
    println!("{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    runtime.spawn(accept(listener));
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    runtime.shutdown_background();
    Ok(())
}

async fn accept(listener: TcpListener) {
    // An accept that breaks leaves the load without a server, which it reports.
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            if stream.set_nodelay(true).is_ok() {
                // A connection's end is no news: the load counts its own errors.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            }
        });
    }
}

/// The body is read whole, as a gateway before most functions has to.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(body)))
}
