//! How much there is of what functions need.
//!
//! Owns the thresholds below which a word is due.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use super::Check;
use crate::config::Config;
use crate::terminal::bytes;

const GROUP: &str = "limits";
/// Each connection, and each handler, takes one and more.
const FILES_FEW: u64 = 1024;
/// Handlers are processes with threads.
const PROCESSES_FEW: u64 = 512;
/// Server, Python and Node want so much, in bytes.
const MEMORY_LITTLE: u64 = 256 << 20;
/// Uploads are unpacked and copied for each handler, in bytes.
const DISK_LITTLE: u64 = 512 << 20;

/// Looks at all of them.
pub(super) fn checks(config: Option<&Config>) -> Vec<Check> {
    let mut checks = vec![files(), processes(), memory()];
    if let Some(config) = config {
        checks.push(disk(config));
    }
    checks
}

fn files() -> Check {
    // The server raises its own to the maximum.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let found = if most == u64::MAX { "no limit".to_owned() } else { format!("at most {most}") };
    if most >= FILES_FEW {
        return Check::ok(GROUP, "open files", found);
    }
    let cost = "connections and handlers take them; raise it: ulimit -Hn, LimitNOFILE";
    Check::missing(GROUP, "open files", found, cost)
}

fn processes() -> Check {
    let limit = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
    let of_group = own_cgroup_value("pids", "pids.max");
    let most = limit.min(of_group.unwrap_or(u64::MAX));
    let found = if most == u64::MAX { "no limit".to_owned() } else { format!("at most {most}") };
    if most >= PROCESSES_FEW {
        return Check::ok(GROUP, "processes", found);
    }
    let cost = "every handler is a process; raise it: ulimit -u, LimitNPROC, TasksMax";
    Check::missing(GROUP, "processes", found, cost)
}

fn memory() -> Check {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.split_whitespace().next()?.parse::<u64>().ok()?;
        Some(number * 1024)
    };
    let (Some(total), Some(free)) = (field("MemTotal:"), field("MemAvailable:")) else {
        return Check::missing(GROUP, "memory", "/proc/meminfo does not say", "none is known");
    };
    let of_group = own_cgroup_value("memory", "memory.max")
        .or_else(|| own_cgroup_value("memory", "memory.limit_in_bytes"))
        .filter(|limit| *limit < total);
    let limit = of_group.map(|limit| format!(", this group of processes at most {}", bytes(limit)));
    let found = format!("{} free of {}{}", bytes(free), bytes(total), limit.unwrap_or_default());
    if free.min(of_group.unwrap_or(u64::MAX)) >= MEMORY_LITTLE {
        return Check::ok(GROUP, "memory", found);
    }
    let cost = "an idle Python handler takes about 4 MB, one of Node 10 MB; keep threads few";
    Check::missing(GROUP, "memory", found, cost)
}

/// A number that bounds this process' own control group, where there is one.
fn own_cgroup_value(controller: &str, file: &str) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        let root = match names {
            "" => String::new(),
            _ if names.split(',').any(|name| name == controller) => format!("/{names}"),
            _ => return None,
        };
        // In a container the group's own root is what is seen.
        [path, ""].iter().find_map(|path| {
            let text = fs::read_to_string(format!("/sys/fs/cgroup{root}{path}/{file}")).ok()?;
            text.trim().parse().ok()
        })
    })
}

fn disk(config: &Config) -> Check {
    const NAME: &str = "data directory";
    let is_root = rustix::process::geteuid().is_root();
    let dir = match config.data_dir(is_root, crate::variable) {
        Ok(dir) => dir,
        Err(error) => return Check::problem(GROUP, NAME, error, "set TF_DATA_DIR"),
    };
    let there = nearest(&dir);
    let shown = dir.display();
    // Root may write everywhere, it is told, and yet cannot: only a try is proof.
    if let Err(error) = tempfile::tempdir_in(&there) {
        let found = format!("{shown} cannot be made or written: {error}");
        return Check::problem(GROUP, NAME, found, "no server can start; set TF_DATA_DIR");
    }
    let Ok(space) = statvfs(&there) else {
        return Check::missing(GROUP, NAME, format!("{shown}, space unknown"), "it may be full");
    };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let found = format!("{shown}, {} free", bytes(free));
    if free >= DISK_LITTLE {
        return Check::ok(GROUP, NAME, found);
    }
    let cost = "each handler has a copy of its function; deploys fail when it is full";
    Check::missing(GROUP, NAME, found, cost)
}

/// The directory itself, or the nearest one above it that is there.
fn nearest(dir: &Path) -> PathBuf {
    dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(nearest(&dir.path().join("a/b")), dir.path());
        assert_eq!(nearest(dir.path()), dir.path());
        assert_eq!(nearest(Path::new("/no/such")), Path::new("/"));
    }
}
