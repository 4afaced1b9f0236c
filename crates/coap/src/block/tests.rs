use super::*;
use crate::exchange::{Limits, Output};
use crate::message::{Kind, MessageId};
use crate::server::{Request, Server};
use std::net::SocketAddr;

/// A server whose function answers as it is told, and counts its runs.
struct Played {
    server: Server,
    now: Instant,
    from: Peer,
    id: u16,
    runs: Vec<Bytes>,
    answer: Response,
}

impl Played {
    fn new(limits: BlockLimits) -> Played {
        let now = Instant::now();
        Played {
            server: Server::new(Limits::default(), limits, 5, now),
            now,
            from: Peer::at(SocketAddr::from(([127, 0, 0, 1], 4000))),
            id: 0,
            runs: Vec::new(),
            answer: Response::new(Code::CHANGED),
        }
    }

    fn send(
        &mut self,
        code: Code,
        options: &[(OptionNumber, u32)],
        body: &[u8],
    ) -> Option<Request> {
        let mut builder = OptionsBuilder::new();
        builder.push(OptionNumber::URI_PATH, b"fn").unwrap();
        for (number, value) in options {
            builder.push_uint(*number, *value);
        }
        self.id += 1;
        let message = Message {
            code,
            options: builder.build(),
            payload: Bytes::copy_from_slice(body),
            ..Message::empty(Kind::Confirmable, MessageId(self.id))
        };
        self.server.receive(self.now, self.from, &message.encode())
    }

    fn ask(&mut self, code: Code, options: &[(OptionNumber, u32)], body: &[u8]) -> Message {
        if let Some(request) = self.send(code, options, body) {
            self.runs.push(request.message.payload.clone());
            let answer = self.answer.clone();
            self.server.reply(self.now, request.owed, answer);
        }
        let Some(Output::Send(_, datagram)) = self.server.poll() else {
            panic!("nothing was sent");
        };
        assert_eq!(self.server.poll(), None);
        Message::decode(&datagram).unwrap()
    }

    /// Sends a body in blocks of this exponent; returns the last answer.
    fn upload(
        &mut self,
        code: Code,
        body: &[u8],
        exponent: u8,
        options: &[(OptionNumber, u32)],
    ) -> Message {
        let blocks: Vec<_> = body.chunks(16 << exponent).collect();
        for (number, part) in blocks.iter().enumerate() {
            let last = number + 1 == blocks.len();
            let block = block(number as u32, !last, exponent);
            let mut options = options.to_vec();
            options.push((OptionNumber::BLOCK1, block.to_uint()));
            let reply = self.ask(code, &options, part);
            if reply.code != Code::CONTINUE || last {
                return reply;
            }
            assert_eq!(of(&reply, OptionNumber::BLOCK1), Some(block));
        }
        panic!("an empty body has no blocks");
    }

    /// Fetches the rest of a reply.
    fn rest(&mut self, code: Code, first: &Message, exponent: u8) -> Vec<u8> {
        let etag = first.options.get(OptionNumber::ETAG).map(<[u8]>::to_vec);
        let mut body = first.payload.to_vec();
        let mut more = of(first, OptionNumber::BLOCK2).is_some_and(|block| block.more);
        while more {
            let number = (body.len() >> (4 + exponent)) as u32;
            let asked = block(number, false, exponent).to_uint();
            let reply = self.ask(code, &[(OptionNumber::BLOCK2, asked)], b"");
            let block = of(&reply, OptionNumber::BLOCK2).unwrap();
            assert_eq!((reply.code, block.offset()), (first.code, body.len()));
            assert_eq!(reply.options.get(OptionNumber::ETAG).map(<[u8]>::to_vec), etag);
            body.extend_from_slice(&reply.payload);
            more = block.more;
        }
        body
    }
}

fn block(number: u32, more: bool, exponent: u8) -> Block {
    Block { number, more, exponent }
}

fn of(message: &Message, number: OptionNumber) -> Option<Block> {
    Block::read(message.options.get(number)?)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * n / 7) as u8).collect()
}

