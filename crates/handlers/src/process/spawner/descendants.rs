//! Whom this process has to end: its children, and what they leave behind.
//!
//! Owns finding and killing the children of the process that asks. It is meant
//! for a child subreaper: what a dead child leaves becomes a child in turn, so
//! killing children until none is left ends the whole tree. Must not know which
//! of them matter.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpgid, getpgrp, getpid, kill_process,
    kill_process_group, wait,
};

/// How long to wait before looking again, where a child exists that the system
/// did not list.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The children of this process (which has one thread). One that is just being
/// adopted may be missed: look again after each end of a child.
pub(super) fn children() -> Vec<Pid> {
    // Not every kernel is built with this list (CONFIG_PROC_CHILDREN).
    match fs::read_to_string("/proc/thread-self/children") {
        Ok(list) => list.split_ascii_whitespace().filter_map(parse_pid).collect(),
        Err(_) => children_by_scan(),
    }
}

fn children_by_scan() -> Vec<Pid> {
    let own = getpid();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| parse_pid(entry.ok()?.file_name().to_str()?))
        .filter(|pid| parent_of(*pid) == Some(own))
        .collect()
}

fn parse_pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.parse().ok()?)
}

/// The parent of a process, if both are there.
pub(in crate::process) fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    // The name in parentheses may itself hold anything: PID (NAME) STATE PARENT.
    let after_name = stat.rsplit_once(')')?.1;
    parse_pid(after_name.split_ascii_whitespace().nth(1)?)
}

/// Kills a child and everything in its process group, which the system does at
/// once: a group that keeps forking cannot outrun it.
pub(super) fn kill_child(child: Pid) {
    // The child cannot be gone, as nobody else waits for it: at worst it is dead
    // already, and then nothing happens.
    let _ = kill_process(child, Signal::KILL);
    if let Ok(group) = getpgid(Some(child))
        && group != getpgrp()
    {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Kills all children of this process and all that they leave, and returns when
/// there are none. `ended` is told of each.
pub(super) fn kill_all(mut ended: impl FnMut(Pid, WaitStatus)) {
    while reap(&mut ended).is_ok() {
        let mut children = children();
        if children.is_empty() {
            children = children_by_scan();
        }
        children.iter().copied().for_each(kill_child);
        if children.is_empty() {
            std::thread::sleep(LOOK_AGAIN);
        } else if let Ok(Some((pid, status))) = wait(WaitOptions::empty()) {
            // One of those just killed will end, so this wait does; whom it
            // leaves is found by the next look.
            ended(pid, status);
        }
    }
}

/// Takes note of the children that have ended, without waiting.
///
/// # Errors
/// There is no child at all.
pub(super) fn reap(mut ended: impl FnMut(Pid, WaitStatus)) -> io::Result<()> {
    while let Some((pid, status)) = rustix::io::retry_on_intr(|| wait(WaitOptions::NOHANG))? {
        ended(pid, status);
    }
    Ok(())
}
