//! A process and its descendants, as `/proc` shows them, and the processor time
//! that they took.
//!
//! Owns the reading of `/proc/PID/stat`. Must not know which process is whose.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// Its name, as the kernel has it.
    pub(crate) name: String,
    parent: u32,
    /// Clock ticks on a processor.
    own: u64,
    /// The same of its children that have ended and that it has waited for.
    ended_children: u64,
}

/// Processor time of a server and of what runs its functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessorTime {
    /// Of the process itself.
    pub(crate) server: Duration,
    /// Of all below it, those that have ended included.
    pub(crate) handlers: Duration,
}

impl ProcessorTime {
    /// Reads what a process and its descendants have taken so far.
    ///
    /// # Errors
    /// Where the process is gone, or `/proc` does not show it.
    pub(crate) fn read(root: u32) -> anyhow::Result<Self> {
        let (root, below) = tree(root)?;
        let handlers = below.iter().map(|each| each.own + each.ended_children).sum::<u64>();
        Ok(Self { server: time(root.own), handlers: time(handlers + root.ended_children) })
    }

    /// What was taken since an earlier reading.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            server: self.server.saturating_sub(earlier.server),
            handlers: self.handlers.saturating_sub(earlier.handlers),
        }
    }
}

/// A process and all below it.
///
/// # Errors
/// Where the process is gone, or `/proc` does not show it.
pub(crate) fn tree(root: u32) -> anyhow::Result<(Process, Vec<Process>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended since is nobody's descendant.
        all.extend(process(pid, &entry.path()));
    }
    ensure!(!all.is_empty(), "/proc shows no processes");
    let first = all.iter().find(|each| each.pid == root).cloned();
    let first = first.with_context(|| format!("/proc shows no process {root}"))?;
    let mut found = vec![first];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at].pid;
        found.extend(all.iter().filter(|each| each.parent == parent).cloned());
        at += 1;
    }
    let below = found.split_off(1);
    let root = found.pop().expect("the root itself was left");
    Ok((root, below))
}

fn process(pid: u32, folder: &Path) -> Option<Process> {
    let mut process = parse(pid, &fs::read_to_string(folder.join("stat")).ok()?)?;
    // A program that starts itself again by /proc/self/exe is called that.
    if process.name == "exe"
        && let Ok(program) = fs::read_link(folder.join("exe"))
        && let Some(name) = program.file_name()
    {
        process.name = name.to_string_lossy().into_owned();
    }
    Some(process)
}

/// Fields by their number in proc_pid_stat(5), less the three up to the state.
fn parse(pid: u32, stat: &str) -> Option<Process> {
    // The name is in parentheses and may hold any of them, and blanks.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<_> = after.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        pid,
        name,
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(14)? + ticks(15)?,
        ended_children: ticks(16)? + ticks(17)?,
    })
}

fn time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "12 (a (b) c) S 7 12 12 0 -1 4194304 1 2 3 4 100 20 30 4 20 0 1 0 5 6 7";
        let process = parse(12, stat).expect("sound");
        assert_eq!((process.name.as_str(), process.parent), ("a (b) c", 7));
        assert_eq!((process.own, process.ended_children), (120, 34));
        assert!(parse(12, "12 (sh) S 7").is_none());
    }

    #[test]
    fn a_child_is_found_and_its_time_counts() {
        // It works for a while and then waits to be ended.
        let script = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo done; read _";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut stdout, &mut line).expect("says done");
        let (root, below) = tree(std::process::id()).expect("readable");
        assert_eq!(root.pid, std::process::id());
        assert!(below.iter().any(|each| each.pid == child.id() && each.name == "sh"), "{below:?}");
        let time = ProcessorTime::read(child.id()).expect("readable");
        assert!(time.server > Duration::ZERO, "{time:?}");
        assert_eq!(
            time.since(time),
            ProcessorTime { server: Duration::ZERO, handlers: Duration::ZERO }
        );
        drop(child.stdin.take());
        child.wait().expect("ours");
        assert!(ProcessorTime::read(child.id()).is_err());
    }
}
