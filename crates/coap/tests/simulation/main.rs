//! The server against clients that keep to the RFCs, over a network that loses,
//! repeats, reorders and delays: thousands of schedules, each played from a seed
//! and without waiting. `SEED=n` plays one again.

#![allow(clippy::unwrap_used, reason = "a test")]

mod client;
mod observing;
mod ours;
mod random;
mod watcher;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tinyfaas_coap::Peer;
use tinyfaas_coap::block::BlockLimits;
use tinyfaas_coap::exchange::{Limits, Output, Response};
use tinyfaas_coap::message::{Code, OptionNumber};
use tinyfaas_coap::server::{Owed, Request, Server};

use client::{Client, Operation, Outcome, body};
use random::Random;

/// Of each kind.
const SCHEDULES: u64 = 1000;

/// Whose client asks.
#[derive(Clone, Copy, PartialEq)]
enum Asks {
    WrittenForThis,
    Ours,
}

enum Event {
    ToServer(usize, Bytes),
    ToClient(usize, Bytes),
    ClientTimer(usize),
    Reply(Box<Owed>, Response, u32),
    Restart,
}

struct World {
    random: Random,
    now: Instant,
    start: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    server: Server,
    /// Replies of functions that a server before this one ran are dropped.
    servers: u32,
    clients: Vec<Client>,
    runs: HashMap<u32, u32>,
    loss_percent: u64,
    copies_percent: u64,
    delay_ms_max: u64,
}

fn limits() -> Limits {
    Limits {
        // Little enough to be reached, enough for what must be remembered.
        remembered_bytes_max: 256 << 10,
        ..Limits::default()
    }
}

impl World {
    fn new(seed: u64, asks: Asks) -> World {
        let mut random = Random::new(seed);
        let now = Instant::now();
        let secret = u128::from(random.next());
        let mut clients = Vec::new();
        for n in 0..3 {
            // Loopback is proven, the others are not.
            let ip = [[127, 0, 0, 1], [192, 0, 2, 1], [192, 0, 2, 1]][n];
            let operations =
                (0..4).map(|m| Operation::random(&mut random, (n * 4 + m) as u32)).collect();
            let peer = Peer::at((ip, 40_000 + n as u16).into());
            let seed = random.next();
            let mut client = Client::new(peer, operations, seed);
            client.ours = (asks == Asks::Ours).then(|| ours::new(seed));
            clients.push(client);
        }
        World {
            loss_percent: [0, 5, 20][random.below(3) as usize],
            copies_percent: [0, 10, 40][random.below(3) as usize],
            delay_ms_max: [1, 100, 3000, 20_000][random.below(4) as usize],
            server: Server::new(limits(), BlockLimits::default(), secret, now),
            random,
            now,
            start: now,
            events: BTreeMap::new(),
            count: 0,
            servers: 0,
            clients,
            runs: HashMap::new(),
        }
    }

    fn at(&mut self, after_ms: u64, event: Event) {
        self.count += 1;
        let at = self.now + Duration::from_millis(after_ms);
        self.events.insert((at, self.count), event);
    }

    /// A datagram on its way: none, one or two arrive.
    fn carry(&mut self, event: impl Fn() -> Event) {
        if self.random.below(100) < self.loss_percent {
            return;
        }
        let copies = 1 + u64::from(self.random.below(100) < self.copies_percent);
        for _ in 0..copies {
            let delay = self.random.below(self.delay_ms_max);
            self.at(delay, event());
        }
    }

