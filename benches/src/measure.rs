//! What is measured, in which order, and which targets it has.
//!
//! Owns the rounds: in each, the server, its baselines and peers take turns, so
//! that drift of the machine hits both sides of a ratio. Must not know how a load is
//! made or a figure shown.

use anyhow::Context;

use crate::bare::{Bare, Baseline};
use crate::bare_hyper::{self, PAYLOAD};
use crate::cli::Options;
use crate::figure::Target::{self, AtLeast, AtMost};
use crate::figure::{Figure, Unit};
use crate::fixed;
use crate::function::{self, Echo, Environment};
use crate::health;
use crate::load::{self, Pace};
use crate::memory::{self, Held, Memory};
use crate::peer::Peer;
use crate::report::{Kind, Load, Report, Subject};
use crate::selection::{BODY_BYTES, Choice, Who};
use crate::series::{self, Rival, Scripts, Series, milliseconds};
use crate::server::Server;
use crate::setting::Setting;

/// What is asked in the rounds.
#[derive(Debug)]
struct Contestants<'a> {
    options: &'a Options,
    bare: Bare,
    peers: Vec<Peer>,
    server: Option<Server>,
    /// On that server, named as their environments.
    deployed: Vec<Echo>,
}

/// Measures everything.
///
/// # Errors
/// Where the server or a baseline does not start at all, or a peer is not there;
/// what fails later is a failure in the report.
pub(crate) fn everything(options: &Options) -> anyhow::Result<Report> {
    let setting = Setting::read(options);
    eprintln!("{setting}");
    let peers = options.peers.iter().map(|named| Peer::find(named, &options.peer_function));
    let mut all = Contestants {
        options,
        peers: peers.collect::<anyhow::Result<_>>()?,
        bare: Bare::start(Baseline::Hyper)?,
        server: None,
        deployed: Vec::new(),
    };
    let mut subjects = Vec::new();
    if let Some(binary) = &options.server {
        let (server, started) = start_several_times(binary, options)?;
        subjects.extend(started);
        for &environment in &options.environments {
            let title = format!("{} echo, deployed, 1 handler", environment.name());
            match deploys(environment, &server, &title, options) {
                Ok((echo, subject)) => {
                    all.deployed.extend(echo);
                    subjects.push(subject);
                }
                Err(error) => subjects.push(Subject::failed(title, &error)),
            }
        }
        let deployed = memory::settled(server.pid())?;
        subjects.push(held("memory, echoes deployed", &[deployed]));
        all.server = Some(server);
    }
    subjects.extend(rounds(&all)?);
    if let Some(server) = all.server.take() {
        subjects.push(stop(server));
    }
    if let Some(binary) = &options.server {
        subjects.extend(fixed::subjects(binary, options));
        subjects.extend(health::subjects(binary, options));
    }
    Ok(Report::new(setting, subjects))
}

/// Starts the server once a round and keeps the last one.
fn start_several_times(
    binary: &std::path::Path,
    options: &Options,
) -> anyhow::Result<(Server, [Subject; 2])> {
    let (mut ready, mut idle) = (Vec::new(), Vec::new());
    let mut last: Option<Server> = None;
    for _ in 0..options.rounds {
        if let Some(earlier) = last.take() {
            earlier.stop()?;
        }
        let server = Server::start(binary)?;
        ready.push(milliseconds(server.ready_after));
        idle.push(memory::settled(server.pid())?);
        last = Some(server);
    }
    let server = last.context("no rounds were asked for")?;
    let ready = Figure::new("until management answers", Unit::Milliseconds, ready);
    let mut idle = held("memory, nothing deployed", &idle);
    idle.aim(SERVER_RESIDENT, AtMost(15.0));
    Ok((server, [Subject::new("server, started", vec![ready]), idle]))
}

