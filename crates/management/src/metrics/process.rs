//! What the server's own process takes of the machine.
//!
//! Owns reading it from `/proc`. Must not know how it is shown.

use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// The server's process at one moment; what the system does not tell is zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnProcess {
    pub(crate) cpu: Duration,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) threads: u64,
    pub(crate) open_fds: u64,
    pub(crate) max_fds: u64,
    pub(crate) started: SystemTime,
}

impl OwnProcess {
    /// Looks now. It reads a few small files of `/proc` and the list of open ones.
    pub(crate) fn look() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            // The one that lists them is open as well.
            open_fds: open.saturating_sub(1) as u64,
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            started: started(),
            ..parse(&stat, clock_ticks_per_second(), page_size())
        }
    }
}

/// proc_pid_stat(5). The name, in parentheses, may hold anything.
fn parse(stat: &str, ticks_per_second: u64, page_bytes: usize) -> OwnProcess {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // The first of these is the third of all.
    let field =
        |number: usize| fields.get(number - 3).and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    let millis = (field(14) + field(15)).saturating_mul(1_000) / ticks_per_second.max(1);
    OwnProcess {
        cpu: Duration::from_millis(millis),
        resident_bytes: field(24).saturating_mul(page_bytes as u64),
        virtual_bytes: field(23),
        threads: field(20),
        open_fds: 0,
        max_fds: 0,
        started: SystemTime::UNIX_EPOCH,
    }
}

/// When the process was started, as the first look found it: a clock that is set
/// meanwhile must not make it another one.
fn started() -> SystemTime {
    static STARTED: OnceLock<SystemTime> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let now = SystemTime::now();
        age(&stat, &uptime, clock_ticks_per_second()).map_or(now, |age| now - age)
    })
}

/// How old the process is: how long the machine is up, less when it was started.
fn age(stat: &str, uptime: &str, ticks_per_second: u64) -> Option<Duration> {
    let fields = stat.rsplit_once(')')?.1;
    let ticks: u64 = fields.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
    let up: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let up = Duration::try_from_secs_f64(up).ok()?;
    let born = Duration::from_millis(ticks.saturating_mul(1_000) / ticks_per_second.max(1));
    Some(up.saturating_sub(born))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "812 (a ) R 7 (b) S 811 812 812 0 -1 4194304 100 200 0 0 150 50 30 20 20 0 \
                        11 0 4242 104857600 2560 18446744073709551615 1 1 0";

    #[test]
    fn the_fields_are_found() {
        let found = parse(STAT, 100, 4096);
        assert_eq!(found.cpu, Duration::from_secs(2));
        assert_eq!((found.resident_bytes, found.virtual_bytes), (10 << 20, 104_857_600));
        assert_eq!(found.threads, 11);
        assert_eq!(parse("", 100, 4096).cpu, Duration::ZERO);
        assert_eq!(age(STAT, "100.42 7.0\n", 100), Some(Duration::from_secs(58)));
        assert_eq!(age(STAT, "", 100), None);
    }

    #[test]
    fn this_process_is_found() {
        let found = OwnProcess::look();
        assert!(found.resident_bytes > 1 << 20 && found.virtual_bytes > found.resident_bytes);
        assert!(found.threads > 0 && found.open_fds > 2 && found.max_fds >= found.open_fds);
        let age = SystemTime::now().duration_since(found.started).unwrap();
        assert!(age < Duration::from_secs(3_600), "{age:?}");
        assert_eq!(OwnProcess::look().started, found.started);
    }
}
