use super::signal::{
    ABORT, BAD_CSM_OPTION, BLOCK_WISE_TRANSFER, CSM, CUSTODY, MAX_MESSAGE_SIZE, PING, PONG, RELEASE,
};
use super::*;
use crate::block::{Block, BlockLimits};
use crate::message::OptionsBuilder;
use crate::observe::ResourceId;
use bytes::Buf;
use std::net::SocketAddr;

/// A stream and its peer.
struct Played {
    connection: Connection,
    input: BytesMut,
    blocks: Blocks,
    now: Instant,
}

fn frame(code: Code, token: &[u8], options: &[(OptionNumber, &[u8])], payload: &[u8]) -> Frame {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options {
        builder.push(*number, value).unwrap();
    }
    Frame {
        code,
        token: Token::new(token).unwrap(),
        options: builder.build(),
        payload: Bytes::copy_from_slice(payload),
    }
}

fn csm() -> Frame {
    Frame::new(CSM)
}

fn get(token: u8) -> Frame {
    frame(Code::GET, &[token], &[(OptionNumber::URI_PATH, b"fn")], b"")
}

fn content(payload: &[u8]) -> Response {
    Response { payload: Bytes::copy_from_slice(payload), ..Response::new(Code::CONTENT) }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    [&frame.encode_head()[..], &frame.payload].concat()
}

impl Played {
    /// A stream on which this end has said what it can.
    fn fresh(limits: StreamLimits) -> Played {
        let mut peer = Peer::at(SocketAddr::from(([192, 0, 2, 1], 4000)));
        peer.session = Some(1);
        let mut played = Played {
            connection: Connection::new(limits, peer, Instant::now()),
            input: BytesMut::new(),
            blocks: Blocks::new(BlockLimits::default(), 7),
            now: Instant::now(),
        };
        let [told] = &played.sent()[..] else { panic!("one CSM") };
        assert_eq!(told.code, CSM);
        played
    }

    /// A stream whose peer has said so much of what it can.
    fn greeted(message_bytes_max: Option<u32>, block_wise: bool) -> Played {
        let mut played = Played::fresh(StreamLimits::default());
        let mut options = OptionsBuilder::new();
        if let Some(bytes) = message_bytes_max {
            options.push_uint(MAX_MESSAGE_SIZE, bytes);
        }
        if block_wise {
            options.push(BLOCK_WISE_TRANSFER, &[]).unwrap();
        }
        assert!(played.send(&Frame { options: options.build(), ..csm() }).is_none());
        played
    }

    fn raw(&mut self, bytes: &[u8]) -> Option<Request> {
        self.input.extend_from_slice(bytes);
        self.advance()
    }

    fn advance(&mut self) -> Option<Request> {
        self.connection.advance(self.now, &mut self.input, &mut self.blocks)
    }

    fn send(&mut self, frame: &Frame) -> Option<Request> {
        self.raw(&encoded(frame))
    }

    fn reply(&mut self, request: Request, response: Response) {
        self.connection.reply(self.now, &mut self.blocks, request.owed, response);
    }

    /// What was sent; all of it is taken off.
    fn sent(&mut self) -> Vec<Frame> {
        let output = self.connection.output();
        let mut bytes = BytesMut::from(&output.copy_to_bytes(output.remaining())[..]);
        let mut sent = Vec::new();
        while let Ok(Taken::Frame(frame)) = Frame::take(&mut bytes, 64 << 20) {
            sent.push(frame);
        }
        assert!(bytes.is_empty());
        sent
    }

