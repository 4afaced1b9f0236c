//! The sessions, played against the library's own client.

use std::collections::BTreeMap;
use std::time::Duration;

use dimpl::{Dtls, PskResolver, SecurityError};
use proptest::prelude::*;

use super::record::Alert;
use super::*;

const KEYS: &str = "anna:a key of sixteen,bob:hex:00ff00ff00ff00ff00ff00ff00ff00ff";

struct ClientKey(Vec<u8>);

impl PskResolver for ClientKey {
    fn resolve(&self, _: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.clone())
    }
}

/// A client at an address.
struct Client {
    dtls: Dtls,
    at: SocketAddr,
    wake: Option<Instant>,
    connected: bool,
    closed: bool,
    failed: Option<Error>,
    received: Vec<Vec<u8>>,
}

type Lose = Box<dyn FnMut(bool, &[u8]) -> bool>;

/// The sessions and a client's network, on which nothing takes any time.
struct Bench {
    now: Instant,
    sessions: Sessions,
    received: Vec<(u64, Vec<u8>)>,
    ended: Vec<u64>,
    /// What was sent to nobody's address.
    strays: Vec<Bytes>,
    /// Whether the next datagram gets lost, by who sends it (true: the server).
    lose: Lose,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, (port >> 12) as u8, 1], port))
}

fn client(now: Instant, port: u16, identity: &str, key: &[u8]) -> Client {
    let config = Config::builder()
        .with_crypto_provider(library::cryptography())
        .dtls13_cipher_suites(&[])
        .with_psk_client(identity.into(), Arc::new(ClientKey(key.to_vec())))
        .build()
        .unwrap();
    let mut dtls = Dtls::new_12_psk(Arc::new(config), now);
    dtls.set_active(true);
    dtls.handle_timeout(now).unwrap();
    Client {
        dtls,
        at: address(port),
        wake: Some(now),
        connected: false,
        closed: false,
        failed: None,
        received: Vec::new(),
    }
}

