use super::*;
use crate::message::{Code, OptionsBuilder};
use proptest::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;

struct Played {
    exchange: Exchange,
    now: Instant,
}

const STRANGER: [u8; 4] = [192, 0, 2, 9];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

fn peer(ip: [u8; 4]) -> Peer {
    Peer::at(SocketAddr::from((ip, 40_000)))
}

fn request(kind: Kind, id: u16, options: &[(OptionNumber, &[u8])]) -> Message {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options {
        builder.push(*number, value).unwrap();
    }
    Message {
        code: Code::GET,
        token: Token::new(&id.to_be_bytes()).unwrap(),
        options: builder.build(),
        ..Message::empty(kind, MessageId(id))
    }
}

fn content(payload: &[u8]) -> Response {
    Response { payload: Bytes::copy_from_slice(payload), ..Response::new(Code::CONTENT) }
}

impl Played {
    fn new(limits: Limits) -> Played {
        let now = Instant::now();
        let exchange = Exchange::new(limits, 42, now);
        Played { exchange, now }
    }

    fn receive(&mut self, from: [u8; 4], message: &Message) -> Option<CallId> {
        let datagram = message.encode();
        let request = self.exchange.receive(self.now, peer(from), &datagram)?;
        assert_eq!(&request.message, message);
        Some(request.call)
    }

    fn reply(&mut self, call: CallId, response: Response) {
        self.exchange.reply(self.now, call, response);
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.exchange.expire(self.now);
    }

    fn sent(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.exchange.poll())
            .map(|output| match output {
                Output::Send(_, datagram) => Message::decode(&datagram).unwrap(),
                other => panic!("{other:?} was not expected"),
            })
            .collect()
    }

    /// The one message that was sent.
    fn one(&mut self) -> Message {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }
}

#[test]
fn a_quick_reply_rides_on_the_acknowledgement_and_is_replayed() {
    let mut played = Played::new(Limits::default());
    let ask = request(Kind::Confirmable, 1, &[]);
    let call = played.receive(LOOPBACK, &ask).unwrap();
    played.reply(call, content(b"hi"));
    let reply = played.one();
    assert_eq!(
        (reply.kind, reply.code, reply.id, reply.token),
        (Kind::Acknowledgement, Code::CONTENT, ask.id, ask.token)
    );
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.one(), reply);
    played.pass(246_900);
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.one(), reply);
    // After EXCHANGE_LIFETIME it is another request.
    played.pass(200);
    assert!(played.receive(LOOPBACK, &ask).is_some());
    // The same ID in another request is another, and so is another endpoint's.
    assert!(
        played
            .receive(LOOPBACK, &request(Kind::Confirmable, 1, &[(OptionNumber::URI_PATH, b"a")]))
            .is_some()
    );
    assert!(played.receive([127, 0, 0, 2], &ask).is_some());
}

#[test]
fn a_slow_reply_comes_apart_and_is_repeated_until_acknowledged() {
    let mut played = Played::new(Limits::default());
    let ask = request(Kind::Confirmable, 1, &[]);
    let call = played.receive(LOOPBACK, &ask).unwrap();
    let second = Duration::from_secs(1);
    assert_eq!(played.exchange.deadline(), Some(played.now + second));
    played.pass(1000);
    let empty = Message::empty(Kind::Acknowledgement, ask.id);
    assert_eq!(played.one(), empty);
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.one(), empty);
    assert_eq!(played.exchange.deadline(), None);
    played.reply(call, content(b"late"));
    let reply = played.one();
    assert_eq!((reply.kind, reply.token), (Kind::Confirmable, ask.token));
    // 2 to 3 s, then twice as long each time, then given up.
    let mut wait = None;
    for _ in 0..4 {
        let next = played.exchange.deadline().unwrap() - played.now;
        match wait {
            None => assert!((2..3).contains(&next.as_secs())),
            Some(last) => assert_eq!(next, last * 2),
        }
        wait = Some(next);
        played.now += next;
        played.exchange.expire(played.now);
        assert_eq!(played.one(), reply);
    }
    // A copy of the request repeats both.
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.sent(), [empty.clone(), reply.clone()]);
    let acknowledgement = Message::empty(Kind::Acknowledgement, reply.id);
    assert_eq!(played.receive(LOOPBACK, &acknowledgement), None);
    assert_eq!(played.exchange.deadline(), None);
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.one(), empty);
}