#[test]
fn an_option_comes_back_and_the_reserved_size_does_not() {
    for value in [0, 1, 8, 6, 0xf_ffff << 4 | 14, 1 << 4 | 8] {
        let block = Block::read(&u32::to_be_bytes(value)[1..]).unwrap();
        assert_eq!(block.to_uint(), value);
    }
    assert_eq!(Block::read(&[7]).unwrap().exponent, Block::BERT);
    assert_eq!(Block::read(&[1, 0, 0, 0]), None);
    assert_eq!(Block::read(&[0, 0, 0, 0x1e]).unwrap(), block(1, true, 6));
    let mut played = Played::new(BlockLimits::default());
    let reply = played.ask(Code::PUT, &[(OptionNumber::BLOCK1, 7)], b"x");
    assert_eq!((reply.code, played.runs.len()), (Code::BAD_REQUEST, 0));
}

#[test]
fn a_long_request_runs_once_with_its_whole_body() {
    for (length, exponent) in [(1, 0), (16, 0), (17, 0), (3000, 6), (3000, 2), (4096, 5)] {
        let mut played = Played::new(BlockLimits::default());
        let body = bytes(length);
        let reply = played.upload(Code::PUT, &body, exponent, &[]);
        assert_eq!(reply.code, Code::CHANGED);
        assert_eq!(played.runs, [Bytes::from(body)]);
        let last = of(&reply, OptionNumber::BLOCK1).unwrap();
        assert_eq!((last.more, last.number as usize), (false, (length - 1) >> (4 + exponent)));
        assert_eq!(played.server.blocks().assembling_bytes(), 0);
    }
}

#[test]
fn gaps_are_4_08_and_block_0_begins_again() {
    let mut played = Played::new(BlockLimits::default());
    let mut put = |number, more, body: &[u8]| {
        let value = block(number, more, 0).to_uint();
        let reply = played.ask(Code::PUT, &[(OptionNumber::BLOCK1, value)], body);
        (reply.code, played.runs.len())
    };
    let (a, b) = ([b'a'; 16], [b'b'; 16]);
    assert_eq!(put(1, true, &a), (Code::REQUEST_ENTITY_INCOMPLETE, 0));
    assert_eq!(put(0, true, &a), (Code::CONTINUE, 0));
    assert_eq!(put(2, true, &a), (Code::REQUEST_ENTITY_INCOMPLETE, 0));
    assert_eq!(put(2, false, &a), (Code::REQUEST_ENTITY_INCOMPLETE, 0));
    assert_eq!(put(1, true, &a), (Code::CONTINUE, 0));
    // Once more, under another message ID: it was taken.
    assert_eq!(put(1, true, &a), (Code::CONTINUE, 0));
    assert_eq!(put(1, true, &a[1..]), (Code::BAD_REQUEST, 0));
    assert_eq!(put(0, true, &b), (Code::CONTINUE, 0));
    assert_eq!(put(1, false, b"end"), (Code::CHANGED, 1));
    assert_eq!(put(1, false, b"end"), (Code::REQUEST_ENTITY_INCOMPLETE, 1));
    let expected = [&b[..], b"end"].concat();
    assert_eq!(played.runs, [Bytes::from(expected)]);
}

#[test]
fn a_client_may_go_on_with_smaller_blocks() {
    let mut played = Played::new(BlockLimits::default());
    let first = block(0, true, 1).to_uint();
    played.ask(Code::PUT, &[(OptionNumber::BLOCK1, first)], &[1; 32]);
    let second = block(2, false, 0).to_uint();
    played.ask(Code::PUT, &[(OptionNumber::BLOCK1, second)], &[2; 16]);
    assert_eq!(played.runs[0].len(), 48);
}

