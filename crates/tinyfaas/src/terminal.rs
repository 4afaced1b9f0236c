//! What is shown: colours where a person looks, tables, questions, output that a
//! pipe may end.
//!
//! Owns the decision whether there is a person. Must not know what is shown.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::failure::Failure;

/// What a text is, and hence its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Good,
    Warning,
    Bad,
    Strong,
    Dim,
}

/// Colours texts, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paint(bool);

impl Paint {
    /// No colours.
    pub(crate) const NEVER: Self = Self(false);

    /// For standard output.
    pub(crate) fn stdout() -> Self {
        Self(io::stdout().is_terminal() && wanted())
    }

    /// For standard error.
    pub(crate) fn stderr() -> Self {
        Self(io::stderr().is_terminal() && wanted())
    }

    /// The text in its colour.
    pub(crate) fn of(self, style: Style, text: &str) -> String {
        let number = match style {
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "31",
            Style::Strong => "1",
            Style::Dim => "2",
        };
        if self.0 { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// <https://no-color.org>: set and not empty means none; nor has a dumb terminal any.
fn wanted() -> bool {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Writes to standard output, at once.
///
/// # Errors
/// Where it cannot be written; a closed pipe ends the command without a word.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref()).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Writes a JSON document to standard output: indented, with a line's end.
///
/// # Errors
/// As [`print()`].
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(format!("{value:#}\n"))
}

/// Says something besides the result, on standard error. Nobody need listen.
pub(crate) fn say(line: impl AsRef<str>) {
    drop(writeln!(io::stderr(), "{}", line.as_ref()));
}

/// Asks a question on the terminal; anything but yes is no. None where nobody
/// could answer.
pub(crate) fn confirm(question: &str) -> Option<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return None;
    }
    drop(write!(io::stderr(), "{question} [y/N] "));
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer).unwrap_or(0) == 0 {
        // The terminal is closed or Ctrl+D was pressed: its line is not ended.
        say("");
    }
    Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// A cell of a table: its text, and perhaps its colour.
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// A plain one.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: None }
    }

    /// A coloured one.
    pub(crate) fn styled(text: impl Into<String>, style: Style) -> Self {
        Self { text: text.into(), style: Some(style) }
    }
}

/// Columns under their titles, as wide as they must be; the last is not padded.
pub(crate) fn table(titles: &[&str], rows: &[Vec<Cell>], paint: Paint) -> String {
    let head: Vec<Cell> = titles.iter().map(|title| Cell::styled(*title, Style::Dim)).collect();
    let mut text = String::new();
    let all = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| all().map(|row| row[column].text.chars().count()).max().unwrap_or(0))
        .collect();
    for row in all() {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let shown = match cell.style {
                Some(style) => paint.of(style, &cell.text),
                None => cell.text.clone(),
            };
            let last = column + 1 == row.len();
            let pad = if last { 0 } else { width - cell.text.chars().count() + 2 };
            let _ = write!(text, "{shown}{:pad$}", "");
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// Text of others, on a terminal: no control character but tab and line's end
/// passes, so that a function's output cannot steer it.
pub(crate) fn tame(text: &str) -> String {
    let escape = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(escape) {
        return text.to_owned();
    }
    text.chars().filter(|c| *c != '\r').map(|c| if escape(c) { '\u{fffd}' } else { c }).collect()
}

/// A number of bytes, for a person.
pub(crate) fn bytes(number: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if number < 1000 {
        return format!("{number} B");
    }
    let (mut value, mut unit) = (number as f64 / 1000.0, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 10.0 {
        format!("{value:.1} {}", units[unit])
    } else {
        format!("{value:.0} {}", units[unit])
    }
}

/// A length of time, for a person.
pub(crate) fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0 if seconds < 0.0995 => format!("{:.0} ms", seconds * 1000.0),
        0..10 => format!("{seconds:.1} s"),
        10..120 => format!("{whole} s"),
        120..7200 => format!("{} min", whole / 60),
        7200..172_800 => format!("{} h", whole / 3600),
        _ => format!("{} days", whole / 86_400),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let row = |a: &str, b: &str| vec![Cell::new(a), Cell::styled(b, Style::Bad)];
        let rows = [row("a", "x"), row("grüße", "")];
        assert_eq!(table(&["name", "b"], &rows, Paint::NEVER), "name   b\na      x\ngrüße\n");
        let painted = table(&["name", "b"], &rows, Paint(true));
        assert!(painted.contains("a      \x1b[31mx\x1b[0m\n"), "{painted:?}");
    }

    #[test]
    fn sizes_are_short() {
        for (number, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345, "12 kB"),
            (999_900, "1.0 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn times_are_short() {
        for (time, expected) in [
            (0.0, "0 ms"),
            (0.0421, "42 ms"),
            (0.1, "0.1 s"),
            (9.94, "9.9 s"),
            (61.0, "61 s"),
            (600.0, "10 min"),
            (10_000.0, "2 h"),
            (1e6, "11 days"),
        ] {
            assert_eq!(seconds(time), expected);
        }
    }

    #[test]
    fn a_functions_output_cannot_steer_the_terminal() {
        assert_eq!(tame("plain\ttext\n"), "plain\ttext\n");
        assert_eq!(tame("\x1b[2Jgone\r\n\u{9b}x"), "\u{fffd}[2Jgone\n\u{fffd}x");
    }
}
