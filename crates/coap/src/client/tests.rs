use super::*;
use crate::message::{Kind, Message, MessageId, OptionsBuilder, Token};
use proptest::prelude::*;

/// A client, and what it is answered.
struct Played {
    client: Client,
    now: Instant,
}

impl Played {
    fn new(limits: ClientLimits) -> Played {
        Played { client: Client::new(limits, 7), now: Instant::now() }
    }

    fn call(&mut self, call: Call) -> Message {
        self.client.call(self.now, call);
        self.sent()
    }

    /// The one message that is to be sent.
    fn sent(&mut self) -> Message {
        let Some(Output::Send(datagram)) = self.client.poll() else {
            panic!("nothing is sent");
        };
        assert_eq!(self.client.poll(), None);
        Message::decode(&datagram).unwrap()
    }

    fn ended(&mut self) -> Result<Option<Response>, CallError> {
        let Some(Output::Ended(outcome)) = self.client.poll() else {
            panic!("it goes on");
        };
        assert_eq!((self.client.poll(), self.client.deadline()), (None, None));
        outcome
    }

    fn reply(&mut self) -> Response {
        self.ended().expect("no error").expect("a reply")
    }

    fn hear(&mut self, message: &Message) {
        self.client.receive(self.now, &message.encode());
    }

    /// Answers a request with its acknowledgement.
    fn answer(&mut self, to: &Message, code: Code, options: &[(OptionNumber, u32)], body: &[u8]) {
        self.hear(&response(Kind::Acknowledgement, to.id, to.token, code, options, body));
    }

    fn wait(&mut self) {
        self.now = self.client.deadline().expect("something is waited for");
        self.client.expire(self.now);
    }
}

fn response(
    kind: Kind,
    id: MessageId,
    token: Token,
    code: Code,
    options: &[(OptionNumber, u32)],
    body: &[u8],
) -> Message {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options {
        builder.push_uint(*number, *value);
    }
    let payload = Bytes::copy_from_slice(body);
    Message { kind, code, id, token, options: builder.build(), payload }
}

fn get() -> Call {
    let mut options = OptionsBuilder::new();
    options.push(OptionNumber::URI_PATH, b"fn").unwrap();
    Call {
        code: Code::GET,
        confirmable: true,
        wants_reply: true,
        options: options.build(),
        payload: Bytes::new(),
    }
}

fn post(bytes: usize) -> Call {
    let payload: Vec<u8> = (0..bytes).map(|n| (n / 16) as u8).collect();
    Call { code: Code::POST, payload: payload.into(), ..get() }
}

fn block(number: u32, more: bool, exponent: u8) -> u32 {
    Block { number, more, exponent }.to_uint()
}

#[test]
fn a_reply_with_its_acknowledgement() {
    let mut played = Played::new(ClientLimits::default());
    let sent = played.call(get());
    assert_eq!((sent.kind, sent.code), (Kind::Confirmable, Code::GET));
    assert_eq!(sent.options, get().options);
    // Another's token, another's ID.
    let other = Message { token: Token::EMPTY, ..sent.clone() };
    played.answer(&other, Code::CONTENT, &[], b"not mine");
    let other = Message { id: MessageId(sent.id.0 ^ 1), ..sent.clone() };
    played.answer(&other, Code::CONTENT, &[], b"not mine");
    assert_eq!(played.client.poll(), None);
    played.answer(&sent, Code::CONTENT, &[(OptionNumber::MAX_AGE, 5)], b"hello");
    let reply = played.reply();
    assert_eq!((reply.code, &reply.payload[..]), (Code::CONTENT, &b"hello"[..]));
    assert_eq!(reply.options.uint(OptionNumber::MAX_AGE), Some(5));
    played.answer(&sent, Code::CONTENT, &[], b"a copy");
    assert_eq!(played.client.poll(), None);
    // The next call has another ID and token.
    let next = played.call(get());
    assert!(next.id != sent.id && next.token != sent.token);
}

