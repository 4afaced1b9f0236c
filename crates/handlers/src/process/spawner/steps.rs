//! How a forked process becomes a worker: ordered, named steps.
//!
//! Owns the order, and that a step which fails is named to whoever asked. Must
//! not know what the program does, nor who guards it.
//!
//! Everything here runs between fork and exec in a process with one thread, so
//! it may allocate.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::fs::Mode;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, chdir, getppid, getrlimit, set_parent_process_death_signal,
    setrlimit, setsid, umask,
};
use serde::{Deserialize, Serialize};

use super::super::sys;
use super::identity::Identity;
use super::protocol::Text;
use crate::wire::SOCKET_FD;

/// What a forked process does, in this order, to become a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Double the process.
    Fork,
    /// A session of its own, so that signals to it reach nobody else, and the
    /// other way round.
    Session,
    /// No signal blocked, none ignored.
    Signals,
    /// The user as whom programs run, if not the spawner's. Before what that
    /// would undo: a change of user forgets the tie to the guard.
    User,
    /// Dies with its guard.
    DeathSignal,
    /// No core dumps, the server's own soft limit of open files.
    Limits,
    /// New files are readable by all and writable by their owner.
    Umask,
    /// Standard streams and socket in their places, everything else closed.
    Descriptors,
    /// The working directory.
    Folder,
    /// Execute the program.
    Exec,
}

impl Step {
    /// All steps, in their order.
    pub const ALL: [Self; 10] = [
        Self::Fork,
        Self::Session,
        Self::Signals,
        Self::User,
        Self::DeathSignal,
        Self::Limits,
        Self::Umask,
        Self::Descriptors,
        Self::Folder,
        Self::Exec,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fork => "making a process",
            Self::Session => "opening a session",
            Self::Signals => "resetting signals",
            Self::User => "changing to its user",
            Self::DeathSignal => "tying it to its guard",
            Self::Limits => "setting limits",
            Self::Umask => "setting the file mask",
            Self::Descriptors => "placing descriptors",
            Self::Folder => "entering its folder",
            Self::Exec => "executing it",
        })
    }
}

/// A step that went wrong.
#[derive(Debug)]
pub(super) struct StepError {
    /// Which one.
    pub(super) step: Step,
    /// The system's error number.
    pub(super) errno: i32,
}

impl StepError {
    pub(super) fn new(step: Step, error: &io::Error) -> Self {
        Self { step, errno: error.raw_os_error().unwrap_or(nix::libc::EIO) }
    }
}

/// A worker to be: all that the steps need, made ready before the fork.
#[derive(Debug)]
pub(super) struct Plan {
    program: CString,
    /// With the program's name in front.
    args: Vec<CString>,
    /// `NAME=VALUE` each.
    env: Vec<CString>,
    folder: CString,
    open_files: u64,
    identity: Option<Rc<Identity>>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) socket: Option<OwnedFd>,
}

/// What [`Plan::new`] is made from, as it came over the socket.
pub(super) struct Order {
    pub(super) program: Text,
    pub(super) args: Vec<Text>,
    pub(super) env: Vec<(Text, Text)>,
    pub(super) folder: Text,
    pub(super) open_files: u64,
    /// As whom to run; else as the spawner does.
    pub(super) identity: Option<Rc<Identity>>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) socket: Option<OwnedFd>,
}

impl Plan {
    /// Makes texts into what the system takes.
    ///
    /// # Errors
    /// One of them holds a NUL.
    pub(super) fn new(order: Order) -> Result<Self, NulError> {
        let program = CString::new(order.program.0)?;
        let mut args = vec![program.clone()];
        for arg in order.args {
            args.push(CString::new(arg.0)?);
        }
        let variable = |(Text(mut name), Text(value))| {
            name.push(b'=');
            name.extend_from_slice(&value);
            CString::new(name)
        };
        Ok(Self {
            program,
            args,
            env: order.env.into_iter().map(variable).collect::<Result<_, _>>()?,
            folder: CString::new(order.folder.0)?,
            open_files: order.open_files,
            identity: order.identity,
            stdout: order.stdout,
            stderr: order.stderr,
            socket: order.socket,
        })
    }
}

/// A forked process on its way: the plan and what only it knows.
struct Becoming<'a> {
    plan: &'a Plan,
    guard: Pid,
    /// Where an error is told; closed by a successful exec.
    errors: OwnedFd,
}

