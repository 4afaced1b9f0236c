//! A guard: the process between the spawner and one worker.
//!
//! Owns one worker's whole tree. As child subreaper it becomes the parent of
//! whatever a descendant leaves behind, a daemon with its own session too, and
//! ends all of it when the worker ends, when told to, or when the spawner is
//! gone. Must not know the server.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeValLike;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, WaitStatus, getpid, set_child_subreaper, set_parent_process_death_signal, setsid,
};

use super::super::sys::{self, SingleThreaded};
use super::steps::{self, Plan, Step, StepError};
use super::{Exit, descendants};

/// What a guard tells the spawner, in this order: at most one `Started`, then
/// one of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The program has been executed, by this process.
    Started(i32),
    /// It could not be; nothing is left.
    Failed(Step, i32),
    /// The worker and all its descendants are gone. They and the guard have
    /// taken so much processor time, in microseconds.
    Ended(Exit, u64),
}

/// The length of a [`News`] on the control socket, which keeps messages apart.
pub(super) const NEWS_BYTES: usize = 16;

impl News {
    fn encode(self) -> [u8; NEWS_BYTES] {
        let (kind, step, value, cpu_us) = match self {
            Self::Started(pid) => (1, Step::Fork, pid, 0),
            Self::Failed(step, errno) => (2, step, errno, 0),
            Self::Ended(Exit::Code(code), cpu) => (3, Step::Fork, code, cpu),
            Self::Ended(Exit::Signal(signal), cpu) => (4, Step::Fork, signal, cpu),
            Self::Ended(Exit::GuardLost | Exit::SpawnerLost, cpu) => (5, Step::Fork, 0, cpu),
        };
        let mut bytes = [0; NEWS_BYTES];
        bytes[..8].copy_from_slice(&steps::encode(&StepError { step, errno: value }));
        bytes[1] = kind;
        bytes[8..].copy_from_slice(&cpu_us.to_le_bytes());
        bytes
    }

    /// What [`News::encode`] wrote; `None` for anything else.
    pub(super) fn decode(bytes: [u8; NEWS_BYTES]) -> Option<Self> {
        let (what, cpu) = bytes.split_first_chunk::<8>()?;
        let StepError { step, errno: value } = steps::decode(*what);
        let cpu_us = u64::from_le_bytes(cpu.try_into().ok()?);
        Some(match bytes[1] {
            1 => Self::Started(value),
            2 => Self::Failed(step, value),
            3 => Self::Ended(Exit::Code(value), cpu_us),
            4 => Self::Ended(Exit::Signal(value), cpu_us),
            5 => Self::Ended(Exit::GuardLost, cpu_us),
            _ => return None,
        })
    }
}

/// Runs a guard in a freshly forked child of the spawner: starts the worker,
/// watches over it, ends its tree. The only byte that ever comes over `control`
/// means "end it", and so does its end.
pub(super) fn run(plan: Plan, control: &OwnedFd, alone: &SingleThreaded) -> ! {
    let news = match start(plan, control, alone) {
        Ok(guard) => guard.watch(control),
        Err(StepError { step, errno }) => News::Failed(step, errno),
    };
    tell(control, news);
    sys::exit_now(0)
}

/// A worker that has been forked.
struct Guard {
    worker: Pid,
    signals: SignalFd,
    /// Its end means that the worker has executed its program. `None` once that
    /// is known.
    errors: Option<OwnedFd>,
}

fn start(plan: Plan, control: &OwnedFd, alone: &SingleThreaded) -> Result<Guard, StepError> {
    let fork_failed = |error: io::Error| StepError::new(Step::Fork, &error);
    settle(&plan, control).map_err(fork_failed)?;
    let signals = child_signals().map_err(fork_failed)?;
    let (errors, errors_in) = errors_pipe().map_err(fork_failed)?;
    let guard = getpid();
    let Some(worker) = sys::fork(alone).map_err(fork_failed)? else {
        steps::become_worker(&plan, guard, errors_in);
        sys::exit_now(127)
    };
    // Only the worker holds its streams and socket now: their ends are its end.
    drop((plan, errors_in));
    Ok(Guard { worker, signals, errors: Some(errors) })
}