    fn play(&mut self, restarts: bool) {
        for n in 0..self.clients.len() {
            self.at(0, Event::ClientTimer(n));
        }
        if restarts {
            let after = self.random.below(60_000);
            self.at(after, Event::Restart);
        }
        for _ in 0..200_000 {
            let server = self.server.deadline();
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            match (server, event) {
                (None, None) => return,
                (Some(due), event) if event.is_none_or(|at| due <= at) => {
                    self.now = self.now.max(due);
                    self.server.expire(self.now);
                    let next = self.server.deadline();
                    assert!(next.is_none_or(|next| next > self.now), "a deadline stands still");
                }
                _ => {
                    let ((at, _), event) = self.events.pop_first().unwrap();
                    self.now = self.now.max(at);
                    self.step(event);
                }
            }
            self.drain();
            assert!(self.server.exchange().remembered_bytes() <= limits().remembered_bytes_max);
        }
        panic!("it does not end");
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::ToServer(n, datagram) => {
                let peer = self.clients[n].peer;
                if let Some(request) = self.server.receive(self.now, peer, &datagram) {
                    self.run(request);
                }
            }
            Event::ToClient(n, datagram) => self.clients[n].receive(self.now, &datagram),
            Event::ClientTimer(n) => self.clients[n].timer(self.now),
            Event::Reply(owed, response, server) => {
                if server == self.servers {
                    self.server.reply(self.now, *owed, response);
                }
            }
            Event::Restart => {
                let secret = u128::from(self.random.next());
                self.server = Server::new(limits(), BlockLimits::default(), secret, self.now);
                self.servers += 1;
            }
        }
    }

    /// The function: each operation knows what it must be given.
    fn run(&mut self, request: Request) {
        let id = request.message.options.uint(OptionNumber::URI_QUERY).unwrap();
        *self.runs.entry(id).or_default() += 1;
        let operation = self.clients[id as usize / 4].operations[id as usize % 4].clone();
        assert_eq!(request.message.code, operation.method);
        assert!(request.message.payload == body(id, operation.upload_bytes));
        let response = Response {
            payload: body(!id, operation.reply_bytes).into(),
            ..Response::new(Code::CONTENT)
        };
        let owed = Box::new(request.owed);
        self.at(operation.takes_ms, Event::Reply(owed, response, self.servers));
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll() {
            let Output::Send(peer, datagram) = output else {
                panic!("nobody hung up");
            };
            let n = (self.clients.iter().position(|client| client.peer == peer)).unwrap();
            self.carry(|| Event::ToClient(n, datagram.clone()));
        }
        for n in 0..self.clients.len() {
            while let Some(datagram) = self.clients[n].outbox.pop_front() {
                self.carry(|| Event::ToServer(n, datagram.clone()));
            }
            if let Some(wake) = self.clients[n].wake.take() {
                let after = wake.saturating_duration_since(self.now).as_millis() as u64;
                self.at(after + 1, Event::ClientTimer(n));
            }
        }
    }

    /// What must hold when nothing moves any more.
    fn check(&self, restarts: bool) -> [u32; 2] {
        let mut counts = [0; 2];
        for client in &self.clients {
            for (operation, outcome) in client.operations.iter().zip(&client.outcomes) {
                let runs = self.runs.get(&operation.id).copied().unwrap_or(0);
                assert!(restarts || runs <= 1, "operation {} ran {runs} times", operation.id);
                match outcome {
                    Outcome::Done => {
                        assert!(runs >= 1, "operation {} never ran", operation.id);
                        counts[0] += 1;
                    }
                    Outcome::GivenUp => counts[1] += 1,
                    Outcome::Running => panic!("operation {} hangs", operation.id),
                }
            }
        }
        if self.loss_percent == 0 && self.delay_ms_max <= 100 && !restarts {
            assert_eq!(counts[1], 0, "given up though nothing was lost");
        }
        let exchange = self.server.exchange();
        assert_eq!((exchange.calls(), exchange.confirmables()), (0, 0));
        let blocks = self.server.blocks();
        assert_eq!((blocks.assembling_bytes(), blocks.stored_bytes()), (0, 0));
        assert!(self.now - self.start < Duration::from_secs(7200), "it took too long");
        counts
    }
}

fn play(restarts: bool, asks: Asks) {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SCHEDULES,
    };
    let (mut done, mut given_up) = (0, 0);
    for seed in seeds.clone() {
        let played = std::panic::catch_unwind(|| {
            let mut world = World::new(seed, asks);
            world.play(restarts);
            world.check(restarts)
        });
        let Ok(counts) = played else {
            panic!("schedule SEED={seed} went wrong, as said above");
        };
        done += counts[0];
        given_up += counts[1];
    }
    println!("{done} operations done, {given_up} given up for losses");
    if seeds.end - seeds.start > 1 {
        // What is in flight at a restart may be lost for good.
        let factor = if restarts { 4 } else { 9 };
        assert!(done > factor * given_up, "{done} done, {given_up} given up");
    }
}

#[test]
fn each_request_runs_once_and_has_its_own_reply() {
    play(false, Asks::WrittenForThis);
}

#[test]
fn a_restart_mixes_nothing_up() {
    play(true, Asks::WrittenForThis);
}

#[test]
fn our_client_has_the_right_reply_or_gives_up() {
    play(false, Asks::Ours);
}

#[test]
fn our_client_outlives_a_restart() {
    play(true, Asks::Ours);
}
