//! What processes hold in memory, as `/proc` says.
//!
//! Owns the reading of it. Must not know which process is whose.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Between two readings that must agree before memory counts as settled.
const SETTLED_FOR: Duration = Duration::from_millis(300);
/// When it counts as settled although it still moves.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a process and its descendants hold, in KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Resident in the process itself, shared pages counted whole.
    pub(crate) resident: u64,
    /// The process's own proportional share.
    pub(crate) proportional: u64,
    /// The proportional share of its descendants: how many, and KiB, by name.
    pub(crate) descendants: BTreeMap<String, (u64, u64)>,
}

/// Reads it once it no longer changes.
///
/// # Errors
/// Where the process is gone, or `/proc` does not show it.
pub(crate) fn settled(pid: u32) -> anyhow::Result<Memory> {
    let begun = Instant::now();
    let mut last = read(pid)?;
    loop {
        std::thread::sleep(SETTLED_FOR);
        let now = read(pid)?;
        if now == last || begun.elapsed() > PATIENCE {
            return Ok(now);
        }
        last = now;
    }
}

fn read(pid: u32) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("cannot read the memory of process {pid}"))?;
    let resident =
        kib(&status, "VmRSS:").with_context(|| format!("/proc/{pid}/status names no VmRSS"))?;
    let proportional =
        proportional(pid).with_context(|| format!("cannot read /proc/{pid}/smaps_rollup"))?;
    let mut descendants = BTreeMap::new();
    for (child, name) in descendants_of(pid)? {
        // One that has ended since holds nothing.
        if let Some(kib) = self::proportional(child) {
            let (count, sum) = descendants.entry(name).or_insert((0, 0));
            *count += 1;
            *sum += kib;
        }
    }
    Ok(Memory { resident, proportional, descendants })
}

fn proportional(pid: u32) -> Option<u64> {
    kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

/// The number in a line such as `VmRSS:     1234 kB`.
fn kib(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Ids and names of all processes below this one.
fn descendants_of(root: u32) -> anyhow::Result<Vec<(u32, String)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended since is nobody's descendant.
        if let Some((parent, name)) = parent_and_name(&entry.path()) {
            processes.push((pid, parent, name));
        }
    }
    ensure!(!processes.is_empty(), "/proc shows no processes");
    let mut found = vec![(root, String::new())];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at].0;
        let children = processes.iter().filter(|(_, of, _)| *of == parent);
        found.extend(children.map(|(pid, _, name)| (*pid, name.clone())));
        at += 1;
    }
    Ok(found.split_off(1))
}

fn parent_and_name(process: &Path) -> Option<(u32, String)> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // The name is in parentheses and may hold any of them, and blanks.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let parent = after.split_whitespace().nth(1)?.parse().ok()?;
    Some((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kib() {
        let text = "Name:\tx\nVmRSS:\t    1234 kB\nPss_Dirty: 3 kB\nPss:  99 kB\n";
        assert_eq!(kib(text, "VmRSS:"), Some(1234));
        assert_eq!(kib(text, "Pss:"), Some(99));
        assert_eq!(kib(text, "Rss:"), None);
        assert_eq!(kib("VmRSS: many kB", "VmRSS:"), None);
    }

    #[test]
    fn a_child_is_found_and_weighed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
        let memory = read(std::process::id()).expect("readable");
        assert!(memory.resident >= memory.proportional, "{memory:?}");
        let found = descendants_of(std::process::id()).expect("readable");
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert!(found.iter().any(|(pid, _)| *pid == child.id()), "{found:?}");
    }
}