impl Client {
    fn drain(&mut self) -> Vec<Vec<u8>> {
        let (mut sent, mut buffer) = (Vec::new(), vec![0; 20_000]);
        loop {
            match self.dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(packet) => sent.push(packet.to_vec()),
                dimpl::Output::ApplicationData(data) => self.received.push(data.to_vec()),
                dimpl::Output::Connected => self.connected = true,
                dimpl::Output::CloseNotify => self.closed = true,
                dimpl::Output::Timeout(wake) => {
                    self.wake = Some(wake);
                    return sent;
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }
}

impl Bench {
    fn new(config: DtlsConfig) -> Bench {
        let now = Instant::now();
        let keys = Arc::new(PskKeys::parse_list(KEYS).unwrap());
        Bench {
            now,
            sessions: Sessions::new(config, keys, [5; 32], now),
            received: Vec::new(),
            ended: Vec::new(),
            strays: Vec::new(),
            lose: Box::new(|_, _| false),
        }
    }

    fn client(&self, port: u16) -> Client {
        client(self.now, port, "anna", b"a key of sixteen")
    }

    /// A client that has a session.
    fn connected(&mut self, port: u16) -> Client {
        let mut client = self.client(port);
        self.run(&mut [&mut client]);
        assert!(client.connected, "{:?}", client.failed);
        client
    }

    /// Carries datagrams to and fro until there are none.
    fn exchange(&mut self, clients: &mut [&mut Client]) {
        loop {
            let mut moved = false;
            for client in &mut *clients {
                for packet in client.drain() {
                    moved = true;
                    if !(self.lose)(false, &packet) {
                        self.sessions.receive(self.now, client.at, None, &packet);
                    }
                }
            }
            while let Some(output) = self.sessions.poll() {
                moved = true;
                self.take(output, clients);
            }
            if !moved {
                return;
            }
        }
    }

    fn take(&mut self, output: Output, clients: &mut [&mut Client]) {
        match output {
            Output::Send(remote, _, datagram) => {
                if (self.lose)(true, &datagram) {
                    return;
                }
                match clients.iter_mut().find(|client| client.at == remote) {
                    Some(client) => {
                        let outcome = client.dtls.handle_packet(&datagram);
                        client.note(outcome);
                    }
                    None => self.strays.push(datagram),
                }
            }
            Output::Received(peer, plaintext) => {
                self.received.push((peer.session.unwrap(), plaintext.to_vec()));
            }
            Output::Ended(peer) => self.ended.push(peer.session.unwrap()),
        }
    }

    /// Lets time pass from one deadline to the next, for a minute at most, until all
    /// clients are connected or have failed.
    fn run(&mut self, clients: &mut [&mut Client]) {
        let end = self.now + Duration::from_secs(60);
        loop {
            self.exchange(clients);
            if clients.iter().all(|client| client.connected || client.failed.is_some()) {
                return;
            }
            let wakes = clients.iter().filter_map(|client| client.wake);
            let next = wakes.chain(self.sessions.deadline()).min().unwrap();
            self.now = next.max(self.now);
            if self.now > end {
                return;
            }
            for client in &mut *clients {
                let outcome = client.dtls.handle_timeout(self.now);
                client.note(outcome);
            }
            self.sessions.expire(self.now);
        }
    }

    /// Sends a message there and back; the session that it came by.
    fn echo(&mut self, client: &mut Client, text: &str) -> u64 {
        client.dtls.send_application_data(text.as_bytes()).unwrap();
        self.exchange(&mut [client]);
        let (session, received) = self.received.pop().expect("the message arrives");
        assert_eq!(received, text.as_bytes());
        self.sessions.send(self.now, session, text.as_bytes());
        self.exchange(&mut [client]);
        assert_eq!(client.received.pop().as_deref(), Some(text.as_bytes()));
        session
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.sessions.expire(self.now);
    }
}

fn sessions_max(sessions_max: usize) -> DtlsConfig {
    DtlsConfig { sessions_max, ..DtlsConfig::default() }
}

#[test]
fn a_client_with_the_key_gets_in_and_messages_go_both_ways() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    let mut bob = client(bench.now, 2, "bob", &[0, 255].repeat(8));
    bench.run(&mut [&mut bob]);
    assert_ne!(bench.echo(&mut anna, "hi"), bench.echo(&mut bob, "ho"));
    assert_eq!(bench.echo(&mut anna, &"x".repeat(PLAINTEXT_BYTES_MAX)), 1);
    assert_eq!(bench.sessions.counts(), (2, 0));
    let message = vec![0; PLAINTEXT_BYTES_MAX + 1];
    bench.sessions.send(bench.now, 1, &message);
    bench.sessions.send(bench.now, 99, b"to nobody");
    assert_eq!(bench.sessions.poll(), None);
}

#[test]
fn nothing_is_kept_of_who_has_not_shown_a_cookie() {
    let mut bench = Bench::new(DtlsConfig::default());
    for port in 1..10_000 {
        let hello = record::bare_hello(0, &[port as u8; 32]);
        bench.sessions.receive(bench.now, address(port), None, &hello);
        let Some(Output::Send(to, _, answer)) = bench.sessions.poll() else { panic!("no answer") };
        assert_eq!(to, address(port));
        assert!(answer.len() < hello.len());
        assert_eq!(bench.sessions.poll(), None);
    }
    assert_eq!(bench.sessions.counts(), (0, 0));
    assert_eq!(bench.sessions.deadline(), None);
}

#[test]
fn a_cookie_of_another_address_is_good_for_nothing() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut client = bench.client(1);
    let first = client.drain().remove(0);
    bench.sessions.receive(bench.now, client.at, None, &first);
    bench.exchange(&mut [&mut client]);
    let mut client = bench.client(1);
    let first = client.drain().remove(0);
    bench.sessions.receive(bench.now, client.at, None, &first);
    let Some(Output::Send(_, _, ask)) = bench.sessions.poll() else { panic!("no answer") };
    client.dtls.handle_packet(&ask).unwrap();
    let second = client.drain().remove(0);
    let before = bench.sessions.counts();
    bench.sessions.receive(bench.now, address(2), None, &second);
    assert_eq!(bench.sessions.counts(), before);
    let Some(Output::Send(_, _, ask)) = bench.sessions.poll() else { panic!("no answer") };
    assert!(ask.len() < second.len());
}

