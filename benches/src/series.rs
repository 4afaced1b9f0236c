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
use crate::function::Echo;
use crate::load::{self, Plan};
use crate::report::{Figure, Subject, Unit};

/// One load of one target, run once a round.
#[derive(Debug)]
pub(crate) struct Series {
    title: String,
    target: load::Target,
    plan: Plan,
    /// Right replies per second, a round each.
    pub(crate) rates: Vec<f64>,
    /// In milliseconds.
    pub(crate) p50s: Vec<f64>,
    p99s: Vec<f64>,
    errors: u64,
    first_error: Option<String>,
}

impl Series {
    /// A series of no runs yet.
    pub(crate) fn new(
        what: &str,
        target: load::Target,
        connections: usize,
        options: &Options,
    ) -> Self {
        let noun = if connections == 1 { "connection" } else { "connections" };
        Self {
            title: format!("{what}, {connections} {noun}"),
            target,
            plan: plan(connections, options),
            rates: Vec::new(),
            p50s: Vec::new(),
            p99s: Vec::new(),
            errors: 0,
            first_error: None,
        }
    }

    /// One round.
    ///
    /// # Errors
    /// Where the load cannot be made; wrong replies are counted.
    pub(crate) fn run_once(&mut self) -> anyhow::Result<()> {
        let outcome = load::run(&self.target, self.plan)?;
        self.rates.push(outcome.replies as f64 / self.plan.measured.as_secs_f64());
        // A run without a right reply has no latency, but it has errors.
        self.p50s.extend(outcome.latencies.percentile(0.5).map(milliseconds));
        self.p99s.extend(outcome.latencies.percentile(0.99).map(milliseconds));
        self.errors += outcome.errors;
        self.first_error = self.first_error.take().or(outcome.first_error);
        Ok(())
    }

    /// Requests per second.
    pub(crate) fn rate(&self) -> Figure {
        Figure::new("requests", Unit::PerSecond, self.rates.clone())
    }

    /// The latency that half of a round's requests stay below.
    pub(crate) fn p50(&self) -> Figure {
        Figure::new("p50", Unit::Milliseconds, self.p50s.clone())
    }

    /// The latency that 99% of a round's requests stay below.
    pub(crate) fn p99(&self) -> Figure {
        Figure::new("p99", Unit::Milliseconds, self.p99s.clone())
    }

    /// These figures under its title, with what went wrong.
    pub(crate) fn subject(&self, figures: Vec<Figure>) -> Subject {
        let mut subject = Subject::new(&*self.title, figures);
        if let Some(error) = &self.first_error {
            subject.fail(format!("{} wrong replies or broken connections: {error}", self.errors));
        }
        subject
    }
}

/// The same script as the binary echo's, started without a server.
#[derive(Debug)]
pub(crate) struct Scripts {
    script: Script,
    // Holds the copy that is started.
    _folder: TempDir,
    plan: Plan,
    /// Starts per second, a round each.
    pub(crate) rates: Vec<f64>,
}

impl Scripts {
    /// A series of no runs yet, of so many loops that each start the script.
    ///
    /// # Errors
    /// Where the script cannot be copied.
    pub(crate) fn new(function: &Echo, loops: usize, options: &Options) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
        let script = Script::copy(&function.folder, folder.path())?;
        Ok(Self { script, _folder: folder, plan: plan(loops, options), rates: Vec::new() })
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
}

/// Each round's figure against the other's of the same round.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// A duration as figures hold it.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn plan(connections: usize, options: &Options) -> Plan {
    Plan { connections, warm_up: options.warm_up, measured: options.measured }
}
