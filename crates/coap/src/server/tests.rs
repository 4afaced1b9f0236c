use super::*;
use crate::block::Block;
use crate::message::{MessageId, OptionsBuilder};
use std::time::Duration;

const RESOURCE: ResourceId = ResourceId(7);
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [192, 0, 2, 9];

/// A server, and clients that observe one resource of it.
struct Played {
    server: Server,
    now: Instant,
    id: u16,
}

fn peer(ip: [u8; 4]) -> Peer {
    Peer::at((ip, 40_000).into())
}

fn content(payload: &[u8]) -> Response {
    Response { payload: Bytes::copy_from_slice(payload), ..Response::new(Code::CONTENT) }
}

fn sequence(message: &Message) -> Option<u32> {
    message.options.uint(OptionNumber::OBSERVE)
}

impl Played {
    fn new(limits: Limits) -> Played {
        let now = Instant::now();
        Played { server: Server::new(limits, BlockLimits::default(), 9, now), now, id: 0 }
    }

    fn ask(
        &mut self,
        (ip, kind): ([u8; 4], Kind),
        token: u8,
        options: &[(OptionNumber, &[u8])],
    ) -> Option<Request> {
        let mut builder = OptionsBuilder::new();
        for (number, value) in options {
            builder.push(*number, value).unwrap();
        }
        self.id += 1;
        let message = Message {
            code: Code::GET,
            token: Token::new(&[token]).unwrap(),
            options: builder.build(),
            ..Message::empty(kind, MessageId(self.id))
        };
        self.server.receive(self.now, peer(ip), &message.encode())
    }

    /// Observes, and is told `first`.
    fn observe(&mut self, who: ([u8; 4], Kind), token: u8, first: &[u8]) -> Message {
        let path = [token];
        let options: &[(OptionNumber, &[u8])] =
            &[(OptionNumber::OBSERVE, b""), (OptionNumber::URI_PATH, &path)];
        let mut request = self.ask(who, token, options).unwrap();
        assert!(self.server.observe(self.now, &mut request.owed, RESOURCE));
        self.server.reply(self.now, request.owed, content(first));
        let reply = self.sent().pop().unwrap();
        assert!(sequence(&reply).is_some());
        reply
    }

    fn publish(&mut self, payload: &[u8]) -> Vec<Message> {
        self.server.publish(self.now, RESOURCE, &content(payload));
        self.sent()
    }

    fn answer(&mut self, ip: [u8; 4], kind: Kind, id: MessageId) -> Vec<Message> {
        let message = Message::empty(kind, id).encode();
        assert!(self.server.receive(self.now, peer(ip), &message).is_none());
        self.sent()
    }

    /// Lets the next thing come due.
    fn wait(&mut self) -> Vec<Message> {
        self.now = self.server.deadline().unwrap();
        self.server.expire(self.now);
        self.sent()
    }

    fn sent(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send(_, datagram) => sent.push(Message::decode(&datagram).unwrap()),
                Output::Unobserved(resource) => {
                    assert_eq!(self.server.observers(resource), 0);
                    sent.push(Message::empty(Kind::Reset, MessageId(u16::MAX)));
                }
                Output::Cancel(call) => panic!("{call:?} was cancelled"),
            }
        }
        sent
    }

    fn observers(&self) -> usize {
        self.server.observers(RESOURCE)
    }
}

/// What [`Played::sent`] makes of [`Output::Unobserved`].
fn unobserved() -> Message {
    Message::empty(Kind::Reset, MessageId(u16::MAX))
}

const CON: ([u8; 4], Kind) = (LOOPBACK, Kind::Confirmable);
const NON: ([u8; 4], Kind) = (LOOPBACK, Kind::NonConfirmable);

#[test]
fn a_confirmable_observer_is_told_until_it_acknowledges() {
    let mut played = Played::new(Limits::default());
    let first = played.observe(CON, 1, b"0");
    assert_eq!((first.kind, &first.payload[..]), (Kind::Acknowledgement, &b"0"[..]));
    let told = played.publish(b"1").pop().unwrap();
    assert_eq!(
        (told.kind, told.token, &told.payload[..]),
        (Kind::Confirmable, first.token, &b"1"[..])
    );
    assert!(sequence(&told) > sequence(&first));
    assert_eq!(played.wait(), std::slice::from_ref(&told));
    assert_eq!(played.answer(LOOPBACK, Kind::Acknowledgement, told.id), []);
    assert_eq!((played.server.deadline(), played.observers()), (None, 1));
}

