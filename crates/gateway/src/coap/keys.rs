//! The pre-shared keys of clients, each by its identity (RFC 4279).
//!
//! Owns the notation in which people write them, and its bounds. Must not know
//! where the text comes from, nor DTLS. Nothing here shows a key: not a mistake,
//! not a warning, not `Debug`.

use std::collections::HashMap;
use std::fmt;

/// Bytes of an identity at most (RFC 4279 section 5.3 asks servers for 128).
pub(crate) const IDENTITY_BYTES_MAX: usize = 128;

/// Bytes of a key at most (RFC 4279 section 5.3 asks servers for 64).
pub(crate) const KEY_BYTES_MAX: usize = 64;

/// Bytes that a key should have; a shorter one is taken, and warned of. Who sees a
/// handshake can try keys as fast as a machine computes.
pub(crate) const KEY_BYTES_RECOMMENDED: usize = 16;

/// Keys that one server takes.
pub(crate) const KEYS_MAX: usize = 10_000;

/// Mistakes that are told of one text; the rest is counted.
const MISTAKES_TOLD_MAX: usize = 20;

/// The keys, each by its identity.
///
/// # How they are written
/// An entry is `IDENTITY:KEY`. The key is taken as it stands, as UTF-8; one of any
/// bytes is written in hex, `IDENTITY:hex:00ff10ab` or `IDENTITY:0x00ff10ab`. An
/// identity may hold colons (`urn:dev:os:1`) where its key is in hex; else there is
/// exactly one, so that nothing has to be guessed. White space at the ends of an
/// entry, an identity or a key is not part of it.
///
/// In a file ([`PskKeys::parse_lines`]) each line is an entry; empty ones and those
/// that begin with `#` are passed over. In a setting ([`PskKeys::parse_list`])
/// commas stand between entries.
///
/// Who reads the file warns where others than its owner may read it.
#[derive(Default)]
pub struct PskKeys {
    keys: HashMap<Box<[u8]>, Entry>,
}

struct Entry {
    key: Box<[u8]>,
    /// The line, or the place in the list, where it stands; from 1.
    at: usize,
    looks_like_hex: bool,
}

/// What is wrong with a text of keys: a line for each mistake. Never tells a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .lines.join("\n"))]
pub struct KeyMistakes {
    /// The mistakes, each with its line or its place in the list.
    pub lines: Vec<String>,
}

impl fmt::Debug for PskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PskKeys").field("identities", &self.keys.len()).finish_non_exhaustive()
    }
}

