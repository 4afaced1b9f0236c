//! This report against an earlier one: what has changed by more than the rounds of
//! either differ among themselves.
//!
//! Owns that judgement and how it is told. Must not know how a figure was measured.

use std::fmt::{self, Display};

use crate::figure::{Better, Figure, Unit};
use crate::report::{Kind, Report};

/// Fewer rounds than this do not show how much they differ.
const ROUNDS_MIN: usize = 3;
/// Changes up to this are not worth telling, however quiet the machine was.
const SHARE_MIN: f64 = 0.02;

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    /// The rounds of one run reach into those of the other, or it is tiny.
    WithinNoise,
    /// Too few rounds to know their noise.
    Unknown,
}

/// A figure that is in both reports.
#[derive(Debug)]
struct Row {
    title: String,
    name: String,
    unit: Unit,
    kind: Option<Kind>,
    before: f64,
    now: f64,
    change: Change,
}

/// Two reports, compared.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The file that the earlier one came from.
    file: String,
    commits: (Option<String>, Option<String>),
    /// What differs in the machines.
    machine: Vec<String>,
    /// What differs in how it was measured.
    plan: Vec<String>,
    rows: Vec<Row>,
    /// Subjects with figures that one report has and the other does not.
    only_before: Vec<String>,
    only_now: Vec<String>,
}

impl Comparison {
    /// Compares; `file` is where the earlier report came from.
    pub(crate) fn new(before: &Report, now: &Report, file: &str) -> Self {
        let mut rows = Vec::new();
        for subject in &now.subjects {
            let Some(earlier) = before.subject(&subject.title) else { continue };
            for figure in &subject.figures {
                let Some(old) = earlier.figure(&figure.name) else { continue };
                let Some((then, now)) = old.median.zip(figure.median) else { continue };
                rows.push(Row {
                    title: subject.title.clone(),
                    name: figure.name.clone(),
                    unit: figure.unit,
                    kind: subject.load.as_ref().map(|load| load.kind),
                    before: then,
                    now,
                    change: judge(old, figure),
                });
            }
        }
        let only = |one: &Report, other: &Report| {
            let missing = one.subjects.iter().filter(|subject| {
                !subject.figures.is_empty()
                    && other.subject(&subject.title).is_none_or(|same| same.figures.is_empty())
            });
            missing.map(|subject| subject.title.clone()).collect()
        };
        Self {
            file: file.to_owned(),
            commits: (before.setting.commit.clone(), now.setting.commit.clone()),
            machine: now.setting.machine.differences(&before.setting.machine),
            plan: plan(before, now),
            rows,
            only_before: only(before, now),
            only_now: only(now, before),
        }
    }

    fn changed(&self, bare: bool) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| {
            (row.kind == Some(Kind::Bare)) == bare
                && matches!(row.change, Change::Better | Change::Worse)
        })
    }

    fn count(&self, change: Change) -> usize {
        self.rows.iter().filter(|row| row.change == change).count()
    }
}

fn plan(before: &Report, now: &Report) -> Vec<String> {
    let (before, now) = (&before.setting, &now.setting);
    let list = |all: &[String]| if all.is_empty() { "none".to_owned() } else { all.join(" ") };
    let facts = [
        ("seconds a load", now.seconds.to_string(), before.seconds.to_string()),
        ("handlers a function", now.threads.to_string(), before.threads.to_string()),
        ("environments", list(&now.environments), list(&before.environments)),
    ];
    let different = facts.into_iter().filter(|(_, now, before)| now != before);
    different.map(|(what, now, before)| format!("{what}: {now}, was {before}")).collect()
}