#[test]
fn a_wrong_key_and_an_unknown_identity_look_the_same() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut told = Vec::new();
    for (port, identity, key) in
        [(1, "anna", &b"another key"[..]), (2, "nobody", b"a key of sixteen")]
    {
        let mut client = client(bench.now, port, identity, key);
        bench.run(&mut [&mut client]);
        assert!(!client.connected);
        told.push(client.failed.expect("it is told"));
        assert_eq!(bench.sessions.counts(), (0, 0));
    }
    assert_eq!(told[0], told[1]);
    assert_eq!(
        told[0],
        Error::SecurityError(SecurityError::FatalAlert { description: Alert::DecryptError as u8 })
    );
}

#[test]
fn an_identity_that_is_too_long_is_unknown() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut client = client(bench.now, 1, &"a".repeat(500), b"a key of sixteen");
    bench.run(&mut [&mut client]);
    assert!(client.failed.is_some());
}

#[test]
fn a_handshake_survives_loss_of_any_datagram() {
    // Each of the first datagrams of either side is lost once, then each pair.
    for first in 0..12 {
        for second in first..12 {
            let mut bench = Bench::new(DtlsConfig::default());
            let mut number = 0;
            bench.lose = Box::new(move |_, _| {
                number += 1;
                number - 1 == first || number - 1 == second
            });
            let mut anna = bench.client(1);
            bench.run(&mut [&mut anna]);
            bench.exchange(&mut [&mut anna]);
            bench.lose = Box::new(|_, _| false);
            assert!(anna.connected, "{first} {second}: {:?}", anna.failed);
            assert_eq!(bench.echo(&mut anna, "hi"), 1, "{first} {second}");
        }
    }
}

#[test]
fn a_client_that_restarts_on_its_port_gets_in_again() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut before = bench.connected(1);
    assert_eq!(bench.echo(&mut before, "hi"), 1);
    let mut after = bench.connected(1);
    assert_eq!(bench.ended, [1]);
    assert_eq!(bench.echo(&mut after, "hi"), 2);
    assert_eq!(bench.sessions.counts(), (1, 0));
}

#[test]
fn a_session_stays_until_who_begins_anew_has_proven_the_key() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    let mut thief = client(bench.now, 1, "anna", b"not her key");
    bench.run(&mut [&mut thief]);
    assert!(thief.failed.is_some());
    assert_eq!(bench.echo(&mut anna, "still there"), 1);
    // One that stops half way is forgotten in time; until then both are served.
    let mut half = bench.client(1);
    bench.lose = Box::new(|server, datagram| server && datagram.len() > 70);
    bench.exchange(&mut [&mut half]);
    bench.lose = Box::new(|_, _| false);
    assert_eq!(bench.sessions.counts(), (1, 1));
    assert_eq!(bench.echo(&mut anna, "still there"), 1);
    bench.pass(Duration::from_secs(31));
    assert_eq!(bench.sessions.counts(), (1, 0));
    assert!(bench.ended.is_empty());
}

#[test]
fn a_client_that_changes_its_port_begins_anew() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    anna.dtls.send_application_data(b"from elsewhere").unwrap();
    anna.at = address(2);
    bench.exchange(&mut [&mut anna]);
    assert!(bench.received.is_empty());
    let mut anna = bench.connected(2);
    assert_eq!(bench.echo(&mut anna, "hi"), 2);
}

