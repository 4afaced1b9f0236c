//! One call: its script runs, its body goes in, its output comes back.
//!
//! Owns the rules for replies: held until the script ends or has written
//! [`HELD_BYTES_MAX`], then streamed. Must not know the socket.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::StatusCode;
use tinyfaas_handlers::process::spawner::Exit;
use tinyfaas_handlers::wire::{
    self, CREDIT_BYTES, CREDIT_STEP_BYTES, Flags, Kind, ReplyHead, WireError, encode_credit,
    encode_reply, parse_call,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use crate::STARTING;
use crate::cgi::{self, BodyLength};
use crate::head::{self, HeadError};
use crate::outbox::Outbox;
use crate::process::{Input, Process, Started, waiting};
use crate::script;
use crate::worker::{Function, InFlight};

/// Output that is held while the script runs, in bytes: until then its exit code
/// still decides whether the reply is a failure.
const HELD_BYTES_MAX: usize = 1 << 20;

/// The most that one frame of a reply carries, in bytes.
const PART_BYTES_MAX: usize = CREDIT_BYTES;

/// The least room for a read of output, in bytes.
const READ_BYTES: usize = 8 << 10;

/// The calls in flight.
pub(crate) type Calls = Rc<RefCell<InFlight>>;

/// What the worker's loop knows of a call, and tells it.
#[derive(Debug)]
pub(crate) struct Call {
    number: u32,
    outbox: Rc<Outbox>,
    /// Whether the output begins with header lines.
    cgi: bool,
    /// What the reply begins with.
    head: RefCell<ReplyHead>,
    /// Parts of the body that the script has not been given yet.
    parts: RefCell<VecDeque<Bytes>>,
    body_ended: Cell<bool>,
    /// How much more of the body the server may send.
    window: Cell<usize>,
    /// Taken off our hands, not granted yet.
    taken: Cell<usize>,
    grown: Notify,
    /// How much more output we may send.
    credit: Cell<usize>,
    credited: Notify,
    cancelled: Notify,
}

impl Call {
    /// Starts a call, from a CALL's payload.
    ///
    /// # Errors
    /// The payload breaks the protocol.
    pub(crate) fn start(
        number: u32,
        flags: Flags,
        payload: Bytes,
        function: &Arc<Function>,
        outbox: &Rc<Outbox>,
        calls: &Calls,
    ) -> Result<(), WireError> {
        let (head, headers, body) = parse_call(&payload)?;
        let whole = flags.has(Flags::END);
        let length = if whole { BodyLength::Known(body.len()) } else { BodyLength::Streamed };
        let window = CREDIT_BYTES
            .checked_sub(body.len())
            .ok_or(WireError::BadPayload(Kind::Call, "more of a body than there is credit for"))?;
        let variables = cgi::variables(&head, &headers, &function.name, length);
        let call = Rc::new(Self {
            number,
            outbox: outbox.clone(),
            cgi: function.cgi,
            head: RefCell::default(),
            parts: RefCell::default(),
            body_ended: Cell::new(whole),
            window: Cell::new(window),
            taken: Cell::new(0),
            grown: Notify::new(),
            credit: Cell::new(CREDIT_BYTES),
            credited: Notify::new(),
            cancelled: Notify::new(),
        });
        calls.borrow_mut().insert(number, call.clone());
        let (calls, function) = (calls.clone(), function.clone());
        tokio::task::spawn_local(async move {
            match start_aside(function.clone(), variables, Input { start: body.clone(), whole })
                .await
            {
                Ok(started) => call.run(&function, started, body).await,
                Err(error) => {
                    function.look_after_script(&call.outbox);
                    call.fail(&not_started(&error), BytesMut::new(), false).await;
                }
            }
            calls.borrow_mut().remove(&number);
        });
        Ok(())
    }

    /// Takes a part of the body.
    ///
    /// # Errors
    /// The server sends more than it may.
    pub(crate) fn take_body(&self, part: Bytes, flags: Flags) -> Result<(), String> {
        if self.body_ended.get() {
            return Err(format!("the body of call {} goes on after its end", self.number));
        }
        let window = self.window.get().checked_sub(part.len());
        self.window.set(window.ok_or_else(|| {
            format!("more of the body of call {} came than there is credit for", self.number)
        })?);
        if !part.is_empty() {
            self.parts.borrow_mut().push_back(part);
        }
        self.body_ended.set(flags.has(Flags::END));
        self.grown.notify_one();
        Ok(())
    }

    /// Takes leave to send more output.
    pub(crate) fn take_credit(&self, bytes: u32) {
        self.credit.set(self.credit.get().saturating_add(bytes as usize));
        self.credited.notify_one();
    }

    /// Ends the call early: nobody waits for its reply.
    pub(crate) fn cancel(&self) {
        self.cancelled.notify_one();
    }

    /// Runs to the call's last frame.
    async fn run(&self, function: &Function, started: Started, mut body: Bytes) {
        let Started { mut process, stdin, fed, stdout } = started;
        body.advance(fed);
        let ended = {
            let feed = self.feed(stdin, fed, body);
            let reply = self.reply(function, &mut process, stdout);
            tokio::pin!(feed, reply);
            let mut feeding = true;
            loop {
                tokio::select! {
                    biased;
                    () = self.cancelled.notified() => break false,
                    () = &mut reply => break true,
                    () = &mut feed, if feeding => feeding = false,
                }
            }
        };
        if !ended {
            process.kill();
            let _ = process.wait().await;
            function.look_after_script(&self.outbox);
            self.outbox.add(|out| wire::encode(out, Kind::Ended, Flags::NONE, self.number, &[]));
        }
    }

    /// Gives the body to the script, as far as the script takes it.
    async fn feed(&self, stdin: Option<pipe::Sender>, fed: usize, mut part: Bytes) {
        let mut stdin = stdin;
        self.grant(fed);
        loop {
            let length = part.len();
            if let Some(pipe) = &mut stdin
                && pipe.write_all_buf(&mut part).await.is_err()
            {
                // The script reads no more, which is no error. What still comes
                // is dropped, so that the server is not left with it.
                stdin = None;
            }
            self.grant(length);
            part = loop {
                if let Some(part) = self.parts.borrow_mut().pop_front() {
                    break part;
                }
                if self.body_ended.get() {
                    return;
                }
                self.grown.notified().await;
            };
        }
    }

    /// Lets the server send as much again, in polite steps.
    fn grant(&self, bytes: usize) {
        let taken = self.taken.get() + bytes;
        if self.body_ended.get() || taken < CREDIT_STEP_BYTES {
            self.taken.set(taken);
            return;
        }
        self.taken.set(0);
        self.window.set(self.window.get() + taken);
        let bytes = u32::try_from(taken).unwrap_or(u32::MAX);
        self.outbox.add(|out| encode_credit(out, self.number, bytes));
    }

    /// Reads the output until the script has ended, and replies with it.
    async fn reply(&self, function: &Function, process: &mut Process, mut stdout: pipe::Receiver) {
        let mut output = BytesMut::new();
        let mut streaming = false;
        let mut open = true;
        let ended = loop {
            if output.len() >= HELD_BYTES_MAX || (streaming && !output.is_empty()) {
                if !streaming && let Err(error) = self.take_head(&mut output) {
                    process.kill();
                    let _ = process.wait().await;
                    return self.refuse(&error).await;
                }
                self.send(&mut output, &mut streaming, Rest::Follows).await;
            }
            output.reserve(READ_BYTES);
            tokio::select! {
                // The end first: what is in the background may write for ever.
                biased;
                ended = process.wait() => break ended,
                count = stdout.read_buf(&mut output), if open => open = matches!(count, Ok(1..)),
            }
        };
        // Before the last frame: the caller's next call must not come here.
        function.look_after_script(&self.outbox);
        drain(&stdout, &mut output);
        let headed = if streaming { Ok(()) } else { self.take_head(&mut output) };
        match ended {
            Ok(status) if status.success() => match headed {
                Ok(()) => self.send(&mut output, &mut streaming, Rest::IsThis).await,
                Err(error) => self.refuse(&error).await,
            },
            Ok(status) => self.fail(&describe(status), output, streaming).await,
            Err(error) => self.fail(&error.to_string(), output, streaming).await,
        }
    }

    /// Takes the header lines off the output, where the function prints such. The
    /// output is their end, or as much as is held: what is missing is an error.
    fn take_head(&self, output: &mut BytesMut) -> Result<(), HeadError> {
        if self.cgi {
            let (head, length) = head::parse(output)?.ok_or(HeadError::NoEnd)?;
            output.advance(length);
            self.head.replace(head);
        }
        Ok(())
    }

    /// Ends the call as a failure: its output is no CGI response.
    async fn refuse(&self, error: &HeadError) {
        let mut words = BytesMut::from(error.to_string().as_bytes());
        self.send(&mut words, &mut false, Rest::IsFailure).await;
    }

    /// Ends the call as a failure: with the output, or in words where the script
    /// printed nothing, or by breaking off a reply that has begun.
    async fn fail(&self, how: &str, mut output: BytesMut, streaming: bool) {
        let how = format!("{} {how}", script::FILE);
        if streaming {
            let flags = Flags::NONE;
            self.outbox
                .add(|out| wire::encode(out, Kind::Error, flags, self.number, how.as_bytes()));
            return;
        }
        if output.is_empty() {
            // Its headers are of a body that is not there.
            self.head.take();
            output.extend_from_slice(how.as_bytes());
        }
        self.send(&mut output, &mut false, Rest::IsFailure).await;
    }

    /// Sends all of this output, as far as there is credit, and waits for more.
    async fn send(&self, output: &mut BytesMut, begun: &mut bool, rest: Rest) {
        loop {
            self.outbox.room().await;
            let part = output.len().min(self.credit.get()).min(PART_BYTES_MAX);
            if part == 0 && !output.is_empty() {
                self.credited.notified().await;
                continue;
            }
            self.credit.set(self.credit.get() - part);
            let part = output.split_to(part);
            let end = Flags::end_if(output.is_empty() && rest != Rest::Follows);
            if *begun {
                self.outbox.add(|out| wire::encode(out, Kind::Body, end, self.number, &part));
            } else {
                let head = self.head.take();
                self.outbox.add(|out| begin(out, self.number, head, &part, end, rest));
            }
            *begun = true;
            if output.is_empty() {
                return;
            }
        }
    }
}

/// What comes after the output that is at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// More of it.
    Follows,
    /// Nothing: it is the end of the reply.
    IsThis,
    /// Nothing, and all of it is what the caller of a failed call is told.
    IsFailure,
}

