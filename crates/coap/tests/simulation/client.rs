//! A client that keeps to RFC 7252, RFC 7959 and RFC 9175, one operation after
//! the other. Written from the RFCs, and of the server's code it uses the codec.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tinyfaas_coap::Peer;
use tinyfaas_coap::block::Block;
use tinyfaas_coap::message::{Code, Kind, Message, MessageId, OptionNumber, OptionsBuilder, Token};

use crate::random::Random;

/// What an operation sends, or is answered.
pub(crate) fn body(id: u32, length: usize) -> Vec<u8> {
    let mut random = Random::new(u64::from(id));
    (0..length).map(|_| random.next() as u8).collect()
}

#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) id: u32,
    pub(crate) method: Code,
    pub(crate) upload_bytes: usize,
    pub(crate) reply_bytes: usize,
    pub(crate) takes_ms: u64,
    pub(crate) kind: Kind,
    exponent: u8,
}

impl Operation {
    pub(crate) fn random(random: &mut Random, id: u32) -> Operation {
        let method = [Code::GET, Code::POST, Code::FETCH, Code::PUT][random.below(4) as usize];
        let small = random.below(2) == 0;
        let kind =
            if small && random.below(3) == 0 { Kind::NonConfirmable } else { Kind::Confirmable };
        let longest = if small { 60 } else { 3000 };
        let upload_bytes = if method == Code::GET { 0 } else { 1 + random.below(longest) as usize };
        let takes_ms = [0, 500, 1000, 20_000][random.below(4) as usize];
        Operation {
            id,
            method,
            upload_bytes,
            reply_bytes: random.below(longest) as usize,
            takes_ms: random.below(takes_ms + 1),
            kind,
            exponent: if small { 6 } else { 3 + random.below(4) as u8 },
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    Running,
    Done,
    GivenUp,
}

/// The one message under way.
struct Sent {
    message: Message,
    retransmissions: u32,
    timeout: Duration,
    acknowledged: bool,
    due: Instant,
}

pub(crate) struct Client {
    pub(crate) peer: Peer,
    pub(crate) operations: Vec<Operation>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) outbox: VecDeque<Bytes>,
    /// When it wants to be called.
    pub(crate) wake: Option<Instant>,
    /// The client that does the work in place of this one.
    pub(crate) ours: Option<tinyfaas_coap::client::Client>,
    pub(crate) at: usize,
    sent: Option<Sent>,
    /// The body of which operation.
    upload: (u32, Vec<u8>),
    uploaded: usize,
    reply: Vec<u8>,
    /// The size of the reply's blocks, which the server may make smaller.
    exponent: u8,
    etag: Option<Vec<u8>>,
    echo: Option<Vec<u8>>,
    next_id: u16,
    answered: HashSet<Vec<u8>>,
    random: Random,
}

impl Client {
    pub(crate) fn new(peer: Peer, operations: Vec<Operation>, seed: u64) -> Client {
        Client {
            peer,
            outcomes: vec![Outcome::Running; operations.len()],
            operations,
            outbox: VecDeque::new(),
            wake: None,
            ours: None,
            at: 0,
            sent: None,
            upload: (u32::MAX, Vec::new()),
            uploaded: 0,
            reply: Vec::new(),
            exponent: 0,
            etag: None,
            echo: None,
            next_id: seed as u16,
            answered: HashSet::new(),
            random: Random::new(seed),
        }
    }

    pub(crate) fn timer(&mut self, now: Instant) {
        if let Some(ours) = self.ours.take() {
            self.our_timer(now, ours);
            return;
        }
        let Some(sent) = &mut self.sent else {
            if self.at < self.operations.len() {
                self.send(now);
            }
            return;
        };
        if now < sent.due {
            return;
        }
        let repeats = sent.message.kind == Kind::Confirmable && !sent.acknowledged;
        if !repeats || sent.retransmissions == 4 {
            self.end(now, Outcome::GivenUp);
            return;
        }
        sent.retransmissions += 1;
        sent.timeout *= 2;
        sent.due = now + sent.timeout;
        self.wake = Some(sent.due);
        self.outbox.push_back(sent.message.encode());
    }

    pub(crate) fn receive(&mut self, now: Instant, datagram: &Bytes) {
        if let Some(ours) = self.ours.take() {
            self.our_receive(now, datagram, ours);
            return;
        }
        let message = Message::decode(datagram).expect("the server writes messages");
        let matches_id = |sent: &Sent| sent.message.id == message.id;
        let matches_token = |sent: &Sent| sent.message.token == message.token;
        if message.code.is_empty() {
            match (&mut self.sent, message.kind) {
                (Some(sent), Kind::Acknowledgement) if matches_id(sent) && !sent.acknowledged => {
                    sent.acknowledged = true;
                    sent.due = now + Duration::from_secs(200);
                    self.wake = Some(sent.due);
                }
                (Some(sent), Kind::Reset) => assert!(!matches_id(sent), "a request was reset"),
                _ => {}
            }
            return;
        }
        assert!(message.code.is_response(), "{message:?} is no response");
        let is_mine = match (&self.sent, message.kind) {
            (Some(sent), Kind::Acknowledgement) => {
                assert!(!matches_id(sent) || matches_token(sent), "another's token");
                matches_id(sent)
            }
            (Some(sent), _) => matches_token(sent),
            (None, _) => false,
        };
        if message.kind == Kind::Confirmable {
            let known = is_mine || self.answered.contains(message.token.as_slice());
            let kind = if known { Kind::Acknowledgement } else { Kind::Reset };
            self.outbox.push_back(Message::empty(kind, message.id).encode());
        }
        if is_mine {
            self.answered.insert(message.token.as_slice().to_vec());
            self.response(now, &message);
        }
    }