#[test]
fn the_newest_state_wins() {
    let mut played = Played::new(Limits::default());
    played.observe(CON, 1, b"0");
    let first = played.publish(b"1").pop().unwrap();
    // Nothing leaves while one is under way, and what is between is left out.
    assert_eq!(played.publish(b"2"), []);
    assert_eq!(played.publish(b"3"), []);
    let before = played.server.deadline().unwrap() - played.now;
    let again = played.wait().pop().unwrap();
    assert_eq!(again.payload, "3");
    assert_ne!(again.id, first.id);
    // In the place of a retransmission: the wait goes on doubling.
    assert_eq!(played.server.deadline().unwrap() - played.now, 2 * before);
    // With the acknowledgement it leaves at once.
    assert_eq!(played.publish(b"4"), []);
    let next = played.answer(LOOPBACK, Kind::Acknowledgement, again.id).pop().unwrap();
    assert_eq!((next.kind, &next.payload[..]), (Kind::Confirmable, &b"4"[..]));
    assert!(played.server.deadline().unwrap() - played.now < Duration::from_secs(3));
    assert_eq!(played.answer(LOOPBACK, Kind::Acknowledgement, next.id), []);
    assert_eq!((played.server.exchange().confirmables(), played.observers()), (0, 1));
}

#[test]
fn who_acknowledges_late_is_not_given_up() {
    let mut played = Played::new(Limits::default());
    played.observe(CON, 1, b"0");
    let mut last = played.publish(b"1").pop().unwrap();
    for _ in 0..20 {
        assert_eq!(played.publish(b"next"), []);
        let next = played.wait().pop().unwrap();
        assert_ne!(next.id, last.id);
        assert!(played.server.deadline().unwrap() - played.now <= Duration::from_secs(48));
        // Of what was superseded by now.
        assert_eq!(played.answer(LOOPBACK, Kind::Acknowledgement, last.id), []);
        last = next;
    }
    assert_eq!(played.observers(), 1);
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, last.id), [unobserved()]);
}

#[test]
fn a_reset_or_silence_ends_it() {
    let mut played = Played::new(Limits::default());
    played.observe(CON, 1, b"0");
    let told = played.publish(b"1").pop().unwrap();
    played.publish(b"2");
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, told.id), [unobserved()]);
    assert_eq!((played.server.deadline(), played.publish(b"3")), (None, vec![]));
    played.observe(CON, 1, b"0");
    assert_eq!(played.publish(b"1").len(), 1);
    for _ in 0..4 {
        assert_eq!(played.wait().len(), 1);
        played.publish(b"2");
    }
    assert_eq!(played.wait(), [unobserved()]);
    assert_eq!((played.server.deadline(), played.observers()), (None, 0));
}

#[test]
fn a_non_confirmable_observer_is_asked_now_and_then() {
    let mut played = Played::new(Limits::default());
    let first = played.observe(NON, 1, b"0");
    assert_eq!(first.kind, Kind::NonConfirmable);
    let kinds: Vec<_> = (0..16).map(|n| played.publish(&[n]).pop().unwrap().kind).collect();
    assert_eq!(kinds, [Kind::NonConfirmable; 16]);
    let asked = played.publish(b"x").pop().unwrap();
    assert_eq!(asked.kind, Kind::Confirmable);
    played.answer(LOOPBACK, Kind::Acknowledgement, asked.id);
    let told = played.publish(b"y").pop().unwrap();
    assert_eq!(told.kind, Kind::NonConfirmable);
    // A reset is understood, also one of the first reply.
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, told.id), [unobserved()]);
    let first = played.observe(NON, 1, b"0");
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, first.id), [unobserved()]);
    // Not for ever.
    let first = played.observe(NON, 1, b"0");
    played.now += Duration::from_secs(145);
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, first.id), []);
    assert_eq!(played.observers(), 1);
}

#[test]
fn a_separate_first_reply_counts_as_a_notification() {
    let mut played = Played::new(Limits::default());
    let mut request = played.ask(CON, 1, &[(OptionNumber::OBSERVE, b"")]).unwrap();
    assert_eq!(played.wait().len(), 1);
    assert!(played.server.observe(played.now, &mut request.owed, RESOURCE));
    played.server.reply(played.now, request.owed, content(b"0"));
    let first = played.sent().pop().unwrap();
    assert_eq!((first.kind, sequence(&first).is_some()), (Kind::Confirmable, true));
    assert_eq!(played.publish(b"1"), []);
    let next = played.answer(LOOPBACK, Kind::Acknowledgement, first.id).pop().unwrap();
    assert_eq!(next.payload, "1");
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, next.id), [unobserved()]);
}