#[test]
fn a_server_that_restarted_lets_its_clients_begin_anew() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    let keys = Arc::new(PskKeys::parse_list(KEYS).unwrap());
    bench.sessions = Sessions::new(DtlsConfig::default(), keys, [6; 32], bench.now);
    anna.dtls.send_application_data(b"are you there").unwrap();
    bench.exchange(&mut [&mut anna]);
    assert!(bench.received.is_empty());
    let mut anna = bench.connected(1);
    bench.echo(&mut anna, "hi");
}

#[test]
fn a_server_that_stops_says_goodbye() {
    let mut bench = Bench::new(DtlsConfig::default());
    let (mut anna, mut other) = (bench.connected(1), bench.connected(2));
    bench.sessions.close();
    bench.exchange(&mut [&mut anna, &mut other]);
    assert!(anna.closed && other.closed);
    assert_eq!(bench.ended.len(), 2);
    assert_eq!(bench.sessions.counts(), (0, 0));
}

#[test]
fn a_client_that_says_goodbye_is_forgotten() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    anna.dtls.close().unwrap();
    bench.exchange(&mut [&mut anna]);
    assert_eq!(bench.ended, [1]);
    assert_eq!(bench.sessions.counts(), (0, 0));
    assert_eq!(bench.sessions.deadline(), None);
}

#[test]
fn what_is_in_the_clear_reaches_no_session() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    bench.echo(&mut anna, "hi");
    let alert = fatal_alert(9, Alert::HandshakeFailure);
    let mut data = alert.to_vec();
    data[0] = 23;
    for epoch in [0, 1] {
        for kind in 20..24 {
            for length in [1, 2, 30, 200] {
                let mut forged = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 77, 0, length];
                forged.extend(std::iter::repeat_n(16, usize::from(length)));
                for _ in 0..100 {
                    bench.sessions.receive(bench.now, anna.at, None, &forged);
                }
            }
        }
    }
    bench.sessions.receive(bench.now, anna.at, None, &alert);
    bench.sessions.receive(bench.now, anna.at, None, &data);
    bench.exchange(&mut [&mut anna]);
    assert_eq!((&bench.received[..], &bench.ended[..]), (&[][..], &[][..]));
    assert_eq!(anna.received, Vec::<Vec<u8>>::new());
    assert_eq!(bench.echo(&mut anna, "still there"), 1);
}

#[test]
fn a_message_that_comes_twice_is_taken_once() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    anna.dtls.send_application_data(b"once").unwrap();
    let sent = anna.drain();
    for datagram in sent.iter().chain(&sent) {
        bench.sessions.receive(bench.now, anna.at, None, datagram);
    }
    bench.exchange(&mut [&mut anna]);
    assert_eq!(bench.received, [(1, b"once".to_vec())]);
}

#[test]
fn messages_arrive_in_any_order() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.connected(1);
    let mut datagrams = Vec::new();
    for text in ["a", "b", "c"] {
        anna.dtls.send_application_data(text.as_bytes()).unwrap();
        datagrams.extend(anna.drain());
    }
    for datagram in datagrams.iter().rev() {
        bench.sessions.receive(bench.now, anna.at, None, datagram);
    }
    bench.exchange(&mut [&mut anna]);
    let texts: Vec<_> = bench.received.iter().map(|(_, text)| &text[..]).collect();
    assert_eq!(texts, [b"c", b"b", b"a"]);
}

#[test]
fn a_silent_session_ends_in_time_and_one_in_use_does_not() {
    let mut bench = Bench::new(DtlsConfig::default());
    let (mut anna, mut other) = (bench.connected(1), bench.connected(2));
    bench.pass(Duration::from_secs(24 * 3600));
    assert_eq!(bench.echo(&mut other, "daily"), 2);
    bench.pass(Duration::from_secs(3599));
    assert!(bench.ended.is_empty());
    let deadline = bench.sessions.deadline().unwrap();
    assert!(deadline > bench.now && deadline <= bench.now + Duration::from_secs(1));
    bench.now = deadline;
    bench.sessions.expire(deadline);
    bench.exchange(&mut [&mut anna, &mut other]);
    assert_eq!(bench.ended, [1]);
    assert!(anna.closed && !other.closed);
    bench.pass(Duration::from_secs(24 * 3600));
    bench.exchange(&mut [&mut other]);
    assert_eq!(bench.ended, [1, 2]);
    assert_eq!(bench.sessions.deadline(), None);
}

