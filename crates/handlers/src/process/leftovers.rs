//! What an earlier run of this server left running.
//!
//! Owns finding processes by the mark in their environment, and ending them.
//! Must not know who started them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::spawner::{INSTANCE_VARIABLE, Instance, parent_of};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills every process that carries the instance's id, other than the caller and
/// its ancestors, waits until they are gone, and says how many there were.
///
/// # Errors
/// `/proc` cannot be read; some were not gone after 5 seconds.
pub fn kill_leftovers(instance: &Instance) -> io::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    let spared = ancestors();
    let mut found = HashSet::new();
    // What is killed may just have forked, so look until nothing is there.
    loop {
        let marked = marked(instance, &spared)?;
        if marked.is_empty() {
            return Ok(found.len());
        }
        for (pid, process) in &marked {
            found.insert(*pid);
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        for (pid, process) in &marked {
            if !gone_by(process, deadline)? {
                return Err(io::Error::other(format!(
                    "process {} of an earlier run does not end; end it, or restart the machine",
                    pid.as_raw_pid()
                )));
            }
        }
    }
}

/// This process and all above it: a server may itself run in another's function.
fn ancestors() -> HashSet<Pid> {
    let mut spared = HashSet::new();
    let mut next = Some(getpid());
    while let Some(pid) = next {
        // A parent that ends meanwhile makes the walk shorter, never endless.
        next = if spared.insert(pid) { parent_of(pid) } else { None };
    }
    spared
}

fn marked(instance: &Instance, spared: &HashSet<Pid>) -> io::Result<Vec<(Pid, OwnedFd)>> {
    let mut mark = INSTANCE_VARIABLE.as_bytes().to_vec();
    mark.push(b'=');
    mark.extend_from_slice(instance.mark().as_bytes());
    let id_end = INSTANCE_VARIABLE.len() + 1 + instance.id.len() + 1;
    let mark = &mark[..id_end];
    let mut marked = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| !spared.contains(pid)) else { continue };
        if !carries(pid, mark) {
            continue;
        }
        // The number may be another's by now; what the descriptor names does not
        // change, so look again after taking it.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
            && carries(pid, mark)
        {
            marked.push((pid, process));
        }
    }
    Ok(marked)
}

/// Whether a process has a variable that starts so. The dead and strangers'
/// processes have none that could be read.
fn carries(pid: Pid, mark: &[u8]) -> bool {
    fs::read(format!("/proc/{}/environ", pid.as_raw_pid()))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|line| line.starts_with(mark)))
}

fn gone_by(process: &OwnedFd, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout)))? > 0)
}
