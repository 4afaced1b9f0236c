//! The whole of a connection's state for CoAP over TCP, driven by a stranger:
//! bytes in pieces, replies that come early, late or never, output that is taken
//! or left.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use libfuzzer_sys::fuzz_target;
use tinyfaas_coap::Peer;
use tinyfaas_coap::block::{BlockLimits, Blocks};
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::Code;
use tinyfaas_coap::observe::ResourceId;
use tinyfaas_coap::stream::frame::{Frame, Taken};
use tinyfaas_coap::stream::{Connection, Owed, StreamLimits, signal};

const REQUESTS_MAX: usize = 4;
const MESSAGE_BYTES_MAX: usize = 1 << 10;
const OBSERVERS_MAX: usize = 2;
const OUTPUT_BYTES_MAX: usize = 2 << 10;
const REPLY_BYTES_MAX: usize = 3 << 10;
const KEPT_BYTES_MAX: usize = 4 << 10;

/// What a frame takes beside a reply's payload.
const HEAD_BYTES: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let limits = StreamLimits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        sent_message_bytes_max: MESSAGE_BYTES_MAX,
        requests_max: REQUESTS_MAX,
        custodies_max: REQUESTS_MAX,
        output_bytes_max: OUTPUT_BYTES_MAX,
        observers_max: OBSERVERS_MAX,
    };
    let mut blocks = Blocks::new(
        BlockLimits {
            body_bytes_max: 2 << 10,
            assembling_bytes_max: KEPT_BYTES_MAX,
            stored_bytes_max: KEPT_BYTES_MAX,
            reply_bytes_max: REPLY_BYTES_MAX,
            ..BlockLimits::default()
        },
        1,
    );
    let peer = Peer { session: Some(1), ..Peer::at(SocketAddr::from(([192, 0, 2, 1], 1000))) };
    let mut connection = Connection::new(limits, peer, now);
    let (mut input, mut written) = (BytesMut::new(), BytesMut::new());
    let mut owed: Vec<Owed> = Vec::new();
    let mut rest = data;
    while let [what, size, tail @ ..] = rest {
        let (part, tail) = tail.split_at(tail.len().min(usize::from(*size)));
        rest = tail;
        match what % 8 {
            0 => now += Duration::from_secs(u64::from(*size)),
            1 | 2 if connection.takes_replies() && !owed.is_empty() => {
                let mut owed = owed.swap_remove(usize::from(*what >> 3) % owed.len());
                if *size > 99 {
                    connection.observe(now, &mut owed, ResourceId(u64::from(*what >> 5)));
                }
                let payload = vec![*size; usize::from(*size) * 11].into();
                let response = Response { payload, ..Response::new(Code::CONTENT) };
                connection.reply(now, &mut blocks, owed, response);
            }
            3 => {
                let output = connection.output();
                let count = output.remaining().min(usize::from(*size));
                written.extend_from_slice(&output.copy_to_bytes(count));
            }
            4 if *size == 0 => connection.release(),
            4 if *size < 9 && connection.takes_replies() => {
                let code = if *size == 8 { Code::NOT_FOUND } else { Code::CONTENT };
                let payload = vec![1; usize::from(*size) * 300].into();
                let response = Response { payload, ..Response::new(code) };
                let resource = ResourceId(u64::from(*what >> 5));
                connection.publish(now, &mut blocks, resource, &response);
                while connection.unobserved().is_some() {}
            }
            _ if connection.wants_input() => {
                connection.make_room(&mut input);
                assert!(input.capacity() - input.len() <= 4 * (4096 + MESSAGE_BYTES_MAX));
                input.extend_from_slice(part);
            }
            _ => {}
        }
        let ended = connection.has_ended();
        while let Some(request) = connection.advance(now, &mut input, &mut blocks) {
            assert!(!ended, "a stream that has ended asks for something");
            assert!(request.message.check_request().is_ok());
            owed.push(request.owed);
        }
        if connection.has_ended() {
            owed.clear();
        }
        assert!(connection.running() <= REQUESTS_MAX && owed.len() == connection.running());
        let one_more = OBSERVERS_MAX * REPLY_BYTES_MAX + REQUESTS_MAX * HEAD_BYTES;
        assert!(connection.observers() <= OBSERVERS_MAX);
        assert!(connection.output_bytes() <= OUTPUT_BYTES_MAX + one_more + HEAD_BYTES);
        blocks.expire(now);
        assert!(blocks.assembling_bytes() <= KEPT_BYTES_MAX);
        assert!(blocks.stored_bytes() <= KEPT_BYTES_MAX);
    }
    for owed in owed {
        connection.reply(now, &mut blocks, owed, Response::new(Code::CHANGED));
    }
    assert_eq!(connection.running(), 0);
    let output = connection.output();
    written.extend_from_slice(&output.copy_to_bytes(output.remaining()));
    check(&mut written);
    connection.forget(&mut blocks);
    assert_eq!((blocks.assembling_bytes(), blocks.stored_bytes()), (0, 0));
});

/// What was written is messages: this end's CSM, then responses and signals, and
/// nothing after an Abort.
fn check(written: &mut BytesMut) {
    let mut last = None;
    while let Taken::Frame(frame) = Frame::take(written, 1 << 20).expect("it is well-formed") {
        assert_eq!(last.is_none(), frame.code == signal::CSM);
        assert!(frame.code.is_response() || frame.code.class() == 7);
        assert_ne!(last, Some(signal::ABORT));
        last = Some(frame.code);
    }
}
