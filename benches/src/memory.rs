//! What processes hold in memory, as `/proc` says.
//!
//! Owns the reading of it. Must not know which process is whose.

use std::collections::BTreeMap;
use std::fs;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::processes;

/// Between two readings that must agree before memory counts as settled.
const SETTLED_FOR: Duration = Duration::from_millis(300);
/// When it counts as settled although it still moves.
const PATIENCE: Duration = Duration::from_secs(3);

/// What some processes hold, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// How many processes.
    pub(crate) processes: u64,
    /// Resident, pages that are shared counted whole in each.
    pub(crate) resident: u64,
    /// Each page's share of those who share it.
    pub(crate) proportional: u64,
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        self.processes += other.processes;
        self.resident += other.resident;
        self.proportional += other.proportional;
    }
}

/// What a process and its descendants hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The process itself.
    pub(crate) own: Held,
    /// Its descendants, by name.
    pub(crate) descendants: BTreeMap<String, Held>,
}

impl Memory {
    /// All descendants together.
    pub(crate) fn below(&self) -> Held {
        let mut sum = Held::default();
        for held in self.descendants.values() {
            sum += *held;
        }
        sum
    }
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

/// Reads it as it is now.
///
/// # Errors
/// Where the process is gone, or `/proc` does not show it.
pub(crate) fn read(pid: u32) -> anyhow::Result<Memory> {
    let own = held(pid).with_context(|| format!("cannot read /proc/{pid}/smaps_rollup"))?;
    let mut descendants = BTreeMap::<_, Held>::new();
    for child in processes::tree(pid)?.1 {
        // One that has ended since holds nothing.
        if let Some(held) = held(child.pid) {
            *descendants.entry(child.name).or_default() += held;
        }
    }
    Ok(Memory { own, descendants })
}

fn held(pid: u32) -> Option<Held> {
    parse(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse(rollup: &str) -> Option<Held> {
    Some(Held { processes: 1, resident: kib(rollup, "Rss:")?, proportional: kib(rollup, "Pss:")? })
}

/// The number in a line such as `Rss:     1234 kB`.
fn kib(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kib() {
        let text =
            "55-7f ---p 0 00:00 0  [rollup]\nRss:\t    1234 kB\nPss_Dirty: 3 kB\nPss:  99 kB\n";
        let held = Held { processes: 1, resident: 1234, proportional: 99 };
        assert_eq!(parse(text), Some(held));
        assert_eq!(kib(text, "Swap:"), None);
        assert_eq!(kib("Rss: many kB", "Rss:"), None);
    }

    #[test]
    fn a_child_is_weighed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("starts");
        let memory = read(std::process::id()).expect("readable");
        child.kill().expect("ours");
        child.wait().expect("ours");
        assert!(memory.own.resident >= memory.own.proportional, "{memory:?}");
        // Between fork and exec it has this program's name; other tests start some, too.
        assert!(memory.below().processes >= 1, "{memory:?}");
        assert!(memory.below().resident > 0, "{memory:?}");
    }
}