    /// The one frame that was sent.
    fn answer(&mut self) -> Frame {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// Looks that the stream has ended with an Abort, and takes nothing more.
    fn aborted(&mut self, words: &str) -> Frame {
        let abort = self.sent().pop().expect("an Abort");
        assert_eq!(abort.code, ABORT);
        let told = String::from_utf8(abort.payload.to_vec()).unwrap();
        assert!(told.contains(words), "{told}");
        assert!(self.connection.has_ended() && self.connection.is_over());
        assert!(self.send(&get(1)).is_none() && self.send(&Frame::new(PING)).is_none());
        assert!(self.sent().is_empty() && self.input.is_empty());
        abort
    }
}

#[test]
fn this_end_says_what_it_can() {
    let peer = Peer::at(SocketAddr::from(([192, 0, 2, 1], 4000)));
    let mut connection = Connection::new(StreamLimits::default(), peer, Instant::now());
    let output = connection.output();
    let mut bytes = BytesMut::from(&output.copy_to_bytes(output.remaining())[..]);
    let Ok(Taken::Frame(told)) = Frame::take(&mut bytes, 64) else { panic!("a message") };
    assert_eq!((told.code, told.options.uint(MAX_MESSAGE_SIZE)), (CSM, Some(129 << 10)));
    assert_eq!(told.options.get(BLOCK_WISE_TRANSFER), Some(&[][..]));
}

#[test]
fn requests_run_and_are_answered_in_any_order() {
    let mut played = Played::greeted(None, false);
    let bytes = [encoded(&get(1)), encoded(&get(2)), encoded(&get(3))].concat();
    let one = played.raw(&bytes).unwrap();
    let (two, three) = (played.advance().unwrap(), played.advance().unwrap());
    assert!(played.advance().is_none() && played.connection.running() == 3);
    assert_eq!(two.message.options.get(OptionNumber::URI_PATH), Some(&b"fn"[..]));
    played.reply(three, content(b"3"));
    played.reply(one, content(b"1"));
    played.reply(two, Response::new(Code::NOT_FOUND));
    let told: Vec<_> = played.sent().into_iter().map(|f| (f.code, f.token, f.payload)).collect();
    let token = |byte| Token::new(&[byte]).unwrap();
    let expected = [
        (Code::CONTENT, token(3), Bytes::from_static(b"3")),
        (Code::CONTENT, token(1), Bytes::from_static(b"1")),
        (Code::NOT_FOUND, token(2), Bytes::new()),
    ];
    assert_eq!(told, expected);
    assert_eq!(played.connection.running(), 0);
}

#[test]
fn a_byte_at_a_time_is_as_good() {
    let mut played = Played::fresh(StreamLimits::default());
    let bytes = [encoded(&csm()), encoded(&get(1)), encoded(&get(2))].concat();
    let mut requests = Vec::new();
    for byte in bytes {
        played.connection.make_room(&mut played.input);
        requests.extend(played.raw(&[byte]));
    }
    assert_eq!(requests.len(), 2);
    assert!(played.input.capacity() <= 3 * READ_BYTES);
}

#[test]
fn nothing_is_taken_for_what_is_only_announced() {
    let mut played = Played::greeted(None, false);
    // A message of 100,000 bytes, of which four come.
    let announced = [0xf0, 0, 0, 0x80, 0, 2, 0xff, 1];
    assert!(played.raw(&announced).is_none());
    played.connection.make_room(&mut played.input);
    assert!(played.input.capacity() <= 3 * READ_BYTES);
}

#[test]
fn the_room_for_a_long_message_is_given_back() {
    let mut played = Played::greeted(None, false);
    let long = frame(Code::PUT, &[1], &[], &[7; 100_000]);
    let request = played.send(&long).unwrap();
    assert_eq!((request.message.payload.len(), played.input.capacity()), (100_000, 0));
    // Nobody else holds it.
    assert!(request.message.payload.is_unique());
}

#[test]
fn whoever_says_anything_before_what_it_can_is_cut_off() {
    for first in [get(1), Frame::new(PING), Frame::new(Code::CONTENT), Frame::new(RELEASE)] {
        let mut played = Played::fresh(StreamLimits::default());
        assert!(played.send(&first).is_none());
        played.aborted("before the CSM");
    }
    // But for what only keeps the stream alive.
    let mut played = Played::fresh(StreamLimits::default());
    assert!(played.send(&Frame::new(Code::EMPTY)).is_none());
    assert!(!played.connection.is_greeted());
    played.send(&csm());
    assert!(played.connection.is_greeted());
    assert!(played.send(&get(1)).is_some() && played.sent().is_empty());
}

#[test]
fn what_cannot_be_read_ends_the_stream() {
    let check = |bytes: &[u8], words: &str| {
        let mut played = Played::greeted(None, false);
        let running = played.send(&get(9)).unwrap();
        assert!(played.raw(bytes).is_none());
        played.aborted(words);
        played.reply(running, content(b"late"));
        assert!(played.sent().is_empty());
    };
    check(&[0x09, 1], "token would have 9 bytes");
    check(&[0x10, 1, 0xff], "payload marker");
    check(&[0x10, 1, 0xf0], "reserved 15");
    check(&[0x10, 1, 0x01], "ends within an option");
    check(&[0, 0x20], "1.00, of a reserved class");
    check(&[0, 0x60], "3.00, of a reserved class");
    check(&[0, 0xc1], "6.01, of a reserved class");
    check(&[0xf0, 0, 2, 0, 0, 2], "a message has 196883 bytes, the longest taken here has 132096");
    check(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "");
}

#[test]
fn what_means_nothing_is_ignored() {
    let mut played = Played::greeted(None, false);
    let ignored = [
        Frame::new(Code::EMPTY),
        frame(Code::EMPTY, &[1], &[], b"x"),
        frame(Code::CONTENT, &[1], &[], b"nobody asked"),
        Frame::new(Code::NOT_FOUND),
        Frame::new(PONG),
        Frame::new(Code::new(7, 0)),
        frame(Code::new(7, 31), &[], &[(OptionNumber(8), b"elective")], b""),
        frame(CSM, &[], &[(OptionNumber(6), b"of another RFC")], b""),
        frame(CSM, &[], &[(MAX_MESSAGE_SIZE, b"long!")], b""),
    ];
    for frame in ignored {
        assert!(played.send(&frame).is_none());
    }
    assert!(played.sent().is_empty());
    assert!(played.send(&get(1)).is_some());
}

#[test]
fn critical_options_of_signals_must_be_known() {
    let critical: &[(OptionNumber, &[u8])] = &[(OptionNumber(3), b"")];
    for code in [CSM, PING, PONG, RELEASE, Code::new(7, 9)] {
        let mut played = Played::greeted(None, false);
        played.send(&frame(code, &[], critical, b""));
        let abort = played.aborted("critical option 3");
        let named = (code == CSM).then_some(3);
        assert_eq!(abort.options.uint(BAD_CSM_OPTION), named);
    }
    let mut played = Played::fresh(StreamLimits::default());
    played.send(&frame(CSM, &[], critical, b""));
    assert_eq!(played.aborted("").options.uint(BAD_CSM_OPTION), Some(3));
    let mut played = Played::fresh(StreamLimits::default());
    played.send(&frame(CSM, &[], &[(MAX_MESSAGE_SIZE, &[63])], b""));
    let abort = played.sent().pop().unwrap();
    assert_eq!((abort.code, abort.options.uint(BAD_CSM_OPTION)), (ABORT, Some(2)));
    // The words would be too long for it.
    assert!(abort.payload.is_empty());
}

#[test]
fn pings_are_answered() {
    let mut played = Played::greeted(None, false);
    played.send(&frame(PING, b"ping", &[], b""));
    assert_eq!(played.answer(), frame(PONG, b"ping", &[], b""));
    let custody: &[(OptionNumber, &[u8])] = &[(CUSTODY, b"")];
    played.send(&frame(PING, &[1], custody, b""));
    assert_eq!(played.answer(), frame(PONG, &[1], custody, b""));
    // With Custody, when all that was asked before is done.
    let (one, two) = (played.send(&get(1)).unwrap(), played.send(&get(2)).unwrap());
    played.send(&frame(PING, &[2], custody, b""));
    let three = played.send(&get(3)).unwrap();
    played.send(&frame(PING, &[3], custody, b""));
    played.send(&frame(PING, &[4], &[], b""));
    assert_eq!(played.answer(), frame(PONG, &[4], &[], b""));
    played.reply(two, content(b""));
    assert_eq!(played.answer().code, Code::CONTENT);
    played.reply(one, content(b""));
    let sent = played.sent();
    assert_eq!((sent.len(), &sent[1]), (2, &frame(PONG, &[2], custody, b"")));
    played.reply(three, content(b""));
    assert_eq!(played.sent()[1], frame(PONG, &[3], custody, b""));
    // Too many of them do not wait.
    let running = played.send(&get(5)).unwrap();
    for _ in 0..17 {
        played.send(&frame(PING, &[6], custody, b""));
    }
    assert_eq!(played.answer(), frame(PONG, &[6], &[], b""));
    played.reply(running, content(b""));
    assert_eq!(played.sent().len(), 17);
}

#[test]
fn a_release_is_answered_by_what_runs() {
    let mut played = Played::greeted(None, false);
    let running = played.send(&get(1)).unwrap();
    played.send(&Frame::new(RELEASE));
    assert!(played.send(&get(2)).is_none());
    assert!(!played.connection.is_over() && !played.connection.has_ended());
    assert!(played.connection.wants_input());
    played.reply(running, content(b"x"));
    assert!(!played.connection.is_over());
    assert_eq!(played.answer().code, Code::CONTENT);
    assert!(played.connection.is_over());
}

#[test]
fn a_release_of_ours_lets_what_runs_end() {
    let mut played = Played::greeted(None, false);
    let running = played.send(&get(1)).unwrap();
    played.connection.release();
    assert_eq!(played.answer().code, RELEASE);
    assert!(played.send(&get(2)).is_none());
    assert_eq!(played.answer().code, Code::SERVICE_UNAVAILABLE);
    played.send(&Frame::new(PING));
    assert_eq!(played.answer().code, PONG);
    played.reply(running, content(b"x"));
    assert_eq!(played.answer().code, Code::CONTENT);
    assert!(played.connection.is_over() && !played.connection.has_ended());
}

#[test]
fn an_abort_ends_all() {
    let mut played = Played::greeted(None, false);
    let running = played.send(&get(1)).unwrap();
    played.connection.ping();
    played.send(&frame(ABORT, &[], &[(BAD_CSM_OPTION, &[9])], b"why"));
    assert!(played.connection.has_ended() && played.connection.is_over());
    played.reply(running, content(b"x"));
    assert!(played.sent().is_empty());
}

#[test]
fn who_has_gone_waits_for_nothing() {
    let mut played = Played::greeted(None, false);
    let running = played.send(&get(1)).unwrap();
    played.connection.ping();
    played.connection.input_ended();
    assert!(played.connection.has_ended() && played.connection.is_over());
    played.reply(running, content(b"x"));
    assert!(played.sent().is_empty());
    // But who has asked for the end before waits for what runs.
    let mut played = Played::greeted(None, false);
    let running = played.send(&get(1)).unwrap();
    played.send(&Frame::new(RELEASE));
    played.connection.input_ended();
    played.reply(running, content(b"x"));
    assert_eq!(played.answer().code, Code::CONTENT);
}

#[test]
fn what_cannot_be_served_is_refused_in_its_code() {
    let mut played = Played::greeted(None, false);
    let mut check = |code: Code, option: (u16, &[u8]), expected: Code| {
        let asked = frame(code, &[5], &[(OptionNumber(option.0), option.1)], b"");
        assert!(played.send(&asked).is_none());
        let answer = played.answer();
        assert_eq!((answer.code, answer.token.as_slice()), (expected, &[5][..]));
    };
    check(Code::new(0, 31), (11, b"fn"), Code::METHOD_NOT_ALLOWED);
    check(Code::GET, (9, b""), Code::BAD_OPTION);
    check(Code::GET, (65_001, b""), Code::BAD_OPTION);
    check(Code::GET, (35, b"coap://x"), Code::PROXYING_NOT_SUPPORTED);
    check(Code::GET, (3, b""), Code::BAD_OPTION);
    let known = frame(Code::GET, &[5], &[(OptionNumber::URI_HOST, b"host")], b"");
    assert!(played.send(&known).is_some());
}

#[test]
fn responses_that_are_not_wanted_are_not_sent() {
    let mut played = Played::greeted(None, false);
    let mut check = |value: u8, code, wanted| {
        let options: &[(OptionNumber, &[u8])] = &[(OptionNumber::NO_RESPONSE, &[value])];
        let request = played.send(&frame(Code::POST, &[1], options, b"")).unwrap();
        played.reply(request, Response::new(code));
        assert_eq!(played.sent().len(), usize::from(wanted), "{value} {code}");
    };
    check(26, Code::CONTENT, false);
    check(26, Code::NOT_FOUND, false);
    check(2, Code::CONTENT, false);
    check(2, Code::NOT_FOUND, true);
    check(0, Code::CONTENT, true);
}

#[test]
fn no_more_run_and_wait_than_may() {
    let mut played = Played::greeted(None, false);
    let bytes: Vec<u8> = (0..40).flat_map(|token| encoded(&get(token))).collect();
    let mut running: Vec<_> = played.raw(&bytes).into_iter().collect();
    running.extend(std::iter::from_fn(|| played.advance()));
    assert_eq!((running.len(), played.connection.wants_input()), (16, false));
    played.reply(running.pop().unwrap(), content(b"x"));
    assert!(played.connection.wants_input());
    running.extend(std::iter::from_fn(|| played.advance()));
    assert_eq!(running.len(), 16);
    // Nobody reads the replies.
    let mut played = Played::greeted(Some(1 << 20), false);
    let running: Vec<_> = (0..3).filter_map(|token| played.send(&get(token))).collect();
    for request in running {
        played.reply(request, content(&[7; 32 << 10]));
    }
    assert!(!played.connection.takes_replies() && !played.connection.wants_input());
    let pings = encoded(&Frame::new(PING)).repeat(10_000);
    let waiting = played.connection.output_bytes();
    assert!(played.raw(&pings).is_none());
    assert_eq!((played.connection.output_bytes(), played.input.len()), (waiting, pings.len()));
    assert_eq!(played.sent().len(), 3);
    assert!(played.advance().is_none() && played.input.is_empty());
    assert_eq!(played.sent().len(), 10_000);
}

fn block_of(frame: &Frame) -> Option<Block> {
    Block::read(frame.options.get(OptionNumber::BLOCK2)?)
}

#[test]
fn a_reply_comes_in_messages_that_the_peer_takes() {
    let body: Vec<u8> = (0..300_000usize).map(|n| (n * n / 7) as u8).collect();
    let check = |message_bytes_max: Option<u32>, block_wise, exponent: Option<u8>, messages| {
        let mut played = Played::greeted(message_bytes_max, block_wise);
        let longest = message_bytes_max.unwrap_or(1152) as usize;
        let request = played.send(&get(1)).unwrap();
        played.reply(request, content(&body));
        let mut answer = played.answer();
        let (mut fetched, mut count) = (answer.payload.to_vec(), 1);
        assert_eq!(block_of(&answer).map(|block| block.exponent), exponent);
        while let Some(block) = block_of(&answer).filter(|block| block.more) {
            assert!(answer.encoded_bytes() <= longest);
            let next = (fetched.len() / block.size()) as u32;
            let asked = Block { number: next, more: false, exponent: block.exponent };
            let mut options = get(2).options.edit();
            options.push_uint(OptionNumber::BLOCK2, asked.to_uint());
            // Nothing runs for it.
            assert!(played.send(&Frame { options: options.build(), ..get(2) }).is_none());
            answer = played.answer();
            fetched.extend_from_slice(&answer.payload);
            count += 1;
        }
        assert_eq!(fetched, body);
        assert_eq!(count, messages, "{message_bytes_max:?} {block_wise}");
        let kept = played.blocks.stored_bytes();
        played.connection.forget(&mut played.blocks);
        assert_eq!((kept > 0, played.blocks.stored_bytes()), (exponent.is_some(), 0));
    };
    check(None, false, Some(6), 293);
    check(None, true, Some(6), 293);
    check(Some(600), true, Some(5), 586);
    check(Some(8 << 20), true, Some(7), 3);
    check(Some(10_000), true, Some(7), 33);
    check(Some(10_000), false, Some(6), 293);
    check(Some(8 << 20), false, None, 1);
}

#[test]
fn a_long_request_comes_in_blocks() {
    let mut played = Played::greeted(Some(8 << 20), true);
    let body: Vec<u8> = (0..200_000usize).map(|n| (n * n / 7) as u8).collect();
    let mut sent = 0;
    for part in body.chunks(64 << 10) {
        let number = (sent / 1024) as u32;
        sent += part.len();
        let block = Block { number, more: sent < body.len(), exponent: Block::BERT };
        let mut options = get(1).options.edit();
        options.push_uint(OptionNumber::BLOCK1, block.to_uint());
        let put = Frame { options: options.build(), ..frame(Code::PUT, &[1], &[], part) };
        match played.send(&put) {
            Some(request) => {
                assert_eq!((sent, &request.message.payload[..]), (body.len(), &body[..]));
                played.reply(request, Response::new(Code::CHANGED));
                assert_eq!(played.answer().code, Code::CHANGED);
            }
            None => {
                let answer = played.answer();
                assert_eq!((answer.code, answer.token), (Code::CONTINUE, put.token));
                assert!(sent < body.len());
            }
        }
    }
    assert_eq!(played.blocks.assembling_bytes(), 0);
}

#[test]
fn errors_fit_whatever_the_peer_takes() {
    let mut played = Played::greeted(Some(64), false);
    let request = played.send(&get(1)).unwrap();
    let words = Response { code: Code::BAD_REQUEST, ..content(&[b'x'; 30]) };
    played.reply(request, words);
    assert_eq!(played.answer().code, Code::BAD_REQUEST);
    // Options that leave no room for anything.
    let request = played.send(&get(1)).unwrap();
    let mut options = OptionsBuilder::new();
    options.push(OptionNumber::LOCATION_PATH, &[b'x'; 60]).unwrap();
    played.reply(request, Response { options: options.build(), ..Response::new(Code::CREATED) });
    let answer = played.answer();
    assert_eq!(answer.code, Code::INTERNAL_SERVER_ERROR);
    assert!(answer.encoded_bytes() <= 64);
}

/// Who asks to observe by this token; told the first state.
fn observe(played: &mut Played, token: u8, resource: u64) -> Frame {
    let mut options = get(token).options.edit();
    options.push_uint(OptionNumber::OBSERVE, 0);
    options.push(OptionNumber::URI_QUERY, &[b'q', token]).unwrap();
    let mut request = played.send(&Frame { options: options.build(), ..get(token) }).unwrap();
    let (now, owed) = (played.now, &mut request.owed);
    assert!(played.connection.observe(now, owed, ResourceId(resource)));
    played.reply(request, content(b"first"));
    played.answer()
}

fn publish(played: &mut Played, resource: u64, response: &Response) -> Vec<Frame> {
    let (now, blocks) = (played.now, &mut played.blocks);
    played.connection.publish(now, blocks, ResourceId(resource), response);
    played.sent()
}

#[test]
fn observers_are_told_and_leave() {
    let mut played = Played::greeted(None, false);
    let first = observe(&mut played, 1, 7);
    assert!(first.options.get(OptionNumber::OBSERVE).is_some());
    observe(&mut played, 2, 7);
    observe(&mut played, 3, 8);
    let told = publish(&mut played, 7, &content(b"second"));
    let tokens: Vec<_> = told.iter().map(|frame| frame.token.as_slice()[0]).collect();
    assert_eq!(tokens, [1, 2]);
    assert!(told[0].options.uint(OptionNumber::OBSERVE).is_some());
    assert_eq!(told[0].payload, b"second"[..]);
    // One leaves by asking.
    let mut options = get(1).options.edit();
    options.push_uint(OptionNumber::OBSERVE, 1);
    let leaving = played.send(&Frame { options: options.build(), ..get(1) }).unwrap();
    played.reply(leaving, content(b"bye"));
    assert_eq!(played.answer().options.get(OptionNumber::OBSERVE), None);
    assert_eq!((played.connection.observers(), played.connection.unobserved()), (2, None));
    // An error is told, and ends it.
    let told = publish(&mut played, 7, &Response::new(Code::NOT_FOUND));
    assert_eq!((told.len(), told[0].code), (1, Code::NOT_FOUND));
    assert_eq!(told[0].options.get(OptionNumber::OBSERVE), None);
    assert_eq!(played.connection.unobserved(), Some(ResourceId(7)));
    assert!(publish(&mut played, 7, &content(b"third")).is_empty());
    assert_eq!(publish(&mut played, 8, &content(b"third")).len(), 1);
    // A long one comes in blocks, as any reply.
    let long = publish(&mut played, 8, &content(&[1; 3000]));
    assert!(block_of(&long[0]).unwrap().more);
}

#[test]
fn there_is_room_for_so_many_observers() {
    let mut played = Played::greeted(None, false);
    for token in 0..32 {
        observe(&mut played, token, u64::from(token));
    }
    let mut request = played.send(&get(99)).unwrap();
    let (now, owed) = (played.now, &mut request.owed);
    assert!(!played.connection.observe(now, owed, ResourceId(99)));
    played.reply(request, content(b"x"));
    assert_eq!(played.answer().options.get(OptionNumber::OBSERVE), None);
    assert_eq!(played.connection.observers(), 32);
}