#[test]
fn a_reply_apart_and_its_copies() {
    let mut played = Played::new(ClientLimits::default());
    let sent = played.call(get());
    played.hear(&Message::empty(Kind::Acknowledgement, sent.id));
    assert!(played.client.deadline() >= Some(played.now + Duration::from_secs(600)));
    let apart = response(Kind::Confirmable, MessageId(9), sent.token, Code::CONTENT, &[], b"later");
    let acknowledgement = Message::empty(Kind::Acknowledgement, MessageId(9));
    played.hear(&apart);
    let Some(Output::Send(datagram)) = played.client.poll() else { panic!("not acknowledged") };
    assert_eq!(Message::decode(&datagram).unwrap(), acknowledgement);
    assert_eq!(&played.reply().payload[..], b"later");
    played.hear(&apart);
    assert_eq!(played.sent(), acknowledgement);
    // One that nobody asked for, a ping, a request.
    let stray = response(Kind::Confirmable, MessageId(3), Token::EMPTY, Code::CONTENT, &[], b"");
    for message in [
        stray.clone(),
        Message::empty(Kind::Confirmable, MessageId(3)),
        Message { code: Code::GET, ..stray.clone() },
    ] {
        played.hear(&message);
        assert_eq!(played.sent(), Message::empty(Kind::Reset, MessageId(3)), "{message:?}");
    }
    played.hear(&Message { kind: Kind::NonConfirmable, ..stray });
    assert_eq!(played.client.poll(), None);
}

#[test]
fn a_reply_may_pass_its_acknowledgement() {
    let mut played = Played::new(ClientLimits::default());
    let sent = played.call(get());
    let early = response(Kind::NonConfirmable, MessageId(1), sent.token, Code::CONTENT, &[], b"x");
    played.hear(&early);
    assert_eq!(played.reply().code, Code::CONTENT);
    played.hear(&Message::empty(Kind::Acknowledgement, sent.id));
    assert_eq!(played.client.poll(), None);
}

#[test]
fn what_is_not_acknowledged_is_repeated_and_given_up() {
    let mut played = Played::new(ClientLimits::default());
    let began = played.now;
    let sent = played.call(get());
    let mut waited = Vec::new();
    for _ in 0..4 {
        let before = played.now;
        played.wait();
        waited.push(played.now - before);
        assert_eq!(played.sent(), sent);
    }
    assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&waited[0]));
    assert!(waited.windows(2).all(|pair| pair[1] == pair[0] * 2));
    played.wait();
    let seconds = (played.now - began).as_secs();
    assert!((62..=93).contains(&seconds));
    let error = played.ended().expect_err("nobody is there");
    assert_eq!(error, CallError::Unanswered { copies: 5, seconds });
    assert!(error.to_string().ends_with("sent 5 times"), "{error}");
}

#[test]
fn waiting_ends() {
    let mut played = Played::new(ClientLimits::default());
    let sent = played.call(get());
    played.hear(&Message::empty(Kind::Acknowledgement, sent.id));
    played.wait();
    assert_eq!(played.ended(), Err(CallError::NoReply(600)));
    played.call(Call { confirmable: false, ..get() });
    played.wait();
    assert_eq!(played.ended(), Err(CallError::Unanswered { copies: 1, seconds: 145 }));
    let sent = played.call(get());
    played.hear(&Message::empty(Kind::Reset, sent.id));
    assert_eq!(played.ended(), Err(CallError::Reset));
}

#[test]
fn an_unknown_critical_option_is_no_reply() {
    let mut played = Played::new(ClientLimits::default());
    let sent = played.call(get());
    let odd = &[(OptionNumber(9), 1)];
    let apart = response(Kind::Confirmable, MessageId(5), sent.token, Code::CONTENT, odd, b"");
    played.hear(&apart);
    let Some(Output::Send(datagram)) = played.client.poll() else { panic!("not rejected") };
    assert_eq!(Message::decode(&datagram).unwrap(), Message::empty(Kind::Reset, MessageId(5)));
    assert_eq!(played.ended(), Err(CallError::UnknownOption(OptionNumber(9))));
}

#[test]
fn nothing_is_waited_for_where_nothing_is_wanted() {
    let mut played = Played::new(ClientLimits::default());
    let sent = Call { confirmable: false, wants_reply: false, ..post(5) };
    played.client.call(played.now, sent);
    let Some(Output::Send(datagram)) = played.client.poll() else { panic!("nothing is sent") };
    let sent = Message::decode(&datagram).unwrap();
    assert_eq!(sent.options.uint(OptionNumber::NO_RESPONSE), Some(26));
    assert_eq!(played.ended(), Ok(None));
    // Confirmable: acknowledged, or refused after all.
    let sent = played.call(Call { wants_reply: false, ..post(5) });
    played.hear(&Message::empty(Kind::Acknowledgement, sent.id));
    assert_eq!(played.ended(), Ok(None));
    let sent = played.call(Call { wants_reply: false, ..post(5) });
    played.answer(&sent, Code::NOT_FOUND, &[], b"");
    assert_eq!(played.reply().code, Code::NOT_FOUND);
    // In blocks, what comes between is wanted.
    let sent = played.call(Call { confirmable: false, wants_reply: false, ..post(1025) });
    assert_eq!(sent.options.uint(OptionNumber::NO_RESPONSE), None);
    let taken = [(OptionNumber::BLOCK1, block(0, true, 6))];
    let taken =
        response(Kind::NonConfirmable, MessageId(1), sent.token, Code::CONTINUE, &taken, b"");
    played.hear(&taken);
    let Some(Output::Send(datagram)) = played.client.poll() else { panic!("nothing is sent") };
    let sent = Message::decode(&datagram).unwrap();
    assert_eq!(sent.options.uint(OptionNumber::NO_RESPONSE), Some(26));
    assert_eq!(played.ended(), Ok(None));
}

