//! The only module with unsafe code: system calls for which no safe wrapper
//! exists.
//!
//! Owns fork and what happens to descriptors and signals around it. Must not
//! know what is started, or why.
#![allow(unsafe_code, reason = "the one module of system calls; each block says why it is sound")]

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::ForkResult;
use rustix::io::FdFlags;
use rustix::net::SocketType;
use rustix::process::Pid;

use crate::wire::SOCKET_FD;

/// Proof that this process had one thread when it was asked, so that a forked
/// child may allocate and take locks. Its holder starts no threads.
#[derive(Debug)]
pub(super) struct SingleThreaded(());

impl SingleThreaded {
    /// Looks whether this process has one thread.
    ///
    /// # Errors
    /// It has more, or `/proc` cannot be read.
    pub(super) fn prove() -> io::Result<Self> {
        match std::fs::read_dir("/proc/self/task")?.count() {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(format!(
                "this process has {threads} threads, but only one that has a single thread may fork"
            ))),
        }
    }
}

/// Doubles this process; `None` is the answer in the child.
///
/// # Errors
/// The system's: too many processes, no memory.
pub(super) fn fork(_: &SingleThreaded) -> io::Result<Option<Pid>> {
    // SAFETY: the caller proved that no other thread exists, so the child finds
    // every lock free and every invariant whole.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(None),
        ForkResult::Parent { child } => Ok(Pid::from_raw(child.as_raw())),
    }
}

/// Sets a variable of this process's environment.
pub(super) fn set_variable(_: &SingleThreaded, name: &str, value: &OsStr) {
    // SAFETY: the caller proved that no other thread exists that could read the
    // environment meanwhile.
    unsafe { std::env::set_var(name, value) };
}

/// Ends this process at once: no destructors, no buffers written twice.
pub(super) fn exit_now(code: u8) -> ! {
    // SAFETY: `_exit` takes any status and touches no memory of this process.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Takes a worker's socket: the stream socket that it inherited at descriptor 3.
/// For the start of a worker, before anything else is opened.
///
/// # Errors
/// There is no such socket, or it was taken before.
pub fn take_worker_socket() -> io::Result<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Err(io::Error::other("it was taken before"));
    }
    // SAFETY: it is borrowed for the two questions below only; if it is not
    // open, the first says so.
    let inherited = unsafe { BorrowedFd::borrow_raw(SOCKET_FD) };
    if rustix::net::sockopt::socket_type(inherited)? != SocketType::STREAM {
        return Err(io::Error::other("it is no stream socket"));
    }
    rustix::io::fcntl_setfd(inherited, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, nobody took it before, and by the contract above
    // nothing that this process opened can be there.
    Ok(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) })
}

/// Closes every descriptor from `first` on, less those in `keep`.
///
/// For a process that has just been forked and uses only what it keeps: whatever
/// else owned a descriptor here is never used or dropped again.
///
/// # Errors
/// Neither `close_range` nor `/proc/self/fd` is there.
pub(super) fn close_all_but(first: RawFd, keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd >= first).collect();
    keep.sort_unstable();
    let mut from = first;
    for fd in keep.iter().copied().chain([RawFd::MAX]) {
        if from < fd && !close_range(from, fd - 1)? {
            return close_listed(first, &keep);
        }
        from = fd.saturating_add(1);
    }
    Ok(())
}

/// Closes the descriptors from `first` to `last`; says no where the kernel
/// (before 5.9) or a filter knows no such call.
fn close_range(first: RawFd, last: RawFd) -> io::Result<bool> {
    // SAFETY: the call reads no memory; the descriptors are given up by the
    // contract of `close_all_but`.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if answer == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(false),
        error => Err(error),
    }
}

fn close_listed(first: RawFd, keep: &[RawFd]) -> io::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open.into_iter().filter(|fd| *fd >= first && !keep.contains(fd)) {
        // SAFETY: given up by the contract of `close_all_but`; the listing's own
        // descriptor is closed already, and closing it again is an error that
        // changes nothing in a process with one thread.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Makes `target` a copy of `fd` that survives an exec. Whatever `target` was is
/// closed.
///
/// For a process that is about to exec and uses only what it has placed.
///
/// # Errors
/// The system's.
pub(super) fn place_fd(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    // SAFETY: `fd` is open for as long as it is borrowed, and nobody uses what
    // `target` was, by the contract above.
    match unsafe { libc::dup2(fd.as_raw_fd(), target) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Gives every signal its default action, the real-time ones too: what was
/// ignored here would stay ignored after an exec. The C library keeps two (32
/// and 33) to itself.
pub(super) fn default_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: the default action is no function of ours. The C library and
        // the kernel refuse the numbers that cannot be changed.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// Ignores these signals from here on, in forked children too.
///
/// # Errors
/// A signal that cannot be ignored.
pub(super) fn ignore_signals(signals: &[Signal]) -> io::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in signals {
        // SAFETY: to ignore runs no function of ours.
        unsafe { sigaction(*signal, &ignore) }?;
    }
    Ok(())
}

/// The version of Landlock that the kernel offers (`landlock_create_ruleset(2)`);
/// none where it has none or was booted without.
#[must_use]
pub fn landlock_abi() -> Option<u32> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: libc::c_uint = 1;
    let (nothing, size): (*const libc::c_void, libc::size_t) = (std::ptr::null(), 0);
    // SAFETY: with this flag the kernel takes neither memory nor a descriptor: it
    // only answers with a number, or -1.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, size, VERSION) };
    u32::try_from(answer).ok().filter(|version| *version > 0)
}
