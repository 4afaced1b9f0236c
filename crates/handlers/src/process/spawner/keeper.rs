//! The keeper: a process that keeps root's rights to start spawners when the
//! server has given them up.
//!
//! Owns the one spawner that there is at a time, and the few words that the
//! server may say: start one, end it. As whom programs run is fixed when the
//! keeper starts, so a server that was taken over cannot ask for root. Must not
//! know what a spawner does.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::sys;
use super::host::take_server_socket;
use super::identity::Identity;
use super::protocol::{Inbox, ProtocolError, encode, send_some};

/// The hidden subcommand by which the program becomes the keeper.
pub const KEEPER: &str = "spawner-keeper";
/// The one by which it becomes the spawner.
pub(super) const SPAWNER: &str = "spawner";

/// How long the keeper may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// From the server.
#[derive(Debug, Serialize, Deserialize)]
enum Wish {
    /// Start a spawner; its socket comes along. One that is still there is ended.
    Start,
    /// End the spawner.
    End,
}

/// From the keeper, one for each wish.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Started { pid: u32 },
    Failed { why: String },
    Ended { how: String },
}

/// The server's hold on its keeper. Dropping it ends the keeper, once the spawner
/// has ended.
#[derive(Debug)]
pub(super) struct Keeper {
    conversation: Mutex<(OwnedFd, Inbox)>,
    process: Child,
}

impl Keeper {
    /// Starts this program's own binary as the keeper, whose spawners start all
    /// programs as this user.
    pub(super) fn start(identity: &Identity) -> io::Result<Self> {
        let (socket, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mut command = own_program(&[KEEPER.into(), identity.to_string().into()]);
        let process = command.stdin(theirs).spawn()?;
        Ok(Self { conversation: Mutex::new((socket, Inbox::default())), process })
    }

    /// Has a spawner started that talks over `socket`; its process id.
    pub(super) fn start_spawner(&self, socket: &OwnedFd) -> io::Result<u32> {
        match self.ask(&Wish::Start, Some(socket))? {
            Answer::Started { pid } => Ok(pid),
            Answer::Failed { why } => Err(io::Error::other(why)),
            Answer::Ended { how } => Err(io::Error::other(how)),
        }
    }

    /// Has the spawner ended, and says how it ended.
    pub(super) fn end_spawner(&self) -> String {
        match self.ask(&Wish::End, None) {
            Ok(Answer::Ended { how }) => how,
            Ok(Answer::Failed { why }) => why,
            Ok(Answer::Started { pid }) => format!("process {pid} was started instead"),
            Err(error) => error.to_string(),
        }
    }

    fn ask(&self, wish: &Wish, fd: Option<&OwnedFd>) -> io::Result<Answer> {
        let mut conversation = self.conversation.lock();
        let (socket, inbox) = &mut *conversation;
        tell(socket, wish, fd)
            .and_then(|()| hear(socket, inbox, Some(PATIENCE)))
            .and_then(|answer| answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()))
            .map_err(|error| {
                io::Error::other(format!(
                    "the process that keeps the rights to start others does not answer: {error}"
                ))
            })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(&self.conversation.get_mut().0, Shutdown::Both);
        // It is root's and cannot be killed from here; it ends by itself.
        if ends_within(&self.process, PATIENCE) {
            let _ = self.process.wait();
        }
    }
}