#[test]
fn a_long_body_goes_in_blocks_as_small_as_the_server_wants() {
    let mut played = Played::new(ClientLimits::default());
    let whole = post(2500).payload;
    let first = played.call(post(2500));
    assert_eq!(first.options.uint(OptionNumber::BLOCK1), Some(block(0, true, 6)));
    assert_eq!(first.options.uint(OptionNumber::SIZE1), Some(2500));
    assert_eq!(first.payload, whole[..1024]);
    // As in RFC 7959's figure 8: what was taken counts, the next ones are smaller.
    played.answer(&first, Code::CONTINUE, &[(OptionNumber::BLOCK1, block(0, true, 5))], b"");
    let mut got = first.payload.to_vec();
    for number in 2..5 {
        let sent = played.sent();
        let more = number < 4;
        assert_eq!(sent.options.uint(OptionNumber::BLOCK1), Some(block(number, more, 5)));
        assert_eq!(sent.options.get(OptionNumber::SIZE1), None);
        let tag = sent.options.get(OptionNumber::REQUEST_TAG);
        assert_eq!(tag, first.options.get(OptionNumber::REQUEST_TAG));
        got.extend_from_slice(&sent.payload);
        let code = if more { Code::CONTINUE } else { Code::CHANGED };
        let options = [(OptionNumber::BLOCK1, block(number, more, 5))];
        let progress = played.client.progress().expect("under way");
        assert_eq!((progress.sent, progress.to_send), (512 * number as usize, 2500));
        played.answer(&sent, code, &options, b"done");
    }
    assert_eq!(got, whole);
    let reply = played.reply();
    assert_eq!((reply.code, &reply.payload[..]), (Code::CHANGED, &b"done"[..]));
    assert!(reply.options.is_empty());
}

#[test]
fn a_body_is_begun_anew_once_and_in_smaller_blocks() {
    let mut played = Played::new(ClientLimits::default());
    let first = played.call(post(1500));
    // Nothing of it was taken: too large a block.
    let smaller = [(OptionNumber::BLOCK1, block(0, false, 2))];
    played.answer(&first, Code::REQUEST_ENTITY_TOO_LARGE, &smaller, b"");
    for _ in 0..2 {
        let again = played.sent();
        assert_eq!(again.options.uint(OptionNumber::BLOCK1), Some(block(0, true, 2)));
        let tag = again.options.get(OptionNumber::REQUEST_TAG);
        assert_ne!(tag, first.options.get(OptionNumber::REQUEST_TAG));
        played.answer(&again, Code::CONTINUE, &[(OptionNumber::BLOCK1, block(0, true, 2))], b"");
        let second = played.sent();
        assert_eq!(second.options.uint(OptionNumber::BLOCK1), Some(block(1, true, 2)));
        played.answer(&second, Code::REQUEST_ENTITY_INCOMPLETE, &[], b"gone");
    }
    assert_eq!(played.reply().code, Code::REQUEST_ENTITY_INCOMPLETE);
    // Too large in all.
    let first = played.call(post(1500));
    let most = [(OptionNumber::SIZE1, 1000), (OptionNumber::BLOCK1, block(0, true, 6))];
    played.answer(&first, Code::REQUEST_ENTITY_TOO_LARGE, &most, b"");
    assert_eq!(played.reply().options.uint(OptionNumber::SIZE1), Some(1000));
}

