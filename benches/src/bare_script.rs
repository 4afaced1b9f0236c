//! The other ceiling: how often this machine can start a script at all.
//!
//! Owns the loops that spawn it. Must not know of HTTP or of the server.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use crate::load::Plan;

/// A script in a folder of its own, ready to be started.
#[derive(Debug)]
pub(crate) struct Script {
    folder: PathBuf,
    path: PathBuf,
}

impl Script {
    /// Copies a function's `fn.sh` to `folder` with its executable bit set, so
    /// that it starts by its own shebang as it does in the server.
    ///
    /// # Errors
    /// Where it cannot be copied.
    pub(crate) fn copy(function: &Path, folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("fn.sh");
        let from = function.join("fn.sh");
        fs::copy(&from, &path).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755)).context("cannot mark fn.sh")?;
        Ok(Self { folder: folder.to_owned(), path })
    }

    /// Starts it over and over in as many loops as the plan has connections, with
    /// `body` on its standard input; the starts per second.
    ///
    /// # Errors
    /// Where it cannot be started or does not give `body` back.
    pub(crate) fn starts_per_second(&self, body: &[u8], plan: Plan) -> anyhow::Result<f64> {
        let from = Instant::now() + plan.warm_up;
        let until = from + plan.measured;
        let starts = std::thread::scope(|scope| {
            let loops: Vec<_> = (0..plan.connections)
                .map(|_| scope.spawn(|| self.keep_starting(body, from, until)))
                .collect();
            loops
                .into_iter()
                .map(|each| each.join().expect("a loop returns its errors, it does not panic"))
                .sum::<anyhow::Result<u64>>()
        })?;
        Ok(starts as f64 / plan.measured.as_secs_f64())
    }

    fn keep_starting(&self, body: &[u8], from: Instant, until: Instant) -> anyhow::Result<u64> {
        let mut starts = 0;
        loop {
            self.start_once(body)?;
            let now = Instant::now();
            if now >= until {
                return Ok(starts);
            }
            starts += u64::from(now >= from);
        }
    }

    fn start_once(&self, body: &[u8]) -> anyhow::Result<()> {
        let shown = self.path.display();
        let mut child = Command::new(&self.path)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        let mut stdin = child.stdin.take().expect("stdin was just asked to be a pipe");
        stdin.write_all(body).with_context(|| format!("writing to {shown}"))?;
        drop(stdin);
        let mut stdout = child.stdout.take().expect("stdout was just asked to be a pipe");
        let mut output = Vec::with_capacity(body.len());
        stdout.read_to_end(&mut output).with_context(|| format!("reading from {shown}"))?;
        let status = child.wait().with_context(|| format!("waiting for {shown}"))?;
        ensure!(status.success(), "{shown} ended with {status}");
        ensure!(output == body, "{shown} did not give back what it was given");
        Ok(())
    }
}
