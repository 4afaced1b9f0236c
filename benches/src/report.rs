//! Figures beside their targets: a table for people, JSON for machines.
//!
//! Owns medians, targets and how numbers are shown. Must not know how a figure
//! was measured.

use std::fmt::{self, Display, Write};

use serde_json::{Value, json};

use crate::setting::Setting;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Milliseconds,
    Mebibytes,
    /// A figure against another one of the same round.
    Times,
}

impl Unit {
    fn symbol(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::Times => "x",
        }
    }

    fn number(self, value: f64) -> String {
        match self {
            Self::PerSecond => thousands(value),
            Self::Milliseconds if value < 10.0 => format!("{value:.3}"),
            Self::Milliseconds | Self::Mebibytes => format!("{value:.1}"),
            Self::Times => format!("{value:.2}"),
        }
    }

    fn shown(self, value: f64) -> String {
        format!("{} {}", self.number(value), self.symbol())
    }
}

/// What a median has to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Target {
    fn met_by(self, median: f64) -> bool {
        match self {
            Self::AtMost(limit) => median <= limit,
            Self::AtLeast(limit) => median >= limit,
        }
    }

    fn shown(self, unit: Unit) -> String {
        let (words, limit) = match self {
            Self::AtMost(limit) => ("at most", limit),
            Self::AtLeast(limit) => ("at least", limit),
        };
        let number = if limit.fract() == 0.0 { thousands(limit) } else { limit.to_string() };
        format!("{words} {number} {}", unit.symbol())
    }
}

/// Something measured once a round.
#[derive(Debug)]
pub(crate) struct Figure {
    name: String,
    unit: Unit,
    runs: Vec<f64>,
    target: Option<Target>,
}

impl Figure {
    /// A figure for information.
    pub(crate) fn new(name: impl Into<String>, unit: Unit, runs: Vec<f64>) -> Self {
        Self { name: name.into(), unit, runs, target: None }
    }

    /// The same, to be held against a target.
    pub(crate) fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// The median of its runs, or `None` where no run gave a figure.
    fn median(&self) -> Option<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            length if length % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    fn range(&self) -> Option<(f64, f64)> {
        let least = self.runs.iter().copied().min_by(f64::total_cmp)?;
        let most = self.runs.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }

    /// Whether the target is reached, where there is one.
    fn met(&self) -> Option<bool> {
        self.target.map(|target| self.median().is_some_and(|median| target.met_by(median)))
    }

    fn json(&self) -> Value {
        let target = self.target.map(|target| match target {
            Target::AtMost(limit) => json!({ "at_most": limit }),
            Target::AtLeast(limit) => json!({ "at_least": limit }),
        });
        json!({
            "name": self.name, "unit": self.unit.symbol(), "median": self.median(),
            "runs": self.runs, "target": target, "met": self.met(),
        })
    }
}

/// One line below a subject.
#[derive(Debug)]
pub(crate) enum Line {
    Figure(Figure),
    /// Not measured, for a reason that lies in this machine.
    Skipped(String),
    /// It did not run, or replies were wrong.
    Failed(String),
}

/// What the figures below it are about.
#[derive(Debug)]
pub(crate) struct Subject {
    title: String,
    lines: Vec<Line>,
}

impl Subject {
    /// A subject with its figures.
    pub(crate) fn new(title: impl Into<String>, figures: Vec<Figure>) -> Self {
        let lines = figures.into_iter().map(Line::Figure).collect();
        Self { title: title.into(), lines }
    }

    /// A subject with one line instead of figures.
    pub(crate) fn without_figures(title: impl Into<String>, line: Line) -> Self {
        Self { title: title.into(), lines: vec![line] }
    }

    /// Adds a failure below the figures.
    pub(crate) fn fail(&mut self, reason: String) {
        self.lines.push(Line::Failed(reason));
    }

    fn json(&self) -> Value {
        let figures = self.lines.iter().filter_map(|line| match line {
            Line::Figure(figure) => Some(figure.json()),
            Line::Skipped(_) | Line::Failed(_) => None,
        });
        let skipped = self.lines.iter().find_map(|line| match line {
            Line::Skipped(reason) => Some(reason),
            Line::Figure(_) | Line::Failed(_) => None,
        });
        let failures = self.lines.iter().filter_map(|line| match line {
            Line::Failed(reason) => Some(reason),
            Line::Figure(_) | Line::Skipped(_) => None,
        });
        json!({
            "subject": self.title, "figures": figures.collect::<Vec<_>>(), "skipped": skipped,
            "failures": failures.collect::<Vec<_>>(),
        })
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    /// How and on what.
    pub(crate) setting: Setting,
    /// In the order in which they are shown.
    pub(crate) subjects: Vec<Subject>,
}

impl Report {
    /// Whether anything did not run or replied wrongly.
    pub(crate) fn failed(&self) -> bool {
        self.lines().any(|line| matches!(line, Line::Failed(_)))
    }

    /// How many targets there are, and how many of them are missed.
    pub(crate) fn targets(&self) -> (usize, usize) {
        let met = self.lines().filter_map(|line| match line {
            Line::Figure(figure) => figure.met(),
            Line::Skipped(_) | Line::Failed(_) => None,
        });
        met.fold((0, 0), |(all, missed), met| (all + 1, missed + usize::from(!met)))
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.subjects.iter().flat_map(|subject| &subject.lines)
    }

