//! The server under test: started by the bench on free ports, and stopped by it.
//!
//! Owns its process, its data directory and its output. Knows of it what any
//! user knows: variables, `ports.json`, signals.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client;

/// How long it may take to be ready, and to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// As much of its output is shown where it fails, in lines.
const LINES_SHOWN: usize = 20;

/// A running server; it is killed where it is dropped without having been stopped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    dir: TempDir,
    /// Where functions are called.
    pub(crate) http: SocketAddr,
    /// The same over CoAP; `None` where the server has none.
    pub(crate) coap: Option<SocketAddr>,
    /// The same over gRPC; `None` where the server has none.
    pub(crate) grpc: Option<SocketAddr>,
    /// Where functions are uploaded.
    pub(crate) management: SocketAddr,
    /// From its start until management answered.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts it and waits until management answers.
    ///
    /// # Errors
    /// Where it ends or is not ready in time, with its last words.
    pub(crate) fn start(binary: &Path) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("tinyfaas-bench-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let begun = Instant::now();
        let mut child = spawn(binary, dir.path())?;
        match wait_until_ready(&mut child, dir.path(), begun) {
            Ok(Addresses { http, coap, grpc, management }) => {
                let ready_after = begun.elapsed();
                Ok(Self { child, dir, http, coap, grpc, management, ready_after })
            }
            Err(error) => {
                // It may have ended already; collected it must be in either case.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context(format!("{}{}", binary.display(), last_words(dir.path()))))
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it as a user would, and waits for its end.
    ///
    /// # Errors
    /// Where it does not end in time or not with success.
    pub(crate) fn stop(mut self) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("SIGTERM")?;
        let status = wait_for_end(&mut self.child)?;
        let Some(status) = status else {
            bail!("the server still ran {} s after SIGTERM", PATIENCE.as_secs());
        };
        ensure!(
            status.success(),
            "the server ended with {status} after SIGTERM{}",
            last_words(self.dir.path())
        );
        Ok(begun.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both do nothing where it was stopped before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's output stands beside its data directory, not in it.
fn output(dir: &Path) -> PathBuf {
    dir.join("output.txt")
}

fn spawn(binary: &Path, dir: &Path) -> anyhow::Result<Child> {
    let file = File::create(output(dir)).context("cannot make a file for the server's output")?;
    let errors = file.try_clone().context("cannot make a file for the server's output")?;
    Command::new(binary)
        .env("HTTP_PORT", "0")
        .env("MANAGEMENT_PORT", "0")
        .env("COAP_PORT", "0")
        .env("GRPC_PORT", "0")
        .env("HTTP_ADDRESS", "127.0.0.1")
        .env("COAP_ADDRESS", "127.0.0.1")
        .env("GRPC_ADDRESS", "127.0.0.1")
        .env("MANAGEMENT_ADDRESS", "127.0.0.1")
        .env("TF_DATA_DIR", dir.join("data"))
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .spawn()
        .with_context(|| {
            format!("cannot start {}; build it by `make build`, or name it", binary.display())
        })
}

fn wait_until_ready(child: &mut Child, dir: &Path, begun: Instant) -> anyhow::Result<Addresses> {
    let ports = dir.join("data/ports.json");
    loop {
        if let Some(text) = read_if_there(&ports)? {
            let addresses = Addresses::read(&text)?;
            client::ask(addresses.management, "GET", "/list", b"")?.success()?;
            return Ok(addresses);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status} instead of starting");
        }
        if begun.elapsed() > PATIENCE {
            bail!("the server has not written {} in {} s", ports.display(), PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Where it listens.
#[derive(Debug, PartialEq, Eq)]
struct Addresses {
    http: SocketAddr,
    coap: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    management: SocketAddr,
}

impl Addresses {
    fn read(ports: &str) -> anyhow::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(ports).context("ports.json")?;
        let found = |name: &str| {
            let port = u16::try_from(value.get(name)?.as_u64()?).ok()?;
            Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let needed = |name: &str| {
            found(name).with_context(|| format!("ports.json names no port for {name}: {ports}"))
        };
        Ok(Self {
            http: needed("http")?,
            coap: found("coap"),
            grpc: found("grpc"),
            management: needed("management")?,
        })
    }
}

fn wait_for_end(child: &mut Child) -> anyhow::Result<Option<ExitStatus>> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().context("waiting for the server's end")? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(None)
}

fn last_words(dir: &Path) -> String {
    let text = fs::read_to_string(output(dir)).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
    if shown.is_empty() { String::new() } else { format!("; it said:\n{}", shown.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_by_name() {
        let read = Addresses::read;
        let found = read(r#"{"http": 81, "coap": null, "management": 65535}"#).expect("sound");
        assert_eq!((found.http.port(), found.coap, found.management.port()), (81, None, 65535));
        let found = read(r#"{"http": 81, "coap": 5683, "grpc": 9000, "management": 1}"#);
        let found = found.expect("sound");
        let at = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!((found.coap, found.grpc), (at(5683), at(9000)));
        let error = read(r#"{"http": 81}"#).expect_err("no management");
        assert!(error.to_string().contains("no port for management"), "{error}");
        read(r#"{"http": 65536, "management": 1}"#).expect_err("no such port");
    }

    #[test]
    fn a_server_that_does_not_start_is_quoted() {
        let dir = tempfile::tempdir().expect("a directory");
        let script = dir.path().join("server");
        fs::write(&script, "#!/bin/sh\necho the port is in use >&2\nexit 1\n").expect("writable");
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&script, executable).expect("ours");
        let error = format!("{:#}", Server::start(&script).expect_err("ends"));
        assert!(error.contains("the port is in use"), "{error}");
        assert!(error.contains("exit status: 1"), "{error}");
        let error = format!("{:#}", Server::start(&dir.path().join("no")).expect_err("missing"));
        assert!(error.contains("make build"), "{error}");
    }
}