#[test]
fn a_session_that_only_hears_from_us_ends_too() {
    let config = DtlsConfig { idle: Duration::from_secs(60), ..DtlsConfig::default() };
    let mut bench = Bench::new(config);
    let mut anna = bench.connected(1);
    for _ in 0..7 {
        bench.sessions.send(bench.now, 1, b"news");
        bench.exchange(&mut [&mut anna]);
        bench.pass(Duration::from_secs(10));
    }
    bench.exchange(&mut [&mut anna]);
    assert_eq!(bench.ended, [1]);
}

#[test]
fn the_longest_silent_session_gives_way_and_none_in_use() {
    let mut bench = Bench::new(sessions_max(3));
    let mut first = bench.connected(1);
    let (mut second, mut third) = (bench.connected(2), bench.connected(3));
    let mut late = bench.client(4);
    bench.exchange(&mut [&mut late]);
    assert!(!late.connected, "all are in use");
    assert_eq!(bench.sessions.counts(), (3, 0));
    bench.pass(Duration::from_secs(31));
    assert_eq!(bench.echo(&mut first, "hi"), 1);
    bench.run(&mut [&mut late]);
    assert!(late.connected);
    bench.exchange(&mut [&mut second, &mut third]);
    assert_eq!(bench.ended, [2]);
    assert_eq!(bench.sessions.counts(), (3, 0));
    // Who has a session may begin anew though all others are in use.
    bench.connected(1);
    assert_eq!(bench.ended, [2, 1]);
    assert_eq!(bench.sessions.counts(), (3, 0));
}

#[test]
fn two_that_compete_for_the_last_place_are_told_apart() {
    let mut bench = Bench::new(sessions_max(1));
    let (mut anna, mut other) = (bench.client(1), bench.client(2));
    bench.exchange(&mut [&mut anna, &mut other]);
    assert_eq!(bench.sessions.counts(), (1, 0));
    assert!(anna.closed != other.closed);
}

#[test]
fn a_flood_of_handshakes_is_bounded_and_leaves_sessions_alone() {
    let config = DtlsConfig { handshakes_max: 16, ..DtlsConfig::default() };
    let mut bench = Bench::new(config);
    let mut anna = bench.connected(1);
    // One who begins from another host, and goes on when the flood has passed.
    let mut slow = bench.client(2);
    slow.at = "10.9.9.9:9".parse().unwrap();
    let first = slow.drain().remove(0);
    bench.sessions.receive(bench.now, slow.at, None, &first);
    let Some(Output::Send(_, _, ask)) = bench.sessions.poll() else { panic!("no answer") };
    slow.dtls.handle_packet(&ask).unwrap();
    let second = slow.drain().remove(0);
    bench.sessions.receive(bench.now, slow.at, None, &second);
    let Some(Output::Send(_, _, flight)) = bench.sessions.poll() else { panic!("no answer") };
    for port in 100..300 {
        let mut half = bench.client(port);
        bench.lose = Box::new(|server, datagram| server && datagram.len() > 70);
        bench.exchange(&mut [&mut half]);
    }
    bench.lose = Box::new(|_, _| false);
    assert_eq!(bench.sessions.counts(), (1, 16));
    assert_eq!(bench.echo(&mut anna, "still there"), 1);
    slow.dtls.handle_packet(&flight).unwrap();
    bench.exchange(&mut [&mut slow]);
    assert!(slow.connected, "a host of its own is not pushed out");
    bench.pass(Duration::from_secs(31));
    assert_eq!(bench.sessions.counts(), (2, 0));
}

