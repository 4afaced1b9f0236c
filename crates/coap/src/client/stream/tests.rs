use super::*;
use crate::block::{BlockLimits, Blocks};
use crate::message::{Code, OptionsBuilder};
use crate::peer::Peer;
use crate::stream::{Connection, StreamLimits};
use bytes::{Buf, Bytes};
use proptest::prelude::*;

/// A client, a server whose function returns its body, and the bytes between them.
struct Played {
    client: StreamClient,
    server: Connection,
    blocks: Blocks,
    to_client: BytesMut,
    to_server: BytesMut,
    now: Instant,
    runs: usize,
    /// How many bytes pass at a time.
    step: usize,
}

impl Played {
    fn new(limits: ClientLimits, server: StreamLimits, step: usize) -> Played {
        let now = Instant::now();
        let peer = Peer { session: Some(1), ..Peer::at(([127, 0, 0, 1], 5).into()) };
        Played {
            client: StreamClient::new(limits, 3),
            server: Connection::new(server, peer, now),
            blocks: Blocks::new(BlockLimits::default(), 9),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            now,
            runs: 0,
            step,
        }
    }

    fn ask(&mut self, body: Vec<u8>, wants_reply: bool) -> Outcome {
        let mut options = OptionsBuilder::new();
        options.push(OptionNumber::URI_PATH, b"fn").unwrap();
        let (code, payload) = (Code::POST, Bytes::from(body));
        let call = Call { code, confirmable: true, wants_reply, options: options.build(), payload };
        self.client.call(self.now, call);
        for _ in 0..1_000_000 {
            carry(self.client.output(), &mut self.to_server, self.step);
            while let Some(request) =
                self.server.advance(self.now, &mut self.to_server, &mut self.blocks)
            {
                self.runs += 1;
                let payload = request.message.payload;
                let response = Response { payload, ..Response::new(Code::CHANGED) };
                self.server.reply(self.now, &mut self.blocks, request.owed, response);
            }
            carry(self.server.output(), &mut self.to_client, self.step);
            self.client.receive(self.now, &mut self.to_client);
            if self.client.output().remaining() == 0
                && let Some(outcome) = self.client.ended()
            {
                return outcome;
            }
        }
        panic!("it does not end");
    }
}

fn carry(from: &mut StreamOutput, to: &mut BytesMut, most: usize) {
    let mut left = most;
    while from.has_remaining() && left > 0 {
        let part = from.chunk().len().min(left);
        to.extend_from_slice(&from.chunk()[..part]);
        from.advance(part);
        left -= part;
    }
}

fn check(bytes: usize, ours: usize, theirs: usize, step: usize) {
    let limits = ClientLimits { message_bytes_max: ours, ..ClientLimits::default() };
    let server = StreamLimits { message_bytes_max: theirs, ..StreamLimits::default() };
    let mut played = Played::new(limits, server, step);
    let body: Vec<u8> = (0..bytes).map(|n| (n / 16) as u8).collect();
    for run in 1..3 {
        let reply = played.ask(body.clone(), true).expect("no error").expect("a reply");
        assert_eq!(reply.code, Code::CHANGED);
        assert!(reply.payload == body, "{bytes} {ours} {theirs}");
        assert!(reply.options.get(OptionNumber::BLOCK2).is_none());
        assert_eq!(played.runs, run, "{bytes} {ours} {theirs}");
    }
}

#[test]
fn bodies_of_all_sizes_go_both_ways() {
    for bytes in [0, 1, 1024, 1025, 131_000, 132_096, 133_000, 1_000_000, 4 << 20] {
        check(bytes, 129 << 10, 129 << 10, usize::MAX);
    }
    // Blocks of 1,024 bytes one way or both, small ones, what only just fits.
    for (ours, theirs) in [(1152, 1152), (1152, 129 << 10), (129 << 10, 1152), (300, 300)] {
        for bytes in [1, 100, 1024, 20_000] {
            check(bytes, ours, theirs, 777);
        }
    }
}

proptest! {
    #[test]
    fn however_bytes_arrive(bytes in 0usize..5000, ours in 256usize..3000, theirs in 256usize..3000, step in 1usize..2000) {
        check(bytes, ours, theirs, step);
    }

    /// Whatever a server sends, a call ends, and once.
    #[test]
    fn anything_may_arrive(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let now = Instant::now();
        let mut client = StreamClient::new(ClientLimits::default(), 1);
        let code = Code::GET;
        let (options, payload) = (crate::message::Options::EMPTY, Bytes::new());
        client.call(now, Call { code, confirmable: true, wants_reply: true, options, payload });
        client.receive(now, &mut BytesMut::from(&input[..]));
        client.close();
        prop_assert!(client.ended().expect("it ends").is_err());
        prop_assert!(client.ended().is_none() && client.deadline().is_none());
    }
}

#[test]
fn nothing_is_waited_for_where_nothing_is_wanted() {
    let mut played = Played::new(ClientLimits::default(), StreamLimits::default(), usize::MAX);
    assert_eq!(played.ask(vec![7; 10], false), Ok(None));
}

#[test]
fn what_ends_a_stream_is_told() {
    let call = || Call {
        code: Code::GET,
        confirmable: true,
        wants_reply: true,
        options: crate::message::Options::EMPTY,
        payload: Bytes::new(),
    };
    let check = |frames: &[Frame], expected: CallError| {
        let now = Instant::now();
        let mut client = StreamClient::new(ClientLimits::default(), 1);
        client.call(now, call());
        let mut input = BytesMut::new();
        for frame in frames {
            input.extend_from_slice(&frame.encode_head());
            input.extend_from_slice(&frame.payload);
        }
        client.receive(now, &mut input);
        if client.over.is_none() {
            client.expire(client.deadline().expect("it waits"));
        }
        assert_eq!(client.ended(), Some(Err(expected.clone())));
        if client.over.is_some() {
            client.call(now, call());
            assert_eq!(client.ended(), Some(Err(expected)));
        }
    };
    let greeting = signal::capabilities(2000);
    check(&[], CallError::NoGreeting(10));
    check(std::slice::from_ref(&greeting), CallError::NoReply(600));
    check(
        &[greeting.clone(), signal::abort("no more".into())],
        CallError::Aborted("no more".into()),
    );
    let mut options = OptionsBuilder::new();
    options.push_uint(signal::MAX_MESSAGE_SIZE, 10);
    let small = Frame { options: options.build(), ..Frame::new(signal::CSM) };
    let why = "a Max-Message-Size of 10 is too small to be served, the least is 64";
    check(&[small], CallError::Aborted(why.into()));
}

#[test]
fn a_ping_is_answered() {
    let now = Instant::now();
    let mut client = StreamClient::new(ClientLimits::default(), 1);
    client.output = StreamOutput::default();
    let ping = Frame { token: Token::new(b"x").unwrap(), ..Frame::new(signal::PING) };
    client.receive(now, &mut BytesMut::from(&ping.encode_head()[..]));
    let pong = signal::pong(Token::new(b"x").unwrap(), false).encode_head();
    assert_eq!(client.output().chunk(), &pong[..]);
}
