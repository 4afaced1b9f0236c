//! The server's conversation with one spawner process.
//!
//! Owns the requests on their way, and who waits for which child. Must not know
//! how a spawner is started, nor start another.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot, watch};

use super::Exit;
use super::client::SpawnError;
use super::protocol::{Inbox, ProtocolError, Report, Request, encode, send_some};

/// A running program. When its last handle is dropped it is killed.
#[derive(Debug, Clone)]
pub struct Child(Arc<Running>);

#[derive(Debug)]
struct Running {
    id: u64,
    pid: u32,
    guard: u32,
    end: watch::Receiver<Option<End>>,
    killed: AtomicBool,
    session: Arc<Session>,
}

/// How a child ended, and what it took.
#[derive(Debug, Clone, Copy)]
struct End {
    exit: Exit,
    cpu_us: u64,
}

/// A child as seen from outside: it does not keep the child alive.
#[derive(Debug, Clone)]
pub(in crate::process) struct Sight {
    guard: u32,
    end: watch::Receiver<Option<End>>,
}

impl Sight {
    /// The process that guards it: all that it has started descends from there.
    pub(in crate::process) fn guard(&self) -> u32 {
        self.guard
    }

    /// The processor time that it and all its descendants have taken, in
    /// microseconds, once they are gone; 0 where nobody could tell.
    pub(in crate::process) fn ended_cpu_us(&self) -> Option<u64> {
        let gone = self.end.has_changed().is_err();
        let end = *self.end.borrow();
        end.map(|end| end.cpu_us).or(gone.then_some(0))
    }
}