    fn response(&mut self, now: Instant, message: &Message) {
        let operation = &self.operations[self.at];
        let block = |number| message.options.get(number).and_then(Block::read);
        match message.code {
            Code::UNAUTHORIZED => {
                let echo = message.options.get(OptionNumber::ECHO);
                self.echo = Some(echo.expect("a challenge has an Echo").to_vec());
                self.send(now);
            }
            Code::CONTINUE => {
                self.uploaded += 16 << operation.exponent;
                assert!(self.uploaded < operation.upload_bytes);
                self.send(now);
            }
            Code::CONTENT => {
                self.uploaded = operation.upload_bytes;
                let etag = message.options.get(OptionNumber::ETAG).map(<[u8]>::to_vec);
                if let Some(block) = block(OptionNumber::BLOCK2) {
                    assert_eq!(block.offset(), self.reply.len(), "another block than asked for");
                    assert!(self.reply.is_empty() || etag == self.etag, "another reply's block");
                }
                self.exponent =
                    block(OptionNumber::BLOCK2).map_or(operation.exponent, |block| block.exponent);
                assert!(self.exponent <= operation.exponent, "larger than asked for");
                self.etag = etag;
                self.reply.extend_from_slice(&message.payload);
                if block(OptionNumber::BLOCK2).is_some_and(|block| block.more) {
                    self.send(now);
                    return;
                }
                let expected = body(!operation.id, operation.reply_bytes);
                assert!(self.reply == expected, "another's reply");
                self.end(now, Outcome::Done);
            }
            // The server has restarted, or a non-confirmable block got lost.
            Code::REQUEST_ENTITY_INCOMPLETE => self.end(now, Outcome::GivenUp),
            code => panic!("{code} was not to be expected"),
        }
    }

    pub(crate) fn end(&mut self, now: Instant, outcome: Outcome) {
        self.outcomes[self.at] = outcome;
        self.at += 1;
        self.sent = None;
        self.uploaded = 0;
        self.reply.clear();
        self.wake = Some(now);
    }

    /// Sends what the operation needs next.
    fn send(&mut self, now: Instant) {
        let operation = &self.operations[self.at];
        let mut options = OptionsBuilder::new();
        options.push(OptionNumber::URI_PATH, b"fn").unwrap();
        options.push_uint(OptionNumber::URI_QUERY, operation.id);
        let size = 16 << operation.exponent;
        if self.upload.0 != operation.id {
            self.upload = (operation.id, body(operation.id, operation.upload_bytes));
        }
        let upload = &self.upload.1;
        let part = &upload[self.uploaded..upload.len().min(self.uploaded + size)];
        let block = |offset: usize, more, exponent| Block {
            number: (offset >> (4 + exponent)) as u32,
            more,
            exponent,
        };
        if !self.reply.is_empty() {
            let next = block(self.reply.len(), false, self.exponent);
            options.push_uint(OptionNumber::BLOCK2, next.to_uint());
        } else if operation.upload_bytes > size {
            let more = self.uploaded + part.len() < upload.len();
            let next = block(self.uploaded, more, operation.exponent);
            options.push_uint(OptionNumber::BLOCK1, next.to_uint());
        }
        if self.reply.is_empty() && operation.exponent < 6 {
            let first = block(0, false, operation.exponent);
            options.push_uint(OptionNumber::BLOCK2, first.to_uint());
        }
        if let Some(echo) = &self.echo {
            options.push(OptionNumber::ECHO, echo).unwrap();
        }
        self.next_id = self.next_id.wrapping_add(1);
        let token = [operation.id.to_be_bytes(), (self.next_id as u32).to_be_bytes()].concat();
        let message = Message {
            kind: operation.kind,
            code: operation.method,
            id: MessageId(self.next_id),
            token: Token::new(&token).unwrap(),
            options: options.build(),
            payload: Bytes::copy_from_slice(part),
        };
        let timeout = match operation.kind {
            Kind::Confirmable => Duration::from_millis(2000 + self.random.below(1000)),
            _ => Duration::from_secs(120),
        };
        self.outbox.push_back(message.encode());
        self.wake = Some(now + timeout);
        self.sent = Some(Sent {
            message,
            retransmissions: 0,
            timeout,
            acknowledged: false,
            due: now + timeout,
        });
    }
}