#[test]
fn a_reset_or_too_many_losses_end_a_reply() {
    let mut played = Played::new(Limits::default());
    let ask = request(Kind::Confirmable, 1, &[]);
    let call = played.receive(LOOPBACK, &ask).unwrap();
    played.pass(1000);
    played.reply(call, content(b"late"));
    let reply = played.sent().pop().unwrap();
    played.receive(LOOPBACK, &Message::empty(Kind::Reset, reply.id));
    assert_eq!(played.exchange.deadline(), None);
    let call = played.receive(LOOPBACK, &request(Kind::Confirmable, 2, &[])).unwrap();
    played.pass(1000);
    played.reply(call, content(b"late"));
    for _ in 0..200 {
        played.pass(1000);
    }
    assert_eq!(played.sent().len(), 1 + 1 + 4);
    assert_eq!((played.exchange.deadline(), played.exchange.confirmables()), (None, 0));
}

#[test]
fn a_copy_before_the_acknowledgement_brings_it_on() {
    let mut played = Played::new(Limits::default());
    let ask = request(Kind::Confirmable, 1, &[]);
    let call = played.receive(LOOPBACK, &ask).unwrap();
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.one(), Message::empty(Kind::Acknowledgement, ask.id));
    played.reply(call, content(b"x"));
    assert_eq!(played.one().kind, Kind::Confirmable);
}

#[test]
fn a_non_confirmable_request_has_a_non_confirmable_reply() {
    let mut played = Played::new(Limits::default());
    let ask = request(Kind::NonConfirmable, 1, &[]);
    let call = played.receive(LOOPBACK, &ask).unwrap();
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.sent(), []);
    played.pass(5000);
    assert_eq!(played.sent(), []);
    played.reply(call, content(b"x"));
    let reply = played.one();
    assert_eq!((reply.kind, reply.token), (Kind::NonConfirmable, ask.token));
    assert_eq!(played.receive(LOOPBACK, &ask), None);
    assert_eq!(played.one(), reply);
    played.pass(145_000);
    assert!(played.receive(LOOPBACK, &ask).is_some());
}

#[test]
fn only_requests_are_answered() {
    let mut played = Played::new(Limits::default());
    let mut check = |kind, code: Code, expected: Option<Kind>| {
        let message = Message { code, ..Message::empty(kind, MessageId(7)) };
        assert_eq!(played.receive(LOOPBACK, &message), None);
        let sent = played.sent();
        let expected = expected.map(|kind| Message::empty(kind, MessageId(7)));
        assert_eq!(sent, Vec::from_iter(expected), "{message:?}");
    };
    check(Kind::Confirmable, Code::EMPTY, Some(Kind::Reset));
    check(Kind::Confirmable, Code::CONTENT, Some(Kind::Reset));
    check(Kind::Confirmable, Code::new(1, 0), Some(Kind::Reset));
    check(Kind::Confirmable, Code::new(7, 1), Some(Kind::Reset));
    check(Kind::NonConfirmable, Code::CONTENT, None);
    for kind in [Kind::Acknowledgement, Kind::Reset] {
        for code in [Code::EMPTY, Code::GET, Code::CONTENT, Code::new(1, 0)] {
            check(kind, code, None);
        }
    }
}

#[test]
fn what_cannot_be_served_is_refused_as_due() {
    let mut played = Played::new(Limits::default());
    let unknown: &[(OptionNumber, &[u8])] = &[(OptionNumber(9), b"")];
    played.receive(LOOPBACK, &request(Kind::Confirmable, 1, unknown));
    let reply = played.one();
    assert_eq!((reply.kind, reply.code), (Kind::Acknowledgement, Code::BAD_OPTION));
    played.receive(LOOPBACK, &request(Kind::NonConfirmable, 2, unknown));
    assert_eq!(played.one(), Message::empty(Kind::Reset, MessageId(2)));
    let odd = Message { code: Code::new(0, 31), ..request(Kind::Confirmable, 3, &[]) };
    played.receive(LOOPBACK, &odd);
    assert_eq!(played.one().code, Code::METHOD_NOT_ALLOWED);
    let bad = Bytes::from_static(&[0x49, 1, 0, 4]);
    assert!(played.exchange.receive(played.now, peer(LOOPBACK), &bad).is_none());
    assert_eq!(played.one(), Message::empty(Kind::Reset, MessageId(4)));
}

