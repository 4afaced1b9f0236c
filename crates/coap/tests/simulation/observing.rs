//! Observers of a resource that changes, over the same kind of network: whatever
//! is lost, who is there has the newest state once all is quiet, and who is gone is
//! told nothing any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tinyfaas_coap::Peer;
use tinyfaas_coap::block::BlockLimits;
use tinyfaas_coap::exchange::{Limits, Output, Response};
use tinyfaas_coap::message::{Code, Kind, OptionNumber};
use tinyfaas_coap::observe::ResourceId;
use tinyfaas_coap::server::{Owed, Server};

use crate::random::Random;
use crate::watcher::{Life, MAX_AGE, Watcher};

const SCHEDULES: u64 = 500;
const RESOURCE: ResourceId = ResourceId(1);
const WATCHERS: usize = 6;

/// For how long things change, are lost and break.
const TROUBLE: Duration = Duration::from_secs(600);
/// How long after a change nothing is under way any more.
const SETTLED: Duration = Duration::from_secs(300);

enum Event {
    ToServer(usize, Bytes),
    ToWatcher(usize, Bytes),
    Timer(usize),
    Reply(Box<Owed>, bool, u32),
    Publish,
    RestartServer,
    RestartWatcher(usize),
    Leave(usize),
    Die(usize),
}

struct Scene {
    random: Random,
    now: Instant,
    start: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    server: Server,
    servers: u32,
    watchers: Vec<Watcher>,
    state: u32,
    observed: bool,
    loss_percent: u64,
    copies_percent: u64,
    delay_ms_max: u64,
}

fn server(random: &mut Random, ran_for: Duration, now: Instant) -> Server {
    let mut limits = Limits::default();
    limits.observers.sequence_start = ran_for.as_millis() as u32;
    Server::new(limits, BlockLimits::default(), u128::from(random.next()), now)
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let mut random = Random::new(seed);
        let now = Instant::now();
        let watchers = (0..WATCHERS).map(|n| {
            let ip = [[127, 0, 0, 1], [192, 0, 2, 1], [192, 0, 2, 2]][n % 3];
            let kind = if random.below(2) == 0 { Kind::Confirmable } else { Kind::NonConfirmable };
            let peer = Peer::at((ip, 40_000 + n as u16).into());
            Watcher::new(peer, kind, now, random.next())
        });
        Scene {
            watchers: watchers.collect(),
            loss_percent: [0, 5, 20, 40][random.below(4) as usize],
            copies_percent: [0, 10, 40][random.below(3) as usize],
            delay_ms_max: [1, 100, 3000, 20_000][random.below(4) as usize],
            server: server(&mut random, Duration::ZERO, now),
            random,
            now,
            start: now,
            events: BTreeMap::new(),
            count: 0,
            servers: 0,
            state: 0,
            observed: false,
        }
    }

    fn at(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }

    fn sometime(&mut self, event: Event) {
        let after = Duration::from_millis(self.random.below(TROUBLE.as_millis() as u64));
        self.at(after, event);
    }

    fn carry(&mut self, event: impl Fn() -> Event) {
        if self.random.below(100) < self.loss_percent {
            return;
        }
        let copies = 1 + u64::from(self.random.below(100) < self.copies_percent);
        for _ in 0..copies {
            let delay = Duration::from_millis(self.random.below(self.delay_ms_max));
            self.at(delay, event());
        }
    }

    /// Plays until then.
    fn play(&mut self, until: Instant) {
        loop {
            let due = self.server.deadline().unwrap_or(until);
            let next = self.events.first_key_value().map_or(until, |((at, _), _)| *at);
            if due.min(next) >= until {
                self.now = until;
                return;
            }
            if due <= next {
                self.now = self.now.max(due);
                self.server.expire(self.now);
                let next = self.server.deadline();
                assert!(next.is_none_or(|next| next > self.now), "a deadline stands still");
            } else if let Some(((at, _), event)) = self.events.pop_first() {
                self.now = self.now.max(at);
                self.step(event);
            }
            self.drain();
            assert!(self.server.exchange().confirmables() <= 2 * WATCHERS);
        }
    }

    fn step(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::ToServer(n, datagram) => {
                let peer = self.watchers[n].peer;
                if let Some(request) = self.server.receive(now, peer, &datagram) {
                    let observes = request.message.options.uint(OptionNumber::OBSERVE) == Some(0);
                    let after = Duration::from_millis([0, 2000][self.random.below(2) as usize]);
                    let owed = Box::new(request.owed);
                    self.at(after, Event::Reply(owed, observes, self.servers));
                }
            }
            Event::ToWatcher(n, datagram) => self.watchers[n].receive(now, &datagram),
            Event::Timer(n) => self.watchers[n].timer(now),
            Event::Reply(mut owed, observes, server) => {
                if server == self.servers {
                    if observes {
                        assert!(self.server.observe(now, &mut owed, RESOURCE));
                        self.observed = true;
                    }
                    let response = self.response();
                    self.server.reply(now, *owed, response);
                }
            }
            Event::Publish => {
                self.state += 1;
                let response = self.response();
                self.server.publish(now, RESOURCE, &response);
            }
            Event::RestartServer => {
                self.server = server(&mut self.random, now - self.start, now);
                self.servers += 1;
                self.observed = false;
            }
            Event::RestartWatcher(n) => self.watchers[n].restart(now),
            Event::Leave(n) => self.watchers[n].leave(),
            Event::Die(n) => self.watchers[n].life = Life::Dead,
        }
    }

    fn response(&self) -> Response {
        let payload = self.state.to_be_bytes().to_vec().into();
        Response { payload, ..Response::new(Code::CONTENT) }
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send(peer, datagram) => {
                    let mut all = self.watchers.iter();
                    let n = all.position(|watcher| watcher.peer == peer).unwrap();
                    self.carry(|| Event::ToWatcher(n, datagram.clone()));
                }
                Output::Unobserved(resource) => {
                    assert!(self.observed && self.server.observers(resource) == 0);
                    self.observed = false;
                }
                Output::Cancel(call) => panic!("{call:?} was cancelled"),
            }
        }
        assert_eq!(self.observed, self.server.observers(RESOURCE) > 0);
        for n in 0..self.watchers.len() {
            while let Some(datagram) = self.watchers[n].outbox.pop_front() {
                self.carry(|| Event::ToServer(n, datagram.clone()));
            }
            if let Some(wake) = self.watchers[n].wake.take() {
                let after = wake.saturating_duration_since(self.now);
                self.at(after + Duration::from_millis(1), Event::Timer(n));
            }
        }
    }

    /// Who is listed and to be told confirmably has the newest state, whatever the
    /// network does.
    fn check_listed(&self) {
        let newest = self.state.to_be_bytes();
        for watcher in &self.watchers {
            let listed = self.server.all_observers().find(&watcher.peer, watcher.token()).is_some();
            if watcher.life == Life::Observing
                && watcher.kind == Kind::Confirmable
                && listed
                && !watcher.asks()
            {
                assert_eq!(watcher.state.as_deref(), Some(&newest[..]));
            }
        }
    }

    /// All who are there are listed and have the newest state; nobody else is.
    fn check_all(&self) {
        let newest = self.state.to_be_bytes();
        let mut there = 0;
        for watcher in self.watchers.iter().filter(|watcher| watcher.life == Life::Observing) {
            assert_eq!(watcher.state.as_deref(), Some(&newest[..]));
            there += 1;
        }
        assert_eq!(self.server.all_observers().len(), there);
        assert_eq!(self.server.exchange().confirmables(), 0);
    }
}

