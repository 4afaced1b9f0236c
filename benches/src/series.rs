//! Series of runs: one load, or the bare script, measured once a round.
//!
//! Owns what each round gave, and ratios between two series of the same rounds.
//! Must not know the order of a round or what a series is held against.

use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use crate::bare_hyper::PAYLOAD;
use crate::bare_script::Script;
use crate::cli::Options;
use crate::figure::{Figure, Unit, thousands};
use crate::function::Echo;
use crate::load::{self, Outcome, Pace, Plan, Target};
use crate::processes::ProcessorTime;
use crate::report::{Kind, Load, Subject};

/// Right replies a second.
pub(crate) const RATE: &str = "requests";
/// The latency that half of a round's requests stay below.
pub(crate) const P50: &str = "p50";
/// The latency that 99% of a round's requests stay below.
pub(crate) const P99: &str = "p99";
/// Names of the latencies, and the shares of all requests that stay below them.
pub(crate) const LATENCIES: [(&str, f64); 7] = [
    (P50, 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    (P99, 0.99),
    ("p99.9", 0.999),
    ("maximum", 1.0),
];
/// Processor time of the server itself, of all below it, and of both.
pub(crate) const SERVER_CPU: &str = "server CPU a request";
pub(crate) const HANDLERS_CPU: &str = "handlers CPU a request";
pub(crate) const CPU: &str = "CPU a request";
/// The same figure of the bare hyper server under the same load in the same round.
pub(crate) const RATE_OF_BARE: &str = "rate of bare hyper's";
pub(crate) const P50_OF_BARE: &str = "p50 of bare hyper's";
pub(crate) const CPU_OF_BARE: &str = "CPU of bare hyper's";
/// The same, of the same function over HTTP.
pub(crate) const RATE_OF_HTTP: &str = "rate of HTTP's";
/// The same, of libcoap's server with replies of the same size.
pub(crate) const RATE_OF_LIBCOAP: &str = "rate of libcoap's";
/// The same, of a bare tonic server's.
pub(crate) const RATE_OF_TONIC: &str = "rate of tonic's";
/// How much too late a free connection began, in an open loop.
pub(crate) const GENERATOR_LATE: &str = "generator late, p99";

/// A rate counts as kept from this share of it.
const KEPT: f64 = 0.99;
/// A generator that wanted a processor for this share of a run had no time left.
const GENERATOR_BUSY: f64 = 0.9;

/// What a series is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rival {
    /// The bare hyper server.
    BareHyper,
    /// The same function over HTTP.
    Http,
    /// libcoap's server.
    Libcoap,
    /// The bare tonic server.
    Tonic,
}

impl Rival {
    /// Names of the ratios: of the rate, the p50, the processor time.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::BareHyper => [RATE_OF_BARE, P50_OF_BARE, CPU_OF_BARE],
            Self::Http => [RATE_OF_HTTP, "p50 of HTTP's", "CPU of HTTP's"],
            Self::Tonic => [RATE_OF_TONIC, "p50 of tonic's", "CPU of tonic's"],
            Self::Libcoap => [RATE_OF_LIBCOAP, "p50 of libcoap's", "CPU of libcoap's"],
        }
    }
}

/// Who kept an open loop from its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pacing {
    /// Nobody.
    Kept,
    /// The server: what waited for it is in the latencies.
    ServerTooSlow,
    /// The load generator, as far as can be known: the latencies are its own.
    GeneratorTooSlow,
}

fn judge(pace: Pace, reached: f64, busy: Option<f64>) -> Pacing {
    match pace {
        Pace::Open(asked) if reached < asked as f64 * KEPT => {
            if busy.is_some_and(|busy| busy < GENERATOR_BUSY) {
                Pacing::ServerTooSlow
            } else {
                Pacing::GeneratorTooSlow
            }
        }
        Pace::Open(_) | Pace::Closed => Pacing::Kept,
    }
}

/// What one round gave.
#[derive(Debug)]
struct Round {
    rate: f64,
    pacing: Pacing,
    /// In milliseconds; `None` where no reply was right, or they are the generator's.
    latencies: Option<[f64; LATENCIES.len()]>,
    /// In microseconds a request: server, handlers.
    cpu: Option<(f64, f64)>,
    /// In milliseconds.
    generator_late: Option<f64>,
}

