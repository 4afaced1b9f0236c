//! A door for the fuzz targets, there only in their builds: the sessions between a
//! client that has a key and a network that belongs to somebody else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimpl::{Config, Dtls, PskResolver};

use super::library::cryptography;
use super::{DtlsConfig, Output, Sessions};
use crate::coap::keys::PskKeys;

const SESSIONS_MAX: usize = 3;
const HANDSHAKES_MAX: usize = 4;

struct Key;

impl PskResolver for Key {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(b"a key of sixteen".into())
    }
}

/// Made once: the library tries all of its cryptography when it is.
static CLIENT: LazyLock<Arc<Config>> = LazyLock::new(|| {
    let config = Config::builder()
        .with_crypto_provider(cryptography())
        .dtls13_cipher_suites(&[])
        .with_psk_client(b"anna".into(), Arc::new(Key))
        .build();
    Arc::new(config.expect("the library takes its own cryptography"))
});

fn client(now: Instant) -> Option<Dtls> {
    let mut dtls = Dtls::new_12_psk(Arc::clone(&CLIENT), now);
    dtls.set_active(true);
    dtls.handle_timeout(now).ok()?;
    Some(dtls)
}

fn drain(client: &mut Dtls) -> Vec<Vec<u8>> {
    let (mut sent, mut buffer) = (Vec::new(), vec![0; 20_000]);
    loop {
        match client.poll_output(&mut buffer) {
            dimpl::Output::Packet(packet) => sent.push(packet.to_vec()),
            dimpl::Output::Timeout(_) => return sent,
            _ => {}
        }
    }
}

fn at(choice: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, choice % 6], 1000 + u16::from(choice % 2)))
}

/// Any text of keys is read or refused, and any datagrams, damaged, late, doubled or
/// made up, leave the sessions within their bounds.
pub fn sessions(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = PskKeys::parse_lines(text).map(|keys| keys.warnings());
        let _ = PskKeys::parse_list(text).map(|keys| keys.warnings());
    }
    let mut now = Instant::now();
    let Ok(keys) = PskKeys::parse_list("anna:a key of sixteen") else { return };
    let config = DtlsConfig {
        sessions_max: SESSIONS_MAX,
        handshakes_max: HANDSHAKES_MAX,
        ..DtlsConfig::default()
    };
    let mut sessions = Sessions::new(config, Arc::new(keys), [5; 32], now);
    let Some(mut anna) = client(now) else { return };
    let (mut home, mut highest) = (at(0), 0);
    let mut to_server = VecDeque::<Vec<u8>>::new();
    let mut to_client = VecDeque::<Bytes>::new();
    let mut rest = data;
    while let [what, more, tail @ ..] = rest {
        rest = tail;
        to_server.extend(drain(&mut anna));
        match what % 12 {
            // Most of the time the network does what it should.
            0..=3 => {
                if let Some(datagram) = to_server.pop_front() {
                    sessions.receive(now, home, None, &datagram);
                }
                if let Some(datagram) = to_client.pop_front() {
                    let _ = anna.handle_packet(&datagram);
                }
            }
            4 => drop(to_server.pop_front()),
            5 => drop(to_client.pop_front()),
            // Twice, damaged, or from elsewhere.
            6 => {
                if let Some(datagram) = to_server.front() {
                    let mut datagram = datagram.clone();
                    let index = usize::from(*more) % datagram.len();
                    datagram[index] ^= what >> 4;
                    sessions.receive(
                        now,
                        if what & 16 == 0 { home } else { at(*more) },
                        None,
                        &datagram,
                    );
                }
            }
            // Made up, as a record or not.
            7 => {
                let (part, tail) = rest.split_at(rest.len().min(usize::from(*more)));
                rest = tail;
                let mut record =
                    vec![20 + (what >> 4) % 4, 0xfe, 0xfd, 0, what >> 7, 0, 0, 0, 0, 1, *more];
                record.extend((part.len() as u16).to_be_bytes());
                record.extend(part);
                sessions.receive(now, home, None, &record);
                sessions.receive(now, at(*what >> 4), None, part);
            }
            8 => {
                now += Duration::from_millis(u64::from(*more) * u64::from(*more));
                sessions.expire(now);
                let _ = anna.handle_timeout(now);
            }
            9 => {
                let _ = anna.send_application_data(&data[..data.len().min(usize::from(*more))]);
            }
            10 => sessions.send(now, u64::from(*more % 8), b"news"),
            // The client restarts, where it was or elsewhere.
            _ => {
                let Some(again) = client(now) else { return };
                (anna, home) = (again, if more % 3 == 0 { home } else { at(*more) });
            }
        }
        while let Some(output) = sessions.poll() {
            match output {
                Output::Send(remote, _, datagram) if remote == home => {
                    to_client.push_back(datagram)
                }
                Output::Send(..) => {}
                Output::Received(peer, _) | Output::Ended(peer) => {
                    highest = highest.max(peer.session.unwrap_or(0));
                }
            }
        }
        let (open, half_open) = sessions.counts();
        assert!(open <= SESSIONS_MAX && half_open <= HANDSHAKES_MAX);
        assert!(highest < sessions.next);
    }
    sessions.close();
    assert_eq!(sessions.counts(), (0, 0));
}
