//! What is measured, in which order, and which targets it has.
//!
//! Owns the rounds: in each, the server and its baselines take turns, so that
//! drift of the machine hits both sides of a ratio. Must not know how a load is
//! made or a figure shown.

use anyhow::Context;

use crate::bare_hyper::{BareHyper, PAYLOAD};
use crate::cli::Options;
use crate::function::{self, Echo, Environment};
use crate::load;
use crate::memory::{self, Memory};
use crate::report::Target::{AtLeast, AtMost};
use crate::report::{Figure, Line, Report, Subject, Unit};
use crate::series::{Scripts, Series, milliseconds, ratios};
use crate::server::Server;
use crate::setting::Setting;

/// Connections of a single caller, of a busy gateway, and of a function that is
/// a process per call.
const ONE: usize = 1;
const MANY: usize = 32;
const SCRIPTS: usize = 8;

/// Measures everything.
///
/// # Errors
/// Where the server or a baseline does not start at all; what fails later is a
/// line of the report.
pub(crate) fn everything(options: &Options) -> anyhow::Result<Report> {
    let setting = Setting::read(options);
    eprintln!("{setting}");
    let bare = BareHyper::start()?;
    let (server, start) = start_several_times(options)?;
    let before = memory::settled(server.pid())?;
    let mut subjects = vec![start, idle("server, nothing deployed", &before, true)];
    let mut under_load = Vec::new();
    for environment in Environment::ALL {
        let title = format!("{} echo, deployed", environment.name());
        match deploys(environment, &server, options) {
            Ok(Some((echo, subject))) => {
                under_load.push(echo);
                subjects.push(subject);
            }
            Ok(None) => subjects.push(Subject::without_figures(title, skipped(environment))),
            Err(error) => subjects.push(Subject::without_figures(title, failed(&error))),
        }
    }
    subjects.extend(rounds(&bare, &server, &under_load, options)?);
    let after = memory::settled(server.pid())?;
    subjects.push(idle("server, echoes deployed, after the load", &after, false));
    subjects.push(stop(server));
    Ok(Report { setting, subjects })
}

fn skipped(environment: Environment) -> Line {
    Line::Skipped(environment.missing().to_owned())
}

fn failed(error: &anyhow::Error) -> Line {
    Line::Failed(format!("{error:#}"))
}

/// Starts the server once a round and keeps the last one.
fn start_several_times(options: &Options) -> anyhow::Result<(Server, Subject)> {
    let mut ready = Vec::new();
    let mut last: Option<Server> = None;
    for _ in 0..options.rounds {
        if let Some(earlier) = last.take() {
            earlier.stop()?;
        }
        let server = Server::start(&options.server)?;
        ready.push(milliseconds(server.ready_after));
        last = Some(server);
    }
    let server = last.context("no rounds were asked for")?;
    let figures = vec![Figure::new("until management answers", Unit::Milliseconds, ready)];
    Ok((server, Subject::new("server, started", figures)))
}

fn stop(server: Server) -> Subject {
    let title = "server, stopped by SIGTERM";
    match server.stop() {
        Ok(took) => {
            let runs = vec![milliseconds(took)];
            Subject::new(title, vec![Figure::new("until its end", Unit::Milliseconds, runs)])
        }
        Err(error) => Subject::without_figures(title, failed(&error)),
    }
}

/// Memory: resident of the server itself, proportional shares of all.
fn idle(title: &str, memory: &Memory, targeted: bool) -> Subject {
    let mebibytes = |kib: u64| vec![kib as f64 / 1024.0];
    let resident = Figure::new("resident", Unit::Mebibytes, mebibytes(memory.resident));
    let resident = if targeted { resident.with_target(AtMost(15.0)) } else { resident };
    let own = Figure::new("proportional", Unit::Mebibytes, mebibytes(memory.proportional));
    let mut figures = vec![resident, own];
    for (name, (count, kib)) in &memory.descendants {
        let name = format!("{count} {name}, proportional");
        figures.push(Figure::new(name, Unit::Mebibytes, mebibytes(*kib)));
    }
    Subject::new(title, figures)
}