fn begin(
    out: &mut BytesMut,
    number: u32,
    mut head: ReplyHead,
    part: &[u8],
    end: Flags,
    rest: Rest,
) {
    let flags = match rest {
        Rest::IsFailure => {
            head.status = Some(StatusCode::INTERNAL_SERVER_ERROR);
            end.and(Flags::FAILURE)
        }
        Rest::Follows | Rest::IsThis => end,
    };
    encode_reply(out, number, &head, part, flags).expect("no head is longer than head::BYTES_MAX");
}

/// Takes what the pipe holds now. What a process in the background still adds is
/// none of the call's.
fn drain(stdout: &pipe::Receiver, output: &mut BytesMut) {
    let mut left = waiting(stdout);
    while left > 0 {
        match stdout.try_read_buf(&mut (&mut *output).limit(left)) {
            Ok(count @ 1..) => left = left.saturating_sub(count),
            _ => return,
        }
    }
}

/// Starts the script on a thread of its own: whoever starts a process waits until
/// it has been executed, and on a busy machine that is long enough to hold up
/// all other calls.
async fn start_aside(
    function: Arc<Function>,
    variables: BTreeMap<String, OsString>,
    input: Input,
) -> io::Result<Started> {
    let turn = STARTING.acquire().await.map_err(io::Error::other)?;
    let start = move || {
        let started = Process::start(&function.script, &variables, &input);
        drop(turn);
        started
    };
    tokio::task::spawn_blocking(start).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn describe(status: ExitStatus) -> String {
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    };
    format!(
        "{exit} and printed nothing to its standard output; what it wrote to standard error is in the function's log"
    )
}

/// Why no script runs, for the caller.
fn not_started(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ArgumentListTooLong => {
            "could not be executed: the call's headers and query \
             are more than the system lets a program have in its environment; send less there, or \
             send it in the body"
                .into()
        }
        _ => format!("could not be executed: {error}"),
    }
}
