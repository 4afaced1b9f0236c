//! How one line of a log is written.
//!
//! Owns the format `function=NAME handler=ID TIME text`. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

/// The longest that a character can become, in bytes: `\u{10ffff}`.
const ESCAPED_BYTES_MAX: usize = 10;

/// What stands in a line where the log speaks of itself.
pub(super) const SELF: &str = "log";

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(crate) struct Line<'a> {
    /// Whose log it stands in.
    pub(crate) function: &'a str,
    /// Who printed it: a handler, `build`, or `log` where the log speaks of itself.
    pub(crate) handler: &'a str,
    /// When.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(crate) time: &'a str,
    /// What.
    pub(crate) text: &'a str,
}

impl<'a> Line<'a> {
    /// Takes a line apart that [`append`] has written, without its line feed.
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        Some(Self {
            function: parts.next()?.strip_prefix("function=")?,
            handler: parts.next()?.strip_prefix("handler=")?,
            time: parts.next()?,
            text: parts.next()?,
        })
    }
}

/// Appends one line. Control characters are written as escapes, so that a line
/// stays one and does nothing to a terminal; bytes that are not UTF-8 become
/// U+FFFD; more than `bytes_max` is cut off.
pub(super) fn append(
    out: &mut Vec<u8>,
    function: &str,
    handler: &str,
    at: Timestamp,
    text: &[u8],
    bytes_max: usize,
) {
    let mut line = format!("function={function} handler={handler} {at:.6} ");
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let kept = &text[..text.len().min(bytes_max)];
    let start = line.len();
    let mut dropped = text.len() - kept.len();
    for chunk in kept.utf8_chunks() {
        push_escaped(&mut line, chunk.valid());
        if !chunk.invalid().is_empty() {
            line.push(char::REPLACEMENT_CHARACTER);
        }
    }
    // Escapes may have made it longer than it was.
    if line.len() - start > bytes_max {
        let mut end = start + bytes_max.saturating_sub(ESCAPED_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        dropped += line.len() - end;
        line.truncate(end);
    }
    if dropped > 0 {
        // Writing to a String cannot fail.
        let _ = write!(line, " … ({dropped} bytes cut off)");
    }
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        let breaks = character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
        if breaks && character != '\t' {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], bytes_max: usize, expected: &str) {
        let at: Timestamp = "2026-11-03T12:00:00.1234567Z".parse().unwrap();
        let mut out = Vec::new();
        append(&mut out, "echo", "echo-1", at, text, bytes_max);
        let whole =
            format!("function=echo handler=echo-1 2026-11-03T12:00:00.123456Z {expected}\n");
        assert_eq!(String::from_utf8(out).unwrap(), whole);
        let line = Line::parse(whole.trim_end_matches('\n')).unwrap();
        assert_eq!((line.function, line.handler, line.text), ("echo", "echo-1", expected));
    }

    #[test]
    fn a_line_stays_one_line() {
        check(b"hello", 100, "hello");
        check(b"", 100, "");
        check(b"dos\r", 100, "dos");
        check(b"a\tb", 100, "a\tb");
        check(b"10%\r20%\x1b[31m\0", 100, r"10%\r20%\u{1b}[31m\u{0}");
        check("ä\u{2028}\u{85}€".as_bytes(), 100, r"ä\u{2028}\u{85}€");
        check(b"f\xfcr", 100, "f\u{fffd}r");
    }

    #[test]
    fn a_long_line_is_cut() {
        check(&[b'x'; 30], 20, &format!("{} … (10 bytes cut off)", "x".repeat(20)));
        check(&[7; 20], 20, r"\u{7}\u{7} … (90 bytes cut off)");
    }
}