#[test]
fn an_error_is_told_and_ends_all() {
    let mut played = Played::new(Limits::default());
    played.observe(CON, 1, b"0");
    played.observe(NON, 2, b"0");
    played.observe(CON, 3, b"0");
    let under_way = played.publish(b"1").remove(0);
    played.server.publish(played.now, RESOURCE, &Response::new(Code::NOT_FOUND));
    let mut told = played.sent();
    assert_eq!(told.remove(0), unobserved());
    let one = played.answer(LOOPBACK, Kind::Acknowledgement, under_way.id).pop().unwrap();
    told.push(one);
    for told in &told {
        assert_eq!((told.kind, told.code), (Kind::Confirmable, Code::NOT_FOUND));
        assert_eq!(sequence(told), None);
    }
    assert_eq!((told.len(), played.observers()), (2, 0));
    // The third is told in place of a retransmission.
    assert!(played.wait().iter().any(|again| again.code == Code::NOT_FOUND));
}

#[test]
fn an_error_as_the_first_reply_observes_nothing() {
    let mut played = Played::new(Limits::default());
    let mut request = played.ask(CON, 1, &[(OptionNumber::OBSERVE, b"")]).unwrap();
    assert!(played.server.observe(played.now, &mut request.owed, RESOURCE));
    played.server.reply(played.now, request.owed, Response::new(Code::NOT_FOUND));
    let sent = played.sent();
    assert_eq!((&sent[0], sequence(&sent[1])), (&unobserved(), None));
    assert_eq!(played.observers(), 0);
}

#[test]
fn observing_ends_on_request() {
    let mut played = Played::new(Limits::default());
    played.observe(CON, 1, b"0");
    assert_eq!(played.publish(b"1").len(), 1);
    // Another's token, another token.
    let stop: &[(OptionNumber, &[u8])] = &[(OptionNumber::OBSERVE, &[1])];
    played.ask((STRANGER, Kind::Confirmable), 1, stop).unwrap();
    played.ask(CON, 2, stop).unwrap();
    assert_eq!(played.observers(), 1);
    let request = played.ask(CON, 1, stop).unwrap();
    assert_eq!(played.sent(), [unobserved()]);
    played.server.reply(played.now, request.owed, content(b"2"));
    let reply = played.sent().pop().unwrap();
    assert_eq!((sequence(&reply), &reply.payload[..]), (None, &b"2"[..]));
    // What was under way is not sent again.
    assert_eq!((played.server.exchange().confirmables(), played.publish(b"3")), (0, vec![]));
}

#[test]
fn who_observes_again_is_told_once() {
    let mut played = Played::new(Limits::default());
    let first = played.observe(CON, 1, b"0");
    played.publish(b"1");
    let again = played.observe(CON, 1, b"1");
    assert!(sequence(&again) > sequence(&first));
    assert_eq!((played.observers(), played.server.exchange().confirmables()), (1, 0));
    assert_eq!(played.publish(b"2").len(), 1);
}

#[test]
fn a_known_etag_spares_the_payload() {
    let mut played = Played::new(Limits::default());
    let options: &[(OptionNumber, &[u8])] =
        &[(OptionNumber::OBSERVE, b""), (OptionNumber::ETAG, b"one"), (OptionNumber::ETAG, b"two")];
    let tagged = |etag: &[u8]| {
        let mut options = OptionsBuilder::new();
        options.push(OptionNumber::ETAG, etag).unwrap();
        options.push_uint(OptionNumber::MAX_AGE, 9).push_uint(OptionNumber::CONTENT_FORMAT, 0);
        Response { options: options.build(), ..content(b"payload") }
    };
    let mut request = played.ask(NON, 1, options).unwrap();
    assert!(played.server.observe(played.now, &mut request.owed, RESOURCE));
    played.server.reply(played.now, request.owed, tagged(b"two"));
    let mut check = |code, payload: &str| {
        let told = played.sent().pop().unwrap();
        assert_eq!((told.code, &told.payload[..]), (code, payload.as_bytes()));
        assert_eq!(told.options.uint(OptionNumber::MAX_AGE), Some(9));
        assert!(sequence(&told).is_some() && told.options.get(OptionNumber::ETAG).is_some());
        played.server.publish(played.now, RESOURCE, &tagged(b"new"));
    };
    check(Code::VALID, "");
    check(Code::CONTENT, "payload");
}

