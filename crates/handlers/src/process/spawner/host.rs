//! The spawner process: forks guards, passes on what they say, ends everything
//! when the server is gone.
//!
//! Owns the guards. Must not know what the programs are, and must not keep
//! anything that outlives the server.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{
    Pid, Resource, Rlimit, getrlimit, kill_process, set_child_subreaper, setrlimit, setsid,
};

use super::super::sys::{self, SingleThreaded};
use super::guard::{self, NEWS_BYTES, News};
use super::identity::Identity;
use super::keeper::identity_argument;
use super::protocol::{Inbox, ProtocolError, Report, Request, Text, encode, send_some};
use super::steps::{Order, Plan, Step};
use super::{Exit, INSTANCE_VARIABLE, descendants};

/// How long a guard may take to end its tree before it is killed itself and the
/// spawner ends the tree in its place.
const GUARD_PATIENCE: Duration = Duration::from_secs(2);

/// How often to look for orphans of a killed guard that are still there.
const STRAYS_INTERVAL: Duration = Duration::from_millis(10);

/// Descriptors kept free for the spawner's own work, where there are enough.
const SPARE_FILES: u64 = 64;
/// Else this part of them.
const SPARE_PART: u64 = 4;

/// The token by which the server's socket is known to epoll; guards have theirs
/// by their process ids, which are positive.
const SERVER: u64 = 0;
/// The same for ends of children.
const CHILDREN: u64 = u64::MAX;

/// The spawner process, for the program's hidden subcommand. Its standard input
/// is the socket to the server. Returns when the server is gone and everything
/// that was started for it has ended.
#[must_use]
pub fn main() -> ExitCode {
    match Host::start().map_err(ProtocolError::Io).and_then(Host::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The server may be gone, and this stream with it.
            let _ = writeln!(io::stderr(), "tinyfaas spawner: {error}; all handlers were ended");
            ExitCode::FAILURE
        }
    }
}

struct Guard {
    /// The server's number for the child.
    id: u64,
    control: OwnedFd,
    /// When it is killed, if it was told to end its tree.
    patience: Option<Instant>,
    /// It has said how it ended, so nothing of its tree is left.
    done: bool,
}

struct Host {
    alone: SingleThreaded,
    server: OwnedFd,
    inbox: Inbox,
    epoll: OwnedFd,
    signals: SignalFd,
    guards: HashMap<Pid, Guard>,
    by_id: HashMap<u64, Pid>,
    /// Children whose guard was killed, while their orphans are being ended.
    orphaned: Vec<u64>,
    mark: Text,
    open_files: u64,
    /// As whom programs run, if not as this process: told by whoever started it,
    /// never by the server, which may have less rights than this.
    identity: Option<Rc<Identity>>,
    guards_max: u64,
    /// The server is gone or wants no more: everything is being ended.
    stopping: bool,
}

