//! The client's side on datagrams ([`Client`]) and on a stream ([`StreamClient`]),
//! towards one server, one call at a time: what is asked goes out in as many messages
//! as it needs, and what comes of it comes back whole, or as an error for people.
//!
//! Who drives it has the socket, the clock and the randomness: after every
//! [`Client::call`], [`Client::receive`] and [`Client::expire`] do what
//! [`Client::poll`] tells, then wait for a datagram or [`Client::deadline`].
//! Knows no names, no media types and no URIs.

mod stream;
mod transfer;
mod transmission;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::block::{BODY_BYTES_MAX, Block};
use crate::exchange::Response;
use crate::message::{Code, OptionNumber, Options};
use crate::stream::frame::FrameError;
use transfer::{Next, Portion, Transfer};
use transmission::{Heard, Transmission};

pub use stream::StreamClient;

/// The client's times and bounds, each with its default.
#[derive(Clone, Debug)]
pub struct ClientLimits {
    /// ACK_TIMEOUT: the least first wait for an acknowledgement; each further one
    /// is twice as long (RFC 7252 section 4.8). 2 s.
    pub ack_timeout: Duration,
    /// By what part of ACK_TIMEOUT the first wait may be longer, in percent:
    /// ACK_RANDOM_FACTOR less one. 50.
    pub ack_random_percent: u32,
    /// MAX_RETRANSMIT. 4.
    pub retransmissions_max: u32,
    /// How long a reply may take once its request is acknowledged. 10 min.
    pub reply_within: Duration,
    /// How long the reply to a non-confirmable request may take: NON_LIFETIME.
    /// 145 s.
    pub non_confirmable_within: Duration,
    /// On a stream, how long the server may take to say what it can. 10 s.
    pub greeting_within: Duration,
    /// The longest message that is taken or sent on a stream, in bytes; longer
    /// bodies come in blocks. 129 KiB: blocks of 128 KiB.
    pub message_bytes_max: usize,
    /// SZX of the blocks that are sent and asked for, unless the server wants
    /// smaller ones. 6: 1,024 bytes.
    pub exponent: u8,
    /// The longest reply that is put together, in bytes, at most [`BODY_BYTES_MAX`].
    /// 16 MiB.
    pub reply_bytes_max: usize,
    /// How often a reply that changes while its blocks are fetched is fetched anew,
    /// where that does no harm. 3.
    pub changes_max: u32,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            ack_timeout: Duration::from_secs(2),
            ack_random_percent: 50,
            retransmissions_max: 4,
            reply_within: Duration::from_secs(600),
            non_confirmable_within: Duration::from_secs(145),
            greeting_within: Duration::from_secs(10),
            message_bytes_max: 129 << 10,
            exponent: Block::EXPONENT_MAX,
            reply_bytes_max: BODY_BYTES_MAX,
            changes_max: 3,
        }
    }
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The method.
    pub code: Code,
    /// Whether lost messages are sent again (RFC 7252 section 4.2); else a loss
    /// shows in that no reply comes (section 4.3).
    pub confirmable: bool,
    /// Whether a reply is waited for; without, the server is told to send none
    /// (RFC 7967).
    pub wants_reply: bool,
    /// Path, query and what else there is; none of the options Block1, Block2,
    /// Size1, Echo, Request-Tag and No-Response, which are added as needed.
    pub options: Options,
    /// The body, of at most [`BODY_BYTES_MAX`] bytes; sent in blocks if it is long.
    pub payload: Bytes,
}