#[test]
fn no_response_keeps_silent_about_its_classes() {
    let check = |kind, value: &[u8], code, expected: Option<Code>| {
        let mut played = Played::new(Limits::default());
        let ask = request(kind, 1, &[(OptionNumber::NO_RESPONSE, value)]);
        let call = played.receive(LOOPBACK, &ask).unwrap();
        played.reply(call, Response::new(code));
        let codes: Vec<_> = played.sent().iter().map(|message| message.code).collect();
        assert_eq!(codes, Vec::from_iter(expected), "{value:?} {code}");
    };
    let (con, non) = (Kind::Confirmable, Kind::NonConfirmable);
    check(non, &[26], Code::CONTENT, None);
    check(non, &[26], Code::INTERNAL_SERVER_ERROR, None);
    check(non, &[2], Code::NOT_FOUND, Some(Code::NOT_FOUND));
    check(non, &[8], Code::NOT_FOUND, None);
    check(non, &[16], Code::CONTENT, Some(Code::CONTENT));
    check(non, &[], Code::CONTENT, Some(Code::CONTENT));
    check(con, &[26], Code::CONTENT, Some(Code::EMPTY));
}

#[test]
fn a_forged_source_is_sent_little() {
    let mut played = Played::new(Limits::default());
    let big = content(&[7; 1024]);
    let mut bytes = 0;
    for id in 0..2000 {
        if let Some(call) = played.receive(STRANGER, &request(Kind::NonConfirmable, id, &[])) {
            played.reply(call, big.clone());
        }
        bytes += played.sent().iter().map(Message::encoded_bytes).sum::<usize>();
    }
    // The burst, one reply more, and challenges of 25 bytes.
    assert!((64 << 10..(66 << 10) + 2000 * 25).contains(&bytes), "{bytes}");
    // A copy is no way round it.
    let copy = request(Kind::NonConfirmable, 1, &[]);
    assert_eq!(played.receive(STRANGER, &copy), None);
    assert_eq!(played.sent(), []);
    // Whoever is there sends the Echo back, and is served.
    played.receive(STRANGER, &request(Kind::NonConfirmable, 3000, &[]));
    let challenge = played.one();
    assert_eq!(challenge.code, Code::UNAUTHORIZED);
    let echo = challenge.options.get(OptionNumber::ECHO).unwrap();
    let again = request(Kind::NonConfirmable, 3001, &[(OptionNumber::ECHO, echo)]);
    assert!(played.receive(STRANGER, &again).is_some());
    assert!(played.exchange.is_proven(played.now, &peer(STRANGER)));
}

#[test]
fn a_large_first_reply_proves_its_source() {
    let mut played = Played::new(Limits::default());
    let ask = request(Kind::Confirmable, 1, &[]);
    let call = played.receive(STRANGER, &ask).unwrap();
    played.reply(call, content(&[7; 512]));
    let sent = played.sent();
    assert_eq!(sent[0], Message::empty(Kind::Acknowledgement, ask.id));
    assert_eq!((sent[1].kind, sent.len()), (Kind::Confirmable, 2));
    // One at a time.
    let call = played.receive(STRANGER, &request(Kind::Confirmable, 2, &[])).unwrap();
    played.reply(call, content(&[7; 512]));
    assert_eq!(played.one().kind, Kind::Acknowledgement);
    assert!(!played.exchange.is_proven(played.now, &peer(STRANGER)));
    played.receive(STRANGER, &Message::empty(Kind::Acknowledgement, sent[1].id));
    assert!(played.exchange.is_proven(played.now, &peer(STRANGER)));
    // A small one needs no proof, and loopback gives none.
    let call = played.receive([192, 0, 2, 1], &request(Kind::Confirmable, 3, &[])).unwrap();
    played.reply(call, content(b"small"));
    assert_eq!(played.one().kind, Kind::Acknowledgement);
    let call = played.receive(LOOPBACK, &request(Kind::Confirmable, 4, &[])).unwrap();
    played.reply(call, content(&[7; 4096]));
    assert_eq!(played.one().kind, Kind::Acknowledgement);
}

#[test]
fn a_challenge_comes_first_where_it_is_asked_for() {
    let mut limits = Limits::default();
    limits.sources.challenge = true;
    let mut played = Played::new(limits);
    assert_eq!(played.receive(STRANGER, &request(Kind::Confirmable, 1, &[])), None);
    let challenge = played.one();
    assert_eq!((challenge.kind, challenge.code), (Kind::Acknowledgement, Code::UNAUTHORIZED));
    assert!(played.receive(LOOPBACK, &request(Kind::Confirmable, 1, &[])).is_some());
}