fn stop(server: Server) -> Subject {
    let title = "server, stopped by SIGTERM";
    match server.stop() {
        Ok(took) => {
            let runs = vec![milliseconds(took)];
            Subject::new(title, vec![Figure::new("until its end", Unit::Milliseconds, runs)])
        }
        Err(error) => Subject::failed(title, &error),
    }
}

const SERVER_RESIDENT: &str = "server, resident";

/// What a server and all below it held at several times.
pub(crate) fn held(title: &str, times: &[Memory]) -> Subject {
    let figure = |name: String, of: &dyn Fn(&Memory) -> Option<u64>| {
        let mebibytes = times.iter().filter_map(of).map(|kib| kib as f64 / 1024.0).collect();
        Figure::new(name, Unit::Mebibytes, mebibytes)
    };
    let mut figures = vec![
        figure(SERVER_RESIDENT.to_owned(), &|memory| Some(memory.own.resident)),
        figure("server, proportional".to_owned(), &|memory| Some(memory.own.proportional)),
        figure("all below, resident".to_owned(), &|memory| Some(memory.below().resident)),
        figure("all below, proportional".to_owned(), &|memory| Some(memory.below().proportional)),
    ];
    let names = times.iter().flat_map(|memory| memory.descendants.keys());
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let each = |of: fn(&Held) -> u64| {
            move |memory: &Memory| {
                memory.descendants.get(name).map(|held| of(held) / held.processes)
            }
        };
        figures.push(figure(format!("each {name}, resident"), &each(|held| held.resident)));
        figures.push(figure(format!("each {name}, proportional"), &each(|held| held.proportional)));
    }
    Subject::new(title, figures)
}

/// Deploys under a fresh name a round; no echo where the interpreter is missing.
/// The last step is the deploy of what the rounds put under load.
fn deploys(
    environment: Environment,
    server: &Server,
    title: &str,
    options: &Options,
) -> anyhow::Result<(Option<Echo>, Subject)> {
    if environment.interpreter().is_none() {
        return Ok((None, Subject::skipped(title, environment.missing())));
    }
    let echo = Echo::pack(environment, &options.samples)?;
    let (mut uploads, mut calls, mut both) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let name = format!("fresh-{}-{round}", environment.name());
        let upload = echo.upload(server, &name, 1)?;
        let call = function::call(server, &name, PAYLOAD)?;
        function::delete(server, &name)?;
        uploads.push(milliseconds(upload));
        calls.push(milliseconds(call));
        both.push(milliseconds(upload + call));
    }
    let target = match environment {
        Environment::Python | Environment::Binary => AtMost(150.0),
        Environment::Node => AtMost(300.0),
    };
    let figures = vec![
        Figure::new("upload until its answer", Unit::Milliseconds, uploads),
        Figure::new("first call", Unit::Milliseconds, calls),
        Figure::new("upload to first answer", Unit::Milliseconds, both).with_target(target),
    ];
    echo.upload(server, environment.name(), options.threads)?;
    function::call(server, environment.name(), PAYLOAD)?;
    Ok((Some(echo), Subject::new(title, figures)))
}