#[test]
fn later_blocks_of_what_was_told_are_found() {
    let mut played = Played::new(Limits::default());
    let mut long = vec![1; 3000];
    played.observe(CON, 1, &long);
    let later = |played: &mut Played, number| {
        let block = Block { number, more: false, exponent: 6 };
        let value = block.to_uint().to_be_bytes();
        let options: &[(OptionNumber, &[u8])] =
            &[(OptionNumber::URI_PATH, &[1]), (OptionNumber::BLOCK2, &value[1..])];
        assert!(played.ask(CON, 50, options).is_none(), "it comes from what was stored");
        played.sent().pop().unwrap()
    };
    let second = later(&mut played, 1);
    assert_eq!((&second.payload[..], sequence(&second)), (&long[1024..2048], None));
    // Who is in the middle of it learns by the ETag that it has changed.
    long.fill(2);
    let told = played.publish(&long).pop().unwrap();
    assert_eq!((&told.payload[..], sequence(&told).is_some()), (&long[..1024], true));
    let third = later(&mut played, 2);
    assert_eq!(third.payload, &long[2048..]);
    let etag = |message: &Message| message.options.get(OptionNumber::ETAG).map(<[u8]>::to_vec);
    assert_eq!(etag(&third), etag(&told));
    assert_ne!(etag(&third), etag(&second));
}

#[test]
fn a_forged_observer_is_fed_little() {
    let mut limits = Limits::default();
    limits.sources.burst_bytes = 4000;
    let mut played = Played::new(limits);
    let who = (STRANGER, Kind::NonConfirmable);
    for token in 0..20 {
        played.observe(who, token, b"0");
    }
    let mut bytes = 0;
    let count = |sent: Vec<Message>| -> usize { sent.iter().map(Message::encoded_bytes).sum() };
    for _ in 0..100 {
        let told = played.publish(&[7; 5000]);
        // Each is asked whether it is there, by small blocks.
        assert!(
            told.iter().all(|told| told.payload.len() <= 512 && told.kind != Kind::NonConfirmable)
        );
        bytes += count(told);
        played.now += Duration::from_millis(1);
    }
    assert!((4000..5000).contains(&bytes), "{bytes}");
    while played.server.exchange().confirmables() > 0 {
        bytes += count(played.wait());
    }
    // Four retransmissions within what comes back in time: 16 KiB each second.
    assert!(bytes < 5 * 5000, "{bytes}");
    assert_eq!(played.observers(), 0);
    // Who is there answers the first one, and is told all.
    played.observe(who, 1, b"0");
    let told = played.publish(b"1").pop().unwrap();
    assert_eq!(told.kind, Kind::Confirmable);
    played.answer(STRANGER, Kind::Acknowledgement, told.id);
    let told = played.publish(&[7; 5000]).pop().unwrap();
    assert_eq!((told.kind, told.payload.len()), (Kind::NonConfirmable, 1024));
}

#[test]
fn without_room_the_reply_has_no_observe() {
    let mut limits = Limits::default();
    limits.observers.observers_max = 1;
    let mut played = Played::new(limits);
    played.observe(CON, 1, b"0");
    let options: &[(OptionNumber, &[u8])] =
        &[(OptionNumber::OBSERVE, b""), (OptionNumber::URI_PATH, b"other")];
    let mut request = played.ask(CON, 2, options).unwrap();
    assert!(!played.server.observe(played.now, &mut request.owed, RESOURCE));
    played.server.reply(played.now, request.owed, content(b"0"));
    assert_eq!(sequence(&played.sent()[0]), None);
    assert_eq!(played.observers(), 1);
    played.server.forget(&peer(LOOPBACK));
    assert_eq!(played.sent(), [unobserved()]);
}

#[test]
fn who_wants_no_response_observes_nothing() {
    let mut played = Played::new(Limits::default());
    let options: &[(OptionNumber, &[u8])] =
        &[(OptionNumber::OBSERVE, b""), (OptionNumber::NO_RESPONSE, &[26])];
    let mut request = played.ask(NON, 1, options).unwrap();
    assert!(!played.server.observe(played.now, &mut request.owed, RESOURCE));
    played.server.reply(played.now, request.owed, content(b"0"));
    assert_eq!((played.sent(), played.observers()), (vec![], 0));
}

#[test]
fn what_is_remembered_of_notifications_is_bounded() {
    let mut played = Played::new(Limits { notifications_remembered_max: 10, ..Limits::default() });
    played.observe(NON, 1, b"0");
    let told: Vec<_> = (0..16).map(|n| played.publish(&[n]).remove(0)).collect();
    assert_eq!(played.server.exchange().notifications_remembered(), 10);
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, told[5].id), []);
    assert_eq!(played.answer(LOOPBACK, Kind::Reset, told[6].id), [unobserved()]);
}