#[test]
fn memory_is_bounded_and_a_running_call_is_never_forgotten() {
    let mut played =
        Played::new(Limits { remembered_bytes_max: 10_000, calls_max: 3, ..Limits::default() });
    let slow = request(Kind::Confirmable, 0, &[]);
    assert!(played.receive(LOOPBACK, &slow).is_some());
    for id in 1..2000 {
        let call = played.receive(LOOPBACK, &request(Kind::Confirmable, id, &[])).unwrap();
        played.reply(call, content(b"x"));
        assert!(played.exchange.remembered_bytes() <= 10_000);
    }
    played.sent();
    assert_eq!(played.receive(LOOPBACK, &slow), None);
    assert_eq!(played.one(), Message::empty(Kind::Acknowledgement, slow.id));
    for id in 2001..2003 {
        played.receive(LOOPBACK, &request(Kind::Confirmable, id, &[])).unwrap();
    }
    assert_eq!(played.receive(LOOPBACK, &request(Kind::Confirmable, 2003, &[])), None);
    assert_eq!(played.one().code, Code::SERVICE_UNAVAILABLE);
}

#[test]
fn no_source_takes_all_places() {
    let mut played = Played::new(Limits { calls_per_source_max: 2, ..Limits::default() });
    let ask = |id| request(Kind::Confirmable, id, &[]);
    let first = played.receive(LOOPBACK, &ask(1)).unwrap();
    assert!(played.receive(LOOPBACK, &ask(2)).is_some());
    assert_eq!(played.receive(LOOPBACK, &ask(3)), None);
    let refused = played.one();
    assert_eq!(refused.code, Code::TOO_MANY_REQUESTS);
    assert_eq!(refused.options.uint(OptionNumber::MAX_AGE), Some(1));
    assert!(played.receive([127, 0, 0, 2], &ask(3)).is_some());
    // Asked again when one has ended, it runs.
    played.reply(first, content(b"x"));
    assert!(played.receive(LOOPBACK, &ask(3)).is_some());
    assert_eq!(played.receive(LOOPBACK, &ask(4)), None);
    played.exchange.forget(&peer(LOOPBACK));
    assert!(played.receive(LOOPBACK, &ask(5)).is_some());
    assert!(played.receive(LOOPBACK, &ask(6)).is_some());
    assert_eq!(played.receive(LOOPBACK, &ask(7)), None);
}

#[test]
fn an_endpoint_that_is_gone_is_forgotten() {
    let mut played = Played::new(Limits::default());
    let first = played.receive(LOOPBACK, &request(Kind::Confirmable, 1, &[])).unwrap();
    let second = played.receive(LOOPBACK, &request(Kind::Confirmable, 2, &[])).unwrap();
    played.pass(1000);
    played.reply(second, content(b"x"));
    played.sent();
    played.exchange.forget(&peer(LOOPBACK));
    assert_eq!(played.exchange.poll(), Some(Output::Cancel(first)));
    played.reply(first, content(b"too late"));
    assert_eq!(played.sent(), []);
    assert_eq!((played.exchange.calls(), played.exchange.deadline()), (0, None));
}

proptest! {
    /// Two servers that are sent anything as if by the other fall silent.
    #[test]
    fn no_endless_chatter(
        garbage in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..30),
        secret: u128,
    ) {
        let now = Instant::now();
        let mut both = [1, 2].map(|n| Exchange::new(Limits::default(), secret ^ n, now));
        let mut way: VecDeque<(usize, Bytes)> = garbage
            .into_iter()
            .enumerate()
            .map(|(n, mut bytes)| {
                if let Some(first) = bytes.first_mut() {
                    *first = *first & 0x3f | 0x40;
                }
                (n % 2, Bytes::from(bytes))
            })
            .collect();
        let given = way.len();
        let mut sent = 0;
        while let Some((to, datagram)) = way.pop_front() {
            let from = peer([127, 0, 0, 1 + to as u8]);
            if let Some(request) = both[to].receive(now, from, &datagram) {
                both[to].reply(now, request.call, content(b"x"));
            }
            while let Some(Output::Send(_, datagram)) = both[to].poll() {
                sent += 1;
                way.push_back((1 - to, datagram));
            }
        }
        // A request has a reply, that may be reset; nothing more.
        prop_assert!(sent <= 3 * given, "{sent} messages of {given}");
    }
}