impl PskKeys {
    /// The keys of a file's text.
    ///
    /// # Errors
    /// Every mistake in it, with its line.
    pub fn parse_lines(text: &str) -> Result<PskKeys, KeyMistakes> {
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate();
        let entries = lines.filter(|(_, line)| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with('#')
        });
        PskKeys::parse("line", entries)
    }

    /// The keys of a setting's text; none of an empty one.
    ///
    /// # Errors
    /// Every mistake in it, with its place in the list.
    pub fn parse_list(text: &str) -> Result<PskKeys, KeyMistakes> {
        let entries = text.split(',').enumerate();
        PskKeys::parse("entry", entries.filter(|(_, entry)| !entry.trim().is_empty()))
    }

    fn parse<'a>(
        unit: &str,
        entries: impl Iterator<Item = (usize, &'a str)>,
    ) -> Result<PskKeys, KeyMistakes> {
        let mut parsed = PskKeys::default();
        let (mut mistakes, mut untold) = (Vec::new(), 0);
        for (index, entry) in entries {
            let at = index + 1;
            if let Err(mistake) = parsed.add(unit, at, entry) {
                if mistakes.len() < MISTAKES_TOLD_MAX {
                    mistakes.push(format!("{unit} {at}: {mistake}"));
                } else {
                    untold += 1;
                }
            }
        }
        if untold > 0 {
            mistakes.push(format!("and {untold} more"));
        }
        if mistakes.is_empty() { Ok(parsed) } else { Err(KeyMistakes { lines: mistakes }) }
    }

    fn add(&mut self, unit: &str, at: usize, entry: &str) -> Result<(), String> {
        let (identity, key, looks_like_hex) = parse_entry(entry.trim())?;
        if let Some(there) = self.keys.get(identity.as_bytes()) {
            let there = there.at;
            return Err(format!(
                "the identity \"{identity}\" has a key already, in {unit} {there}"
            ));
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(format!("more than {KEYS_MAX} keys"));
        }
        self.keys.insert(identity.as_bytes().into(), Entry { key, at, looks_like_hex });
        Ok(())
    }

    /// Adds the keys of another text.
    ///
    /// # Errors
    /// Where an identity has a key in both.
    pub fn join(mut self, other: PskKeys) -> Result<PskKeys, KeyMistakes> {
        let both = other.keys.keys().filter(|identity| self.keys.contains_key(*identity));
        let mut lines: Vec<_> = both
            .take(MISTAKES_TOLD_MAX)
            .map(|identity| format!("the identity \"{}\" has a key in both", shown(identity)))
            .collect();
        if lines.is_empty() {
            self.keys.extend(other.keys);
            return Ok(self);
        }
        lines.sort_unstable();
        Err(KeyMistakes { lines })
    }

    /// What should be put right though it is no mistake, a line for each thought:
    /// short keys, and keys that look like hex but are not marked as such.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let short = self.named(|entry| entry.key.len() < KEY_BYTES_RECOMMENDED);
        let unmarked = self.named(|entry| entry.looks_like_hex);
        let mut warnings = Vec::new();
        if let Some(named) = short {
            warnings.push(format!(
                "keys shorter than {KEY_BYTES_RECOMMENDED} bytes can be guessed from a handshake that somebody has seen: {named}"
            ));
        }
        if let Some(named) = unmarked {
            warnings.push(format!(
                "keys that look like hex are taken as text; where hex is meant, put `hex:` before the key: {named}"
            ));
        }
        warnings
    }

    /// The identities whose entries are so, as people read them; a few of many.
    fn named(&self, which: impl Fn(&Entry) -> bool) -> Option<String> {
        const NAMED_MAX: usize = 5;
        let matching = self.keys.iter().filter(|(_, entry)| which(entry));
        let mut found: Vec<_> = matching.map(|(identity, entry)| (entry.at, identity)).collect();
        found.sort_unstable();
        let more = found.len().saturating_sub(NAMED_MAX);
        let names = found.iter().take(NAMED_MAX).map(|(_, id)| format!("\"{}\"", shown(id)));
        let names = names.collect::<Vec<_>>().join(", ");
        match (found.is_empty(), more) {
            (true, _) => None,
            (false, 0) => Some(names),
            (false, more) => Some(format!("{names} and {more} more")),
        }
    }

    /// How many identities have a key.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key of an identity. Identities are no secret, so that to find one need
    /// not take constant time; keys are never compared, only used.
    pub(crate) fn get(&self, identity: &[u8]) -> Option<&[u8]> {
        self.keys.get(identity).map(|entry| &*entry.key)
    }
}

/// An identity that a person can read and a terminal can bear, cut to its bound.
pub(crate) fn shown(identity: &[u8]) -> String {
    let cut = &identity[..identity.len().min(IDENTITY_BYTES_MAX)];
    let end = if cut.len() < identity.len() { "..." } else { "" };
    match std::str::from_utf8(cut) {
        Ok(text) => format!("{}{end}", text.escape_debug()),
        Err(_) => format!("{}{end}", cut.escape_ascii()),
    }
}

/// Identity, key, and whether the key is text that looks like hex.
fn parse_entry(entry: &str) -> Result<(&str, Box<[u8]>, bool), String> {
    let (identity, key) = match split_hex(entry) {
        Some((identity, digits)) => (identity, parse_hex(digits.trim())?),
        None => {
            let (identity, key) = entry
                .split_once(':')
                .ok_or("there is no colon: an entry is IDENTITY:KEY or IDENTITY:hex:00ff...")?;
            if key.contains(':') {
                return Err("more than one colon: where the identity or the key holds one, \
                            write the key in hex, IDENTITY:hex:00ff..."
                    .into());
            }
            (identity, key.trim().as_bytes().into())
        }
    };
    let (identity, key): (_, Box<[u8]>) = (identity.trim(), key);
    if identity.is_empty() {
        return Err("there is no identity before the colon".into());
    }
    if identity.len() > IDENTITY_BYTES_MAX {
        return Err(format!("the identity is longer than {IDENTITY_BYTES_MAX} bytes"));
    }
    if key.is_empty() {
        return Err(format!("the identity \"{}\" has no key", shown(identity.as_bytes())));
    }
    if key.len() > KEY_BYTES_MAX {
        let identity = shown(identity.as_bytes());
        return Err(format!("the key of \"{identity}\" is longer than {KEY_BYTES_MAX} bytes"));
    }
    let looks_like_hex = split_hex(entry).is_none()
        && key.len() >= 2 * KEY_BYTES_RECOMMENDED
        && key.len().is_multiple_of(2)
        && key.iter().all(u8::is_ascii_hexdigit);
    Ok((identity, key, looks_like_hex))
}

