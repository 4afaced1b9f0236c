//! One running script.
//!
//! Owns its process, its group and its pipes. Must not know frames.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use rustix::io::{Errno, ioctl_fionbio, ioctl_fionread};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::script::Script;

/// A script's process and its group. Dropping it kills what has not ended.
#[derive(Debug)]
pub(crate) struct Process(Child);

/// A process with our ends of its pipes.
pub(crate) struct Started {
    pub(crate) process: Process,
    /// `None` where the whole body fitted into the pipe.
    pub(crate) stdin: Option<pipe::Sender>,
    /// How much of the body the pipe has taken.
    pub(crate) fed: usize,
    pub(crate) stdout: pipe::Receiver,
}

/// A body when its script starts.
pub(crate) struct Input {
    /// What is there of it.
    pub(crate) start: Bytes,
    /// Whether that is all.
    pub(crate) whole: bool,
}

impl Process {
    /// Executes the script with these variables beside the worker's own. Its
    /// standard error is the worker's.
    ///
    /// No step runs between fork and exec, so the library starts it without
    /// copying this process (`posix_spawn`).
    pub(crate) fn start(
        script: &Script,
        variables: &BTreeMap<String, OsString>,
        input: &Input,
    ) -> io::Result<Started> {
        let (theirs_in, ours_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (ours_out, theirs_out) = pipe_with(PipeFlags::CLOEXEC)?;
        ioctl_fionbio(&ours_in, true)?;
        ioctl_fionbio(&ours_out, true)?;
        // What fits into the pipe is there before the script is.
        let fed = match rustix::io::write(&ours_in, &input.start) {
            Ok(count) => count,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error.into()),
        };
        let whole = input.whole && fed == input.start.len();
        let stdin = if whole { None } else { Some(pipe::Sender::from_owned_fd(ours_in)?) };
        let stdout = pipe::Receiver::from_owned_fd(ours_out)?;
        let child = Command::new(&script.program)
            .args(&script.args)
            .envs(variables)
            .stdin(Stdio::from(theirs_in))
            .stdout(Stdio::from(theirs_out))
            .process_group(0)
            .spawn()?;
        Ok(Started { process: Self(child), stdin, fed, stdout })
    }

    /// Waits for the script itself; what it put into the background may go on.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Kills the script and its group, if it has not ended.
    pub(crate) fn kill(&self) {
        // It has its number until it has been waited for, so this hits no other.
        let pid = self.0.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How many bytes wait in a pipe.
pub(crate) fn waiting(pipe: &pipe::Receiver) -> usize {
    ioctl_fionread(pipe).ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}