#[test]
fn endpoints_methods_formats_and_tags_are_bodies_of_their_own() {
    let mut played = Played::new(BlockLimits::default());
    let tag = |value| (OptionNumber::REQUEST_TAG, value);
    let one = (OptionNumber::BLOCK1, block(0, true, 0).to_uint());
    let two = (OptionNumber::BLOCK1, block(1, false, 0).to_uint());
    played.ask(Code::PUT, &[one, tag(1)], &[1; 16]);
    played.ask(Code::PUT, &[one, tag(2)], &[2; 16]);
    let other = played.ask(Code::POST, &[two, tag(1)], b"x");
    assert_eq!(other.code, Code::REQUEST_ENTITY_INCOMPLETE);
    played.ask(Code::PUT, &[two, tag(1)], b"one");
    played.ask(Code::PUT, &[two, tag(2)], b"two");
    assert_eq!(played.runs[0], [&[1; 16][..], b"one"].concat());
    assert_eq!(played.runs[1], [&[2; 16][..], b"two"].concat());
    played.ask(Code::PUT, &[one], &[1; 16]);
    let other = played.ask(Code::PUT, &[two, (OptionNumber::CONTENT_FORMAT, 50)], b"x");
    assert_eq!(other.code, Code::REQUEST_ENTITY_INCOMPLETE);
    played.from.remote.set_port(4001);
    let reply = played.ask(Code::PUT, &[two], b"x");
    assert_eq!(reply.code, Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn bodies_are_bounded_in_bytes_and_time() {
    let mut played = Played::new(BlockLimits {
        body_bytes_max: 1000,
        assembling_bytes_max: 1500,
        ..BlockLimits::default()
    });
    let first = (OptionNumber::BLOCK1, block(0, true, 5).to_uint());
    let announced = (OptionNumber::SIZE1, 1001);
    let early = played.ask(Code::PUT, &[first, announced], &[1; 512]);
    assert_eq!(early.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(early.options.uint(OptionNumber::SIZE1), Some(1000));
    let late = played.upload(Code::PUT, &bytes(1001), 5, &[]);
    assert_eq!(late.code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(played.ask(Code::PUT, &[], &bytes(1001)).code, Code::REQUEST_ENTITY_TOO_LARGE);
    assert_eq!(played.server.blocks().assembling_bytes(), 0);
    // Those of others give way only once they have waited for long.
    assert_eq!(played.ask(Code::PUT, &[first], &[1; 512]).code, Code::CONTINUE);
    played.from.remote.set_port(4001);
    let refused = played.upload(Code::PUT, &bytes(1000), 5, &[]);
    assert_eq!(refused.code, Code::SERVICE_UNAVAILABLE);
    assert!(played.server.blocks().assembling_bytes() <= 1500);
    played.now += Duration::from_secs(30);
    assert_eq!(played.upload(Code::PUT, &bytes(1000), 5, &[]).code, Code::CHANGED);
    assert_eq!(played.ask(Code::PUT, &[first], &[1; 512]).code, Code::CONTINUE);
    let due = played.server.deadline().unwrap();
    assert_eq!(due, played.now + Duration::from_secs(247));
    played.server.expire(due);
    assert_eq!(played.server.blocks().assembling_bytes(), 0);
    assert_eq!(played.server.deadline(), None);
}

#[test]
fn a_long_reply_is_fetched_with_one_run() {
    for (length, exponent) in [(1025, 6), (70_000, 6), (1 << 20, 6), (5000, 0), (4096, 3)] {
        let mut played = Played::new(BlockLimits::default());
        played.answer = Response { payload: bytes(length).into(), ..Response::new(Code::CONTENT) };
        let asked = (OptionNumber::BLOCK2, block(0, false, exponent).to_uint());
        // Early negotiation; without, the server's own size.
        let first = played.ask(Code::GET, &[asked], b"");
        assert_eq!(first.payload.len(), 16 << exponent);
        assert_eq!(first.options.uint(OptionNumber::SIZE2), Some(length as u32));
        assert!(played.rest(Code::GET, &first, exponent) == bytes(length));
        let first = played.ask(Code::GET, &[], b"");
        assert_eq!(first.payload.len(), 1024);
        // Late negotiation.
        assert!(played.rest(Code::GET, &first, exponent) == bytes(length));
        assert_eq!(played.runs.len(), 2);
    }
}

#[test]
fn short_replies_are_left_alone() {
    let mut played = Played::new(BlockLimits::default());
    played.answer = Response { payload: bytes(1024).into(), ..Response::new(Code::CONTENT) };
    let reply = played.ask(Code::GET, &[], b"");
    assert!(reply.options.is_empty());
    assert_eq!(reply.payload.len(), 1024);
    let asked = (OptionNumber::BLOCK2, block(0, false, 6).to_uint());
    let reply = played.ask(Code::GET, &[asked], b"");
    assert_eq!(of(&reply, OptionNumber::BLOCK2), Some(block(0, false, 6)));
    assert_eq!(played.server.blocks().stored_bytes(), 0);
}

#[test]
fn what_is_not_kept_is_never_run_again() {
    let mut played = Played::new(BlockLimits { stored_bytes_max: 3000, ..BlockLimits::default() });
    played.answer = Response { payload: bytes(2000).into(), ..Response::new(Code::CONTENT) };
    let asked = |number| [(OptionNumber::BLOCK2, block(number, false, 6).to_uint())];
    let gone = Code::REQUEST_ENTITY_INCOMPLETE;
    assert_eq!(played.ask(Code::GET, &asked(1), b"").code, gone);
    played.ask(Code::GET, &[], b"");
    assert_eq!(played.ask(Code::GET, &asked(1), b"").code, Code::CONTENT);
    assert_eq!(played.ask(Code::GET, &asked(2), b"").code, Code::BAD_REQUEST);
    assert_eq!(played.ask(Code::GET, &asked(0xf_ffff), b"").code, Code::BAD_REQUEST);
    assert_eq!(played.ask(Code::POST, &asked(1), b"").code, gone);
    // Another's reply takes its place.
    played.from.remote.set_port(4001);
    played.ask(Code::GET, &[], b"");
    assert!(played.server.blocks().stored_bytes() <= 3000);
    played.from.remote.set_port(4000);
    assert_eq!(played.ask(Code::GET, &asked(1), b"").code, gone);
    played.from.remote.set_port(4001);
    played.now += Duration::from_secs(247);
    assert_eq!(played.ask(Code::GET, &asked(1), b"").code, gone);
    assert_eq!(played.runs.len(), 2);
}

#[test]
fn long_both_ways() {
    for code in [Code::FETCH, Code::POST, Code::PATCH, Code::IPATCH] {
        let mut played = Played::new(BlockLimits::default());
        played.answer = Response { payload: bytes(3000).into(), ..Response::new(Code::CONTENT) };
        let size = (OptionNumber::BLOCK2, block(0, false, 4).to_uint());
        let tag = (OptionNumber::REQUEST_TAG, 9);
        let first = played.upload(code, &bytes(2500), 4, &[size, tag]);
        assert_eq!(of(&first, OptionNumber::BLOCK1), Some(block(9, false, 4)));
        assert_eq!(of(&first, OptionNumber::BLOCK2), Some(block(0, true, 4)));
        // The tag need not come with what follows.
        assert!(played.rest(code, &first, 4) == bytes(3000));
        assert_eq!(played.runs, [Bytes::from(bytes(2500))]);
    }
}

#[test]
fn who_is_not_proven_gets_small_blocks_and_a_reply_too_long_is_5_00() {
    let mut played = Played::new(BlockLimits { reply_bytes_max: 5000, ..BlockLimits::default() });
    played.answer = Response { payload: bytes(5000).into(), ..Response::new(Code::CONTENT) };
    played.from = Peer::at(SocketAddr::from(([192, 0, 2, 1], 4000)));
    let request = played.send(Code::GET, &[], b"").unwrap();
    let answer = played.answer.clone();
    played.server.reply(played.now, request.owed, answer);
    let sent: Vec<_> = std::iter::from_fn(|| played.server.poll()).collect();
    let Some(Output::Send(_, datagram)) = sent.last() else {
        panic!("nothing was sent");
    };
    assert_eq!(Message::decode(datagram).unwrap().payload.len(), 512);
    played.from = Peer::at(SocketAddr::from(([127, 0, 0, 1], 4000)));
    played.answer.payload = bytes(5001).into();
    assert_eq!(played.ask(Code::GET, &[], b"").code, Code::INTERNAL_SERVER_ERROR);
}

/// A request in a block, given to the transfers as a stream does.
fn on_a_stream(code: Code, options: &[(OptionNumber, Block)], body: &[u8]) -> Message {
    let mut builder = OptionsBuilder::new();
    for (number, block) in options {
        builder.push_uint(*number, block.to_uint());
    }
    let payload = Bytes::copy_from_slice(body);
    let options = builder.build();
    Message { code, options, payload, ..Message::empty(Kind::Confirmable, MessageId(0)) }
}

#[test]
fn a_stream_carries_many_blocks_at_once_both_ways() {
    let (now, peer) = (Instant::now(), Peer::at(SocketAddr::from(([192, 0, 2, 1], 4000))));
    let mut blocks = Blocks::new(BlockLimits::default(), 1);
    let carrier = Carrier::Stream { message_bytes_max: 6000, bert: true };
    let body = bytes(10_000);
    let bert = |number, more| block(number, more, Block::BERT);
    let mut send = |number: u32, more, part: &[u8]| {
        let options = [(OptionNumber::BLOCK1, bert(number, more))];
        blocks.request(now, peer, on_a_stream(Code::FETCH, &options, part), carrier)
    };
    let code = |step: Step| match step {
        Step::Answer(response) => response.code,
        Step::Run(..) => panic!("it ran"),
    };
    for wrong in [&body[..1000], &body[..1500], &[]] {
        assert_eq!(code(send(0, true, wrong)), Code::BAD_REQUEST);
    }
    assert_eq!(code(send(0, true, &body[..2048])), Code::CONTINUE);
    assert_eq!(code(send(3, true, &body[3072..5120])), Code::REQUEST_ENTITY_INCOMPLETE);
    assert_eq!(code(send(2, true, &body[2048..8192])), Code::CONTINUE);
    let Step::Run(message, transfer) = send(8, false, &body[8192..]) else {
        panic!("the body is whole");
    };
    assert_eq!(message.payload, body);
    let reply = Response { payload: message.payload, ..Response::new(Code::CONTENT) };
    let first = blocks.reply(now, &transfer, reply, carrier);
    let mut fetched = first.payload.to_vec();
    let mut told = first.options;
    while Block::read(told.get(OptionNumber::BLOCK2).unwrap()).unwrap().more {
        assert!(fetched.len().is_multiple_of(5120));
        let options = [(OptionNumber::BLOCK2, bert((fetched.len() / 1024) as u32, false))];
        let asked = on_a_stream(Code::FETCH, &options, b"");
        let Step::Answer(next) = blocks.request(now, peer, asked, carrier) else {
            panic!("it ran again");
        };
        fetched.extend_from_slice(&next.payload);
        told = next.options;
    }
    assert_eq!(fetched, body);
    blocks.forget(&peer);
    assert_eq!((blocks.assembling_bytes(), blocks.stored_bytes()), (0, 0));
}

#[test]
fn a_reply_is_cut_to_what_the_peer_takes() {
    let (now, peer) = (Instant::now(), Peer::at(SocketAddr::from(([192, 0, 2, 1], 4000))));
    let mut blocks = Blocks::new(BlockLimits::default(), 1);
    let mut check = |message_bytes_max, bert, asked: Option<u8>, cut: Option<(u8, usize)>| {
        let options = asked.map(|exponent| (OptionNumber::BLOCK2, block(0, false, exponent)));
        let carrier = Carrier::Stream { message_bytes_max, bert };
        let asked = on_a_stream(Code::GET, options.as_slice(), b"");
        let Step::Run(_, transfer) = blocks.request(now, peer, asked, carrier) else {
            panic!("there is nothing to wait for");
        };
        let reply = Response { payload: bytes(3000).into(), ..Response::new(Code::CONTENT) };
        let reply = blocks.reply(now, &transfer, reply, carrier);
        let told = reply.options.get(OptionNumber::BLOCK2).and_then(Block::read);
        assert_eq!(told.map(|block| (block.exponent, reply.payload.len())), cut);
    };
    check(5000, true, None, None);
    check(5000, true, Some(7), Some((7, 3000)));
    check(5000, true, Some(6), Some((6, 1024)));
    check(3000, true, None, Some((7, 2048)));
    check(3000, false, None, Some((6, 1024)));
    check(3000, false, Some(7), Some((7, 2048)));
    check(1152, false, None, Some((6, 1024)));
    check(1000, true, Some(7), Some((5, 512)));
    check(100, false, None, Some((1, 32)));
    // There is room for nothing.
    check(48, false, None, None);
}
