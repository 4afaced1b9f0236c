//! Everything that was measured: subjects with their figures.
//!
//! Owns what a report consists of and its JSON. How it is shown to people stands in
//! `table.rs` and `plot.rs`.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::figure::{Figure, Target};
use crate::setting::Setting;

/// Grows when a reader of older reports would misread newer ones.
const FORMAT: u32 = 1;

/// Whose load it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A bare server, of this program.
    Bare,
    /// A function of the server under test.
    Function,
    /// A function of another running server.
    Peer,
}

/// The load that figures are about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// The server or function that was asked.
    pub(crate) who: String,
    /// What that is.
    pub(crate) kind: Kind,
    /// Connections at a time, each with one request; over gRPC calls at a time.
    pub(crate) connections: usize,
    /// Of request and reply, in bytes.
    pub(crate) body_bytes: usize,
    /// Requests a second in an open loop; `None` in a closed one.
    pub(crate) rate: Option<u64>,
}

impl Load {
    /// For people, and unique in a report.
    pub(crate) fn title(&self) -> String {
        let Self { who, connections, body_bytes, rate, .. } = self;
        let noun = if *connections == 1 { "connection" } else { "connections" };
        let body = bytes(*body_bytes);
        let pace = rate.map(|rate| format!(", {rate}/s")).unwrap_or_default();
        format!("{who}, {connections} {noun}, {body}{pace}")
    }
}

/// `64 B`, `1 kB`, `1 MB`.
pub(crate) fn bytes(bytes: usize) -> String {
    match bytes {
        _ if bytes >= 1_000_000 && bytes.is_multiple_of(1_000_000) => {
            format!("{} MB", bytes / 1_000_000)
        }
        _ if bytes >= 1000 && bytes.is_multiple_of(1000) => format!("{} kB", bytes / 1000),
        _ => format!("{bytes} B"),
    }
}

/// What the figures below it are about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Subject {
    /// Unique in a report.
    pub(crate) title: String,
    /// The load that was measured, where it was one.
    pub(crate) load: Option<Load>,
    /// In the order in which they are shown.
    pub(crate) figures: Vec<Figure>,
    /// Why it was not measured, where that lies in this machine.
    pub(crate) skipped: Option<String>,
    /// What a reader of the figures must know.
    pub(crate) warnings: Vec<String>,
    /// It did not run, or replies were wrong.
    pub(crate) failures: Vec<String>,
}

impl Subject {
    /// A subject with its figures.
    pub(crate) fn new(title: impl Into<String>, figures: Vec<Figure>) -> Self {
        Self {
            title: title.into(),
            load: None,
            figures,
            skipped: None,
            warnings: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// A load with its figures.
    pub(crate) fn of_load(load: Load, figures: Vec<Figure>) -> Self {
        Self { load: Some(load.clone()), ..Self::new(load.title(), figures) }
    }

    /// One that this machine cannot measure.
    pub(crate) fn skipped(title: impl Into<String>, reason: &str) -> Self {
        Self { skipped: Some(reason.to_owned()), ..Self::new(title, Vec::new()) }
    }

    /// One that did not run.
    pub(crate) fn failed(title: impl Into<String>, error: &anyhow::Error) -> Self {
        Self { failures: vec![format!("{error:#}")], ..Self::new(title, Vec::new()) }
    }

    /// Holds one of its figures against a target.
    pub(crate) fn aim(&mut self, name: &str, target: Target) {
        let at = self.figures.iter().position(|figure| figure.name == name);
        let at = at.expect("only figures that a load always has are given targets");
        let figure = self.figures.remove(at);
        self.figures.insert(at, figure.with_target(target));
    }

    /// One of its figures.
    pub(crate) fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

/// Everything that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    format: u32,
    /// How and on what.
    pub(crate) setting: Setting,
    /// In the order in which they are shown.
    pub(crate) subjects: Vec<Subject>,
    /// How many targets there are.
    pub(crate) targets: usize,
    /// How many of them are missed.
    pub(crate) missed: usize,
    /// Whether anything did not run or replied wrongly.
    pub(crate) failed: bool,
}

impl Report {
    /// Sums the subjects up.
    pub(crate) fn new(setting: Setting, subjects: Vec<Subject>) -> Self {
        let figures = subjects.iter().flat_map(|subject| &subject.figures);
        let met: Vec<_> = figures.filter_map(|figure| figure.met).collect();
        let missed = met.iter().filter(|met| !**met).count();
        let failed = subjects.iter().any(|subject| !subject.failures.is_empty());
        Self { format: FORMAT, setting, subjects, targets: met.len(), missed, failed }
    }

    /// The subject of this title.
    pub(crate) fn subject(&self, title: &str) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.title == title)
    }

