//! Entity tags: at most eight bytes in CoAP, quoted text in headers.
//!
//! Owns the two ways between them, by which a function gets back the tags that it
//! gave. Must not know messages.

use std::hash::{DefaultHasher, Hasher};

/// The longest tag of CoAP, in bytes (RFC 7252 section 5.10.6).
pub const BYTES_MAX: usize = 8;

/// The tag as a header has it, in quotes: as it is where all of its bytes can be
/// seen, else as hexadecimal digits.
pub fn to_header(tag: &[u8], header: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    header.push('"');
    if tag.iter().all(|byte| is_visible(*byte)) {
        header.extend(tag.iter().map(|byte| char::from(*byte)));
    } else {
        let digits = tag.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        header.extend(digits.map(|digit| char::from(DIGITS[usize::from(digit)])));
    }
    header.push('"');
}

/// The tag of a header's value, the other way round: what could be digits of
/// [`to_header`] is bytes, text of up to eight characters is itself, and what is
/// longer goes by a hash. None where there is no tag. A tag is weak or not to HTTP
/// alone.
#[must_use]
pub fn from_header(value: &[u8]) -> Option<Vec<u8>> {
    let value = value.trim_ascii();
    let value = value.strip_prefix(b"W/").unwrap_or(value);
    let text = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
    if text.is_empty() {
        return None;
    }
    if let Some(bytes) = from_digits(text).filter(|bytes| !bytes.iter().all(|b| is_visible(*b))) {
        return Some(bytes);
    }
    if text.len() <= BYTES_MAX && text.iter().all(|byte| is_visible(*byte)) {
        return Some(text.to_vec());
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(text);
    Some(hasher.finish().to_be_bytes().to_vec())
}

/// What may stand within the quotes (RFC 9110 section 8.8.3), of ASCII.
fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'"'
}

fn from_digits(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > 2 * BYTES_MAX || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(header: &str, tag: Option<&[u8]>) {
        assert_eq!(from_header(header.as_bytes()).as_deref(), tag, "{header}");
    }

    fn back(tag: &[u8]) -> String {
        let mut header = String::new();
        to_header(tag, &mut header);
        header
    }

    #[test]
    fn tags_are_digits_or_short_text() {
        check("\"00ff\"", Some(&[0, 0xff]));
        check("W/\"0123456789abcdef\"", Some(&[1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]));
        check("\"v1\"", Some(b"v1"));
        check(" v1 ", Some(b"v1"));
        // Its digits would be "v1".
        check("\"7631\"", Some(b"7631"));
        check("\"ABCD\"", Some(b"ABCD"));
        check("\"\"", None);
        check("", None);
        assert_eq!(back(b"v1"), "\"v1\"");
        assert_eq!(back(&[0, 0xff]), "\"00ff\"");
        assert_eq!(back(b"a b"), "\"612062\"");
    }

    #[test]
    fn a_long_tag_goes_by_a_hash_that_stays_the_same() {
        let one = from_header(b"W/\"c-Lve95gjOVATpfV8EL5X4nxwjKHE\"").expect("a tag");
        assert_eq!(one.len(), BYTES_MAX);
        assert_eq!(from_header(b"\"c-Lve95gjOVATpfV8EL5X4nxwjKHE\""), Some(one.clone()));
        assert_ne!(from_header(b"\"c-Lve95gjOVATpfV8EL5X4nxwjKHF\""), Some(one));
    }

    proptest! {
        /// A function is asked for the very tag that it gave.
        #[test]
        fn what_a_function_gave_comes_back(text in "[!#-~]{1,8}|([0-7][0-9a-f]){0,7}[89a-f][0-9a-f]") {
            let tag = from_header(format!("\"{text}\"").as_bytes()).expect("a tag");
            prop_assert!((1..=BYTES_MAX).contains(&tag.len()));
            prop_assert_eq!(back(&tag), format!("\"{text}\""));
        }

        /// And a function finds the same tag however it writes it.
        #[test]
        fn what_a_client_sent_comes_back(tag in proptest::collection::vec(any::<u8>(), 1..=8)) {
            prop_assume!(!tag.iter().all(|byte| is_visible(*byte)));
            let there = from_header(back(&tag).as_bytes()).expect("a tag");
            prop_assert_eq!(there, tag);
        }

        #[test]
        fn any_value_is_a_tag_that_may_be_sent(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(tag) = from_header(&value) {
                prop_assert!((1..=BYTES_MAX).contains(&tag.len()));
            }
        }
    }
}
