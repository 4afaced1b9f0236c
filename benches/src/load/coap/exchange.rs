//! One client's requests, one after the other: their datagrams, and whether what
//! comes answers them.
//!
//! Owns message IDs, tokens and retransmission. Must not know sockets, or what is
//! counted. A request costs no allocation once the first reply was right.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tinyfaas_coap::message::{Code, Kind, Message, MessageId, Token};

use super::Target;

/// A request without an answer for so long counts as lost and is sent again
/// (ACK_TIMEOUT of RFC 7252 section 4.8, without its random part).
pub(super) const LOST_AFTER: Duration = Duration::from_secs(2);
/// As much of a wrong reply is shown, in bytes.
const SHOWN_BYTES: usize = 200;
/// The header's bytes; the token stands behind them.
const HEADER_BYTES: usize = 4;
const TOKEN_BYTES: usize = 8;
/// Where code, options and payload of two replies to one question are the same.
const TAIL: usize = HEADER_BYTES + TOKEN_BYTES;

/// What a datagram meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The right reply to the request that was begun then.
    Right(Instant),
    /// A wrong reply to it.
    Wrong(String),
    /// An answer to nothing that was asked.
    Stray(String),
    /// The reply is still to come, or came twice to a request that was sent twice.
    Nothing,
}

/// A request that waits for its reply.
#[derive(Debug, Clone, Copy)]
struct Pending {
    begun: Instant,
    sent: Instant,
    /// Its reply will come separately: what arrived need not be sent again.
    acknowledged: bool,
}

/// One client's state.
#[derive(Debug)]
pub(super) struct Exchange {
    /// As it was last sent. ID and token are written over for each request.
    datagram: Vec<u8>,
    code: Code,
    expected: Bytes,
    id: u16,
    token: u64,
    pending: Option<Pending>,
    acknowledgement: Option<Bytes>,
    /// Code and what follows the token of the last reply that was right.
    right: Option<(u8, Vec<u8>)>,
    /// Whether a request was ever sent twice, so that replies may come twice.
    ever_lost: bool,
}

impl Exchange {
    /// No request yet. IDs and tokens start at random, so that this client is not
    /// taken for an earlier one on the same port.
    pub(super) fn new(target: &Target) -> Self {
        let random = RandomState::new();
        let token = random.hash_one(0_u8);
        let request = Message {
            token: Token::new(&token.to_be_bytes()).expect("eight bytes are a token"),
            ..target.request.clone()
        };
        Self {
            datagram: request.encode().to_vec(),
            code: target.code,
            expected: target.expected.clone(),
            id: random.hash_one(1_u8) as u16,
            token,
            pending: None,
            acknowledgement: None,
            right: None,
            ever_lost: false,
        }
    }

    /// The datagram of the next request.
    pub(super) fn begin(&mut self, now: Instant) -> &[u8] {
        self.id = self.id.wrapping_add(1);
        self.token = self.token.wrapping_add(1);
        self.datagram[2..HEADER_BYTES].copy_from_slice(&self.id.to_be_bytes());
        self.datagram[HEADER_BYTES..TAIL].copy_from_slice(&self.token.to_be_bytes());
        self.pending = Some(Pending { begun: now, sent: now, acknowledged: false });
        &self.datagram
    }

    /// Whether a request waits for its reply.
    pub(super) fn is_under_way(&self) -> bool {
        self.pending.is_some()
    }

    /// Waits no longer; whether a request had been waiting.
    pub(super) fn give_up(&mut self) -> bool {
        self.pending.take().is_some()
    }

    /// The request again, where it has waited for too long.
    pub(super) fn copy_if_lost(&mut self, now: Instant) -> Option<&[u8]> {
        let pending = self.pending.as_mut()?;
        if pending.acknowledged || now < pending.sent + LOST_AFTER {
            return None;
        }
        pending.sent = now;
        self.ever_lost = true;
        Some(&self.datagram)
    }

