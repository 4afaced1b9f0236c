//! The worker's loop: frames come in, calls start, grow and are cancelled.
//!
//! Owns which calls are in flight. Must not know how a call is run.

use std::collections::HashMap;
use std::env;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use tinyfaas_handlers::wire::{
    self, Flags, Frame, Kind, Load, PROTOCOL, Ready, decode, encode_json, parse_cancel,
    parse_credit, parse_json,
};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::Problem;
use crate::call::{Call, Calls};
use crate::outbox::Outbox;
use crate::script::{self, Script};

/// Room made for each read, in bytes.
const READ_BYTES: usize = 16 << 10;

/// How the worker's work came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The socket is closed.
    ServerGone,
    /// The server was told that the function cannot be loaded.
    NotLoaded,
}

/// The function that this worker runs.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// What is executed.
    pub(crate) script: Script,
    /// Whether its output begins with header lines.
    pub(crate) cgi: bool,
    /// Calls at a time.
    concurrency: usize,
    /// The server was told that the script is gone.
    left: AtomicBool,
}

impl Function {
    /// Asks the server for another worker, with a fresh copy of the folder, where
    /// the script that every call executes is gone.
    pub(crate) fn look_after_script(&self, outbox: &Outbox) {
        if self.script.is_there() || self.left.swap(true, Ordering::Relaxed) {
            return;
        }
        outbox.add(|out| wire::encode(out, Kind::Leaving, Flags::NONE, 0, script::GONE.as_bytes()));
    }
}

/// Serves one server until its end.
pub(crate) async fn serve(socket: UnixStream) -> Result<End, Problem> {
    let (reading, mut writing) = socket.into_split();
    let mut frames = Frames { socket: reading, buffer: BytesMut::new() };
    let function = match load(&mut frames, &mut writing).await? {
        Ok(function) => Arc::new(function),
        Err(end) => return Ok(end),
    };
    let outbox = Rc::new(Outbox::default());
    let writer = outbox.clone();
    tokio::select! {
        // A server that takes nothing more is gone.
        _ = writer.write_to(writing) => Ok(End::ServerGone),
        end = read(&mut frames, &function, &outbox) => end,
    }
}

struct Frames {
    socket: OwnedReadHalf,
    buffer: BytesMut,
}

impl Frames {
    /// The next frame; `None` at the socket's end.
    async fn next(&mut self) -> Result<Option<Frame>, Problem> {
        loop {
            let frame = decode(&mut self.buffer).map_err(|error| broken(&error))?;
            if frame.is_some() {
                return Ok(frame);
            }
            if self.buffer.is_empty() {
                // A buffer that a large frame made large is not kept.
                self.buffer = BytesMut::new();
            }
            self.buffer.reserve(READ_BYTES);
            match self.socket.read_buf(&mut self.buffer).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(Problem::Start(error)),
            }
        }
    }
}

fn broken(how: &dyn std::fmt::Display) -> Problem {
    Problem::Protocol(how.to_string())
}

/// Waits for LOAD and answers it; without a function, says how it ended.
async fn load(
    frames: &mut Frames,
    writing: &mut OwnedWriteHalf,
) -> Result<Result<Function, End>, Problem> {
    let Some(frame) = frames.next().await? else { return Ok(Err(End::ServerGone)) };
    if frame.kind != Kind::Load {
        return Err(broken(&format!("a {:?} frame came before LOAD", frame.kind)));
    }
    let load: Load = parse_json(Kind::Load, &frame.payload).map_err(|error| broken(&error))?;
    if load.protocol != PROTOCOL {
        return Err(broken(&format!("it speaks version {}, not {PROTOCOL}", load.protocol)));
    }
    let found = env::set_current_dir(&load.folder)
        .map_err(|error| {
            format!("the function's folder {} cannot be entered: {error}", load.folder.display())
        })
        .and_then(|()| Script::find(&load.folder));
    let answer = Outbox::default();
    match &found {
        Ok(script) => {
            let runtime = script.program.display().to_string();
            answer.add(|out| encode_json(out, Kind::Ready, &Ready { protocol: PROTOCOL, runtime }));
        }
        Err(problem) => {
            answer.add(|out| wire::encode(out, Kind::Failed, Flags::NONE, 0, problem.as_bytes()))
        }
    }
    if answer.flush_to(writing).await.is_err() {
        return Ok(Err(End::ServerGone));
    }
    let function = |script| Function {
        name: load.function,
        script,
        cgi: load.cgi,
        concurrency: load.concurrency,
        left: AtomicBool::new(false),
    };
    Ok(found.map(function).map_err(|_| End::NotLoaded))
}

async fn read(
    frames: &mut Frames,
    function: &Arc<Function>,
    outbox: &Rc<Outbox>,
) -> Result<End, Problem> {
    let calls = Calls::default();
    while let Some(frame) = frames.next().await? {
        take(frame, function, outbox, &calls).map_err(|how| broken(&how))?;
    }
    Ok(End::ServerGone)
}

/// Takes one frame. What comes for a call that has ended was on its way, and is
/// ignored.
fn take(
    frame: Frame,
    function: &Arc<Function>,
    outbox: &Rc<Outbox>,
    calls: &Calls,
) -> Result<(), String> {
    let Frame { kind, flags, call: number, payload } = frame;
    let call = || calls.borrow().get(&number).cloned();
    match kind {
        Kind::Call => {
            if calls.borrow().len() >= function.concurrency {
                return Err(format!("more than {} calls came at a time", function.concurrency));
            }
            if call().is_some() {
                return Err(format!("call {number} came a second time"));
            }
            Call::start(number, flags, payload, function, outbox, calls)
                .map_err(|error| error.to_string())?;
        }
        Kind::Body => {
            if let Some(call) = call() {
                call.take_body(payload, flags)?;
            }
        }
        Kind::Credit => {
            let bytes = parse_credit(&payload).map_err(|error| error.to_string())?;
            if let Some(call) = call() {
                call.take_credit(bytes);
            }
        }
        Kind::Cancel => {
            parse_cancel(&payload).map_err(|error| error.to_string())?;
            if let Some(call) = call() {
                call.cancel();
            }
        }
        Kind::Ping => {
            outbox.add(|out| wire::encode(out, Kind::Pong, Flags::NONE, 0, &[]));
        }
        Kind::Load => return Err("LOAD came a second time".into()),
        Kind::Ready
        | Kind::Failed
        | Kind::Reply
        | Kind::Error
        | Kind::Ended
        | Kind::Pong
        | Kind::Leaving => {
            return Err(format!("a {kind:?} frame came, which only a worker sends"));
        }
    }
    Ok(())
}

/// The calls in flight, by number.
pub(crate) type InFlight = HashMap<u32, Rc<Call>>;
