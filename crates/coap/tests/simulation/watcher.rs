//! A client that observes one resource and keeps to RFC 7641. Written from the
//! RFCs, and of the server's code it uses the codec.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tinyfaas_coap::Peer;
use tinyfaas_coap::message::{Code, Kind, Message, MessageId, OptionNumber, OptionsBuilder, Token};

use crate::random::Random;

/// After so long without news it asks again: what it is told has this Max-Age.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Life {
    /// It wants to be told.
    Observing,
    /// It wants nothing more, and says so to whoever tells it.
    Left,
    /// It is switched off.
    Dead,
}

struct Asked {
    message: Message,
    /// The reply comes apart.
    acknowledged: bool,
    retransmissions: u32,
    timeout: Duration,
    due: Instant,
}

pub(crate) struct Watcher {
    pub(crate) peer: Peer,
    pub(crate) life: Life,
    pub(crate) kind: Kind,
    pub(crate) outbox: VecDeque<Bytes>,
    pub(crate) wake: Option<Instant>,
    /// What it takes for the state of the resource.
    pub(crate) state: Option<Bytes>,
    /// How often it was told something newer.
    pub(crate) told: u32,
    token: u32,
    newest: Option<(u32, Instant)>,
    asked: Option<Asked>,
    ask_again_at: Instant,
    next_id: u16,
    random: Random,
}

impl Watcher {
    pub(crate) fn new(peer: Peer, kind: Kind, now: Instant, seed: u64) -> Watcher {
        let mut random = Random::new(seed);
        Watcher {
            peer,
            life: Life::Observing,
            kind,
            outbox: VecDeque::new(),
            wake: None,
            state: None,
            told: 0,
            token: random.next() as u32,
            newest: None,
            asked: None,
            ask_again_at: now,
            next_id: random.next() as u16,
            random,
        }
    }

    pub(crate) fn token(&self) -> Token {
        Token::new(&self.token.to_be_bytes()).unwrap()
    }

    /// Whether it waits for an answer.
    pub(crate) fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// It has forgotten everything, and begins anew.
    pub(crate) fn restart(&mut self, now: Instant) {
        let (peer, kind, seed) = (self.peer, self.kind, self.random.next());
        let told = self.told;
        *self = Watcher { told, ..Watcher::new(peer, kind, now, seed) };
        self.wake = Some(now);
    }

    /// It says that it wants no more, once.
    pub(crate) fn leave(&mut self) {
        self.life = Life::Left;
        self.asked = None;
        let message = self.get(1);
        self.outbox.push_back(message.encode());
    }

    pub(crate) fn timer(&mut self, now: Instant) {
        if self.life != Life::Observing {
            return;
        }
        if let Some(asked) = &mut self.asked {
            if now < asked.due {
                self.wake = Some(asked.due);
                return;
            }
            let repeats = asked.message.kind == Kind::Confirmable && !asked.acknowledged;
            if repeats && asked.retransmissions < 4 {
                asked.retransmissions += 1;
                asked.timeout *= 2;
                asked.due = now + asked.timeout;
                self.wake = Some(asked.due);
                self.outbox.push_back(asked.message.encode());
                return;
            }
            self.asked = None;
            self.ask_again_at = now + Duration::from_secs(30);
        }
        if now < self.ask_again_at {
            self.wake = Some(self.ask_again_at);
            return;
        }
        let message = self.get(0);
        let timeout = match self.kind {
            Kind::Confirmable => Duration::from_millis(2000 + self.random.below(1000)),
            _ => Duration::from_secs(60),
        };
        self.outbox.push_back(message.encode());
        self.wake = Some(now + timeout);
        let due = now + timeout;
        self.asked = Some(Asked { message, acknowledged: false, retransmissions: 0, timeout, due });
    }

    pub(crate) fn receive(&mut self, now: Instant, datagram: &Bytes) {
        if self.life == Life::Dead {
            return;
        }
        let message = Message::decode(datagram).expect("the server writes messages");
        if message.code.is_empty() {
            assert_eq!(message.kind, Kind::Acknowledgement, "a request was reset");
            if let Some(asked) = &mut self.asked
                && asked.message.id == message.id
            {
                (asked.acknowledged, asked.due) = (true, now + Duration::from_secs(100));
                self.wake = Some(asked.due);
            }
            return;
        }
        let is_mine = self.life == Life::Observing && message.token == self.token();
        if message.kind == Kind::Confirmable || (message.kind == Kind::NonConfirmable && !is_mine) {
            let kind = if is_mine { Kind::Acknowledgement } else { Kind::Reset };
            self.outbox.push_back(Message::empty(kind, message.id).encode());
        }
        if is_mine {
            self.take(now, &message);
        }
    }

    fn take(&mut self, now: Instant, message: &Message) {
        assert_eq!(message.code, Code::CONTENT);
        let sequence = message.options.uint(OptionNumber::OBSERVE).expect("there is room for all");
        // What comes ahead of the acknowledgement may be a notification from before,
        // by the same token: it says nothing of whether the request arrived.
        let is_reply = self.asked.as_ref().is_some_and(|asked| {
            asked.message.kind != Kind::Confirmable
                || asked.acknowledged
                || asked.message.id == message.id
        });
        if is_reply {
            self.asked = None;
        }
        self.ask_again_at = now + MAX_AGE;
        if self.asked.is_none() {
            self.wake = Some(self.ask_again_at);
        }
        let is_newer = self.newest.is_none_or(|(last, at)| {
            let ahead = sequence.wrapping_sub(last) & 0xff_ffff;
            (1..1 << 23).contains(&ahead) || now > at + Duration::from_secs(128)
        });
        if is_newer {
            self.newest = Some((sequence, now));
            self.state = Some(message.payload.clone());
            self.told += 1;
        }
    }

    fn get(&mut self, observe: u32) -> Message {
        let mut options = OptionsBuilder::new();
        options.push_uint(OptionNumber::OBSERVE, observe);
        options.push(OptionNumber::URI_PATH, b"fn").unwrap();
        self.next_id = self.next_id.wrapping_add(1);
        Message {
            kind: self.kind,
            code: Code::GET,
            id: MessageId(self.next_id),
            token: self.token(),
            options: options.build(),
            payload: Bytes::new(),
        }
    }
}