#[test]
fn servers_that_do_odd_things_with_blocks() {
    let check = |answers: &[(Code, &[(OptionNumber, u32)])], expected: Result<Code, CallError>| {
        let mut played = Played::new(ClientLimits::default());
        let mut sent = played.call(post(1500));
        for (at, (code, options)) in answers.iter().enumerate() {
            played.answer(&sent, *code, options, b"");
            if at + 1 < answers.len() {
                sent = played.sent();
            }
        }
        let ended = played.ended().map(|reply| reply.expect("a reply").code);
        assert_eq!(ended, expected);
    };
    let block1 = OptionNumber::BLOCK1;
    check(&[(Code::CONTENT, &[])], Err(CallError::FirstBlockOnly(Code::CONTENT)));
    check(&[(Code::NOT_FOUND, &[])], Ok(Code::NOT_FOUND));
    let odd = Err(CallError::Block("it took a block and does not say which"));
    check(&[(Code::CONTINUE, &[])], odd);
    let reserved = Err(CallError::Block("a block option cannot be read"));
    check(&[(Code::CONTINUE, &[(block1, 7)])], reserved);
    // Each block is acted on as it comes.
    let changed = (Code::CHANGED, &[(block1, block(0, false, 6))][..]);
    check(&[changed, changed], Ok(Code::CHANGED));
    let more = (Code::CONTINUE, &[(block1, block(0, true, 6))][..]);
    check(&[more, more], Err(CallError::Block("it waits for more than there is")));
    let too_long = Err(CallError::ReplyTooLong(BODY_BYTES_MAX));
    let announced = &[(OptionNumber::BLOCK2, block(0, true, 6)), (OptionNumber::SIZE2, 17 << 20)];
    check(&[more, (Code::CONTENT, announced)], too_long);
    let mut played = Played::new(ClientLimits::default());
    played.client.call(played.now, post(BODY_BYTES_MAX + 1));
    assert_eq!(played.ended(), Err(CallError::BodyTooLong(BODY_BYTES_MAX + 1)));
}

/// A block of a reply of 40 bytes.
fn part(number: u32, exponent: u8, etag: u32) -> (Vec<(OptionNumber, u32)>, Vec<u8>) {
    let whole: Vec<u8> = (0..40).collect();
    let start = (number as usize) << (4 + exponent);
    let end = whole.len().min(start + (16 << exponent));
    let options = vec![
        (OptionNumber::ETAG, etag),
        (OptionNumber::BLOCK2, block(number, end < 40, exponent)),
        (OptionNumber::SIZE2, 40),
    ];
    (options, whole[start..end].to_vec())
}

#[test]
fn a_long_reply_is_put_together() {
    let mut played = Played::new(ClientLimits::default());
    let mut sent = played.call(post(1025));
    played.answer(&sent, Code::CONTINUE, &[(OptionNumber::BLOCK1, block(0, true, 6))], b"");
    sent = played.sent();
    for number in 0..3 {
        let (mut options, body) = part(number, 0, 5);
        if number == 0 {
            options.push((OptionNumber::BLOCK1, block(1, false, 6)));
            options.push((OptionNumber::MAX_AGE, 9));
        }
        played.answer(&sent, Code::CONTENT, &options, &body);
        if number < 2 {
            sent = played.sent();
            assert_eq!((sent.code, sent.payload.len()), (Code::POST, 0));
            let asked = sent.options.uint(OptionNumber::BLOCK2);
            assert_eq!(asked, Some(block(number + 1, false, 0)));
            assert_eq!(sent.options.get(OptionNumber::BLOCK1), None);
            let progress = played.client.progress().expect("under way");
            let seen = (progress.received, progress.to_receive);
            assert_eq!(seen, (16 * (number as usize + 1), Some(40)));
        }
    }
    let reply = played.reply();
    assert_eq!(reply.payload, Vec::from_iter(0..40));
    assert_eq!(reply.options.uint(OptionNumber::MAX_AGE), Some(9));
    assert_eq!(reply.options.uint(OptionNumber::ETAG), Some(5));
    assert_eq!(reply.options.iter().count(), 2);
}

#[test]
fn a_reply_that_changes_is_fetched_anew_where_that_does_no_harm() {
    let play = |code, changes: u32| {
        let mut played = Played::new(ClientLimits::default());
        let mut sent = played.call(Call { code, ..get() });
        for change in 0..changes {
            let (options, body) = part(0, 0, change);
            played.answer(&sent, Code::CONTENT, &options, &body);
            sent = played.sent();
            let (options, body) = part(1, 0, change + 1);
            played.answer(&sent, Code::CONTENT, &options, &body);
            sent = match played.client.poll() {
                Some(Output::Send(datagram)) => Message::decode(&datagram).unwrap(),
                Some(Output::Ended(outcome)) => return outcome,
                None => panic!("it is forgotten"),
            };
            assert_eq!(sent.options.get(OptionNumber::BLOCK2), None);
        }
        for number in 0..3 {
            let (options, body) = part(number, 0, 99);
            played.answer(&sent, Code::CONTENT, &options, &body);
            if number < 2 {
                sent = played.sent();
            }
        }
        played.ended()
    };
    assert_eq!(play(Code::GET, 3).unwrap().unwrap().payload.len(), 40);
    assert_eq!(play(Code::GET, 4), Err(CallError::Changed));
    assert_eq!(play(Code::POST, 1), Err(CallError::Changed));
}