/// Deploys under a fresh name a round; `None` where the interpreter is missing.
/// The last step is the deploy of what the rounds put under load.
fn deploys(
    environment: Environment,
    server: &Server,
    options: &Options,
) -> anyhow::Result<Option<(Echo, Subject)>> {
    if environment.interpreter().is_none() {
        return Ok(None);
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
        Figure::new("both", Unit::Milliseconds, both).with_target(target),
    ];
    echo.upload(server, environment.name(), options.threads)?;
    function::call(server, environment.name(), PAYLOAD)?;
    let title = format!("{} echo, deployed, 1 handler", environment.name());
    Ok(Some((echo, Subject::new(title, figures))))
}

/// The loads, in turns.
fn rounds(
    bare: &BareHyper,
    server: &Server,
    deployed: &[Echo],
    options: &Options,
) -> anyhow::Result<Vec<Subject>> {
    let has = |environment| deployed.iter().any(|echo| echo.environment == environment);
    let series = |environment: Environment, connections| {
        has(environment).then(|| {
            let target =
                load::Target::echo(server.http, &format!("/{}", environment.name()), PAYLOAD);
            Series::new(&format!("{} echo", environment.name()), target, connections, options)
        })
    };
    let bare_target = load::Target::echo(bare.address, "/", PAYLOAD);
    let mut bare_one = Series::new("bare hyper", bare_target.clone(), ONE, options);
    let mut bare_many = Series::new("bare hyper", bare_target, MANY, options);
    let mut python_one = series(Environment::Python, ONE);
    let mut python_many = series(Environment::Python, MANY);
    let mut node_many = series(Environment::Node, MANY);
    let mut binary = series(Environment::Binary, SCRIPTS);
    let mut scripts = deployed
        .iter()
        .find(|echo| echo.environment == Environment::Binary)
        .map(|echo| Scripts::new(echo, SCRIPTS, options))
        .transpose()?;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        bare_one.run_once()?;
        python_one.as_mut().map_or(Ok(()), Series::run_once)?;
        bare_many.run_once()?;
        python_many.as_mut().map_or(Ok(()), Series::run_once)?;
        node_many.as_mut().map_or(Ok(()), Series::run_once)?;
        scripts.as_mut().map_or(Ok(()), Scripts::run_once)?;
        binary.as_mut().map_or(Ok(()), Series::run_once)?;
    }
    let mut subjects = vec![plain(&bare_one), plain(&bare_many)];
    subjects.extend(python_one.map(|python| python_alone(&python, &bare_one)));
    for (series, slowest) in [(python_many, Some(20.0)), (node_many, None)] {
        subjects.extend(series.map(|series| busy(&series, &bare_many, slowest)));
    }
    if let (Some(binary), Some(scripts)) = (binary, scripts) {
        subjects.push(scripts.subject());
        subjects.push(script_calls(&binary, &scripts));
    }
    Ok(subjects)
}

fn plain(series: &Series) -> Subject {
    series.subject(vec![series.rate(), series.p50(), series.p99()])
}

fn python_alone(python: &Series, bare: &Series) -> Subject {
    let against = ratios(&python.p50s, &bare.p50s);
    let against = Figure::new("p50 of bare hyper's", Unit::Times, against).with_target(AtMost(6.0));
    python.subject(vec![python.rate(), python.p50(), against, python.p99()])
}

fn busy(series: &Series, bare: &Series, slowest: Option<f64>) -> Subject {
    let against = ratios(&series.rates, &bare.rates);
    let p99 = series.p99();
    series.subject(vec![
        series.rate().with_target(AtLeast(8_000.0)),
        Figure::new("rate of bare hyper's", Unit::Times, against),
        series.p50(),
        match slowest {
            Some(limit) => p99.with_target(AtMost(limit)),
            None => p99,
        },
    ])
}

fn script_calls(binary: &Series, scripts: &Scripts) -> Subject {
    let against = ratios(&binary.rates, &scripts.rates);
    let against =
        Figure::new("rate of the bare starts'", Unit::Times, against).with_target(AtLeast(0.7));
    binary.subject(vec![binary.rate(), against, binary.p50(), binary.p99()])
}