fn ends_within(process: &Child, patience: Duration) -> bool {
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    let Some(Ok(process)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else {
        return false;
    };
    wait_for(&process, Some(patience)).is_ok()
}

/// The keeper process, for the program's hidden subcommand. Its standard input is
/// the socket to the server. Returns when the server is gone and its spawner has
/// ended.
#[must_use]
pub fn keeper_main() -> ExitCode {
    match Keeping::start().and_then(Keeping::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The server may be gone, and this stream with it.
            let _ = writeln!(io::stderr(), "tinyfaas spawner-keeper: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whose programs the process with this argument starts.
pub(super) fn identity_argument() -> io::Result<Option<Identity>> {
    let Some(text) = env::args().nth(2) else { return Ok(None) };
    text.parse().map(Some).map_err(io::Error::other)
}

struct Keeping {
    server: OwnedFd,
    inbox: Inbox,
    identity: Identity,
    spawner: Option<Child>,
}

impl Keeping {
    fn start() -> io::Result<Self> {
        let identity = identity_argument()?
            .ok_or_else(|| io::Error::other("this subcommand is the server's own"))?;
        sys::default_signals();
        sys::ignore_signals(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE])?;
        // Ctrl+C in the server's terminal is the server's to handle.
        let _ = setsid();
        rustix::thread::set_name(c"tinyfaas-keep")?;
        Ok(Self { server: take_server_socket()?, inbox: Inbox::default(), identity, spawner: None })
    }

    fn run(mut self) -> io::Result<()> {
        while let Some(wish) = hear(&self.server, &mut self.inbox, None)? {
            let answer = match wish {
                Wish::Start => self.start_spawner(),
                Wish::End => Answer::Ended { how: self.end_spawner() },
            };
            tell(&self.server, &answer, None)?;
        }
        // The spawner sees for itself that the server is gone.
        match &mut self.spawner {
            Some(spawner) => spawner.wait().map(drop),
            None => Ok(()),
        }
    }

    fn start_spawner(&mut self) -> Answer {
        let Some(socket) = self.inbox.next_fd() else {
            return Answer::Failed { why: "its socket did not come along".to_owned() };
        };
        self.end_spawner();
        let mut command = own_program(&[SPAWNER.into(), self.identity.to_string().into()]);
        match command.stdin(socket).spawn() {
            Ok(child) => {
                let pid = child.id();
                self.spawner = Some(child);
                Answer::Started { pid }
            }
            Err(error) => Answer::Failed { why: error.to_string() },
        }
    }

    fn end_spawner(&mut self) -> String {
        let Some(mut spawner) = self.spawner.take() else { return "it is not there".to_owned() };
        end(&mut spawner)
    }
}

/// Ends a process, unless it has ended by itself, and says how it ended.
pub(super) fn end(process: &mut Child) -> String {
    // One that has ended cannot be killed: then its own status is told.
    let _ = process.kill();
    match process.wait() {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

fn own_program(args: &[OsString]) -> Command {
    program(Path::new("/proc/self/exe"), args)
}

/// How a process of ours is started: with the name that the server has, and with
/// nothing of its environment, which may hold secrets, and functions may look.
pub(super) fn program(path: &Path, args: &[OsString]) -> Command {
    let mut command = Command::new(path);
    command.arg0(env::args_os().next().unwrap_or_else(|| "tinyfaas".into()));
    command.args(args).env_clear().stdout(Stdio::null());
    command
}

fn tell<M: Serialize>(socket: &OwnedFd, message: &M, fd: Option<&OwnedFd>) -> io::Result<()> {
    let bytes = encode(message).expect("our messages are short");
    let mut fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
    let mut sent = 0;
    while sent < bytes.len() {
        sent += send_some(socket, &bytes[sent..], &fds)?;
        fds.clear();
    }
    Ok(())
}

/// The next message; none at the conversation's end.
fn hear<M: DeserializeOwned>(
    socket: &OwnedFd,
    inbox: &mut Inbox,
    patience: Option<Duration>,
) -> io::Result<Option<M>> {
    let plain = |error| match error {
        ProtocolError::Io(error) => error,
        other => io::Error::other(other),
    };
    loop {
        if let Some(message) = inbox.next().map_err(plain)? {
            return Ok(Some(message));
        }
        wait_for(socket, patience)?;
        match inbox.receive(socket).map_err(plain) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn wait_for(fd: &OwnedFd, patience: Option<Duration>) -> io::Result<()> {
    let timeout = patience.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut fds, timeout.as_ref()))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}