fn play(seed: u64, restarts: bool) -> u32 {
    let mut scene = Scene::new(seed);
    for n in 0..WATCHERS {
        scene.at(Duration::ZERO, Event::Timer(n));
    }
    for _ in 0..scene.random.below(60) {
        scene.sometime(Event::Publish);
    }
    scene.sometime(Event::RestartWatcher(0));
    scene.sometime(Event::Leave(1));
    scene.sometime(Event::Die(2));
    if restarts {
        scene.sometime(Event::RestartServer);
    }
    scene.play(scene.start + TROUBLE + SETTLED);
    if !restarts {
        scene.check_listed();
    }
    // The network heals, and all ask again in time.
    (scene.loss_percent, scene.copies_percent, scene.delay_ms_max) = (0, 0, 10);
    scene.play(scene.now + 2 * MAX_AGE);
    // Enough for each to be asked whether it is there.
    for n in 0..20 {
        scene.at(Duration::from_secs(5 * n), Event::Publish);
    }
    scene.play(scene.now + SETTLED);
    scene.check_all();
    scene.watchers.iter().map(|watcher| watcher.told).sum()
}

fn play_all(restarts: bool) {
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SCHEDULES,
    };
    let mut told = 0;
    for seed in seeds.clone() {
        let played = std::panic::catch_unwind(|| play(seed, restarts));
        let Ok(news) = played else {
            panic!("schedule SEED={seed} went wrong, as said above");
        };
        told += u64::from(news);
    }
    println!("{told} times something newer was told");
    // At the very least what was told at the end to the four who stay.
    assert!(told >= 4 * 20 * (seeds.end - seeds.start));
}

#[test]
fn who_is_there_has_the_newest_state() {
    play_all(false);
}

#[test]
fn a_restart_costs_no_observer_the_newest_state() {
    play_all(true);
}