    /// The subjects that are loads.
    pub(crate) fn loads(&self) -> impl Iterator<Item = (&Load, &Subject)> {
        self.subjects.iter().filter_map(|subject| Some((subject.load.as_ref()?, subject)))
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write the figures")?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads one that was written before.
    ///
    /// # Errors
    /// Where it cannot be read or is none.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        Self::parse(&text).with_context(|| format!("{shown} is no report of --json"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => Ok(serde_json::from_value(value)?),
            Some(format) => bail!("it has format {format}, this program reads {FORMAT}"),
            None => bail!("it names no format; reports of earlier versions cannot be compared"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::figure::Unit;

    /// A report that other modules' tests show, too.
    pub(crate) fn report() -> Report {
        let fast = Figure::new("requests", Unit::PerSecond, vec![9_000.0, 7_000.0, 10_000.0])
            .with_target(Target::AtLeast(8_000.0));
        let slow =
            Figure::new("p99", Unit::Milliseconds, vec![25.0]).with_target(Target::AtMost(20.0));
        let load = Load {
            who: "python3".to_owned(),
            kind: Kind::Function,
            connections: 32,
            body_bytes: 64,
            rate: None,
        };
        let ready = Figure::new("until management answers", Unit::Milliseconds, vec![12.0, 14.0]);
        let subjects = vec![
            Subject::new("server, started", vec![ready]),
            Subject::of_load(load, vec![fast, slow]),
            Subject::skipped("nodejs echo, deployed", "no node on the PATH"),
        ];
        Report::new(crate::setting::tests::setting(), subjects)
    }

    #[test]
    fn titles_tell_loads_apart() {
        let title = |connections, body_bytes, rate| {
            let who = "x".to_owned();
            Load { who, kind: Kind::Peer, connections, body_bytes, rate }.title()
        };
        assert_eq!(title(1, 0, None), "x, 1 connection, 0 B");
        assert_eq!(title(8, 1000, None), "x, 8 connections, 1 kB");
        assert_eq!(title(8, 1024, None), "x, 8 connections, 1024 B");
        assert_eq!(title(32, 2_000_000, Some(500)), "x, 32 connections, 2 MB, 500/s");
    }

    #[test]
    fn targets_and_failures_are_summed_up() {
        let mut report = report();
        assert_eq!((report.targets, report.missed, report.failed), (2, 1, false));
        report.subjects[0].failures.push("wrong replies".to_owned());
        let report = Report::new(report.setting, report.subjects);
        assert!(report.failed);
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("figures.json");
        report().write(&path).expect("writable");
        let back = Report::read(&path).expect("readable");
        let subject = back.subject("python3, 32 connections, 64 B").expect("there");
        assert_eq!(subject.figure("p99").expect("there").median, Some(25.0));
        assert_eq!(back.subjects[2].skipped.as_deref(), Some("no node on the PATH"));
        let check = |text: &str, words: &str| {
            fs::write(&path, text).expect("writable");
            let error = format!("{:#}", Report::read(&path).expect_err(text));
            assert!(error.contains(words), "{error}");
        };
        check("{", "is no report");
        check("{}", "names no format");
        check(r#"{"format": 99}"#, "format 99");
        check(r#"{"format": 1}"#, "setting");
    }
}