/// One load of one target, run once a round.
#[derive(Debug)]
pub(crate) struct Series {
    /// Which load.
    pub(crate) load: Load,
    target: Target,
    plan: Plan,
    /// Whose processor time counts, where it is known.
    process: Option<u32>,
    rounds: Vec<Round>,
    losses: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Series {
    /// A series of no runs yet.
    pub(crate) fn new(
        load: Load,
        target: Target,
        pace: Pace,
        process: Option<u32>,
        options: &Options,
    ) -> Self {
        let plan = Plan {
            connections: load.connections,
            pace,
            warm_up: options.warm_up,
            measured: options.measured,
        };
        let (rounds, first_error) = (Vec::new(), None);
        Self { load, target, plan, process, rounds, losses: 0, errors: 0, first_error }
    }

    /// One round.
    ///
    /// # Errors
    /// Where the load cannot be made or the server is gone; wrong replies are
    /// counted.
    pub(crate) fn run_once(&mut self) -> anyhow::Result<()> {
        let before = self.process.map(ProcessorTime::read).transpose()?;
        let mut outcome = load::run(&self.target, self.plan)?;
        let after = self.process.map(ProcessorTime::read).transpose()?;
        let taken = before.zip(after).map(|(before, after)| after.since(before));
        self.losses += outcome.losses;
        self.errors += outcome.errors;
        self.first_error = self.first_error.take().or_else(|| outcome.first_error.take());
        self.rounds.push(self.round(&outcome, taken));
        Ok(())
    }

    fn round(&self, outcome: &Outcome, taken: Option<ProcessorTime>) -> Round {
        let rate = outcome.replies as f64 / self.plan.measured.as_secs_f64();
        let pacing = judge(self.plan.pace, rate, outcome.busy);
        let answered = (outcome.answered > 0).then_some(outcome.answered as f64);
        let each = |time: Duration, answered: f64| time.as_secs_f64() * 1e6 / answered;
        Round {
            rate,
            pacing,
            latencies: (pacing != Pacing::GeneratorTooSlow).then(|| latencies(outcome)).flatten(),
            cpu: taken.zip(answered).map(|(taken, answered)| {
                (each(taken.server, answered), each(taken.handlers, answered))
            }),
            generator_late: outcome.lateness.percentile(0.99).map(milliseconds),
        }
    }

    /// All its figures, with what went wrong. `rival` is the same load's series of
    /// what it is held against.
    pub(crate) fn subject(&self, rival: Option<(Rival, &Self)>) -> Subject {
        let mut figures = vec![Figure::new(RATE, Unit::PerSecond, self.each(|it| Some(it.rate)))];
        for (at, (name, _)) in LATENCIES.iter().enumerate() {
            let runs = self.each(|it| it.latencies.map(|all| all[at]));
            figures.push(Figure::new(*name, Unit::Milliseconds, runs));
        }
        figures.extend(self.cpu());
        figures.extend(rival.map(|(who, rival)| self.against(who, rival)).into_iter().flatten());
        if self.load.rate.is_some() {
            let late = self.each(|it| it.generator_late);
            figures.push(Figure::new(GENERATOR_LATE, Unit::Milliseconds, late));
        }
        let mut subject = Subject::of_load(self.load.clone(), figures);
        subject.warnings.extend(self.missed_rates());
        if self.losses > 0 {
            subject.warnings.push(format!(
                "{} requests were sent again, as no answer had come in 2 s",
                self.losses
            ));
        }
        if let Some(error) = &self.first_error {
            let text = format!("{} wrong replies or broken connections: {error}", self.errors);
            // A peer that replies wrongly is worth knowing, and no failure of ours.
            match self.load.kind {
                Kind::Peer => subject.warnings.push(text),
                Kind::Bare | Kind::Function => subject.failures.push(text),
            }
        }
        subject
    }

    fn cpu(&self) -> Vec<Figure> {
        let figure = |name, runs| Figure::new(name, Unit::Microseconds, runs);
        match (self.load.kind, self.process) {
            (_, None) => Vec::new(),
            (Kind::Bare, Some(_)) => {
                vec![figure(CPU, self.each(|it| it.cpu.map(|(server, _)| server)))]
            }
            (Kind::Function | Kind::Peer, Some(_)) => vec![
                figure(SERVER_CPU, self.each(|it| it.cpu.map(|(server, _)| server))),
                figure(HANDLERS_CPU, self.each(|it| it.cpu.map(|(_, handlers)| handlers))),
                figure(CPU, self.each(Round::cpu)),
            ],
        }
    }

    fn against(&self, who: Rival, rival: &Self) -> Vec<Figure> {
        let [of_rate, of_p50, of_cpu] = who.names();
        let ratios = |of: fn(&Round) -> Option<f64>| {
            let pairs = self.rounds.iter().zip(&rival.rounds);
            let pairs = pairs.filter_map(|(ours, theirs)| of(ours).zip(of(theirs)));
            pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>()
        };
        let mut figures = Vec::new();
        if self.load.rate.is_none() {
            let rate = Figure::new(of_rate, Unit::Times, ratios(|it| Some(it.rate)));
            figures.push(rate.higher_is_better());
        }
        let p50 = ratios(|it| it.latencies.map(|all| all[0]));
        figures.push(Figure::new(of_p50, Unit::Times, p50));
        if self.process.is_some() {
            figures.push(Figure::new(of_cpu, Unit::Times, ratios(Round::cpu)));
        }
        figures
    }

    fn missed_rates(&self) -> Vec<String> {
        let of = |pacing| {
            let rates = self.rounds.iter().filter(move |it| it.pacing == pacing);
            let rates: Vec<_> = rates.map(|it| it.rate).collect();
            let median = Figure::new(RATE, Unit::PerSecond, rates.clone()).median;
            median.map(|median| (rates.len(), thousands(median)))
        };
        let (asked, all) = (self.load.rate.unwrap_or_default(), self.rounds.len());
        let mut said = Vec::new();
        if let Some((rounds, reached)) = of(Pacing::ServerTooSlow) {
            said.push(format!(
                "in {rounds} of {all} rounds it answered {reached} of {asked}/s: what waited \
                 meanwhile is in the latencies, which grow with a run's length"
            ));
        }
        if let Some((rounds, reached)) = of(Pacing::GeneratorTooSlow) {
            said.push(format!(
                "in {rounds} of {all} rounds the load generator itself reached only {reached} of \
                 {asked}/s: their latencies would be its own and are left out"
            ));
        }
        said
    }

    fn each(&self, of: impl Fn(&Round) -> Option<f64>) -> Vec<f64> {
        self.rounds.iter().filter_map(of).collect()
    }

    /// Right replies per second, a round each.
    pub(crate) fn rates(&self) -> Vec<f64> {
        self.each(|it| Some(it.rate))
    }
}

impl Round {
    fn cpu(&self) -> Option<f64> {
        self.cpu.map(|(server, handlers)| server + handlers)
    }
}

fn latencies(outcome: &Outcome) -> Option<[f64; LATENCIES.len()]> {
    let mut found = [0.0; LATENCIES.len()];
    for (at, (_, share)) in LATENCIES.iter().enumerate() {
        let all = &outcome.latencies;
        // The last share is the longest one, which is known exactly.
        let latency = if *share < 1.0 { all.percentile(*share) } else { all.longest() };
        found[at] = milliseconds(latency?);
    }
    Some(found)
}

/// The same script as the binary echo's, started without a server.
#[derive(Debug)]
pub(crate) struct Scripts {
    script: Script,
    // Holds the copy that is started.
    _folder: TempDir,
    plan: Plan,
    /// Starts per second, a round each.
    rates: Vec<f64>,
}

impl Scripts {
    /// A series of no runs yet, of so many loops that each start the script.
    ///
    /// # Errors
    /// Where the script cannot be copied.
    pub(crate) fn new(function: &Echo, loops: usize, options: &Options) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
        let script = Script::copy(&function.folder, folder.path())?;
        let plan = Plan {
            connections: loops,
            pace: Pace::Closed,
            warm_up: options.warm_up,
            measured: options.measured,
        };
        Ok(Self { script, _folder: folder, plan, rates: Vec::new() })
    }

