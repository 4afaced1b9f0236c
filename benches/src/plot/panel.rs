//! One panel: places side by side, a logarithmic scale, a line for each that was
//! asked.
//!
//! Owns scales, ticks and marks. Must not know what is drawn.

use std::fmt::Write;

use crate::figure::thousands;

/// Colours that people with any sight tell apart (Okabe and Ito), black first: the
/// baseline is the first that is asked.
const COLOURS: [&str; 7] =
    ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Around the plot inside its panel, in pixels.
const LEFT: usize = 72;
const RIGHT: usize = 24;
const TOP: usize = 34;
const BOTTOM: usize = 44;

/// One that was asked, with its value at each place.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) who: String,
    /// `None` where there is no figure.
    pub(super) points: Vec<Option<f64>>,
}

/// What is drawn.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) unit: &'static str,
    pub(super) places: Vec<String>,
    pub(super) lines: Vec<Line>,
}

impl Panel {
    /// Draws it at this corner; the place of a name in `who` is its colour.
    pub(super) fn svg(
        &self,
        x: usize,
        y: usize,
        width: usize,
        height: usize,
        who: &[String],
    ) -> String {
        let scale = Scale::over(self.lines.iter().flat_map(|line| line.points.iter().flatten()));
        let (left, right) = (x + LEFT, x + width - RIGHT);
        let (top, bottom) = (y + TOP, y + height - BOTTOM);
        let up = |value: f64| bottom as f64 - scale.share(value) * (bottom - top) as f64;
        let across = |at: usize| {
            let step = (right - left) as f64 / self.places.len() as f64;
            left as f64 + step * (at as f64 + 0.5)
        };
        let title = format!("{} ({})", self.title, self.unit);
        let mut drawn =
            text(left, y + 20, "start", &title).replace("<text ", "<text font-weight=\"bold\" ");
        for tick in scale.ticks() {
            let y = up(tick);
            writeln!(
                drawn,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 8, y + 4.0, number(tick)
            )
            .expect("a string takes any text");
        }
        for (at, place) in self.places.iter().enumerate() {
            writeln!(
                drawn,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                across(at),
                bottom + 20,
                escaped(place)
            )
            .expect("a string takes any text");
        }
        for line in &self.lines {
            let colour = who.iter().position(|name| *name == line.who).unwrap_or_default();
            let points = line.points.iter().enumerate();
            let points: Vec<_> = points
                .filter_map(|(at, value)| value.map(|value| (at, value)))
                .map(|(at, value)| (across(at), up(value), at, value))
                .collect();
            drawn.push_str(&path(&points, colour));
            for (x, y, at, value) in points {
                let told =
                    format!("{}, {}: {} {}", line.who, self.places[at], number(value), self.unit);
                drawn.push_str(&mark(x as usize, y as usize, colour, &told));
            }
        }
        drawn
    }
}

fn path(points: &[(f64, f64, usize, f64)], colour: usize) -> String {
    let points: Vec<_> = points.iter().map(|(x, y, _, _)| format!("{x:.1},{y:.1}")).collect();
    let colour = COLOURS[colour % COLOURS.len()];
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
        points.join(" ")
    )
}

/// A point that tells what it is: every second one that was asked has a square.
pub(super) fn mark(x: usize, y: usize, who: usize, told: &str) -> String {
    let colour = COLOURS[who % COLOURS.len()];
    let told = escaped(told);
    if who.is_multiple_of(2) {
        format!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{colour}\"><title>{told}</title></circle>\n"
        )
    } else {
        format!(
            "<rect x=\"{}\" y=\"{}\" width=\"8\" height=\"8\" fill=\"{colour}\"><title>{told}</title></rect>\n",
            x.saturating_sub(4),
            y.saturating_sub(4)
        )
    }
}

/// A text at this place.
pub(super) fn text(x: usize, y: usize, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>\n", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 1000.0 => thousands(value),
        _ if value >= 100.0 => format!("{value:.0}"),
        // As many digits as matter, no zeros behind them.
        _ => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

/// Powers of ten from the one below all values to the one above.
#[derive(Debug, PartialEq)]
struct Scale {
    least: i32,
    most: i32,
}

impl Scale {
    fn over<'a>(values: impl Iterator<Item = &'a f64>) -> Self {
        let powers = values.filter(|value| **value > 0.0).map(|value| value.log10());
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for power in powers {
            least = least.min(power);
            most = most.max(power);
        }
        if least > most {
            return Self { least: 0, most: 1 };
        }
        let (least, most) = (least.floor() as i32, most.ceil() as i32);
        Self { least, most: most.max(least + 1) }
    }

    /// How far up a value stands, 0 to 1; what is not above zero stands at the foot.
    fn share(&self, value: f64) -> f64 {
        let power = value.max(10_f64.powi(self.least)).log10();
        (power - f64::from(self.least)) / f64::from(self.most - self.least)
    }

    /// Each power, and two and five times it where they are few.
    fn ticks(&self) -> Vec<f64> {
        let between: &[f64] = if self.most - self.least <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (self.least..self.most).map(|power| 10_f64.powi(power));
        let mut ticks: Vec<_> =
            powers.flat_map(|power| between.iter().map(move |times| power * times)).collect();
        ticks.push(10_f64.powi(self.most));
        ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_holds_all_values() {
        assert_eq!(Scale::over([0.3, 45.0].iter()), Scale { least: -1, most: 2 });
        assert_eq!(Scale::over([100.0].iter()), Scale { least: 2, most: 3 });
        assert_eq!(Scale::over([0.0].iter()), Scale { least: 0, most: 1 });
        let scale = Scale { least: -1, most: 2 };
        assert!((scale.share(0.1) - 0.0).abs() < 1e-9 && (scale.share(100.0) - 1.0).abs() < 1e-9);
        assert!((scale.share(0.0) - 0.0).abs() < 1e-9, "no infinity");
        assert_eq!(scale.ticks().len(), 4);
        assert_eq!(Scale { least: 0, most: 1 }.ticks(), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.05, 0.1, 1.0, 12.5, 250.4, 12345.0].map(number);
        assert_eq!(shown, ["0.05", "0.1", "1", "12.5", "250", "12,345"]);
    }

    #[test]
    fn gaps_stay_gaps() {
        let line = Line { who: "x".to_owned(), points: vec![Some(1.0), None, Some(3.0)] };
        let panel = Panel {
            title: "latency".to_owned(),
            unit: "ms",
            places: ["p50", "p99", "max"].map(str::to_owned).into(),
            lines: vec![line],
        };
        let drawn = panel.svg(0, 0, 400, 300, &["x".to_owned()]);
        assert_eq!(drawn.matches("<circle").count(), 2, "{drawn}");
        assert!(drawn.contains("<title>x, max: 3 ms</title>"), "{drawn}");
    }
}