#[test]
fn the_size_of_a_replys_blocks_is_agreed_on() {
    let mut played = Played::new(ClientLimits { exponent: 1, ..ClientLimits::default() });
    let sent = played.call(get());
    assert_eq!(sent.options.uint(OptionNumber::BLOCK2), Some(block(0, false, 1)));
    let (options, body) = part(0, 1, 5);
    played.answer(&sent, Code::CONTENT, &options, &body);
    let sent = played.sent();
    assert_eq!(sent.options.uint(OptionNumber::BLOCK2), Some(block(1, false, 1)));
    // It may still become smaller.
    let (options, body) = part(2, 0, 5);
    played.answer(&sent, Code::CONTENT, &options, &body);
    assert_eq!(played.reply().payload.len(), 40);
    // What was not asked for is refused.
    for (number, exponent, error) in
        [(1, 1, "it is another than asked for"), (0, 2, "it is another than asked for")]
    {
        let sent = played.call(get());
        let (options, body) = part(0, 0, 5);
        played.answer(&sent, Code::CONTENT, &options, &body);
        let sent = played.sent();
        let (options, body) = part(number, exponent, 5);
        played.answer(&sent, Code::CONTENT, &options, &body);
        assert_eq!(played.ended(), Err(CallError::Block(error)));
    }
    let sent = played.call(get());
    let (options, _) = part(0, 0, 5);
    played.answer(&sent, Code::CONTENT, &options, b"short");
    let error = CallError::Block("its payload has another size than its block");
    assert_eq!(played.ended(), Err(error));
}

#[test]
fn a_challenge_is_answered_once() {
    let mut played = Played::new(ClientLimits::default());
    let echo = [(OptionNumber::ECHO, 0x0102_0304)];
    let sent = played.call(get());
    played.answer(&sent, Code::UNAUTHORIZED, &echo, b"");
    let again = played.sent();
    assert_eq!(again.options.get(OptionNumber::ECHO), Some(&[1, 2, 3, 4][..]));
    played.answer(&again, Code::UNAUTHORIZED, &echo, b"");
    assert_eq!(played.reply().code, Code::UNAUTHORIZED);
    // The next call comes with it at once; one without Echo is just a refusal.
    let sent = played.call(get());
    assert!(sent.options.get(OptionNumber::ECHO).is_some());
    played.answer(&sent, Code::UNAUTHORIZED, &[], b"who are you");
    assert_eq!(played.reply().code, Code::UNAUTHORIZED);
}

proptest! {
    /// Whatever arrives, each step is answered by a bounded number of messages, and
    /// a call ends within bounds.
    #[test]
    fn anything_may_arrive(
        arrives in prop::collection::vec(
            (0u8..4, any::<u8>(), prop::collection::vec((1u16..70, any::<u16>()), 0..4), 0usize..70),
            0..40),
        bytes in 0usize..3000,
    ) {
        let mut played = Played::new(ClientLimits::default());
        played.client.call(played.now, post(bytes));
        let mut last = None;
        let mut ended = 0;
        for (kind, code, options, payload) in arrives {
            while let Some(output) = played.client.poll() {
                match output {
                    Output::Send(datagram) => {
                        let message = Message::decode(&datagram).expect("it writes messages");
                        if message.code.is_request() {
                            prop_assert!(message.check_request().is_ok());
                            last = Some(message);
                        }
                    }
                    Output::Ended(_) => ended += 1,
                }
            }
            let last = last.as_ref().expect("it began with a request");
            let kind = [
                Kind::Confirmable, Kind::NonConfirmable, Kind::Acknowledgement, Kind::Reset,
            ][usize::from(kind)];
            let options: Vec<_> =
                options.iter().map(|(n, v)| (OptionNumber(*n), u32::from(*v))).collect();
            let message =
                response(kind, last.id, last.token, Code::from_byte(code), &options, &vec![0; payload]);
            played.hear(&message);
            prop_assert!(played.client.outputs.len() <= 3);
        }
        while played.client.deadline().is_some() {
            played.wait();
        }
        while let Some(output) = played.client.poll() {
            ended += u32::from(matches!(output, Output::Ended(_)));
        }
        prop_assert_eq!(ended, 1);
    }
}