#[test]
fn records_are_numbered_as_the_rfc_asks() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.client(1);
    // The first hello is sent three times, and answered once.
    bench.lose = Box::new(|server, _| !server);
    bench.exchange(&mut [&mut anna]);
    for _ in 0..2 {
        bench.now = anna.wake.unwrap();
        anna.dtls.handle_timeout(bench.now).unwrap();
        bench.exchange(&mut [&mut anna]);
    }
    let mut numbers = BTreeMap::<bool, Vec<u64>>::new();
    let (sent, seen) = std::sync::mpsc::channel();
    bench.lose = Box::new(move |server, datagram| {
        for record in records(datagram).filter(|record| !record.protected) {
            sent.send((server, record.number)).unwrap();
        }
        false
    });
    bench.run(&mut [&mut anna]);
    while let Ok((server, number)) = seen.try_recv() {
        numbers.entry(server).or_default().push(number);
    }
    // Hello, hello with cookie, key, change of cipher; cookie, hello, done, change.
    assert_eq!(numbers[&false][..2], [3, 4]);
    assert_eq!(numbers[&true][..2], [3, 4]);
    let mut all = numbers[&true].clone();
    all.dedup();
    assert_eq!(all, numbers[&true], "no number is used twice");
}

#[test]
fn one_who_asks_for_a_cookie_too_late_is_asked_again() {
    let mut bench = Bench::new(DtlsConfig::default());
    let mut anna = bench.client(1);
    for sequence in 0..2 {
        let hello = anna.drain().remove(0);
        // It has become too old on its way.
        bench.now += Duration::from_secs(300);
        bench.sessions.receive(bench.now, anna.at, None, &hello);
        let Some(Output::Send(_, _, ask)) = bench.sessions.poll() else { panic!("no answer") };
        assert_eq!(ask[18], sequence, "it answers the message by its number");
        if sequence == 0 {
            anna.dtls.handle_packet(&ask).unwrap();
        }
    }
    assert_eq!(bench.sessions.counts(), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever gets lost, comes twice or late: who keeps trying gets in, and each
    /// message arrives once at most.
    #[test]
    fn a_client_gets_in_over_a_bad_network(seed in any::<u64>()) {
        let mut bench = Bench::new(DtlsConfig::default());
        let mut state = seed | 1;
        bench.lose = Box::new(move |_, _| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.is_multiple_of(5)
        });
        let mut port = 1;
        let mut anna = loop {
            let mut anna = bench.client(port);
            bench.run(&mut [&mut anna]);
            if anna.connected {
                break anna;
            }
            // The client gave up: a person starts it again.
            port += 1;
            prop_assert!(port < 20);
        };
        for _ in 0..20 {
            anna.dtls.send_application_data(b"x").unwrap();
            bench.exchange(&mut [&mut anna]);
        }
        prop_assert!(bench.received.len() <= 20);
        prop_assert!(bench.received.len() > 5);
    }

    #[test]
    fn garbage_does_no_harm(
        datagrams in proptest::collection::vec(
            (0u8..8, proptest::collection::vec(any::<u8>(), 0..200)), 0..40),
    ) {
        let mut bench = Bench::new(DtlsConfig::default());
        let mut anna = bench.connected(1);
        bench.echo(&mut anna, "hi");
        for (shape, mut bytes) in datagrams {
            if shape > 0 {
                let length = (bytes.len() as u16).to_be_bytes();
                let mut header = vec![19 + shape, 0xfe, 0xfd, 0, shape % 2, 0, 0, 0, 0, 1, shape];
                header.extend(length);
                bytes.splice(0..0, header);
            }
            for port in [1, 2] {
                bench.sessions.receive(bench.now, address(port), None, &bytes);
            }
        }
        bench.exchange(&mut [&mut anna]);
        prop_assert_eq!(bench.echo(&mut anna, "still there"), 1);
    }
}