impl Host {
    fn start() -> io::Result<Self> {
        let alone = SingleThreaded::prove()?;
        sys::default_signals();
        sys::ignore_signals(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE])?;
        // Ctrl+C in the server's terminal is the server's to handle. Whoever
        // already leads a group was started by hand, and keeps its session.
        let _ = setsid();
        set_child_subreaper(Some(rustix::process::getpid()))?;
        rustix::thread::set_name(c"tinyfaas-spawn")?;
        let server = take_server_socket()?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let signals = guard::child_signals()?;
        let readable = epoll::EventFlags::IN;
        epoll::add(&epoll, &server, epoll::EventData::new_u64(SERVER), readable)?;
        epoll::add(&epoll, signals.as_fd(), epoll::EventData::new_u64(CHILDREN), readable)?;
        Ok(Self {
            alone,
            server,
            inbox: Inbox::default(),
            epoll,
            signals,
            guards: HashMap::new(),
            by_id: HashMap::new(),
            orphaned: Vec::new(),
            mark: Text(Vec::new()),
            open_files: 0,
            identity: identity_argument()?.map(Rc::new),
            guards_max: guards_max(raise_open_files()),
            stopping: false,
        })
    }

    fn run(mut self) -> Result<(), ProtocolError> {
        let mut outcome = Ok(());
        let mut events = Vec::with_capacity(64);
        while !self.is_finished() {
            events.clear();
            let timeout = self.timeout();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, buffer, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            for event in &events {
                match event.data.u64() {
                    SERVER => {
                        if let Err(error) = self.serve() {
                            outcome = Err(error);
                            self.stop();
                        }
                    }
                    CHILDREN => self.reap(),
                    token => self.listen(token),
                }
            }
            self.end_strays();
            self.end_impatiently();
        }
        outcome
    }

    fn is_finished(&self) -> bool {
        self.stopping && self.guards.is_empty() && self.orphaned.is_empty()
    }

    /// How long to sleep: for ever, unless something is being ended.
    fn timeout(&self) -> Option<Timespec> {
        let now = Instant::now();
        let strays = (!self.orphaned.is_empty()).then_some(STRAYS_INTERVAL);
        let patience = self.guards.values().filter_map(|guard| guard.patience).min();
        let patience = patience.map(|at| at.saturating_duration_since(now));
        let least = strays.into_iter().chain(patience).min()?;
        Timespec::try_from(least + Duration::from_millis(1)).ok()
    }

    /// Does what the server asks.
    fn serve(&mut self) -> Result<(), ProtocolError> {
        if self.stopping {
            return Ok(());
        }
        let open = match self.inbox.receive(&self.server) {
            Err(ProtocolError::Io(error)) => match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(()),
                io::ErrorKind::ConnectionReset => false,
                _ => return Err(error.into()),
            },
            open => open?,
        };
        while let Some(request) = self.inbox.next()? {
            match request {
                Request::Hello { mark, open_files } => {
                    self.mark = mark;
                    self.open_files = open_files;
                }
                Request::Spawn { id, program, args, env, folder, socket } => {
                    let (stdout, stderr) = (self.next_fd()?, self.next_fd()?);
                    let socket = if socket { Some(self.next_fd()?) } else { None };
                    let open_files = self.open_files;
                    let identity = self.identity.clone();
                    let order = Order {
                        program,
                        args,
                        env,
                        folder,
                        open_files,
                        identity,
                        stdout,
                        stderr,
                        socket,
                    };
                    self.spawn(id, order)?;
                }
                Request::Kill { id } => self.kill(id),
            }
        }
        if !open {
            self.stop();
        }
        Ok(())
    }

    fn next_fd(&mut self) -> Result<OwnedFd, ProtocolError> {
        self.inbox.next_fd().ok_or(ProtocolError::OutOfTurn("a program came without its streams"))
    }

    fn spawn(&mut self, id: u64, mut order: Order) -> Result<(), ProtocolError> {
        if self.open_files == 0 {
            return Err(ProtocolError::OutOfTurn("a program came before the greeting"));
        }
        order.env.push((INSTANCE_VARIABLE.into(), self.mark.clone()));
        let started = if self.guards.len() as u64 >= self.guards_max {
            Err(io::Error::from_raw_os_error(nix::libc::EMFILE))
        } else {
            Plan::new(order)
                .map_err(|_| io::Error::from_raw_os_error(nix::libc::EINVAL))
                .and_then(|plan| self.fork_guard(id, plan))
        };
        if let Err(error) = started {
            let errno = error.raw_os_error().unwrap_or(nix::libc::EIO);
            self.report(&Report::Failed { id, step: Step::Fork, errno });
        }
        Ok(())
    }

    fn fork_guard(&mut self, id: u64, plan: Plan) -> io::Result<()> {
        let (control, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let Some(pid) = sys::fork(&self.alone)? else {
            guard::run(plan, &theirs, &self.alone);
        };
        let token = epoll::EventData::new_u64(pid.as_raw_pid().unsigned_abs().into());
        // If it cannot be watched, its control socket closes here, and it ends.
        epoll::add(&self.epoll, &control, token, epoll::EventFlags::IN)?;
        self.guards.insert(pid, Guard { id, control, patience: None, done: false });
        self.by_id.insert(id, pid);
        Ok(())
    }

    /// Tells a guard to end its tree. One that has ended already is no error:
    /// the news may be on its way.
    fn kill(&mut self, id: u64) {
        let Some(pid) = self.by_id.get(&id) else { return };
        if let Some(guard) = self.guards.get_mut(pid)
            && guard.patience.is_none()
        {
            // A function may have stopped it.
            let _ = kill_process(*pid, rustix::process::Signal::CONT);
            guard.patience = Some(Instant::now() + GUARD_PATIENCE);
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let _ = rustix::net::send(&guard.control, b"k", flags);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        // At its end the socket would be readable for ever.
        let _ = epoll::delete(&self.epoll, &self.server);
        let ids: Vec<u64> = self.by_id.keys().copied().collect();
        for id in ids {
            self.kill(id);
        }
    }

    /// Hears what one guard has to say.
    fn listen(&mut self, token: u64) {
        let pid = i32::try_from(token).ok().and_then(Pid::from_raw);
        let Some(guard) = pid.and_then(|pid| self.guards.get_mut(&pid)) else { return };
        let mut reports = Vec::new();
        let mut bytes = [0; NEWS_BYTES];
        loop {
            match rustix::net::recv(&guard.control, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((_, NEWS_BYTES)) => reports.extend(guard.note(bytes, token)),
                Ok(_) => {
                    // Its end; what is to be known is learned when it is reaped.
                    let _ = epoll::delete(&self.epoll, &guard.control);
                    break;
                }
                // It ended without reading that it should: what it said is still
                // there behind this error, which comes once.
                Err(Errno::CONNRESET | Errno::INTR) => {}
                Err(_) => break,
            }
        }
        for report in reports {
            self.report(&report);
        }
    }

    /// Takes note of the children that have ended. A guard that was killed
    /// leaves orphans here; other children are such orphans.
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        let mut ended = Vec::new();
        let _ = descendants::reap(|pid, _| ended.push(pid));
        for pid in ended {
            self.listen(pid.as_raw_pid().unsigned_abs().into());
            if let Some(guard) = self.guards.remove(&pid) {
                self.by_id.remove(&guard.id);
                if !guard.done {
                    self.orphaned.push(guard.id);
                }
            }
        }
    }

    /// While guards have been killed: ends whatever they left, then reports the
    /// children that they guarded as ended.
    fn end_strays(&mut self) {
        if self.orphaned.is_empty() {
            return;
        }
        let mut strays = descendants::children();
        strays.retain(|pid| !self.guards.contains_key(pid));
        if !strays.is_empty() {
            strays.into_iter().for_each(descendants::kill_child);
            return;
        }
        for id in std::mem::take(&mut self.orphaned) {
            self.report(&Report::Ended { id, exit: Exit::GuardLost, cpu_us: 0 });
        }
    }

    /// Kills guards that were told to end their tree and have not for too long
    /// (a function may have stopped them). Their tree becomes ours.
    fn end_impatiently(&mut self) {
        let now = Instant::now();
        for (pid, guard) in &mut self.guards {
            if guard.patience.is_some_and(|at| at <= now) {
                guard.patience = Some(now + GUARD_PATIENCE);
                let _ = kill_process(*pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Tells the server. If it is gone that is noticed at its socket's end.
    fn report(&mut self, report: &Report) {
        let Some(bytes) = encode(report) else { return };
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match send_some(&self.server, rest, &[]) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl Guard {
    /// Makes a report of a guard's news; `token` is its process id.
    fn note(&mut self, bytes: [u8; NEWS_BYTES], token: u64) -> Option<Report> {
        let (id, guard) = (self.id, u32::try_from(token).ok()?);
        match News::decode(bytes)? {
            News::Started(pid) => Some(Report::Started { id, pid: pid.unsigned_abs(), guard }),
            News::Failed(step, errno) => {
                self.done = true;
                Some(Report::Failed { id, step, errno })
            }
            News::Ended(exit, cpu_us) => {
                self.done = true;
                Some(Report::Ended { id, exit, cpu_us })
            }
        }
    }
}

/// Takes the server's socket off standard input, where no child may find it, and
/// puts `/dev/null` there and on standard output.
pub(super) fn take_server_socket() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    if rustix::net::sockopt::socket_type(&socket) != Ok(SocketType::STREAM) {
        return Err(io::Error::other(
            "standard input is not the server's socket; this subcommand is the server's own",
        ));
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(socket)
}

/// How many guards, each with a descriptor here, so many open files allow.
fn guards_max(open_files: u64) -> u64 {
    open_files - SPARE_FILES.min(open_files / SPARE_PART)
}

/// Raises the soft limit of open files, as each guard takes one here, and says
/// what it is now.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    now.current.unwrap_or(u64::MAX)
}