/// Beyond the noise are rounds that lie all on one side of all of the other run's:
/// with five rounds each, chance does that once in 126 times.
fn judge(before: &Figure, now: &Figure) -> Change {
    let (Some((before_least, before_most)), Some((least, most))) = (before.range(), now.range())
    else {
        return Change::Unknown;
    };
    let (Some(old), Some(new)) = (before.median, now.median) else { return Change::Unknown };
    if (new - old).abs() <= old.abs() * SHARE_MIN {
        return Change::WithinNoise;
    }
    if before.runs.len().min(now.runs.len()) < ROUNDS_MIN {
        return Change::Unknown;
    }
    let higher = if least > before_most {
        true
    } else if most < before_least {
        false
    } else {
        return Change::WithinNoise;
    };
    if higher == (now.better == Better::Higher) { Change::Better } else { Change::Worse }
}

impl Display for Comparison {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |commit: &Option<String>| commit.clone().unwrap_or_else(|| "unknown".into());
        let (before, now) = &self.commits;
        writeln!(to, "against {}: commit {}, was {}", self.file, known(now), known(before))?;
        if !self.machine.is_empty() {
            writeln!(to, "ANOTHER MACHINE: {}", self.machine.join("; "))?;
            writeln!(to, "  what follows tells the machines apart as well; of it all, only what")?;
            writeln!(to, "  stands against bare hyper (x) says something of the server")?;
        }
        if !self.plan.is_empty() {
            writeln!(to, "MEASURED OTHERWISE: {}", self.plan.join("; "))?;
        }
        for (whose, only) in [("before", &self.only_before), ("now", &self.only_now)] {
            if !only.is_empty() {
                writeln!(to, "only {whose}: {}", only.join("; "))?;
            }
        }
        if self.changed(true).next().is_some() {
            writeln!(to, "\nbare hyper itself, and so the machine, has changed:")?;
            rows(to, self.changed(true))?;
            writeln!(to, "  trust what stands against it (x) more than what does not")?;
        }
        if self.changed(false).next().is_some() {
            writeln!(to, "\nbeyond the noise of the rounds:")?;
            rows(to, self.changed(false))?;
        } else {
            writeln!(to, "\nnothing has changed beyond the noise of the rounds")?;
        }
        let unknown: Vec<_> =
            self.rows.iter().filter(|row| row.change == Change::Unknown).collect();
        if !unknown.is_empty() {
            writeln!(to, "\ndifferent, with fewer than {ROUNDS_MIN} rounds to know the noise by:")?;
            rows(to, unknown.into_iter())?;
        }
        write!(
            to,
            "\n{} figures compared: {} better, {} worse, {} within the noise, {} unknown",
            self.rows.len(),
            self.count(Change::Better),
            self.count(Change::Worse),
            self.count(Change::WithinNoise),
            self.count(Change::Unknown),
        )
    }
}