    /// What the datagram that was taken last is owed.
    pub(super) fn acknowledgement(&mut self) -> Option<Bytes> {
        self.acknowledgement.take()
    }

    /// Takes a datagram from the server.
    pub(super) fn take(&mut self, datagram: &[u8]) -> Taken {
        if self.is_as_right_as_before(datagram)
            && let Some(pending) = self.pending.take()
        {
            return Taken::Right(pending.begun);
        }
        match Message::decode(&Bytes::copy_from_slice(datagram)) {
            Ok(message) => self.message(&message, datagram),
            Err(error) => Taken::Stray(error.to_string()),
        }
    }

    /// Whether it is byte for byte the last right reply, as an acknowledgement of
    /// the request that waits.
    fn is_as_right_as_before(&self, datagram: &[u8]) -> bool {
        let (Some((code, right)), Some(tail)) = (&self.right, datagram.get(TAIL..)) else {
            return false;
        };
        // Version 1, an acknowledgement, a token of eight bytes.
        let first = 1 << 6 | 2 << 4 | TOKEN_BYTES as u8;
        datagram[..2] == [first, *code]
            && datagram[2..TAIL] == self.datagram[2..TAIL]
            && tail == right
    }

    fn message(&mut self, message: &Message, datagram: &[u8]) -> Taken {
        if message.kind == Kind::Confirmable {
            let acknowledgement = Message::empty(Kind::Acknowledgement, message.id);
            self.acknowledgement = Some(acknowledgement.encode());
        }
        let ours = message.id == MessageId(self.id);
        let answers = message.token.as_slice() == self.token.to_be_bytes();
        match (message.kind, &mut self.pending) {
            (Kind::Acknowledgement, Some(pending)) if ours && message.code.is_empty() => {
                pending.acknowledged = true;
                Taken::Nothing
            }
            (Kind::Reset, Some(_)) if ours => {
                self.pending = None;
                Taken::Wrong("a reset".to_owned())
            }
            (Kind::Acknowledgement, Some(_)) if ours && answers => self.reply(message, datagram),
            (Kind::Confirmable | Kind::NonConfirmable, Some(_)) if answers => {
                self.reply(message, datagram)
            }
            _ if self.ever_lost => Taken::Nothing,
            (kind, _) => {
                let Message { code, id, token, .. } = message;
                Taken::Stray(format!("{kind:?} {code}, ID {}, token {token:?} came unasked", id.0))
            }
        }
    }

    fn reply(&mut self, message: &Message, datagram: &[u8]) -> Taken {
        let pending = self.pending.take().expect("replies are taken for a request that waits");
        if message.code == self.code && message.payload == self.expected {
            if message.kind == Kind::Acknowledgement {
                self.right = Some((datagram[1], datagram[TAIL..].to_vec()));
            }
            return Taken::Right(pending.begun);
        }
        let shown = &message.payload[..message.payload.len().min(SHOWN_BYTES)];
        Taken::Wrong(format!("{}, payload {:?}", message.code, String::from_utf8_lossy(shown)))
    }
}

#[cfg(test)]
mod tests {
    use tinyfaas_coap::message::Options;

    use super::*;

    /// A client that has begun a request, and that request as a server reads it.
    fn begun(now: Instant) -> (Exchange, Message) {
        let target = Target::echo(([127, 0, 0, 1], 1).into(), "echo", b"hello");
        let mut exchange = Exchange::new(&target);
        let request = Bytes::copy_from_slice(exchange.begin(now));
        (exchange, Message::decode(&request).expect("a message"))
    }

    fn reply(request: &Message) -> Message {
        let code = Code::CONTENT;
        Message { kind: Kind::Acknowledgement, code, options: Options::EMPTY, ..request.clone() }
    }

    fn next(exchange: &mut Exchange, now: Instant) -> Message {
        let request = Bytes::copy_from_slice(exchange.begin(now));
        Message::decode(&request).expect("a message")
    }