type Act = fn(&Becoming<'_>) -> io::Result<()>;

/// The order matters: each step may count on those above it.
const STEPS: &[(Step, Act)] = &[
    // The sandbox's namespaces and its cgroup come with the fork itself, before
    // all of these; its mounts come first here.
    (Step::Session, open_session),
    (Step::Signals, reset_signals),
    (Step::User, change_user),
    (Step::DeathSignal, die_with_guard),
    (Step::Limits, set_limits),
    (Step::Umask, set_umask),
    (Step::Descriptors, place_descriptors),
    (Step::Folder, enter_folder),
    // Landlock, then seccomp, come last: they would forbid what stands above.
    (Step::Exec, execute),
];

/// Runs the steps in a freshly forked child of `guard`. Returns only if one of
/// them failed, after telling `errors`.
pub(super) fn become_worker(plan: &Plan, guard: Pid, errors: OwnedFd) {
    let becoming = Becoming { plan, guard, errors };
    for (step, act) in STEPS {
        if let Err(error) = act(&becoming) {
            let failed = StepError::new(*step, &error);
            let _ = rustix::io::write(&becoming.errors, &encode(&failed));
            return;
        }
    }
}

/// A failed step as it goes through a pipe: its place in [`Step::ALL`], then the
/// error number.
pub(super) fn encode(failed: &StepError) -> [u8; 8] {
    let at = Step::ALL.iter().position(|step| *step == failed.step).unwrap_or(0);
    let mut bytes = [0; 8];
    bytes[0] = u8::try_from(at).unwrap_or(0);
    bytes[4..].copy_from_slice(&failed.errno.to_le_bytes());
    bytes
}

/// The failed step that [`encode`] wrote.
pub(super) fn decode(bytes: [u8; 8]) -> StepError {
    let [at, _, _, _, errno @ ..] = bytes;
    let step = Step::ALL.get(usize::from(at)).copied().unwrap_or(Step::Fork);
    StepError { step, errno: i32::from_le_bytes(errno) }
}

fn open_session(_: &Becoming<'_>) -> io::Result<()> {
    setsid()?;
    Ok(())
}

fn reset_signals(_: &Becoming<'_>) -> io::Result<()> {
    sys::default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

fn change_user(becoming: &Becoming<'_>) -> io::Result<()> {
    match &becoming.plan.identity {
        Some(identity) => identity.become_it(),
        None => Ok(()),
    }
}

fn die_with_guard(becoming: &Becoming<'_>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A guard that died before this would never be noticed.
    if getppid() == Some(becoming.guard) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(nix::libc::ESRCH))
    }
}

fn set_limits(becoming: &Becoming<'_>) -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let hard = getrlimit(Resource::Nofile).maximum;
    let soft = hard.map_or(becoming.plan.open_files, |hard| hard.min(becoming.plan.open_files));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: hard })?;
    Ok(())
}

fn set_umask(_: &Becoming<'_>) -> io::Result<()> {
    umask(Mode::WGRP | Mode::WOTH);
    Ok(())
}

/// Standard input is the guard's: `/dev/null`.
fn place_descriptors(becoming: &Becoming<'_>) -> io::Result<()> {
    // Above all targets first, so that placing one cannot overwrite another.
    let aside = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, SOCKET_FD + 1);
    let errors = &becoming.errors;
    let (stdout, stderr) = (aside(&becoming.plan.stdout)?, aside(&becoming.plan.stderr)?);
    let socket = becoming.plan.socket.as_ref().map(aside).transpose()?;
    if errors.as_raw_fd() <= SOCKET_FD {
        return Err(io::Error::from_raw_os_error(nix::libc::EBADF));
    }
    sys::place_fd(stdout.as_fd(), 1)?;
    sys::place_fd(stderr.as_fd(), 2)?;
    let first_unused = match &socket {
        Some(socket) => {
            sys::place_fd(socket.as_fd(), SOCKET_FD)?;
            SOCKET_FD + 1
        }
        None => SOCKET_FD,
    };
    // Closed below with all the rest.
    std::mem::forget((stdout, stderr, socket));
    sys::close_all_but(first_unused, &[errors.as_raw_fd()])
}

fn enter_folder(becoming: &Becoming<'_>) -> io::Result<()> {
    chdir(becoming.plan.folder.as_c_str())?;
    Ok(())
}

fn execute(becoming: &Becoming<'_>) -> io::Result<()> {
    let plan = becoming.plan;
    let never: Result<Infallible, _> = nix::unistd::execve(&plan.program, &plan.args, &plan.env);
    let Err(error) = never;
    Err(error.into())
}
