//! One request under way (RFC 7252 section 4): repeated until it is acknowledged,
//! its response told from all else that arrives.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{CallError, ClientLimits, Output};
use crate::keyed::Keyed;
use crate::message::{Code, Due, Kind, Message, MessageId, OptionNumber, Options, Token};

/// How many answered requests are remembered, to acknowledge copies of their
/// responses.
const ANSWERED_MAX: usize = 64;

/// What is to be sent, without what the message layer adds.
pub(super) struct Request {
    pub(super) code: Code,
    pub(super) confirmable: bool,
    /// Whether it has a response, beside its acknowledgement.
    pub(super) has_response: bool,
    pub(super) options: Options,
    pub(super) payload: Bytes,
}

/// What a datagram means to the request under way.
pub(super) enum Heard {
    /// Nothing, or nothing yet.
    Nothing,
    /// It was acknowledged, and no response is to come.
    Taken,
    /// This is its response.
    Response(Message),
    /// It will have none.
    Failed(CallError),
}

struct UnderWay {
    id: MessageId,
    token: Token,
    /// To be repeated; none once it is acknowledged, or if it never is.
    datagram: Option<Bytes>,
    has_response: bool,
    acknowledged: bool,
    copies: u32,
    timeout: Duration,
    since: Instant,
    due: Instant,
}

pub(super) struct Transmission {
    ack_timeout: Duration,
    random_percent: u32,
    retransmissions_max: u32,
    reply_within: Duration,
    non_confirmable_within: Duration,
    key: Keyed,
    /// Makes each number drawn another.
    count: u64,
    next_id: u16,
    under_way: Option<UnderWay>,
    /// Whose responses came, the latest last.
    answered: VecDeque<Token>,
}

impl Transmission {
    pub(super) fn new(limits: &ClientLimits, secret: u128) -> Transmission {
        let key = Keyed::new(secret);
        Transmission {
            ack_timeout: limits.ack_timeout,
            random_percent: limits.ack_random_percent,
            retransmissions_max: limits.retransmissions_max,
            reply_within: limits.reply_within,
            non_confirmable_within: limits.non_confirmable_within,
            next_id: key.hash("id") as u16,
            key,
            count: 0,
            under_way: None,
            answered: VecDeque::new(),
        }
    }

    /// A number that no stranger can foresee, each time another.
    pub(super) fn number(&mut self) -> u64 {
        self.count += 1;
        self.key.hash(("number", self.count))
    }

    /// Sends a request in place of the one under way. Whether anything is to come
    /// back.
    pub(super) fn send(
        &mut self,
        now: Instant,
        request: Request,
        outputs: &mut VecDeque<Output>,
    ) -> bool {
        self.next_id = self.next_id.wrapping_add(1);
        let id = MessageId(self.next_id);
        let token = Token::new(&self.number().to_be_bytes()).expect("eight bytes are one");
        let confirmable = request.confirmable;
        let message = Message {
            kind: if confirmable { Kind::Confirmable } else { Kind::NonConfirmable },
            code: request.code,
            id,
            token,
            options: request.options,
            payload: request.payload,
        };
        let datagram = message.encode();
        outputs.push_back(Output::Send(datagram.clone()));
        self.under_way = None;
        if !confirmable && !request.has_response {
            return false;
        }
        let timeout = if confirmable { self.first_timeout() } else { self.non_confirmable_within };
        self.under_way = Some(UnderWay {
            id,
            token,
            datagram: confirmable.then_some(datagram),
            has_response: request.has_response,
            acknowledged: false,
            copies: 1,
            timeout,
            since: now,
            due: now + timeout,
        });
        true
    }

    /// Waits for nothing any more.
    pub(super) fn give_up(&mut self) {
        self.under_way = None;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|sent| sent.due)
    }

    /// Takes a datagram, and answers it where the message layer does.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        datagram: &Bytes,
        outputs: &mut VecDeque<Output>,
    ) -> Heard {
        let mut answer =
            |kind, id| outputs.push_back(Output::Send(Message::empty(kind, id).encode()));
        let message = match Message::decode(datagram) {
            Ok(message) => message,
            Err(error) => {
                if let Due::Reset(id) = error.due() {
                    answer(Kind::Reset, id);
                }
                return Heard::Nothing;
            }
        };
        if message.code.is_empty() {
            if message.kind == Kind::Confirmable {
                // A ping.
                answer(Kind::Reset, message.id);
            }
            return self.empty(now, &message);
        }
        let is_mine = message.code.is_response() && self.is_mine(&message);
        let unknown = message.options.iter().map(|(number, _)| number).find(|number| {
            number.is_critical() && ![OptionNumber::BLOCK1, OptionNumber::BLOCK2].contains(number)
        });
        if message.kind == Kind::Confirmable {
            let known = is_mine || self.answered.contains(&message.token);
            let taken = message.code.is_response() && known && unknown.is_none();
            answer(if taken { Kind::Acknowledgement } else { Kind::Reset }, message.id);
        }
        let Some(sent) = self.under_way.take_if(|_| is_mine) else {
            return Heard::Nothing;
        };
        if let Some(option) = unknown {
            return Heard::Failed(CallError::UnknownOption(option));
        }
        if self.answered.len() == ANSWERED_MAX {
            self.answered.pop_front();
        }
        self.answered.push_back(sent.token);
        // An error may come though nothing was to (RFC 7967 section 2).
        Heard::Response(message)
    }

    /// Repeats the request, or gives it up.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        outputs: &mut VecDeque<Output>,
    ) -> Option<CallError> {
        let sent = self.under_way.as_mut().filter(|sent| sent.due <= now)?;
        if let Some(datagram) = &sent.datagram
            && sent.copies <= self.retransmissions_max
        {
            outputs.push_back(Output::Send(datagram.clone()));
            sent.copies += 1;
            sent.timeout *= 2;
            sent.due = now + sent.timeout;
            return None;
        }
        let seconds = now.duration_since(sent.since).as_secs();
        let error = if sent.acknowledged {
            CallError::NoReply(self.reply_within.as_secs())
        } else {
            CallError::Unanswered { copies: sent.copies, seconds }
        };
        self.under_way = None;
        Some(error)
    }

    fn empty(&mut self, now: Instant, message: &Message) -> Heard {
        let Some(sent) = self.under_way.as_mut().filter(|sent| sent.id == message.id) else {
            return Heard::Nothing;
        };
        match message.kind {
            Kind::Reset => {
                self.under_way = None;
                Heard::Failed(CallError::Reset)
            }
            Kind::Acknowledgement if !sent.has_response => {
                self.under_way = None;
                Heard::Taken
            }
            Kind::Acknowledgement if sent.datagram.take().is_some() => {
                sent.acknowledged = true;
                sent.due = now + self.reply_within;
                Heard::Nothing
            }
            _ => Heard::Nothing,
        }
    }

    /// Whether a response is that of the request under way: one that comes with
    /// the acknowledgement has its message ID too (RFC 7252 section 5.3.2).
    fn is_mine(&self, message: &Message) -> bool {
        self.under_way.as_ref().is_some_and(|sent| {
            let acknowledges = message.kind != Kind::Acknowledgement || message.id == sent.id;
            message.kind != Kind::Reset && acknowledges && message.token == sent.token
        })
    }

    fn first_timeout(&mut self) -> Duration {
        let longest = self.ack_timeout * self.random_percent / 100;
        let part = (self.number() >> 48) as u32;
        self.ack_timeout + longest * part / (1 << 16)
    }
}