    /// One round.
    ///
    /// # Errors
    /// Where the script does not start or gives back something else.
    pub(crate) fn run_once(&mut self) -> anyhow::Result<()> {
        self.rates.push(self.script.starts_per_second(PAYLOAD, self.plan)?);
        Ok(())
    }

    /// Its only figure.
    pub(crate) fn subject(&self) -> Subject {
        let rate = Figure::new("starts", Unit::PerSecond, self.rates.clone());
        Subject::new(format!("bare fn.sh, {} at a time", self.plan.connections), vec![rate])
    }

    /// The rate at which a function that is this script was called, against it.
    pub(crate) fn share_of(&self, calls: &Series) -> Figure {
        let pairs = calls.rates().into_iter().zip(&self.rates);
        let ratios = pairs.map(|(calls, starts)| calls / starts).collect();
        Figure::new("rate of the bare starts'", Unit::Times, ratios).higher_is_better()
    }
}

/// A duration as figures hold it.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_rate_is_somebodys_fault() {
        assert_eq!(judge(Pace::Open(1000), 995.0, Some(1.0)), Pacing::Kept);
        assert_eq!(judge(Pace::Open(1000), 900.0, Some(0.3)), Pacing::ServerTooSlow);
        assert_eq!(judge(Pace::Open(1000), 900.0, Some(0.97)), Pacing::GeneratorTooSlow);
        // Where the kernel does not say, no figure is better than a wrong one.
        assert_eq!(judge(Pace::Open(1000), 900.0, None), Pacing::GeneratorTooSlow);
        assert_eq!(judge(Pace::Closed, 1.0, Some(1.0)), Pacing::Kept);
    }

    fn series(kind: Kind, rate: Option<u64>) -> Series {
        let load = Load { who: "x".to_owned(), kind, connections: 1, body_bytes: 0, rate };
        let target = load::http::Target::echo(([127, 0, 0, 1], 1).into(), "/", b"");
        let matches = crate::cli::command().try_get_matches_from(["tinyfaas-bench"]);
        let options = crate::cli::options(&matches.expect("sound"));
        let pace = rate.map_or(Pace::Closed, Pace::Open);
        Series::new(load, Target::Http(target), pace, Some(1), &options)
    }

    /// An outcome of so many replies, all in one millisecond.
    fn outcome(replies: u64, busy: f64) -> Outcome {
        let mut outcome = Outcome { replies, answered: 2 * replies, ..Outcome::default() };
        outcome.latencies.add(Duration::from_millis(1));
        outcome.busy = Some(busy);
        outcome
    }

    #[test]
    fn a_round_becomes_figures_and_ratios() {
        let (mut ours, mut bare) = (series(Kind::Function, None), series(Kind::Bare, None));
        let taken = ProcessorTime {
            server: Duration::from_millis(30),
            handlers: Duration::from_millis(10),
        };
        ours.rounds.push(ours.round(&outcome(1000, 1.0), Some(taken)));
        let taken = ProcessorTime { handlers: Duration::ZERO, ..taken };
        bare.rounds.push(bare.round(&outcome(2000, 1.0), Some(taken)));
        let subject = ours.subject(Some((Rival::BareHyper, &bare)));
        let median = |name: &str| subject.figure(name).expect(name).median.expect(name);
        assert!((median(RATE) - 500.0).abs() < 0.01, "2 s");
        assert!((median("maximum") - 1.0).abs() < 1e-9);
        assert!(median("p99.9") <= 1.0, "no percentile exceeds the maximum");
        assert!((median(SERVER_CPU) - 15.0).abs() < 0.01);
        assert!((median(HANDLERS_CPU) - 5.0).abs() < 0.01);
        assert!((median(CPU) - 20.0).abs() < 0.01);
        assert!((median(RATE_OF_BARE) - 0.5).abs() < 0.01);
        assert!((median(CPU_OF_BARE) - 20.0 / 7.5).abs() < 0.01);
        assert!(bare.subject(None).figure(HANDLERS_CPU).is_none());
    }

    #[test]
    fn a_rate_that_the_generator_missed_has_no_latencies() {
        let mut series = series(Kind::Function, Some(1000));
        series.rounds.push(series.round(&outcome(1000, 0.99), None));
        let subject = series.subject(None);
        assert_eq!(subject.figure(P50).expect("named").median, None);
        assert_eq!(subject.figure(RATE).expect("named").median, Some(500.0));
        assert!(subject.warnings[0].contains("generator itself reached only 500 of 1000/s"));
        series.rounds.push(series.round(&outcome(1000, 0.2), None));
        let subject = series.subject(None);
        assert_eq!(subject.figure(P50).expect("named").runs, [1.0]);
        assert!(subject.warnings[0].contains("in 1 of 2 rounds it answered 500 of 1000/s"));
    }

    #[test]
    fn a_peers_wrong_replies_are_no_failure_of_ours() {
        let told = |kind| {
            let mut series = series(kind, None);
            series.first_error = Some("status 500".to_owned());
            series.losses = 3;
            let subject = series.subject(None);
            (subject.warnings.len(), subject.failures.len())
        };
        // What was lost is told beside it.
        assert_eq!((told(Kind::Peer), told(Kind::Function)), ((2, 0), (1, 1)));
    }
}