/// Identity and digits, where the key is marked as hex.
fn split_hex(entry: &str) -> Option<(&str, &str)> {
    let (before, last) = entry.rsplit_once(':')?;
    if let Some(digits) = last.trim_start().strip_prefix("0x") {
        return Some((before, digits));
    }
    let identity = before.trim_end().strip_suffix("hex")?.trim_end().strip_suffix(':')?;
    Some((identity, last))
}

fn parse_hex(digits: &str) -> Result<Box<[u8]>, String> {
    if !digits.len().is_multiple_of(2) {
        return Err("the key in hex has an odd number of digits".into());
    }
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let bytes = digits.as_bytes().chunks_exact(2);
    let bytes = bytes.map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?));
    bytes.collect::<Option<_>>().ok_or_else(|| "the key in hex holds what is no hex digit".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_entry(entry: &str, expected: Result<(&str, &[u8]), &str>) {
        match (PskKeys::parse_lines(entry), expected) {
            (Ok(keys), Ok((identity, key))) => {
                assert_eq!(keys.len(), 1, "{entry}");
                assert_eq!(keys.get(identity.as_bytes()), Some(key), "{entry}");
            }
            (Err(mistakes), Err(part)) => {
                assert_eq!(mistakes.lines.len(), 1, "{entry}: {mistakes}");
                assert!(mistakes.lines[0].starts_with("line 1: "), "{entry}: {mistakes}");
                assert!(mistakes.lines[0].contains(part), "{entry}: {mistakes}");
            }
            (found, _) => panic!("{entry}: {found:?}"),
        }
    }

    #[test]
    fn an_entry_is_an_identity_and_a_key_in_text_or_hex() {
        check_entry("sensor-1:a long enough secret", Ok(("sensor-1", b"a long enough secret")));
        check_entry("  sensor-1 : secret  ", Ok(("sensor-1", b"secret")));
        check_entry("a:hex:00fF10", Ok(("a", b"\x00\xff\x10")));
        check_entry("a:0x00ff10", Ok(("a", b"\x00\xff\x10")));
        check_entry("urn:dev:os:1:hex:00", Ok(("urn:dev:os:1", b"\0")));
        check_entry("urn:dev:os:1:0x00", Ok(("urn:dev:os:1", b"\0")));
        check_entry("süd:schlüssel", Ok(("süd", "schlüssel".as_bytes())));
        check_entry("hex:abc", Ok(("hex", b"abc")));
        check_entry("a:b # no comment", Ok(("a", b"b # no comment")));
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_without_the_key() {
        check_entry("secret", Err("no colon"));
        check_entry(":secret", Err("no identity"));
        check_entry("a:", Err("\"a\" has no key"));
        check_entry("a:hex:", Err("\"a\" has no key"));
        check_entry("a:b:secret", Err("more than one colon"));
        check_entry("a:hex:0", Err("odd number"));
        check_entry("a:0xsecret", Err("no hex digit"));
        check_entry("a:hex:secret", Err("no hex digit"));
        check_entry(&format!("{}:b", "a".repeat(129)), Err("longer than 128 bytes"));
        check_entry(&format!("a:{}", "b".repeat(65)), Err("longer than 64 bytes"));
        check_entry(&format!("a:0x{}", "00".repeat(65)), Err("longer than 64 bytes"));
    }

    #[test]
    fn a_file_has_comments_and_empty_lines_and_all_its_mistakes_are_told() {
        let keys =
            PskKeys::parse_lines("\u{feff}# ours\r\n\r\na:1,2\r\n  # b:2\r\nc:#3\n").unwrap();
        assert_eq!(keys.get(b"a"), Some(&b"1,2"[..]));
        assert_eq!(keys.get(b"c"), Some(&b"#3"[..]));
        assert_eq!(keys.len(), 2);
        let text = "a:secret\n\nsecret\na:secret\nb:secret:secret\n";
        let mistakes = PskKeys::parse_lines(text).unwrap_err();
        assert_eq!(mistakes.lines.len(), 3);
        assert!(mistakes.lines[0].starts_with("line 3: "));
        assert_eq!(mistakes.lines[1], "line 4: the identity \"a\" has a key already, in line 1");
        assert!(mistakes.lines[2].starts_with("line 5: "));
        assert!(!mistakes.to_string().contains("secret"));
        let many = PskKeys::parse_lines(&"x\n".repeat(1000)).unwrap_err();
        assert_eq!(many.lines.len(), MISTAKES_TOLD_MAX + 1);
        assert_eq!(many.lines[MISTAKES_TOLD_MAX], "and 980 more");
    }

    #[test]
    fn a_setting_is_a_list() {
        let keys = PskKeys::parse_list("a:1, b:0x00ff ,urn:x:hex:01,").unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys.get(b"b"), Some(&b"\x00\xff"[..]));
        assert_eq!(keys.get(b"urn:x"), Some(&b"\x01"[..]));
        assert!(PskKeys::parse_list("").unwrap().is_empty());
        let mistakes = PskKeys::parse_list("a:1,a:2").unwrap_err();
        assert_eq!(
            mistakes.to_string(),
            "entry 2: the identity \"a\" has a key already, in entry 1"
        );
    }

    #[test]
    fn keys_of_a_file_and_a_setting_are_joined() {
        let both = |a, b| PskKeys::parse_list(a).unwrap().join(PskKeys::parse_lines(b).unwrap());
        assert_eq!(both("a:1", "b:2").unwrap().len(), 2);
        let mistakes = both("a:1,b:1", "b:2\na:2").unwrap_err();
        assert_eq!(mistakes.lines.len(), 2);
        assert_eq!(mistakes.lines[0], "the identity \"a\" has a key in both");
    }

    #[test]
    fn there_are_so_many_keys_at_most() {
        let text: String = (0..=KEYS_MAX).map(|n| format!("i{n}:k\n")).collect();
        let mistakes = PskKeys::parse_lines(&text).unwrap_err();
        assert_eq!(mistakes.lines, [format!("line {}: more than {KEYS_MAX} keys", KEYS_MAX + 1)]);
    }

    #[test]
    fn short_keys_and_unmarked_hex_are_warned_of() {
        let keys = PskKeys::parse_list("a:short,b:exactly 16 bytes,c:hex:00").unwrap();
        let warnings = keys.warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].ends_with(": \"a\", \"c\""), "{}", warnings[0]);
        let digits = "0123456789abcdef".repeat(2);
        let keys = PskKeys::parse_list(&format!("a:{digits},b:0x{digits}")).unwrap();
        let warnings = keys.warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("look like hex"), "{}", warnings[0]);
        assert!(warnings[0].ends_with(": \"a\""), "{}", warnings[0]);
        assert!(!warnings[0].contains(&digits));
    }

    #[test]
    fn nothing_shows_a_key() {
        let keys = PskKeys::parse_list("who:a secret of mine").unwrap();
        assert_eq!(format!("{keys:?}"), "PskKeys { identities: 1, .. }");
    }

    #[test]
    fn an_identity_is_shown_so_that_it_does_no_harm() {
        assert_eq!(shown("süd\n\x1b[2J\"".as_bytes()), "süd\\n\\u{1b}[2J\\\"");
        assert_eq!(shown(b"\xff\x00a"), "\\xff\\x00a");
        assert_eq!(shown(&[b'a'; 200]), format!("{}...", "a".repeat(128)));
    }

    proptest! {
        #[test]
        fn what_is_written_in_hex_is_read_back(
            identity in "[ -~]{1,128}", key in proptest::collection::vec(any::<u8>(), 1..=64),
        ) {
            let identity = identity.trim();
            prop_assume!(!identity.is_empty() && !identity.starts_with('#'));
            let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            for mark in ["hex:", "0x"] {
                let keys = PskKeys::parse_lines(&format!("{identity}:{mark}{digits}")).unwrap();
                prop_assert_eq!(keys.get(identity.as_bytes()), Some(&key[..]));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = PskKeys::parse_lines(&text);
            let _ = PskKeys::parse_list(&text);
        }
    }
}