impl Child {
    /// Sees it without keeping it alive.
    pub(in crate::process) fn sight(&self) -> Sight {
        Sight { guard: self.0.guard, end: self.0.end.clone() }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Waits until it and all its descendants are gone. Any number may wait.
    pub async fn wait(&self) -> Exit {
        let mut end = self.0.end.clone();
        match end.wait_for(Option::is_some).await.map(|end| *end) {
            Ok(Some(end)) => end.exit,
            // Nobody is left who could tell.
            Ok(None) | Err(_) => Exit::SpawnerLost,
        }
    }

    /// Kills it and all its descendants. Returns at once; [`Child::wait`] says
    /// when they are gone.
    pub fn kill(&self) {
        self.0.kill();
    }
}

impl Running {
    fn kill(&self) {
        if self.end.borrow().is_none() && !self.killed.swap(true, Ordering::Relaxed) {
            self.session.kill(self.id);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A child that is wanted or there.
#[derive(Debug)]
enum Entry {
    /// It has not executed its program yet.
    Starting {
        label: String,
        program: PathBuf,
        reply: oneshot::Sender<Result<Child, SpawnError>>,
    },
    Running(watch::Sender<Option<End>>),
}

/// A message with the descriptors that go along.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// A program that the spawner is asked to start.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) label: String,
    pub(super) program: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) reply: oneshot::Sender<Result<Child, SpawnError>>,
}

/// What is known of one spawner's children.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// `None` once the spawner is gone.
    children: Mutex<Option<HashMap<u64, Entry>>>,
    /// Bounded by its content: the programs that may start at a time, and one
    /// kill for each child.
    outbox: Mutex<VecDeque<Outgoing>>,
    wake: Notify,
    /// The server wants the spawner to end everything and exit.
    closing: AtomicBool,
    closed: Notify,
}

impl Session {
    /// A session that starts with this message.
    pub(super) fn new(hello: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            children: Mutex::new(Some(HashMap::new())),
            outbox: Mutex::new(VecDeque::from([Outgoing { bytes: hello, fds: Vec::new() }])),
            ..Self::default()
        })
    }

    /// Asks for a child. It is known before its request is on its way, so that
    /// no answer comes too early.
    pub(super) fn submit(&self, id: u64, wanted: Wanted) {
        let Wanted { label, program, bytes, fds, reply } = wanted;
        if let Some(children) = &mut *self.children.lock() {
            children.insert(id, Entry::Starting { label, program, reply });
        } else {
            let _ = reply.send(Err(SpawnError::Lost));
            return;
        }
        self.send(Outgoing { bytes, fds });
    }

    fn kill(&self, id: u64) {
        if let Some(bytes) = encode(&Request::Kill { id }) {
            self.send(Outgoing { bytes, fds: Vec::new() });
        }
    }

    fn send(&self, message: Outgoing) {
        self.outbox.lock().push_back(message);
        self.wake.notify_one();
    }

    /// Asks the spawner to end everything and exit, which ends [`Session::run`].
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.wake.notify_one();
        self.closed.notify_one();
    }

    /// Whether the server asked for the end.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Resolves when the spawner was asked to exit so long ago.
    pub(super) async fn outstay(&self, patience: Duration) {
        self.closed.notified().await;
        tokio::time::sleep(patience).await;
    }

    /// Talks until the spawner's end, and says why that came if not by itself.
    pub(super) async fn run(self: &Arc<Self>, stream: &UnixStream) -> Result<(), String> {
        let spoken = async {
            match self.speak(stream).await {
                // What remains is to hear the end.
                Ok(()) => std::future::pending().await,
                Err(error) => Err(format!("its socket broke: {error}")),
            }
        };
        tokio::select! {
            ended = spoken => ended,
            ended = self.listen(stream) => ended.map_err(|error| error.to_string()),
        }
    }

    async fn speak(&self, stream: &UnixStream) -> io::Result<()> {
        loop {
            let message = self.outbox.lock().pop_front();
            match message {
                Some(message) => speak_one(stream, &message).await?,
                None if self.is_closing() => break,
                None => self.wake.notified().await,
            }
        }
        Ok(rustix::net::shutdown(stream, rustix::net::Shutdown::Write)?)
    }

    async fn listen(self: &Arc<Self>, stream: &UnixStream) -> Result<(), ProtocolError> {
        let mut inbox = Inbox::default();
        loop {
            let open = stream
                .async_io(Interest::READABLE, || match inbox.receive(stream) {
                    Err(ProtocolError::Io(error)) => Err(error),
                    other => Ok(other),
                })
                .await;
            let open = match open {
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => false,
                open => open??,
            };
            while let Some(report) = inbox.next()? {
                self.note(report);
            }
            if !open {
                return Ok(());
            }
        }
    }

    fn note(self: &Arc<Self>, report: Report) {
        let mut guard = self.children.lock();
        let Some(children) = guard.as_mut() else { return };
        match report {
            Report::Started { id, pid, guard: root } => {
                let (tell, end) = watch::channel(None);
                let entry = children.insert(id, Entry::Running(tell));
                drop(guard);
                if let Some(Entry::Starting { reply, .. }) = entry {
                    let killed = AtomicBool::new(false);
                    let session = self.clone();
                    // If nobody waits any more, this drops the child: it is killed.
                    let _ = reply.send(Ok(Child(Arc::new(Running {
                        id,
                        pid,
                        guard: root,
                        end,
                        killed,
                        session,
                    }))));
                }
            }
            Report::Failed { id, step, errno } => {
                let entry = children.remove(&id);
                drop(guard);
                if let Some(Entry::Starting { label, program, reply }) = entry {
                    let source = io::Error::from_raw_os_error(errno);
                    let _ = reply.send(Err(SpawnError::Step { label, step, program, source }));
                }
            }
            Report::Ended { id, exit, cpu_us } => {
                let entry = children.remove(&id);
                drop(guard);
                finish(entry, End { exit, cpu_us });
            }
        }
    }

    /// The spawner is gone, and so are all its children: tells all who wait.
    pub(super) fn end_all(&self) {
        let children = self.children.lock().take();
        for (_, entry) in children.into_iter().flatten() {
            finish(Some(entry), End { exit: Exit::SpawnerLost, cpu_us: 0 });
        }
        self.outbox.lock().clear();
    }
}

fn finish(entry: Option<Entry>, end: End) {
    match entry {
        Some(Entry::Running(seen)) => {
            seen.send_replace(Some(end));
        }
        Some(Entry::Starting { reply, .. }) => {
            let _ = reply.send(Err(SpawnError::Lost));
        }
        None => {}
    }
}

/// Sends a whole message; its descriptors go with its first bytes.
async fn speak_one(stream: &UnixStream, message: &Outgoing) -> io::Result<()> {
    let mut sent = 0;
    while sent < message.bytes.len() {
        let fds: Vec<_> = match sent {
            0 => message.fds.iter().map(AsFd::as_fd).collect(),
            _ => Vec::new(),
        };
        let send = || send_some(stream, &message.bytes[sent..], &fds);
        sent += stream.async_io(Interest::WRITABLE, send).await?;
    }
    Ok(())
}
