//! What the kernel offers to confine functions with.
//!
//! Owns the probes. What would change this process is tried by a child of the same
//! program. This version does not confine functions yet, and says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Access, access};

use super::{Check, NAME, PROBE};
use crate::failure::{Code, Failure};

const GROUP: &str = "isolation (this version does not confine functions yet)";
/// What a missing part will cost.
const LATER: &str = "a later version could not";
/// The child's word for a user namespace alone.
const USER: &str = "user";
/// The same for all that a function would get.
const ALL: &str = "all";

/// Tries something in this process, which is a child made for it.
///
/// # Errors
/// The kernel's answer.
pub(super) fn probe(what: &str) -> Result<(), Failure> {
    let others = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let flags = match what {
        USER => CloneFlags::CLONE_NEWUSER,
        ALL if rustix::process::geteuid().is_root() => others,
        ALL => CloneFlags::CLONE_NEWUSER | others,
        _ => return Err(Failure::usage("there is no such probe")),
    };
    unshare(flags).map_err(|error| Failure::new(Code::Failed, error))
}

/// Looks at all of them.
pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        namespaces("user namespaces", USER, "let a server without root confine functions"),
        namespaces("namespaces", ALL, "hide processes, files and networks from functions"),
    ];
    checks.push(cgroups());
    checks.push(match tinyfaas_handlers::process::landlock_abi() {
        Some(version) => Check::ok(GROUP, "landlock", format!("version {version}")),
        None => Check::missing(
            GROUP,
            "landlock",
            "the kernel has none, or was started without",
            format!("{LATER} keep functions from files without namespaces"),
        ),
    });
    checks.push(match fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail") {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => {
            Check::ok(GROUP, "seccomp", "filters")
        }
        _ => Check::missing(
            GROUP,
            "seccomp",
            "the kernel filters no system calls",
            format!("{LATER} keep functions from system calls"),
        ),
    });
    checks.push(overlayfs());
    checks
}

fn namespaces(name: &str, what: &str, for_what: &str) -> Check {
    let child = Command::new("/proc/self/exe")
        .args([NAME, &format!("--{PROBE}"), what])
        .stdin(Stdio::null())
        .output();
    let problem = match child {
        Ok(output) if output.status.success() => return Check::ok(GROUP, name, "can be made"),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            said.trim().trim_start_matches("tinyfaas: ").to_owned()
        }
        Err(error) => error.to_string(),
    };
    let cost = format!("{LATER} {for_what}");
    Check::missing(GROUP, name, format!("cannot be made: {problem}"), cost)
}

/// The controllers that bound what functions use.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// A controller that is there: its name, its version, whether this user may use it.
type Controller = (String, u8, bool);

fn cgroups() -> Check {
    const NAME: &str = "cgroups";
    let cost = format!("{LATER} bound what functions take of processor, memory and processes");
    let found = controllers(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|wanted| !found.iter().any(|(name, ..)| name == wanted))
        .collect();
    if !missing.is_empty() {
        let told = format!("there is none for {}", missing.join(", "));
        return Check::missing(GROUP, NAME, told, cost);
    }
    let shown: Vec<String> =
        found.iter().map(|(name, version, _)| format!("{name} (version {version})")).collect();
    let shown = shown.join(", ");
    if found.iter().all(|(.., usable)| *usable) {
        return Check::ok(GROUP, NAME, shown);
    }
    let told = format!("{shown}, but this user may not use them");
    Check::missing(GROUP, NAME, told, format!("{cost}; delegate them (systemd: Delegate=yes)"))
}

/// Those of [`CONTROLLERS`] that this process' own groups have.
fn controllers(own: &str) -> Vec<Controller> {
    let usable = |dir: &Path| access(dir, Access::WRITE_OK).is_ok();
    let mut found: Vec<Controller> = Vec::new();
    let second = own.lines().find_map(|line| line.strip_prefix("0::"));
    // A hybrid host has the second version beside the first.
    let dirs = second.into_iter().flat_map(|path| {
        ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(|root| format!("{root}{path}"))
    });
    for dir in dirs.map(PathBuf::from) {
        let here = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        let here = here.split_whitespace().filter(|name| CONTROLLERS.contains(name));
        found.extend(here.map(|name| (name.to_owned(), 2, usable(&dir))));
    }
    for line in own.lines() {
        let names = line.split(':').nth(1).unwrap_or_default().split(',');
        for name in names.filter(|name| CONTROLLERS.contains(name)) {
            let dir = Path::new("/sys/fs/cgroup").join(name);
            if dir.is_dir() && !found.iter().any(|(there, ..)| there == name) {
                found.push((name.to_owned(), 1, usable(&dir)));
            }
        }
    }
    found
}

fn overlayfs() -> Check {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    if known {
        return Check::ok(GROUP, "overlayfs", "the kernel has it");
    }
    Check::missing(
        GROUP,
        "overlayfs",
        "the kernel has not loaded it",
        "each handler's folder is a copy; modprobe overlay may bring it",
    )
}