/// Parts from the spawner: an own session, adoption of orphans, and none of its
/// descriptors (one guard that held another's control socket would keep it from
/// seeing the spawner's end).
fn settle(plan: &Plan, control: &OwnedFd) -> io::Result<()> {
    let mut keep = vec![control.as_raw_fd(), plan.stdout.as_raw_fd(), plan.stderr.as_raw_fd()];
    keep.extend(plan.socket.as_ref().map(AsRawFd::as_raw_fd));
    sys::close_all_but(3, &keep)?;
    setsid()?;
    // A function may have stopped it, and a stopped guard would not see the
    // spawner's end. The control socket tells one that died before this.
    set_parent_process_death_signal(Some(rustix::process::Signal::CONT))?;
    set_child_subreaper(Some(getpid()))?;
    rustix::thread::set_name(c"tinyfaas-guard")?;
    Ok(())
}

/// A descriptor that is readable when a child has ended. The signal is blocked
/// already, as this process came from the spawner.
pub(super) fn child_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

fn errors_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (errors, errors_in) = pipe_with(PipeFlags::CLOEXEC)?;
    // Out of the way of the places that a worker's descriptors get.
    let errors_in = rustix::io::fcntl_dupfd_cloexec(errors_in, 10)?;
    Ok((errors, errors_in))
}

impl Guard {
    /// Waits for the worker's end or for being told to end it, ends the rest of
    /// its tree, and says how it went.
    fn watch(mut self, control: &OwnedFd) -> News {
        let mut exit = None;
        let mut failed = None;
        while exit.is_none() {
            let [told, child, executed] = self.wait_for_any(control);
            if executed {
                failed = self.read_errors(control);
            }
            if child {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                let _ = descendants::reap(|pid, status| self.note(&mut exit, pid, status));
            }
            if told {
                break;
            }
        }
        descendants::kill_all(|pid, status| self.note(&mut exit, pid, status));
        if self.errors.is_some() {
            failed = self.read_errors(control);
        }
        match (failed, exit) {
            (Some(StepError { step, errno }), _) => News::Failed(step, errno),
            (None, Some(exit)) => News::Ended(exit, cpu_us()),
            // Somebody else took the worker's status: it is gone all the same.
            (None, None) => News::Ended(Exit::GuardLost, cpu_us()),
        }
    }

    fn wait_for_any(&self, control: &OwnedFd) -> [bool; 3] {
        let readable = PollFlags::IN;
        let mut fds = vec![
            PollFd::from_borrowed_fd(control.as_fd(), readable),
            PollFd::from_borrowed_fd(self.signals.as_fd(), readable),
        ];
        fds.extend(self.errors.iter().map(|fd| PollFd::new(fd, readable)));
        match rustix::io::retry_on_intr(|| poll(&mut fds, None)) {
            Ok(_) => [0, 1, 2].map(|at| fds.get(at).is_some_and(|fd| !fd.revents().is_empty())),
            // Without poll a guard cannot watch: it ends what it guards.
            Err(_) => [true, false, false],
        }
    }

    /// Reads what the worker said of its steps: nothing means that it has
    /// executed its program, which the spawner is told.
    fn read_errors(&mut self, control: &OwnedFd) -> Option<StepError> {
        let errors = self.errors.take()?;
        let mut said = [0; 8];
        match rustix::io::retry_on_intr(|| rustix::io::read(&errors, &mut said)) {
            Ok(8) => Some(steps::decode(said)),
            _ => {
                tell(control, News::Started(self.worker.as_raw_pid()));
                None
            }
        }
    }

    fn note(&self, exit: &mut Option<Exit>, pid: Pid, status: WaitStatus) {
        if pid == self.worker {
            *exit = Some(match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::GuardLost,
            });
        }
    }
}

/// Processor time of this guard and of all that it has waited for, which is the
/// whole tree, in microseconds; none where the system does not tell.
fn cpu_us() -> u64 {
    let of = |who| {
        getrusage(who).map_or(0, |usage| {
            let both = usage.user_time() + usage.system_time();
            u64::try_from(both.num_microseconds()).unwrap_or(0)
        })
    };
    of(UsageWho::RUSAGE_SELF).saturating_add(of(UsageWho::RUSAGE_CHILDREN))
}

/// Tells the spawner, if it is still there.
fn tell(control: &OwnedFd, news: News) {
    let bytes = news.encode();
    let _ = rustix::io::retry_on_intr(|| rustix::net::send(control, &bytes, SendFlags::NOSIGNAL));
}
