//! The report as people read it: loads as tables of medians, all else a line each.
//!
//! Owns columns and widths. Must not know how a figure was measured.

use std::fmt::{self, Display, Write};

use crate::figure::{Figure, thousands};
use crate::report::{Load, Report, Subject};
use crate::series::{
    CPU, CPU_OF_BARE, GENERATOR_LATE, HANDLERS_CPU, LATENCIES, P50_OF_BARE, RATE, RATE_OF_BARE,
    RATE_OF_HTTP, RATE_OF_LIBCOAP, RATE_OF_TONIC, SERVER_CPU,
};

/// A report to be shown.
#[derive(Debug)]
pub(crate) struct Table<'a>(pub(crate) &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { setting, subjects, targets, missed, .. } = self.0;
        writeln!(to, "{setting}\n")?;
        writeln!(to, "{:34}{:>14}  {:21}  target", "", "median", "range")?;
        for subject in subjects.iter().filter(|subject| subject.load.is_none()) {
            writeln!(to, "{}", subject.title)?;
            for figure in &subject.figures {
                writeln!(to, "{}", row(figure).trim_end())?;
            }
            notes(subject, to)?;
        }
        let (closed, open): (Vec<_>, Vec<_>) =
            self.0.loads().partition(|(load, _)| load.rate.is_none());
        if !closed.is_empty() {
            let title = "closed loop: each connection asks again when it is answered";
            latencies(to, title, "req/s", &closed)?;
            costs(to, &closed)?;
        }
        if !open.is_empty() {
            let title = "open loop: at a fixed rate, latency from the intended start";
            latencies(to, title, "answered/s", &open)?;
            costs(to, &open)?;
        }
        aims(to, self.0)?;
        write!(to, "\n{} of {targets} targets met", targets - missed)
    }
}

/// The loads' figures that have a target, and what there is to know of their runs.
fn aims(to: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let worth_it = |subject: &&Subject| {
        let aimed = subject.figures.iter().any(|figure| figure.target.is_some());
        aimed || !subject.warnings.is_empty() || !subject.failures.is_empty()
    };
    for (at, subject) in report.loads().map(|(_, subject)| subject).filter(worth_it).enumerate() {
        let space = if at == 0 { "\n" } else { "" };
        writeln!(to, "{space}{}", subject.title)?;
        for figure in subject.figures.iter().filter(|figure| figure.target.is_some()) {
            writeln!(to, "{}", row(figure).trim_end())?;
        }
        notes(subject, to)?;
    }
    Ok(())
}

fn notes(subject: &Subject, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(reason) = &subject.skipped {
        writeln!(to, "  skipped: {reason}")?;
    }
    for warning in &subject.warnings {
        writeln!(to, "  NOTE: {warning}")?;
    }
    for failure in &subject.failures {
        writeln!(to, "  FAILED: {failure}")?;
    }
    Ok(())
}

fn latencies(
    to: &mut fmt::Formatter<'_>,
    title: &str,
    rate: &str,
    loads: &[(&Load, &Subject)],
) -> fmt::Result {
    writeln!(to, "\n{title}; medians, ms")?;
    let width = width(loads);
    write!(to, "{:width$}{rate:>10}{:>6}", "", "+-")?;
    for (name, _) in LATENCIES {
        write!(to, "{:>8}", if name == "maximum" { "max" } else { name })?;
    }
    writeln!(to)?;
    for (load, subject) in loads {
        let rate = subject.figure(RATE);
        let median = rate.and_then(|rate| rate.median).map(thousands).unwrap_or_default();
        let spread = rate.and_then(spread).map(|share| format!("{:.0}%", share * 100.0));
        write!(to, "{:width$}{median:>10}{:>6}", load.title(), spread.unwrap_or_default())?;
        for (name, _) in LATENCIES {
            write!(to, "{:>8}", median_of(subject, name).map_or("-".to_owned(), short))?;
        }
        writeln!(to)?;
    }
    Ok(())
}

/// Room for every title.
fn width(loads: &[(&Load, &Subject)]) -> usize {
    loads.iter().map(|(load, _)| load.title().chars().count()).max().unwrap_or_default() + 1
}

/// Half of the way from the least to the most of the rounds, against their median.
fn spread(figure: &Figure) -> Option<f64> {
    let (least, most) = figure.range().filter(|_| figure.runs.len() > 1)?;
    figure.median.filter(|median| *median > 0.0).map(|median| (most - least) / 2.0 / median)
}