fn rows<'a>(to: &mut fmt::Formatter<'_>, rows: impl Iterator<Item = &'a Row>) -> fmt::Result {
    let mut title = "";
    for row in rows {
        if row.title != title {
            title = &row.title;
            writeln!(to, "  {title}")?;
        }
        let (before, now) = (row.unit.number(row.before), row.unit.shown(row.now));
        let ratio = if row.before == 0.0 {
            "-".to_owned()
        } else {
            format!("{:.2} x", row.now / row.before)
        };
        let word = match row.change {
            Change::Better => "better",
            Change::Worse => "WORSE",
            Change::WithinNoise | Change::Unknown => "",
        };
        let line = format!("    {:32}{before:>10} -> {now:<14}{ratio:>8}  {word}", row.name);
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;
    use crate::report::{Load, Subject};

    fn check(unit: Unit, before: &[f64], now: &[f64], change: Change) {
        let figure = |runs: &[f64]| Figure::new("x", unit, runs.to_vec());
        assert_eq!(judge(&figure(before), &figure(now)), change, "{before:?} {now:?}");
    }

    #[test]
    fn only_what_lies_apart_has_changed() {
        let rate = Unit::PerSecond;
        check(rate, &[10.0, 11.0, 12.0], &[13.0, 14.0, 15.0], Change::Better);
        check(rate, &[13.0, 14.0, 15.0], &[10.0, 11.0, 12.0], Change::Worse);
        check(rate, &[10.0, 11.0, 14.0], &[13.0, 14.0, 15.0], Change::WithinNoise);
        check(Unit::Milliseconds, &[10.0, 11.0, 12.0], &[13.0, 14.0, 15.0], Change::Worse);
        check(Unit::Times, &[3.0, 3.1, 3.2], &[2.0, 2.1, 2.2], Change::Better);
        // Far apart, but a hundredth is nothing.
        check(rate, &[100.0, 100.1, 100.2], &[101.0, 101.1, 101.2], Change::WithinNoise);
        check(rate, &[10.0], &[20.0], Change::Unknown);
        check(rate, &[10.0], &[10.0], Change::WithinNoise);
        check(rate, &[0.0, 0.0, 0.0], &[0.0, 0.0, 0.0], Change::WithinNoise);
        check(rate, &[], &[1.0, 2.0, 3.0], Change::Unknown);
        let ratio =
            |runs: [f64; 3]| Figure::new("x", Unit::Times, runs.to_vec()).higher_is_better();
        let change = judge(&ratio([0.4, 0.41, 0.42]), &ratio([0.5, 0.51, 0.52]));
        assert_eq!(change, Change::Better);
    }

    fn bare(rates: [f64; 3]) -> Subject {
        let load = Load {
            who: "bare hyper".to_owned(),
            kind: Kind::Bare,
            connections: 1,
            body_bytes: 64,
            rate: None,
        };
        Subject::of_load(load, vec![Figure::new("requests", Unit::PerSecond, rates.to_vec())])
    }

    #[test]
    fn another_machine_and_another_plan_are_said_aloud() {
        let (before, mut now) = (report(), report());
        now.setting.machine.cores = 2;
        now.setting.seconds = 1;
        now.setting.environments.push("binary".to_owned());
        let said = Comparison::new(&before, &now, "old.json").to_string();
        assert!(said.contains("ANOTHER MACHINE: cores: 2, was 4"), "{said}");
        let plan = "seconds a load: 1, was 2; environments: python3 binary, was python3";
        assert!(said.contains(&format!("MEASURED OTHERWISE: {plan}")), "{said}");
        let said = Comparison::new(&before, &before, "old.json").to_string();
        assert!(!said.contains("ANOTHER") && !said.contains("OTHERWISE"), "{said}");
        assert!(said.contains("nothing has changed beyond the noise"), "{said}");
    }

    #[test]
    fn changes_are_told_and_the_machines_own_apart() {
        let (mut before, mut now) = (report(), report());
        before.subjects.push(bare([100.0, 110.0, 120.0]));
        now.subjects.push(bare([50.0, 55.0, 60.0]));
        now.subjects[1].figures[0] =
            Figure::new("requests", Unit::PerSecond, vec![11_000.0, 12_000.0, 13_000.0]);
        now.subjects[1].figures[1] = Figure::new("p99", Unit::Milliseconds, vec![50.0]);
        now.subjects.remove(0);
        let said = Comparison::new(&before, &now, "old.json").to_string();
        let line = |start: &str| {
            let line = said.lines().find(|line| line.trim_start().starts_with(start)).expect(start);
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(said.contains("bare hyper itself, and so the machine, has changed"), "{said}");
        assert_eq!(line("requests"), "requests 110 -> 55 /s 0.50 x WORSE");
        assert!(said.contains("9,000 -> 12,000 /s"), "{said}");
        assert!(said.contains("1.33 x  better"), "{said}");
        assert_eq!(line("p99"), "p99 25.0 -> 50.0 ms 2.00 x");
        assert_eq!(line("only before"), "only before: server, started");
        let sum = "3 figures compared: 1 better, 1 worse, 0 within the noise, 1 unknown";
        assert!(said.ends_with(sum), "{said}");
    }
}