/// The loads, in turns.
fn rounds(all: &Contestants<'_>) -> anyhow::Result<Vec<Subject>> {
    let options = all.options;
    let choices = options.selection.choices(&all.who());
    let mut series: Vec<_> = choices.iter().map(|choice| (*choice, all.series(*choice))).collect();
    let scripts = choices.iter().position(|choice| choice.is_scripts());
    let echo = all.deployed.iter().find(|echo| echo.environment == Environment::Binary);
    let mut scripts = match (scripts, echo) {
        (Some(at), Some(echo)) => Some((at, Scripts::new(echo, choices[at].connections, options)?)),
        _ => None,
    };
    let each = options.measured + options.warm_up;
    let seconds = (each * u32::try_from(choices.len() * options.rounds)?).as_secs();
    eprintln!("{} loads, about {} min {} s", choices.len(), seconds / 60, seconds % 60);
    let mut memory = Vec::new();
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for (at, (_, series)) in series.iter_mut().enumerate() {
            if let Some((_, scripts)) = scripts.as_mut().filter(|(before, _)| *before == at) {
                scripts.run_once()?;
            }
            series.run_once()?;
        }
        memory.extend(all.server.as_ref().map(|server| memory::read(server.pid())).transpose()?);
    }
    let mut subjects = Vec::new();
    if !memory.is_empty() {
        subjects.push(held("memory, after each round", &memory));
    }
    subjects.extend(scripts.as_ref().map(|(_, scripts)| scripts.subject()));
    for (at, (choice, one)) in series.iter().enumerate() {
        let rival = choice.rival().and_then(|(rival, of)| {
            let (_, of) = series.iter().find(|(other, _)| *other == of)?;
            Some((rival, of))
        });
        let mut subject = one.subject(rival);
        if let Some((_, scripts)) = scripts.as_ref().filter(|(of, _)| *of == at) {
            subject.figures.push(scripts.share_of(one).with_target(AtLeast(0.7)));
        }
        for (name, target) in targets(choice) {
            subject.aim(name, target);
        }
        subjects.push(subject);
    }
    Ok(subjects)
}

/// Whatever figures of a load have to reach.
fn targets(choice: &Choice) -> Vec<(&'static str, Target)> {
    if (choice.body_bytes, choice.pace) != (BODY_BYTES, Pace::Closed) {
        return Vec::new();
    }
    match (choice.who, choice.connections) {
        (Who::Function(Environment::Python), 1) => vec![(series::P50_OF_BARE, AtMost(6.0))],
        (Who::Function(Environment::Python), 32) => {
            vec![(series::RATE, AtLeast(8_000.0)), (series::P99, AtMost(20.0))]
        }
        (Who::Function(Environment::Node), 32) => vec![(series::RATE, AtLeast(8_000.0))],
        (Who::OverCoap(Environment::Python), 32) => {
            vec![(series::RATE, AtLeast(40_000.0)), (series::RATE_OF_HTTP, AtLeast(1.0))]
        }
        _ => Vec::new(),
    }
}

impl Choice {
    /// Whether it is the one that is held against bare starts of the script.
    fn is_scripts(&self) -> bool {
        let small = (self.body_bytes, self.pace) == (BODY_BYTES, Pace::Closed);
        self.who == Who::Function(Environment::Binary) && self.connections == 8 && small
    }

    /// What it is held against, and that one's load.
    fn rival(&self) -> Option<(Rival, Self)> {
        match self.who {
            Who::Bare => None,
            Who::OverCoap(environment) | Who::OverGrpc(environment) => {
                Some((Rival::Http, Self { who: Who::Function(environment), ..*self }))
            }
            Who::Function(_) | Who::Peer(_) => {
                Some((Rival::BareHyper, Self { who: Who::Bare, ..*self }))
            }
        }
    }
}