fn costs(to: &mut fmt::Formatter<'_>, loads: &[(&Load, &Subject)]) -> fmt::Result {
    const COLUMNS: [(&str, &str); 10] = [
        (SERVER_CPU, "server"),
        (HANDLERS_CPU, "handlers"),
        (CPU, "both"),
        (RATE_OF_BARE, "rate x"),
        (P50_OF_BARE, "p50 x"),
        (CPU_OF_BARE, "CPU x"),
        (RATE_OF_HTTP, "x HTTP"),
        (RATE_OF_LIBCOAP, "x libcoap"),
        (RATE_OF_TONIC, "x tonic"),
        (GENERATOR_LATE, "late ms"),
    ];
    let there = |name: &str| loads.iter().any(|(_, subject)| median_of(subject, name).is_some());
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(name, _)| there(name)).collect();
    if columns.is_empty() {
        return Ok(());
    }
    writeln!(to, "\nprocessor time, us a request; and against the same load of bare hyper (x)")?;
    let width = width(loads);
    write!(to, "{:width$}", "")?;
    for (_, head) in &columns {
        write!(to, "{head:>10}")?;
    }
    writeln!(to)?;
    for (load, subject) in loads {
        let mut line = format!("{:width$}", load.title());
        for (name, _) in &columns {
            let shown =
                subject.figure(name).and_then(|figure| Some(figure.unit.number(figure.median?)));
            write!(line, "{:>10}", shown.unwrap_or_else(|| "-".to_owned()))?;
        }
        writeln!(to, "{line}")?;
    }
    Ok(())
}

fn median_of(subject: &Subject, name: &str) -> Option<f64> {
    subject.figure(name)?.median
}

/// Milliseconds in at most six characters.
fn short(value: f64) -> String {
    match value {
        _ if value < 10.0 => format!("{value:.3}"),
        _ if value < 100.0 => format!("{value:.2}"),
        _ if value < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn row(figure: &Figure) -> String {
    let Figure { name, unit, median, runs, target, met, .. } = figure;
    let median = median.map_or_else(|| "none".to_owned(), |median| unit.shown(median));
    let range = match figure.range() {
        Some((least, most)) if runs.len() > 1 => {
            format!("{} – {}", unit.number(least), unit.number(most))
        }
        _ => String::new(),
    };
    let mut row = format!("  {name:32}{median:>14}  {range:21}");
    if let (Some(target), Some(met)) = (target, met) {
        let verdict = if *met { "met" } else { "MISSED" };
        write!(row, "  {:19} {verdict}", target.shown(*unit)).expect("a string takes any text");
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Unit;
    use crate::report::tests::report;

    fn line(table: &str, name: &str) -> String {
        let line = table.lines().find(|line| line.trim_start().starts_with(name)).expect(name);
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn it_says_met_missed_and_skipped() {
        let table = Table(&report()).to_string();
        assert_eq!(
            line(&table, "requests"),
            "requests 9,000 /s 7,000 – 10,000 at least 8,000 /s met"
        );
        assert_eq!(line(&table, "p99 "), "p99 25.0 ms at most 20 ms MISSED");
        assert_eq!(line(&table, "skipped"), "skipped: no node on the PATH");
        assert!(table.ends_with("1 of 2 targets met"), "{table}");
    }

    #[test]
    fn loads_are_rows_and_what_is_missing_is_a_dash() {
        let mut report = report();
        let table = Table(&report).to_string();
        let row = "python3, 32 connections, 64 B 9,000 17% - - - - 25.00 - -";
        assert_eq!(line(&table, "python3, 32"), row);
        let load = report.subjects[1].load.clone().expect("a load");
        let reached = Figure::new(RATE, Unit::PerSecond, vec![990.0]);
        let mut open = Subject::of_load(Load { rate: Some(1000), ..load }, vec![reached]);
        open.warnings.push("it was late".to_owned());
        report.subjects.push(open);
        let table = Table(&report).to_string();
        assert_eq!(
            line(&table, "python3, 32 connections, 64 B, 1000/s"),
            "python3, 32 connections, 64 B, 1000/s 990 - - - - - - -"
        );
        assert_eq!(line(&table, "NOTE"), "NOTE: it was late");
        assert!(table.contains("answered/s"), "{table}");
    }

    #[test]
    fn milliseconds_stay_short() {
        let shown = [0.0254, 9.9, 12.345, 123.45, 12345.6].map(short);
        assert_eq!(shown, ["0.025", "9.900", "12.35", "123.5", "12346"]);
    }
}