    /// The whole report for machines.
    pub(crate) fn json(&self) -> Value {
        let (targets, missed) = self.targets();
        let subjects: Vec<_> = self.subjects.iter().map(Subject::json).collect();
        json!({
            "setting": self.setting.json(), "subjects": subjects,
            "targets": targets, "missed": missed, "failed": self.failed(),
        })
    }
}

/// The table for people.
impl Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "{}\n", self.setting)?;
        writeln!(to, "{:34}{:>14}  {:21}  target", "", "median", "range")?;
        for Subject { title, lines } in &self.subjects {
            writeln!(to, "{title}")?;
            for line in lines {
                match line {
                    Line::Figure(figure) => writeln!(to, "{}", row(figure).trim_end())?,
                    Line::Skipped(reason) => writeln!(to, "  skipped: {reason}")?,
                    Line::Failed(reason) => writeln!(to, "  FAILED: {reason}")?,
                }
            }
        }
        let (targets, missed) = self.targets();
        write!(to, "\n{} of {targets} targets met", targets - missed)
    }
}

fn row(figure: &Figure) -> String {
    let Figure { name, unit, runs, target } = figure;
    let median = figure.median().map_or_else(|| "none".to_owned(), |median| unit.shown(median));
    let range = match figure.range() {
        Some((least, most)) if runs.len() > 1 => {
            format!("{} – {}", unit.number(least), unit.number(most))
        }
        _ => String::new(),
    };
    let mut row = format!("  {name:32}{median:>14}  {range:21}");
    if let (Some(target), Some(met)) = (target, figure.met()) {
        let verdict = if met { "met" } else { "MISSED" };
        write!(row, "  {:19} {verdict}", target.shown(*unit)).expect("a string takes any text");
    }
    row
}

/// `12,345`: whole numbers of four digits and more are read in groups.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_targets() {
        let check = |runs: &[f64], target, median, met| {
            let figure = Figure::new("x", Unit::PerSecond, runs.to_vec()).with_target(target);
            assert_eq!((figure.median(), figure.met()), (median, Some(met)), "{runs:?} {target:?}");
        };
        check(&[3.0, 1.0, 2.0], Target::AtLeast(2.0), Some(2.0), true);
        check(&[3.0, 1.0, 2.0], Target::AtMost(1.9), Some(2.0), false);
        check(&[1.0, 4.0, 2.0, 3.0], Target::AtMost(2.5), Some(2.5), true);
        check(&[], Target::AtLeast(0.0), None, false);
        assert_eq!(Figure::new("x", Unit::Times, vec![1.0]).met(), None);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(Unit::PerSecond.shown(1_234_567.8), "1,234,568 /s");
        assert_eq!(Unit::PerSecond.shown(999.4), "999 /s");
        assert_eq!(Unit::Milliseconds.shown(0.0254), "0.025 ms");
        assert_eq!(Unit::Milliseconds.shown(123.45), "123.5 ms");
        assert_eq!(Unit::Mebibytes.shown(9.96), "10.0 MiB");
        assert_eq!(Target::AtLeast(8000.0).shown(Unit::PerSecond), "at least 8,000 /s");
        assert_eq!(Target::AtLeast(0.7).shown(Unit::Times), "at least 0.7 x");
    }

    fn report() -> Report {
        let fast = Figure::new("requests", Unit::PerSecond, vec![9_000.0, 7_000.0, 10_000.0])
            .with_target(Target::AtLeast(8_000.0));
        let slow =
            Figure::new("p99", Unit::Milliseconds, vec![25.0]).with_target(Target::AtMost(20.0));
        let skipped = Line::Skipped("no node on the PATH".to_owned());
        Report {
            setting: Setting {
                server: "./tinyfaas".to_owned(),
                rounds: 3,
                seconds: 2,
                threads: 2,
                cores: 2,
                kernel: "6.1".to_owned(),
                load_before: None,
            },
            subjects: vec![
                Subject::new("echo", vec![fast, slow]),
                Subject::without_figures("echo-js", skipped),
            ],
        }
    }

    #[test]
    fn the_table_says_met_missed_and_skipped() {
        let table = report().to_string();
        let row = |name: &str| {
            let line = table.lines().find(|line| line.contains(name)).expect(name);
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("requests"), "requests 9,000 /s 7,000 – 10,000 at least 8,000 /s met");
        assert_eq!(row("p99"), "p99 25.0 ms at most 20 ms MISSED");
        assert_eq!(row("skipped"), "skipped: no node on the PATH");
        assert!(table.ends_with("1 of 2 targets met"), "{table}");
    }

    #[test]
    fn json_says_the_same() {
        let mut report = report();
        let value = report.json();
        assert_eq!((&value["targets"], &value["missed"]), (&json!(2), &json!(1)));
        assert_eq!(value["failed"], json!(false));
        let figure = &value["subjects"][0]["figures"][1];
        assert_eq!(figure["median"], json!(25.0));
        assert_eq!((&figure["target"], &figure["met"]), (&json!({"at_most": 20.0}), &json!(false)));
        assert_eq!(value["subjects"][1]["skipped"], json!("no node on the PATH"));
        report.subjects[0].fail("wrong replies".to_owned());
        assert!(report.failed());
        assert_eq!(report.json()["subjects"][0]["failures"], json!(["wrong replies"]));
    }
}
