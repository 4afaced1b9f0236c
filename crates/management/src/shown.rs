//! A stranger's text as it stands in a message.
//!
//! Owns that such a text can neither fill a screen nor steer a terminal. Pure.

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
}
