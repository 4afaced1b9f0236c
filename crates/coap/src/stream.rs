//! The server's side of CoAP on streams (RFC 8323): bytes in, requests out; replies
//! in, bytes out. One [`Connection`] for each stream; [`Blocks`] for all of them.
//!
//! Who drives it has the stream, the clock and the functions. It reads into a
//! buffer of its own as long as [`Connection::wants_input`], hands the buffer to
//! [`Connection::advance`] until no request comes of it, gives each request one
//! [`Connection::reply`], and writes what stands in [`Connection::output`] until
//! [`Connection::is_over`]. Knows no clock but what block-wise transfer needs: how
//! long a peer may be silent is for who drives it.

pub mod frame;
mod limits;
mod observing;
mod output;
pub mod signal;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

pub use limits::StreamLimits;
pub use output::StreamOutput;

use crate::block::{Blocks, Carrier, Step, Transfer};
use crate::exchange::{Response, suppressed};
use crate::message::{Code, Kind, Message, MessageId, OptionNumber, Token, Unservable};
use crate::observe::{ObserverId, Observers};
use crate::peer::Peer;
use frame::{Frame, Taken};
use signal::Capabilities;

/// The room for bytes that is made ready at a time while nothing more is known of
/// what comes, in bytes.
const READ_BYTES: usize = 4096;

/// A request to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// To be handed back with the reply.
    pub owed: Owed,
    /// What is asked, with its whole body as payload. Its Block1 and Block2 options
    /// are done with; type and message ID mean nothing.
    pub message: Message,
}

/// What a request is owed: one [`Connection::reply`].
#[derive(Clone, Debug)]
pub struct Owed {
    number: u64,
    token: Token,
    /// The classes whose responses it does not want (RFC 7967 section 2.1).
    no_response: u32,
    transfer: Transfer,
    /// As whom the reply tells the peer of what it observes.
    observer: Option<ObserverId>,
}

/// How far a stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The peer has not said what it can.
    Greeting,
    /// Requests are taken.
    Open,
    /// This end is to close it when nothing runs any more, and has told the peer:
    /// further requests get 5.03.
    Releasing,
    /// The peer wants it closed; what it still sends is not looked at.
    Released,
    /// It cannot go on; nothing counts but what is still to be written.
    Ended,
}

/// One stream. See the module.
pub struct Connection {
    limits: StreamLimits,
    peer: Peer,
    stage: Stage,
    remote: Capabilities,
    /// The numbers of the requests that run, in order.
    running: Vec<u64>,
    next_number: u64,
    /// Tokens of Pings that wait until no request below the number runs.
    custodies: VecDeque<(u64, Token)>,
    observers: Observers,
    output: StreamOutput,
    /// What is missing of the message that has begun to arrive, in bytes.
    missing: usize,
    uses_blocks: bool,
}

impl Connection {
    /// A stream that was just opened. `peer` tells it from all others, by its
    /// session. What this end can is the first output.
    #[must_use]
    pub fn new(limits: StreamLimits, peer: Peer, now: Instant) -> Connection {
        let mut connection = Connection {
            peer,
            stage: Stage::Greeting,
            remote: Capabilities::BASE,
            running: Vec::new(),
            next_number: 0,
            custodies: VecDeque::new(),
            observers: observing::table(&limits, now),
            output: StreamOutput::default(),
            missing: 0,
            uses_blocks: false,
            limits,
        };
        let capabilities = signal::capabilities(connection.limits.message_bytes_max);
        connection.output.push(capabilities);
        connection
    }

    /// Takes what has arrived, from the front of `input`. Returns a request to run;
    /// there may be more. None if what is there makes no further one, or none may
    /// be taken now.
    pub fn advance(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        blocks: &mut Blocks,
    ) -> Option<Request> {
        while self.wants_input() {
            if matches!(self.stage, Stage::Released | Stage::Ended) {
                input.clear();
                break;
            }
            let arrived = input.len();
            let frame = match Frame::take(input, self.limits.message_bytes_max) {
                Ok(Taken::Frame(frame)) => {
                    if input.is_empty() && arrived > READ_BYTES {
                        // Else the room for a long message stays taken in silence.
                        *input = BytesMut::new();
                    }
                    frame
                }
                Ok(Taken::Missing(missing)) => {
                    self.missing = missing;
                    break;
                }
                Err(error) => {
                    self.abort(error.to_string());
                    break;
                }
            };
            let request = self.receive(now, frame, blocks);
            if request.is_some() {
                return request;
            }
        }
        None
    }

