//! The client's side on a stream (RFC 8323): no message is lost or repeated there,
//! and each end says first what it can.
//!
//! Who drives it has the stream, the clock and the randomness: it writes what stands
//! in [`StreamClient::output`], hands what it reads to [`StreamClient::receive`], and
//! looks for [`StreamClient::ended`] when all is written.

use std::time::Instant;

use bytes::BytesMut;

use super::transfer::{Next, Portion, Transfer};
use super::{Call, CallError, ClientLimits, Progress};
use crate::block::{BODY_BYTES_MAX, Block};
use crate::exchange::Response;
use crate::keyed::Keyed;
use crate::message::{Kind, Message, MessageId, OptionNumber, Token};
use crate::stream::StreamOutput;
use crate::stream::frame::{Frame, Taken};
use crate::stream::signal::{self, Capabilities};

/// What a message takes beside its part of a body and the options of the call, in
/// bytes: its length, token, and the options that a transfer adds.
const OVERHEAD_BYTES: usize = 80;

/// What a call has come to.
type Outcome = Result<Option<Response>, CallError>;

/// The client's state on one stream. See the module.
pub struct StreamClient {
    limits: ClientLimits,
    key: Keyed,
    /// Makes each token another.
    count: u64,
    remote: Capabilities,
    greeted: bool,
    /// What waits for the server to say what it can.
    queued: Option<Call>,
    transfer: Option<Transfer>,
    /// The request under way.
    token: Option<Token>,
    due: Option<Instant>,
    echo: Option<bytes::Bytes>,
    output: StreamOutput,
    ended: Option<Outcome>,
    /// Why nothing more can be asked.
    over: Option<CallError>,
}

impl StreamClient {
    /// A client on a stream that was just opened. `secret` must be random. What this
    /// end can is the first output.
    #[must_use]
    pub fn new(limits: ClientLimits, secret: u128) -> StreamClient {
        let mut output = StreamOutput::default();
        output.push(signal::capabilities(limits.message_bytes_max));
        StreamClient {
            limits,
            key: Keyed::new(secret),
            count: 0,
            remote: Capabilities::BASE,
            greeted: false,
            queued: None,
            transfer: None,
            token: None,
            due: None,
            echo: None,
            output,
            ended: None,
            over: None,
        }
    }

    /// Begins a call, when the server has said what it can. One that has not ended
    /// is given up.
    pub fn call(&mut self, now: Instant, call: Call) {
        (self.transfer, self.token, self.ended) = (None, None, None);
        if let Some(error) = self.over.clone() {
            self.end(Err(error));
        } else if call.payload.len() > BODY_BYTES_MAX {
            self.end(Err(CallError::BodyTooLong(call.payload.len())));
        } else if self.greeted {
            self.begin(now, call);
        } else {
            self.queued = Some(call);
            self.due = Some(now + self.limits.greeting_within);
        }
    }

    /// Takes what has arrived, from the front of `input`.
    pub fn receive(&mut self, now: Instant, input: &mut BytesMut) {
        while self.over.is_none() {
            match Frame::take(input, self.limits.message_bytes_max) {
                Ok(Taken::Frame(frame)) => self.frame(now, frame),
                Ok(Taken::Missing(_)) => return,
                Err(error) => self.break_off(CallError::NotCoap(error)),
            }
        }
        input.clear();
    }

    /// The stream has ended.
    pub fn close(&mut self) {
        self.break_off(CallError::Closed);
    }