    #[test]
    fn each_request_has_an_id_and_a_token_of_its_own_and_its_reply_is_right() {
        let now = Instant::now();
        let (mut exchange, mut request) = begun(now);
        assert_eq!((request.kind, request.code), (Kind::Confirmable, Code::POST));
        assert_eq!(request.payload, "hello");
        // Through the wrap of the message ID.
        for _ in 0..70_000 {
            assert_eq!(exchange.take(&reply(&request).encode()), Taken::Right(now));
            assert!(!exchange.is_under_way() && exchange.acknowledgement().is_none());
            let last = request;
            request = next(&mut exchange, now);
            assert_eq!(request.id.0, last.id.0.wrapping_add(1));
            assert_ne!(request.token, last.token);
        }
    }

    /// The request's reply, changed like this, is not taken for right, neither as
    /// the first one nor after one that was right.
    fn check(change: impl Fn(&mut Message), expected: &str) {
        let now = Instant::now();
        for after_a_right_one in [false, true] {
            let (mut exchange, mut request) = begun(now);
            if after_a_right_one {
                assert_eq!(exchange.take(&reply(&request).encode()), Taken::Right(now));
                request = next(&mut exchange, now);
            }
            let mut changed = reply(&request);
            change(&mut changed);
            let (Taken::Wrong(said) | Taken::Stray(said)) = exchange.take(&changed.encode()) else {
                panic!("taken: {changed:?}");
            };
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn what_is_not_the_reply_is_seen() {
        check(|reply| reply.payload = Bytes::from_static(b"hullo"), "2.05, payload \"hullo\"");
        check(|reply| reply.payload = Bytes::from_static(b"hello!"), "payload \"hello!\"");
        check(|reply| reply.code = Code::NOT_FOUND, "4.04");
        check(|reply| reply.id.0 ^= 1, "came unasked");
        check(|reply| reply.id.0 ^= 0x100, "came unasked");
        check(|reply| reply.token = Token::EMPTY, "came unasked");
        check(
            |reply| {
                let mut token = reply.token.as_slice().to_vec();
                token[7] ^= 1;
                reply.token = Token::new(&token).expect("as long as before");
            },
            "came unasked",
        );
        check(|reply| *reply = Message::empty(Kind::Reset, reply.id), "a reset");
        let (mut exchange, _) = begun(Instant::now());
        assert!(matches!(exchange.take(b"\x50"), Taken::Stray(_)));
        assert!(exchange.is_under_way(), "what is no message answers nothing");
    }

    #[test]
    fn a_separate_reply_is_awaited_and_acknowledged() {
        let now = Instant::now();
        let (mut exchange, request) = begun(now);
        let empty = Message::empty(Kind::Acknowledgement, request.id);
        assert_eq!(exchange.take(&empty.encode()), Taken::Nothing);
        assert_eq!(exchange.copy_if_lost(now + 2 * LOST_AFTER), None);
        let separate = Message { kind: Kind::Confirmable, id: MessageId(7), ..reply(&request) };
        assert_eq!(exchange.take(&separate.encode()), Taken::Right(now));
        let owed = Message::empty(Kind::Acknowledgement, MessageId(7)).encode();
        assert_eq!(exchange.acknowledgement(), Some(owed));
    }

    #[test]
    fn what_is_lost_is_sent_again_and_may_be_answered_twice() {
        let now = Instant::now();
        let (mut exchange, request) = begun(now);
        assert_eq!(exchange.copy_if_lost(now + LOST_AFTER - Duration::from_millis(1)), None);
        let copy = exchange.copy_if_lost(now + LOST_AFTER).expect("it is").to_vec();
        assert_eq!(copy, request.encode());
        assert_eq!(exchange.copy_if_lost(now + LOST_AFTER), None, "only now it was sent");
        assert_eq!(exchange.take(&reply(&request).encode()), Taken::Right(now));
        assert_eq!(exchange.take(&reply(&request).encode()), Taken::Nothing);
        assert!(!exchange.give_up());
    }
}