/// Why a call has no reply.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The body is longer than blocks can carry.
    #[error("a body of {0} bytes is too long for CoAP, which carries at most {BODY_BYTES_MAX}")]
    BodyTooLong(usize),
    /// Nothing came back, whether or not the request was repeated.
    #[error(
        "nothing came back within {seconds} s to a request sent {}",
        times(*.copies)
    )]
    Unanswered {
        /// How often it was sent.
        copies: u32,
        /// How long was waited in all.
        seconds: u64,
    },
    /// It was acknowledged, and no reply followed.
    #[error("the request was acknowledged, but no reply came within {0} s")]
    NoReply(u64),
    /// The server could not process the message (RFC 7252 section 4.2).
    #[error("it rejects the request (a CoAP reset): it does not know what to do with it")]
    Reset,
    /// The reply has a critical option that is not known here (RFC 7252
    /// section 5.4.1).
    #[error("its reply has the option {0}, which must be understood and is not known here")]
    UnknownOption(OptionNumber),
    /// The request was long, and the server looked at its first block only.
    #[error(
        "it does not know block-wise transfer (RFC 7959): it replied with {0} to the first part \
         of the body; send a shorter one"
    )]
    FirstBlockOnly(Code),
    /// Block1 or Block2 of a response say what cannot be (RFC 7959 section 2).
    #[error("its reply does not fit the transfer in blocks: {0}")]
    Block(&'static str),
    /// The reply is longer than allowed.
    #[error("the reply is longer than {0} bytes, the most that is taken here")]
    ReplyTooLong(usize),
    /// The stream is no CoAP.
    #[error("what it sends is not CoAP over TCP: {0}")]
    NotCoap(FrameError),
    /// It ended the stream and said why (RFC 8323 section 5.6).
    #[error("it gives the connection up: {0}")]
    Aborted(String),
    /// The stream ended before the reply.
    #[error("the connection was closed before the reply came")]
    Closed,
    /// The server has not said what it can.
    #[error("it is connected, but did not begin to speak CoAP within {0} s")]
    NoGreeting(u64),
    /// The reply changed while its blocks were fetched.
    #[error("the reply changed while it was fetched block by block; call again")]
    Changed,
}

fn times(copies: u32) -> String {
    match copies {
        1 => "once".to_owned(),
        copies => format!("{copies} times"),
    }
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this datagram to the server.
    Send(Bytes),
    /// The call has ended so. No response: none was wanted.
    Ended(Result<Option<Response>, CallError>),
}

/// How far a call is, in bytes of its body and of its reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What of the body the server has taken.
    pub sent: usize,
    /// The whole body.
    pub to_send: usize,
    /// What of the reply has come.
    pub received: usize,
    /// The whole reply, where the server has told (Size2, RFC 7959 section 4).
    pub to_receive: Option<usize>,
}

/// The client's state. See the module.
pub struct Client {
    limits: ClientLimits,
    transmission: Transmission,
    transfer: Option<Transfer>,
    /// What the server wants to see again (RFC 9175 section 2.3).
    echo: Option<Bytes>,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client that has asked nothing. `secret` must be random: with it strangers
    /// could foresee tokens, and so forge replies.
    #[must_use]
    pub fn new(limits: ClientLimits, secret: u128) -> Client {
        Client {
            transmission: Transmission::new(&limits, secret),
            limits,
            transfer: None,
            echo: None,
            outputs: VecDeque::new(),
        }
    }

    /// Begins a call. One that has not ended is given up, without an
    /// [`Output::Ended`].
    pub fn call(&mut self, now: Instant, call: Call) {
        self.transmission.give_up();
        self.transfer = None;
        self.outputs.retain(|output| matches!(output, Output::Send(_)));
        if call.payload.len() > BODY_BYTES_MAX {
            self.end(Err(CallError::BodyTooLong(call.payload.len())));
            return;
        }
        let tag = self.transmission.number();
        let portion = Portion::block(self.limits.exponent);
        self.transfer = Some(Transfer::new(&self.limits, call, portion, tag));
        self.send(now);
    }

    /// Takes a datagram from the server.
    pub fn receive(&mut self, now: Instant, datagram: &Bytes) {
        match self.transmission.receive(now, datagram, &mut self.outputs) {
            Heard::Nothing => {}
            Heard::Taken => self.end(Ok(None)),
            Heard::Failed(error) => self.end(Err(error)),
            Heard::Response(message) => {
                let Some(transfer) = &mut self.transfer else {
                    return;
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
        }
    }

    /// Does what has come due.
    pub fn expire(&mut self, now: Instant) {
        if let Some(error) = self.transmission.expire(now, &mut self.outputs) {
            self.end(Err(error));
        }
    }

    /// When [`Client::expire`] has something to do; none while nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.transmission.deadline()
    }

    /// What is to be done next; none when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How far the call is that is under way.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        self.transfer.as_ref().map(Transfer::progress)
    }

    fn send(&mut self, now: Instant) {
        let Some(transfer) = &self.transfer else {
            return;
        };
        let request = transfer.request(self.echo.as_deref());
        let waits = self.transmission.send(now, request, &mut self.outputs);
        if !waits {
            self.end(Ok(None));
        }
    }

    fn end(&mut self, outcome: Result<Option<Response>, CallError>) {
        self.transfer = None;
        self.outputs.push_back(Output::Ended(outcome));
    }
}

#[cfg(test)]
mod tests;
