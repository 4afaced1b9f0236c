//! Which trace a call belongs to (<https://www.w3.org/TR/trace-context/>).
//!
//! Owns what a valid `traceparent` is, and makes one. Must not know who traces.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use tinyfaas_model::random;

pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-TRACE-PARENT-FLAGS`.
const LENGTH: usize = 55;

/// Sees to it that the function gets exactly one valid `traceparent`: the
/// caller's, or a new one. Then a `tracestate` that came belongs to nothing.
pub(crate) fn hand_on(headers: &mut HeaderMap, parents: usize, has_state: bool) {
    let kept =
        parents == 1 && headers.get(&TRACEPARENT).is_some_and(|parent| is_valid(parent.as_bytes()));
    if !kept {
        headers.insert(&TRACEPARENT, new());
        if has_state {
            headers.remove(&TRACESTATE);
        }
    }
}

/// Section 3.2.2. A later version may have more to say behind another dash.
fn is_valid(text: &[u8]) -> bool {
    let Some((known, more)) = text.split_at_checked(LENGTH) else { return false };
    let (version, trace, parent, flags) =
        (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let is_hex = |part: &[u8]| part.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|c| *c == b'0');
    let dashes = [known[2], known[35], known[52]] == [b'-'; 3];
    let end = more.is_empty() || (version != b"00" && more[0] == b'-');
    dashes
        && end
        && [version, trace, parent, flags].into_iter().all(is_hex)
        && version != b"ff"
        && !is_zero(trace)
        && !is_zero(parent)
}

/// A trace that starts here. It is not the call's id, which is a secret. It is
/// marked as sampled: whether to record it is the function's choice, which the
/// absence of this flag would take away.
fn new() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    let mut bytes = random::draw::<24>();
    // All zero is not valid, and would come up once in 2^64 calls.
    bytes[15] |= 1;
    bytes[23] |= 1;
    let mut put = |at: usize, bytes: &[u8]| {
        for (pair, byte) in text[at..].chunks_exact_mut(2).zip(bytes) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
    };
    put(3, &bytes[..16]);
    put(36, &bytes[16..]);
    HeaderValue::from_bytes(&text).expect("letters, digits and dashes are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn check(text: &str, expected: bool) {
        assert_eq!(is_valid(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn only_what_the_recommendation_allows_is_valid() {
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01"), true);
        check(&format!("00-{TRACE}-00f067aa0ba902b7-ff"), true);
        check(&format!("cc-{TRACE}-00f067aa0ba902b7-01"), true);
        check(&format!("cc-{TRACE}-00f067aa0ba902b7-01-more"), true);
        check(&format!("cc-{TRACE}-00f067aa0ba902b7-01.more"), false);
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01-more"), false);
        check(&format!("ff-{TRACE}-00f067aa0ba902b7-01"), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false);
        check(&format!("00-{TRACE}-0000000000000000-01"), false);
        check(&format!("00-{TRACE}-00f067aa0ba902b7-0"), false);
        check(&format!("00_{TRACE}-00f067aa0ba902b7-01"), false);
        check("", false);
    }

    #[test]
    fn a_new_one_is_valid_and_like_no_other() {
        let (one, other) = (new(), new());
        assert!(is_valid(one.as_bytes()));
        assert_ne!(one, other);
        assert_ne!(one.as_bytes()[3..35], other.as_bytes()[3..35]);
    }
}
