//! Which processes there are on this machine, and what each takes of it.
//!
//! Owns reading `/proc`, and that it is not read more often than it is worth.
//! Must not know whose processes they are.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::param::{clock_ticks_per_second, page_size};
use tokio::sync::Semaphore;

use super::worker::blocking;

/// One look's cost may be one in so many of the time: what took long to find out
/// is told for longer.
const REST_FACTOR: u32 = 20;
/// However long it took, it is looked at again after so many times the usual age.
const AGE_FACTOR_MAX: u32 = 30;

/// What a process takes, as `/proc/PID/stat` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    parent: u32,
    /// Processor time of its own and of the children that it has waited for, in
    /// microseconds: what a child took goes over to its parent when it is gone.
    pub(super) cpu_us: u64,
    resident_bytes: u64,
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub(super) struct Census {
    processes: HashMap<u32, Process>,
    children: HashMap<u32, Vec<u32>>,
}

/// What was found last, for as long as it is fresh. One looks at a time; the
/// others wait for what it finds.
pub(super) struct Recent<T> {
    age_max: Duration,
    latest: Mutex<Option<Found<T>>>,
    turn: Semaphore,
}

struct Found<T> {
    /// When the look began.
    at: Instant,
    fresh_until: Instant,
    what: T,
}

impl Census {
    /// Reads the processes that there are, which may take milliseconds. Those that
    /// end meanwhile are left out.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    fn take() -> io::Result<Self> {
        let (mut census, ticks) = (Self::default(), clock_ticks_per_second());
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let found = parse(&stat, ticks, page_size());
            let Some(process) = found.map(|process| Process { pid, ..process }) else { continue };
            census.children.entry(process.parent).or_default().push(pid);
            census.processes.insert(pid, process);
        }
        Ok(census)
    }

    /// A process and all that descend from it; none where it is not there.
    pub(super) fn tree(&self, root: u32) -> Vec<Process> {
        let mut tree = Vec::new();
        let mut next = vec![root];
        // Numbers are used again: while they were read, a child may have become
        // its own ancestor.
        let mut seen = HashSet::new();
        while let Some(pid) = next.pop() {
            if seen.insert(pid) {
                tree.extend(self.processes.get(&pid));
                next.extend(self.children.get(&pid).into_iter().flatten());
            }
        }
        tree
    }
}

/// The fields that matter here (proc_pid_stat(5)). Its name, in parentheses, may
/// hold anything.
fn parse(stat: &str, ticks_per_second: u64, page_bytes: usize) -> Option<Process> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // The first of these is the third of all.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    // The last two may be below zero, by a fault that some kernels had.
    let ticks: u64 = [14, 15, 16, 17].map(|number| field(number).unwrap_or(0)).iter().sum();
    Some(Process {
        pid: 0,
        parent: u32::try_from(field(4)?).ok()?,
        cpu_us: ticks.saturating_mul(1_000_000) / ticks_per_second.max(1),
        resident_bytes: field(24)?.saturating_mul(page_bytes as u64),
    })
}

impl Process {
    /// Its memory: its proportional set size, where the system tells (it takes a
    /// look at each page), else what it has resident.
    pub(super) fn memory_bytes(&self) -> u64 {
        let told = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid));
        told.ok().and_then(|text| proportional_bytes(&text)).unwrap_or(self.resident_bytes)
    }

    /// Its resident memory, for which the system needs not be asked again.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }
}

fn proportional_bytes(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

impl<T: Clone> Recent<T> {
    /// Nothing has been found yet; what will be is told for that long.
    pub(super) fn new(age_max: Duration) -> Self {
        Self { age_max, latest: Mutex::new(None), turn: Semaphore::new(1) }
    }

    /// What was found last, or else what `look` finds now. A look that began
    /// before `since` does not count: it missed what has happened then.
    pub(super) async fn get(&self, since: Instant, look: impl Future<Output = T>) -> T {
        if let Some(fresh) = self.fresh(since) {
            return fresh;
        }
        let _turn = self.turn.acquire().await;
        if let Some(fresh) = self.fresh(since) {
            return fresh;
        }
        let began = Instant::now();
        let found = look.await;
        let ended = Instant::now();
        let rest = (ended - began).saturating_mul(REST_FACTOR);
        let age = rest.clamp(self.age_max, self.age_max.saturating_mul(AGE_FACTOR_MAX));
        let found_now = Found { at: began, fresh_until: ended + age, what: found.clone() };
        *self.latest.lock() = Some(found_now);
        found
    }

    fn fresh(&self, since: Instant) -> Option<T> {
        let latest = self.latest.lock();
        let is_fresh = |found: &&Found<T>| found.at >= since && Instant::now() < found.fresh_until;
        latest.as_ref().filter(is_fresh).map(|found| found.what.clone())
    }
}

impl Recent<Arc<Census>> {
    /// The processes of this machine, as of a moment ago, and not before `since`.
    /// None at all where the system does not tell.
    pub(super) async fn census(&self, since: Instant) -> Arc<Census> {
        self.get(since, async {
            let taken = blocking(Census::take).await;
            Arc::new(taken.unwrap_or_else(|error| {
                tracing::warn!("cannot tell what functions take of this machine: {error}");
                Census::default()
            }))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_matter_are_found() {
        let stat = "812 (a ) R 7 (b) S 811 812 812 0 -1 4194304 100 200 0 0 150 50 30 20 20 0 11 0 \
                    4242 104857600 2560 18446744073709551615 1 1 0";
        let expected = Process { pid: 0, parent: 811, cpu_us: 2_500_000, resident_bytes: 10 << 20 };
        assert_eq!(parse(stat, 100, 4096), Some(expected));
        for broken in ["", "1 (a)", "1 (a) S", "1 (a) S x", &stat[..60]] {
            assert_eq!(parse(broken, 100, 4096), None, "{broken}");
        }
    }

    #[test]
    fn the_proportional_size_is_found() {
        let rollup = "5500-7ff [rollup]\nRss:                9216 kB\nPss:                1234 kB\nPss_Dirty:   7 kB\n";
        assert_eq!(proportional_bytes(rollup), Some(1234 << 10));
        assert_eq!(proportional_bytes("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_test_is_among_the_processes() {
        let census = Census::take().unwrap();
        let own = std::process::id();
        let tree = census.tree(own);
        assert_eq!(tree[0].pid, own);
        assert!(tree[0].memory_bytes() > 1 << 20 && tree[0].resident_bytes() > 1 << 20);
        assert!(census.tree(1).len() >= tree.len());
        assert_eq!(census.tree(u32::MAX), []);
    }

    #[tokio::test]
    async fn one_looks_for_all_who_ask() {
        let recent = Recent::new(Duration::from_secs(60));
        let looks = std::sync::atomic::AtomicUsize::new(0);
        let look = || async {
            tokio::task::yield_now().await;
            looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
        };
        let start = Instant::now();
        let (one, other) = tokio::join!(recent.get(start, look()), recent.get(start, look()));
        assert_eq!((one, other, recent.get(start, look()).await), (1, 1, 1));
        assert_eq!(recent.get(Instant::now(), look()).await, 2);
        let recent = Recent::new(Duration::ZERO);
        assert_eq!((recent.get(start, look()).await, recent.get(start, look()).await), (3, 4));
    }
}