    /// Whether there may be more to read: not while as many requests run as may, or
    /// as much waits to be written as may.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        match self.stage {
            // To notice that it is closed.
            Stage::Released | Stage::Ended => true,
            Stage::Greeting | Stage::Open | Stage::Releasing => {
                self.running.len() < self.limits.requests_max && self.takes_replies()
            }
        }
    }

    /// Makes room in `input` for what comes next: for the rest of a message in
    /// steps, so that nothing is taken for what was only announced.
    pub fn make_room(&self, input: &mut BytesMut) {
        input.reserve(self.missing.clamp(READ_BYTES, READ_BYTES.max(input.len())));
    }

    /// Takes the reply to a request; it has none of the options Observe, Block1,
    /// Block2 and Size2. One that nobody waits for any more is dropped.
    pub fn reply(&mut self, now: Instant, blocks: &mut Blocks, owed: Owed, response: Response) {
        let Ok(at) = self.running.binary_search(&owed.number) else {
            return;
        };
        self.running.remove(at);
        let response = self.word(now, &owed, response);
        if !suppressed(owed.no_response, response.code) {
            self.cut(now, blocks, (owed.token, &owed.transfer), response);
        }
        self.take_custody();
    }

    /// Whether a reply may be given now: not while as much waits to be written as
    /// may. One that is given all the same is taken.
    #[must_use]
    pub fn takes_replies(&self) -> bool {
        self.output.bytes() < self.limits.output_bytes_max
    }

    /// What is to be written next.
    pub fn output(&mut self) -> &mut StreamOutput {
        &mut self.output
    }

    /// How much is to be written, in bytes.
    #[must_use]
    pub fn output_bytes(&self) -> usize {
        self.output.bytes()
    }

    /// Asks the peer whether it is still there.
    pub fn ping(&mut self) {
        self.send(Frame::new(signal::PING));
    }

    /// Asks the peer to close the stream (RFC 8323 section 5.5). What runs is
    /// replied to, further requests get 5.03.
    pub fn release(&mut self) {
        if matches!(self.stage, Stage::Greeting | Stage::Open) {
            self.stage = Stage::Releasing;
            self.send(Frame::new(signal::RELEASE));
        }
    }

    /// Ends the stream with a sentence on the reason (RFC 8323 section 5.6).
    /// Nothing is replied any more.
    pub fn abort(&mut self, why: impl Into<Bytes>) {
        self.end_with(signal::abort(why.into()));
    }

    /// Takes it that nothing more comes from the peer. Unless it has asked for the
    /// end before, or was told of it, there is nobody any more who waits for
    /// anything.
    pub fn input_ended(&mut self) {
        if !matches!(self.stage, Stage::Released | Stage::Ended) {
            self.end();
            self.output.clear();
        }
    }

    /// Whether the peer has said what it can.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.stage != Stage::Greeting
    }

    /// Whether the stream cannot go on. The requests that still run are owed
    /// nothing; what is still to be written says why.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Whether the stream is to be closed: it is at its end, nothing runs, and
    /// nothing is to be written.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let closing = matches!(self.stage, Stage::Releasing | Stage::Released | Stage::Ended);
        closing && self.running.is_empty() && self.output.bytes() == 0
    }

    /// How many requests run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Drops what block-wise transfers keep for this stream, when it is closed.
    pub fn forget(&self, blocks: &mut Blocks) {
        if self.uses_blocks {
            blocks.forget(&self.peer);
        }
    }

    fn receive(&mut self, now: Instant, frame: Frame, blocks: &mut Blocks) -> Option<Request> {
        // Keeps the stream alive, and nothing more (section 3.4).
        if frame.code.is_empty() {
            return None;
        }
        if self.stage == Stage::Greeting && frame.code != signal::CSM {
            self.abort(format!("a message with the code {} came before the CSM", frame.code));
            return None;
        }
        match frame.code.class() {
            0 => return self.request(now, frame, blocks),
            // Nothing was asked from here; one may be late, but not wrong.
            2 | 4 | 5 => {}
            7 => self.signal(&frame),
            _ => self.abort(format!("a message has the code {}, of a reserved class", frame.code)),
        }
        None
    }

    fn request(&mut self, now: Instant, frame: Frame, blocks: &mut Blocks) -> Option<Request> {
        let no_response = frame.options.uint(OptionNumber::NO_RESPONSE).unwrap_or(0);
        let token = frame.token;
        let message = Message {
            kind: Kind::Confirmable,
            code: frame.code,
            id: MessageId(0),
            token,
            options: frame.options,
            payload: frame.payload,
        };
        let refusal = match message.check_request() {
            Err(Unservable::Method(_)) => Some(Response::new(Code::METHOD_NOT_ALLOWED)),
            Err(Unservable::Option(_)) => Some(Response::new(Code::BAD_OPTION)),
            Err(Unservable::Proxy(_)) => Some(Response::new(Code::PROXYING_NOT_SUPPORTED)),
            Ok(()) if self.stage == Stage::Releasing => Some(Response::unavailable(1)),
            Ok(()) => {
                self.unobserve_asked(&message);
                None
            }
        };
        let step = match refusal {
            Some(response) => Step::Answer(response),
            None => {
                let options = &message.options;
                self.uses_blocks |= options.get(OptionNumber::BLOCK1).is_some();
                blocks.request(now, self.peer, message, self.carrier())
            }
        };
        match step {
            Step::Answer(response) => {
                if !suppressed(no_response, response.code) {
                    self.respond(token, response);
                }
                None
            }
            Step::Run(message, transfer) => {
                let number = self.next_number;
                self.next_number += 1;
                self.running.push(number);
                let observer = None;
                let owed = Owed { number, token, no_response, transfer, observer };
                Some(Request { owed, message })
            }
        }
    }

    fn signal(&mut self, frame: &Frame) {
        if let Err(bad) = signal::check(&frame.options) {
            self.end_with(signal::abort_for(frame.code, bad));
            return;
        }
        match frame.code {
            signal::CSM => match self.remote.learn(&frame.options) {
                Ok(()) if self.stage == Stage::Greeting => self.stage = Stage::Open,
                Ok(()) => {}
                Err(bad) => self.end_with(signal::abort_for(frame.code, bad)),
            },
            signal::PING => {
                let custody = frame.options.get(signal::CUSTODY).is_some();
                if !custody || self.custodies.len() >= self.limits.custodies_max {
                    self.send(signal::pong(frame.token, false));
                } else {
                    self.custodies.push_back((self.next_number, frame.token));
                    self.take_custody();
                }
            }
            signal::RELEASE => self.stage = Stage::Released,
            signal::ABORT => {
                self.end();
                self.output.clear();
            }
            // A Pong says no more than that bytes came; others mean nothing here.
            _ => {}
        }
    }

    /// Answers the Pings before which nothing runs any more.
    fn take_custody(&mut self) {
        let done = self.running.first().copied().unwrap_or(self.next_number);
        while let Some((before, token)) = self.custodies.front().copied()
            && before <= done
        {
            self.custodies.pop_front();
            self.send(signal::pong(token, true));
        }
    }

    fn carrier(&self) -> Carrier {
        let theirs = self.remote.message_bytes_max;
        let message_bytes_max = match self.remote.block_wise {
            true => theirs.min(self.limits.sent_message_bytes_max),
            // It may know no blocks, so it gets whole what it takes whole.
            false => theirs,
        };
        Carrier::Stream { message_bytes_max, bert: self.remote.bert() }
    }

    fn cut(
        &mut self,
        now: Instant,
        blocks: &mut Blocks,
        (token, transfer): (Token, &Transfer),
        response: Response,
    ) {
        let response = blocks.reply(now, transfer, response, self.carrier());
        self.uses_blocks |= response.options.get(OptionNumber::BLOCK2).is_some();
        self.respond(token, response);
    }

    fn respond(&mut self, token: Token, response: Response) {
        let Response { code, options, payload } = response;
        let mut frame = Frame { code, token, options, payload };
        if frame.encoded_bytes() > self.remote.message_bytes_max && !code.is_success() {
            // The words for people, or what else stands with an error.
            frame = Frame { token, ..Frame::new(code) };
        }
        if frame.encoded_bytes() > self.remote.message_bytes_max {
            frame = Frame { token, ..Frame::new(Code::INTERNAL_SERVER_ERROR) };
        }
        self.send(frame);
    }

    fn send(&mut self, frame: Frame) {
        if self.stage != Stage::Ended {
            self.output.push(frame);
        }
    }

    fn end_with(&mut self, mut abort: Frame) {
        if self.stage == Stage::Ended {
            return;
        }
        if abort.encoded_bytes() > self.remote.message_bytes_max {
            abort.payload.clear();
        }
        self.send(abort);
        self.end();
    }

    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.running.clear();
        self.custodies.clear();
    }
}

#[cfg(test)]
mod tests;
