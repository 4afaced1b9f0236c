//! How long a call's parts took, for `Server-Timing`
//! (<https://www.w3.org/TR/server-timing/>).
//!
//! Owns the header. Must not know what is timed.

use std::time::Duration;

use ::http::{HeaderName, HeaderValue};

pub(crate) static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Room for both parts with the longest numbers there are.
const BYTES_MAX: usize = 96;

/// `queue;dur=…, function;dur=…`, in milliseconds to the microsecond; the
/// function's part is missing where none ran. One allocation: this is on the way
/// of every call.
pub(crate) fn header((queue, function): (Duration, Option<Duration>)) -> HeaderValue {
    let (mut text, mut length) = ([0; BYTES_MAX], 0);
    let mut put = |part: &[u8]| {
        text[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    };
    put(b"queue;dur=");
    put_millis(queue, &mut put);
    if let Some(function) = function {
        put(b", function;dur=");
        put_millis(function, &mut put);
    }
    HeaderValue::from_bytes(&text[..length]).expect("letters, digits and punctuation are valid")
}

fn put_millis(time: Duration, put: &mut impl FnMut(&[u8])) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (mut rest, mut digits, mut at) = (micros, [b'0'; 21], 21);
    // Three digits behind the point and one before it, at least.
    for place in 0.. {
        if place > 3 && rest == 0 {
            break;
        }
        if place == 3 {
            at -= 1;
            digits[at] = b'.';
        }
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    put(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds() {
        let micros = Duration::from_micros;
        for (queue, function, expected) in [
            (micros(0), None, "queue;dur=0.000"),
            (micros(12), Some(micros(1_234)), "queue;dur=0.012, function;dur=1.234"),
            (micros(1_000), Some(micros(10_020_030)), "queue;dur=1.000, function;dur=10020.030"),
            (
                Duration::MAX,
                Some(Duration::MAX),
                "queue;dur=18446744073709551.615, function;dur=18446744073709551.615",
            ),
        ] {
            assert_eq!(header((queue, function)), expected);
        }
    }
}
