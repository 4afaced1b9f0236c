//! A figure: what each round gave, its median, and the target that it is held to.
//!
//! Owns units, medians, targets and how numbers are shown. Must not know how a
//! figure was measured.

use serde::{Deserialize, Serialize};

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// A rate.
    #[serde(rename = "/s")]
    PerSecond,
    /// A time.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Processor time.
    #[serde(rename = "us")]
    Microseconds,
    /// Memory.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// A figure against another one of the same round.
    #[serde(rename = "x")]
    Times,
}

impl Unit {
    /// As it stands behind a number.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Milliseconds => "ms",
            Self::Microseconds => "us",
            Self::Mebibytes => "MiB",
            Self::Times => "x",
        }
    }

    /// A number without its unit.
    pub(crate) fn number(self, value: f64) -> String {
        match self {
            Self::PerSecond => thousands(value),
            Self::Milliseconds if value < 10.0 => format!("{value:.3}"),
            Self::Milliseconds | Self::Microseconds | Self::Mebibytes => format!("{value:.1}"),
            Self::Times => format!("{value:.2}"),
        }
    }

    /// A number with its unit.
    pub(crate) fn shown(self, value: f64) -> String {
        format!("{} {}", self.number(value), self.symbol())
    }
}

/// Which way a figure improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    /// A rate.
    Higher,
    /// Time and memory.
    Lower,
}

/// What a median has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    fn met_by(self, median: f64) -> bool {
        match self {
            Self::AtMost(limit) => median <= limit,
            Self::AtLeast(limit) => median >= limit,
        }
    }

    /// For people.
    pub(crate) fn shown(self, unit: Unit) -> String {
        let (words, limit) = match self {
            Self::AtMost(limit) => ("at most", limit),
            Self::AtLeast(limit) => ("at least", limit),
        };
        let number = if limit.fract() == 0.0 { thousands(limit) } else { limit.to_string() };
        format!("{words} {number} {}", unit.symbol())
    }
}

/// Something measured once a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What it is, unique below its subject.
    pub(crate) name: String,
    /// Of all numbers below.
    pub(crate) unit: Unit,
    /// Which way it improves.
    pub(crate) better: Better,
    /// The median of the runs, `None` where no run gave a figure.
    pub(crate) median: Option<f64>,
    /// What each round gave.
    pub(crate) runs: Vec<f64>,
    /// What the median has to reach, where it has to.
    pub(crate) target: Option<Target>,
    /// Whether it does.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// A figure for information. A rate is better when higher, all else when lower.
    pub(crate) fn new(name: impl Into<String>, unit: Unit, runs: Vec<f64>) -> Self {
        let better = match unit {
            Unit::PerSecond => Better::Higher,
            Unit::Milliseconds | Unit::Microseconds | Unit::Mebibytes | Unit::Times => {
                Better::Lower
            }
        };
        let median = median(&runs);
        Self { name: name.into(), unit, better, median, runs, target: None, met: None }
    }

    /// The same, where it is better when higher whatever its unit.
    pub(crate) fn higher_is_better(mut self) -> Self {
        self.better = Better::Higher;
        self
    }

    /// The same, to be held against a target.
    pub(crate) fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self.met = Some(self.median.is_some_and(|median| target.met_by(median)));
        self
    }

    /// The least and the most of its runs.
    pub(crate) fn range(&self) -> Option<(f64, f64)> {
        let least = self.runs.iter().copied().min_by(f64::total_cmp)?;
        let most = self.runs.iter().copied().max_by(f64::total_cmp)?;
        Some((least, most))
    }
}

fn median(runs: &[f64]) -> Option<f64> {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// `12,345`: whole numbers of four digits and more are read in groups.
pub(crate) fn thousands(value: f64) -> String {
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
            assert_eq!((figure.median, figure.met), (median, Some(met)), "{runs:?} {target:?}");
        };
        check(&[3.0, 1.0, 2.0], Target::AtLeast(2.0), Some(2.0), true);
        check(&[3.0, 1.0, 2.0], Target::AtMost(1.9), Some(2.0), false);
        check(&[1.0, 4.0, 2.0, 3.0], Target::AtMost(2.5), Some(2.5), true);
        check(&[], Target::AtLeast(0.0), None, false);
        assert_eq!(Figure::new("x", Unit::Times, vec![1.0]).met, None);
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

    #[test]
    fn json_has_the_units_of_the_table() {
        let figure = Figure::new("p99", Unit::Milliseconds, vec![2.0, 4.0])
            .with_target(Target::AtMost(20.0));
        let value = serde_json::to_value(&figure).expect("serializes");
        assert_eq!(
            value,
            serde_json::json!({
                "name": "p99", "unit": "ms", "better": "lower", "median": 3.0,
                "runs": [2.0, 4.0], "target": {"at_most": 20.0}, "met": true,
            })
        );
        let back: Figure = serde_json::from_value(value).expect("reads what it wrote");
        assert_eq!((back.median, back.target), (figure.median, figure.target));
    }
}