impl Contestants<'_> {
    fn who(&self) -> Vec<Who> {
        let mut all = vec![Who::Bare];
        let coap = self.server.as_ref().and_then(|server| server.coap);
        let grpc = self.server.as_ref().and_then(|server| server.grpc);
        for echo in &self.deployed {
            all.push(Who::Function(echo.environment));
            all.extend(coap.map(|_| Who::OverCoap(echo.environment)));
            all.extend(grpc.map(|_| Who::OverGrpc(echo.environment)));
        }
        all.extend((0..self.peers.len()).map(Who::Peer));
        all
    }

    fn series(&self, choice: Choice) -> Series {
        let Choice { who, connections, body_bytes, pace } = choice;
        let server = self.server.as_ref().map(Server::pid);
        let (name, kind, process) = match who {
            Who::Bare => ("bare hyper".to_owned(), Kind::Bare, Some(self.bare.pid())),
            Who::Function(environment) => (environment.name().to_owned(), Kind::Function, server),
            Who::OverCoap(environment) => {
                (format!("{} over CoAP", environment.name()), Kind::Function, server)
            }
            Who::OverGrpc(environment) => {
                (format!("{} over gRPC", environment.name()), Kind::Function, server)
            }
            Who::Peer(at) => (self.peers[at].label.clone(), Kind::Peer, None),
        };
        let rate = match pace {
            Pace::Closed => None,
            Pace::Open(rate) => Some(rate),
        };
        let load = Load { who: name, kind, connections, body_bytes, rate };
        let target = self.target(who, &bare_hyper::body(body_bytes));
        Series::new(load, target, pace, process, self.options)
    }

    fn target(&self, who: Who, body: &[u8]) -> load::Target {
        let http = |address, path: &str| load::http::Target::echo(address, path, body);
        let server = self.server.as_ref();
        let over_coap = server.and_then(|server| server.coap);
        match (who, server) {
            (Who::Peer(at), _) => {
                load::Target::Http(http(self.peers[at].address, &self.peers[at].path))
            }
            (Who::Function(environment), Some(server)) => {
                load::Target::Http(http(server.http, &format!("/{}", environment.name())))
            }
            (Who::OverCoap(environment), _) => {
                let address = over_coap.expect("who() has it only of a server with CoAP");
                load::Target::Coap(load::coap::Target::echo(address, environment.name(), body))
            }
            (Who::OverGrpc(environment), _) => {
                let address = server.and_then(|server| server.grpc);
                let address = address.expect("who() has it only of a server with gRPC");
                load::Target::Grpc(load::grpc::Target::echo(address, environment.name(), body))
            }
            (Who::Bare | Who::Function(_), _) => load::Target::Http(http(self.bare.address, "/")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn memory_is_of_the_server_and_of_all_below_it() {
        let held_now =
            |processes, resident, proportional| Held { processes, resident, proportional };
        let memory = |python| Memory {
            own: held_now(1, 10 * 1024, 8 * 1024),
            descendants: BTreeMap::from([
                ("python3".to_owned(), held_now(2, python, 4096)),
                ("tinyfaas".to_owned(), held_now(3, 3072, 1536)),
            ]),
        };
        let subject = held("memory", &[memory(8192), memory(10240)]);
        let runs = |name: &str| subject.figure(name).expect(name).runs.clone();
        assert_eq!(runs(SERVER_RESIDENT), [10.0, 10.0]);
        assert_eq!(runs("all below, resident"), [11.0, 13.0]);
        assert_eq!(runs("all below, proportional"), [5.5, 5.5]);
        assert_eq!(runs("each python3, resident"), [4.0, 5.0]);
        assert_eq!(runs("each tinyfaas, proportional"), [0.5, 0.5]);
    }

    #[test]
    fn targets_hold_for_small_bodies_in_a_closed_loop() {
        let python = Choice {
            who: Who::Function(Environment::Python),
            connections: 32,
            body_bytes: BODY_BYTES,
            pace: Pace::Closed,
        };
        assert_eq!(targets(&python).len(), 2);
        assert_eq!(targets(&Choice { connections: 1, ..python }).len(), 1);
        assert_eq!(targets(&Choice { body_bytes: 0, ..python }).len(), 0);
        assert_eq!(targets(&Choice { pace: Pace::Open(9), ..python }).len(), 0);
        let bare = Choice { who: Who::Bare, ..python };
        assert_eq!((python.rival(), bare.rival()), (Some((Rival::BareHyper, bare)), None));
        let over_coap = Choice { who: Who::OverCoap(Environment::Python), ..python };
        assert_eq!(over_coap.rival(), Some((Rival::Http, python)));
        assert_eq!(targets(&over_coap).len(), 2);
        let over_grpc = Choice { who: Who::OverGrpc(Environment::Python), ..python };
        assert_eq!(over_grpc.rival(), Some((Rival::Http, python)));
    }
}
