//! A stranger's text as it stands in a message, and what may have been meant by it.
//!
//! Owns that such a text can neither fill a screen nor steer a terminal. Pure.

/// How near a name must be to be taken for what was meant (Jaro-Winkler; 1 is the
/// same).
const NEARNESS_MIN: f64 = 0.8;
/// How many near names are told.
const NEAR_MAX: usize = 3;

/// How much of a text is shown, in characters.
const CHARS_MAX: usize = 100;

/// A text in quotes, its control characters escaped, cut where it is long.
pub(crate) fn shown(text: &[u8]) -> String {
    // Lossy reading of a long text would copy it whole.
    let near = &text[..text.len().min(4 * CHARS_MAX + 4)];
    let text = String::from_utf8_lossy(near);
    match text.char_indices().nth(CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

/// The names nearest to a text, the nearest first; none where none is near.
pub(crate) fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let text: String = text.chars().take(CHARS_MAX).collect::<String>().to_ascii_lowercase();
    let nearness = |name: &str| strsim::jaro_winkler(&text, &name.to_ascii_lowercase());
    let mut near: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (nearness(name), name))
        .filter(|(nearness, _)| *nearness >= NEARNESS_MIN)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(NEAR_MAX).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], expected: &str) {
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn it_is_short_and_harmless() {
        check(b"", "\"\"");
        check("grüße".as_bytes(), "\"grüße\"");
        check(b"a\x1b[31m\n\"b", r#""a\u{1b}[31m\n\"b""#);
        check(b"gr\xfcn", "\"gr\u{fffd}n\"");
        check(&[b'x'; 100], &format!("\"{}\"", "x".repeat(100)));
        check("ü".repeat(101).as_bytes(), &format!("\"{}\"…", "ü".repeat(100)));
        check("😀".repeat(9000).as_bytes(), &format!("\"{}\"…", "😀".repeat(100)));
    }

    fn check_near(text: &str, expected: &[&str]) {
        assert_eq!(nearest(text, ["echo", "echo-js", "sieve"]), expected, "{text}");
    }

    #[test]
    fn near_names_are_found() {
        check_near("ehco", &["echo"]);
        check_near("ECHO-JS", &["echo-js", "echo"]);
        check_near("eco", &["echo", "echo-js"]);
        check_near("seive", &["sieve"]);
        check_near("hello", &[]);
        check_near("", &[]);
    }
}
