//! The loads of a report as a picture: how throughput grows with connections, and
//! where latency's tail begins.
//!
//! Owns the SVG. Must not know how a figure was measured. Every number stands in
//! it as text, too: a point tells its value to whoever points at it.

mod panel;

use std::collections::BTreeSet;

use crate::report::{Load, Report, Subject, bytes};
use crate::series::{LATENCIES, RATE};
use panel::{Line, Panel};

/// Of one panel with its surroundings, in pixels.
const PANEL_WIDTH: usize = 560;
const PANEL_HEIGHT: usize = 340;
/// Of the title and the legend above all panels.
const HEAD_HEIGHT: usize = 92;

/// Draws it.
pub(crate) fn svg(report: &Report) -> String {
    let loads: Vec<_> = report.loads().collect();
    let who = names(&loads);
    let panels = panels(&loads);
    let rows = panels.len().div_ceil(2).max(1);
    let (width, height) = (2 * PANEL_WIDTH, HEAD_HEIGHT + rows * PANEL_HEIGHT);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    picture.push_str(&head(report, &who));
    for (at, panel) in panels.iter().enumerate() {
        let (x, y) = ((at % 2) * PANEL_WIDTH, HEAD_HEIGHT + (at / 2) * PANEL_HEIGHT);
        picture.push_str(&panel.svg(x, y, PANEL_WIDTH, PANEL_HEIGHT, &who));
    }
    if panels.is_empty() {
        picture.push_str(&panel::text(20, HEAD_HEIGHT + 20, "start", "no load was measured"));
    }
    picture.push_str("</svg>\n");
    picture
}

fn head(report: &Report, who: &[String]) -> String {
    let setting = report.setting.to_string();
    let mut lines = setting.lines();
    let title = lines.next().unwrap_or_default();
    let mut head = format!(
        "<text x=\"20\" y=\"28\" font-size=\"16\" font-weight=\"bold\">tinyFaaS, measured</text>\n{}",
        panel::text(20, 48, "start", &format!("{title}; {}", lines.next().unwrap_or_default()))
    );
    let mut x = 20;
    for (at, name) in who.iter().enumerate() {
        head.push_str(&panel::mark(x + 6, 68, at, ""));
        head.push_str(&panel::text(x + 18, 72, "start", name));
        x += 40 + 7 * name.chars().count();
    }
    head
}

/// Everyone who was asked, in the report's order: their place is their colour.
fn names(loads: &[(&Load, &Subject)]) -> Vec<String> {
    let mut names = Vec::new();
    for (load, _) in loads {
        if !names.contains(&load.who) {
            names.push(load.who.clone());
        }
    }
    names
}

/// For each body: throughput by connections, latencies at each number of them; then
/// the open loops.
fn panels(loads: &[(&Load, &Subject)]) -> Vec<Panel> {
    let mut panels = Vec::new();
    let closed = |load: &Load| load.rate.is_none();
    let bodies: BTreeSet<_> = loads.iter().map(|(load, _)| load.body_bytes).collect();
    for body in bodies {
        let of_body: Vec<_> = loads
            .iter()
            .copied()
            .filter(|(load, _)| closed(load) && load.body_bytes == body)
            .collect();
        let connections: BTreeSet<_> = of_body.iter().map(|(load, _)| load.connections).collect();
        if connections.len() > 1 {
            panels.push(throughput(body, &connections, &of_body));
        }
        for connections in connections {
            let title = format!("latency, closed loop, {}", with(connections, body));
            let these = of_body.iter().copied();
            panels.push(latency(title, these.filter(|(load, _)| load.connections == connections)));
        }
    }
    let open: BTreeSet<_> = loads
        .iter()
        .filter_map(|(load, _)| Some((load.rate?, load.connections, load.body_bytes)))
        .collect();
    for (rate, connections, body) in open {
        let title = format!("latency, open loop, {rate}/s, {}", with(connections, body));
        let these = loads.iter().copied().filter(|(load, _)| {
            (load.rate, load.connections, load.body_bytes) == (Some(rate), connections, body)
        });
        panels.push(latency(title, these));
    }
    panels
}

fn with(connections: usize, body: usize) -> String {
    let noun = if connections == 1 { "connection" } else { "connections" };
    format!("{connections} {noun}, {}", bytes(body))
}

fn throughput(body: usize, all: &BTreeSet<usize>, loads: &[(&Load, &Subject)]) -> Panel {
    let point = |who: &str, connections: usize| {
        let of = |load: &Load| load.who == who && load.connections == connections;
        let (_, subject) = loads.iter().find(|(load, _)| of(load))?;
        subject.figure(RATE)?.median
    };
    let lines = names(loads).into_iter().map(|who| Line {
        points: all.iter().map(|&connections| point(&who, connections)).collect(),
        who,
    });
    Panel {
        title: format!("throughput by connections, {}", bytes(body)),
        unit: "req/s",
        places: all.iter().map(ToString::to_string).collect(),
        lines: lines.collect(),
    }
}

fn latency<'a>(title: String, loads: impl Iterator<Item = (&'a Load, &'a Subject)>) -> Panel {
    let lines = loads.map(|(load, subject)| Line {
        who: load.who.clone(),
        points: LATENCIES
            .iter()
            .map(|(name, _)| subject.figure(name).and_then(|figure| figure.median))
            .collect(),
    });
    Panel {
        title,
        unit: "ms",
        places: LATENCIES.iter().map(|(name, _)| name.replace("maximum", "max")).collect(),
        lines: lines.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Figure, Unit};
    use crate::report::Kind;
    use crate::report::tests::report;

    fn subject(who: &str, connections: usize, rate: Option<u64>) -> Subject {
        let load =
            Load { who: who.to_owned(), kind: Kind::Function, connections, body_bytes: 64, rate };
        let mut figures = vec![Figure::new(RATE, Unit::PerSecond, vec![1000.0])];
        figures.extend(
            LATENCIES.map(|(name, share)| Figure::new(name, Unit::Milliseconds, vec![share * 3.0])),
        );
        Subject::of_load(load, figures)
    }

    #[test]
    fn each_question_has_its_panel() {
        let mut report = report();
        report.subjects = vec![
            subject("bare hyper", 1, None),
            subject("<python3> & co", 1, None),
            subject("bare hyper", 32, None),
            subject("bare hyper", 32, Some(500)),
        ];
        let titles: Vec<_> = panels(&report.loads().collect::<Vec<_>>())
            .into_iter()
            .map(|panel| panel.title)
            .collect();
        assert_eq!(
            titles,
            [
                "throughput by connections, 64 B",
                "latency, closed loop, 1 connection, 64 B",
                "latency, closed loop, 32 connections, 64 B",
                "latency, open loop, 500/s, 32 connections, 64 B",
            ]
        );
        let picture = svg(&report);
        assert!(picture.contains("&lt;python3&gt; &amp; co"), "names are text, not markup");
        // Every element that is not closed in itself has its end.
        let opened = picture.matches('<').count() - picture.matches("</").count();
        let closed = picture.matches("</").count() + picture.matches("/>").count();
        assert_eq!(opened, closed, "{picture}");
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }

    #[test]
    fn nothing_measured_is_said() {
        let mut report = report();
        report.subjects.clear();
        assert!(svg(&report).contains("no load was measured"));
    }
}