    /// Gives up what has come due.
    pub fn expire(&mut self, now: Instant) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let error = if self.greeted {
            CallError::NoReply(self.limits.reply_within.as_secs())
        } else {
            CallError::NoGreeting(self.limits.greeting_within.as_secs())
        };
        self.end(Err(error));
    }

    /// When [`StreamClient::expire`] has something to do; none while nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be written.
    pub fn output(&mut self) -> &mut StreamOutput {
        &mut self.output
    }

    /// What the call has come to, once.
    pub fn ended(&mut self) -> Option<Outcome> {
        self.ended.take()
    }

    /// How far the call is that is under way.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.transfer.as_ref().map(Transfer::progress)
    }

    fn begin(&mut self, now: Instant, call: Call) {
        let room = self.remote.message_bytes_max.min(self.limits.message_bytes_max);
        let room = room.saturating_sub(OVERHEAD_BYTES + call.options.as_encoded().len());
        // The largest block that fits.
        let mut portion = Portion::block((room.max(16).ilog2() - 4) as u8);
        if self.remote.bert() && room >= 1024 {
            portion = Portion { exponent: Block::BERT, bytes: room / 1024 * 1024 };
        }
        self.count += 1;
        let tag = self.key.hash(("tag", self.count));
        let mut transfer = Transfer::new(&self.limits, call, portion, tag);
        transfer.takes_blocks_of(Block::BERT);
        self.transfer = Some(transfer);
        self.send(now);
    }

    fn send(&mut self, now: Instant) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let request = transfer.request(self.echo.as_deref());
        self.count += 1;
        let token = self.key.hash(("token", self.count)).to_be_bytes();
        let token = Token::new(&token).expect("eight bytes are one");
        let frame =
            Frame { code: request.code, token, options: request.options, payload: request.payload };
        self.output.push(frame);
        self.token = Some(token);
        self.due = Some(now + self.limits.reply_within);
        if !request.has_response {
            self.end(Ok(None));
        }
    }

    fn frame(&mut self, now: Instant, frame: Frame) {
        if frame.code == signal::ABORT {
            let why = String::from_utf8_lossy(&frame.payload).into_owned();
            self.break_off(CallError::Aborted(why));
        } else if frame.code == signal::RELEASE {
            // It ends the stream when it has replied to what was asked before.
        } else if frame.code == signal::PING {
            let custody = frame.options.get(signal::CUSTODY).is_some();
            self.output.push(signal::pong(frame.token, custody));
        } else if frame.code == signal::CSM {
            self.greet(now, &frame);
        } else if frame.code.is_response() && Some(frame.token) == self.token {
            self.response(now, frame);
        }
    }

    fn greet(&mut self, now: Instant, frame: &Frame) {
        if let Err(bad) = self.remote.learn(&frame.options) {
            self.output.push(signal::abort_for(signal::CSM, bad));
            self.break_off(CallError::Aborted(bad.to_string()));
            return;
        }
        self.greeted = true;
        if let Some(call) = self.queued.take() {
            self.begin(now, call);
        }
    }

    fn response(&mut self, now: Instant, frame: Frame) {
        self.token = None;
        let blocks = [OptionNumber::BLOCK1, OptionNumber::BLOCK2];
        let mut numbers = frame.options.iter().map(|(number, _)| number);
        if let Some(option) = numbers.find(|n| n.is_critical() && !blocks.contains(n)) {
            self.end(Err(CallError::UnknownOption(option)));
            return;
        }
        let Some(transfer) = &mut self.transfer else {
            return;
        };
        // Type and ID mean nothing on a stream.
        let message = Message {
            kind: Kind::NonConfirmable,
            code: frame.code,
            id: MessageId(0),
            token: frame.token,
            options: frame.options,
            payload: frame.payload,
        };
        match transfer.response(message) {
            Next::Send => self.send(now),
            Next::Challenged(echo) => {
                self.echo = Some(echo);
                self.send(now);
            }
            Next::Ended(response) => self.end(Ok(Some(response))),
            Next::Failed(error) => self.end(Err(error)),
        }
    }

    /// Nothing more can come.
    fn break_off(&mut self, error: CallError) {
        if self.over.is_none() {
            self.over = Some(error.clone());
        }
        if self.transfer.is_some() || self.queued.is_some() {
            self.end(Err(error));
        }
    }

    fn end(&mut self, outcome: Outcome) {
        (self.transfer, self.queued, self.token, self.due) = (None, None, None, None);
        self.ended = Some(outcome);
    }
}

#[cfg(test)]
mod tests;
