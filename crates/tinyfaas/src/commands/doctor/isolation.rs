//! What the kernel offers to confine functions with.
//!
//! Owns the probes. What would change this process is tried by a child of the same
//! program. This version does not confine functions yet, and says so.

use std::fs;
use std::path::PathBuf;
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
    checks.extend(cgroups());
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
fn cgroups() -> Vec<Check> {
    const WANTED: [&str; 3] = ["cpu", "memory", "pids"];
    let cost = format!("{LATER} bound what functions take of processor, memory and processes");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let (mut found, mut writable) = (Vec::new(), true);
    let v2 = own.lines().find_map(|line| line.strip_prefix("0::"));
    if let Some(path) = v2 {
        // A hybrid host has it beside the first version.
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let dir = PathBuf::from(format!("{root}{path}"));
            let controllers = fs::read_to_string(dir.join("cgroup.controllers"));
            if let Ok(controllers) = controllers {
                let here = controllers.split_whitespace().map(str::to_owned);
                found.extend(here.map(|name| (name, 2)));
                writable &= access(&dir, Access::WRITE_OK).is_ok();
                break;
            }
        }
    }
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(names), Some(_)) = (fields.next(), fields.next()) else { continue };
        for name in names.split(',').filter(|name| WANTED.contains(name)) {
            let dir = PathBuf::from("/sys/fs/cgroup").join(name);
            if dir.is_dir() {
                found.push((name.to_owned(), 1));
                writable &= access(&dir, Access::WRITE_OK).is_ok();
            }
        }
    }
    WANTED
        .into_iter()
        .map(|wanted| {
            let name = format!("cgroup {wanted}");
            match found.iter().find(|(name, _)| name == wanted) {
                Some((_, version)) if writable => {
                    Check::ok(GROUP, &name, format!("version {version}"))
                }
                Some((_, version)) => Check::missing(
                    GROUP,
                    &name,
                    format!("version {version}, but this user may not use it"),
                    format!("{cost}; delegate it (systemd: Delegate=yes)"),
                ),
                None => Check::missing(GROUP, &name, "not there", cost.clone()),
            }
        })
        .collect()
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
