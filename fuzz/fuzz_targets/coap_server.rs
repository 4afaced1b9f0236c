//! The whole of the server's state for CoAP, driven by a stranger: datagrams from
//! a few sources, time that passes, replies that come early, late or never,
//! resources that are observed and change.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tinyfaas_coap::Peer;
use tinyfaas_coap::block::BlockLimits;
use tinyfaas_coap::exchange::{Limits, Output, Response};
use tinyfaas_coap::message::{Code, Kind, Message};
use tinyfaas_coap::observe::{ObserverLimits, ResourceId};
use tinyfaas_coap::server::{Owed, Server};

const CALLS_MAX: usize = 8;
const CONFIRMABLES_MAX: usize = 4;
const BYTES_MAX: usize = 4 << 10;
const OBSERVERS_MAX: usize = 6;
const REMEMBERED_MAX: usize = 5;

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let limits = Limits {
        calls_max: CALLS_MAX,
        confirmables_max: CONFIRMABLES_MAX,
        remembered_bytes_max: BYTES_MAX,
        notifications_remembered_max: REMEMBERED_MAX,
        observers: ObserverLimits {
            observers_max: OBSERVERS_MAX,
            observers_per_source_max: 4,
            non_confirmable_max: 2,
            ..ObserverLimits::default()
        },
        ..Limits::default()
    };
    let blocks = BlockLimits {
        body_bytes_max: 2 << 10,
        assembling_bytes_max: BYTES_MAX,
        stored_bytes_max: BYTES_MAX,
        reply_bytes_max: 2 << 10,
        ..BlockLimits::default()
    };
    let mut server = Server::new(limits, blocks, 1, now);
    let mut owed: Vec<Owed> = Vec::new();
    let mut rest = data;
    while let [what, size, tail @ ..] = rest {
        let (part, tail) = tail.split_at(tail.len().min(usize::from(*size)));
        rest = tail;
        let mut given = 0;
        match what % 9 {
            // Time passes, up to two minutes at once.
            0 => now += Duration::from_millis(u64::from(*size) * 500),
            1 => {
                if !owed.is_empty() {
                    let mut owed = owed.swap_remove(usize::from(*what >> 3) % owed.len());
                    if size & 2 != 0 {
                        server.observe(now, &mut owed, resource(*what));
                    }
                    server.reply(now, owed, reply(*size));
                }
            }
            2 => server.forget(&peer(*what)),
            3 => server.publish(now, resource(*what), &reply(*size)),
            _ => {
                given = 1;
                let datagram = Bytes::copy_from_slice(part);
                if let Some(request) = server.receive(now, peer(*what), &datagram) {
                    owed.push(request.owed);
                }
            }
        }
        server.expire(now);
        assert!(server.deadline().is_none_or(|due| due > now), "a deadline stands still");
        drain(&mut server, &mut owed, given);
        check(&server);
    }
    for owed in owed.drain(..) {
        server.reply(now, owed, reply(3));
    }
    // Left alone, it comes to rest.
    while let Some(due) = server.deadline() {
        server.expire(due);
        while server.poll().is_some() {}
    }
    assert_eq!((server.exchange().calls(), server.exchange().confirmables()), (0, 0));
    assert_eq!((server.blocks().assembling_bytes(), server.blocks().stored_bytes()), (0, 0));
    // An error ends whatever is still observed.
    for what in 0..2 {
        server.publish(now, resource(what), &Response::new(Code::NOT_FOUND));
    }
    assert!(server.all_observers().is_empty());
});

fn resource(what: u8) -> ResourceId {
    ResourceId(u64::from(what & 1))
}

fn peer(what: u8) -> Peer {
    let ip = if what & 0x40 == 0 { [127, 0, 0, 1] } else { [192, 0, 2, 1] };
    Peer::at(SocketAddr::from((ip, 1000 + u16::from(what >> 7))))
}

fn reply(size: u8) -> Response {
    let code = if size == 0xfe { Code::NOT_FOUND } else { Code::CONTENT };
    Response { payload: vec![size; usize::from(size) * 9].into(), ..Response::new(code) }
}

/// What is sent is well-formed, and a datagram is never answered by more than an
/// acknowledgement and a reply.
fn drain(server: &mut Server, owed: &mut Vec<Owed>, given: usize) {
    let mut answers = 0;
    while let Some(output) = server.poll() {
        match output {
            Output::Send(_, datagram) => {
                let message = Message::decode(&datagram).expect("what is sent is a message");
                assert!(!message.code.is_request());
                if message.kind == Kind::Reset {
                    assert!(message.code.is_empty() && given == 1);
                }
                answers += 1;
            }
            Output::Cancel(call) => owed.retain(|owed| owed.call() != call),
            Output::Unobserved(resource) => assert_eq!(server.observers(resource), 0),
        }
    }
    let most = 2 * given + CALLS_MAX + 2 * CONFIRMABLES_MAX + OBSERVERS_MAX;
    assert!(answers <= most, "{answers} answers");
}

fn check(server: &Server) {
    assert!(server.exchange().calls() <= CALLS_MAX);
    assert!(server.exchange().confirmables() <= CONFIRMABLES_MAX);
    assert!(server.exchange().notifications_remembered() <= REMEMBERED_MAX);
    assert!(server.all_observers().len() <= OBSERVERS_MAX);
    assert!(server.exchange().remembered_bytes() <= BYTES_MAX);
    assert!(server.blocks().assembling_bytes() <= BYTES_MAX);
    assert!(server.blocks().stored_bytes() <= BYTES_MAX);
}
