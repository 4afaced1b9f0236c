//! The time that a caller gives its call.
//!
//! Owns the notation of `grpc-timeout`
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>). Must not know
//! what happens when it is over.

use std::time::Duration;

/// At most so many digits stand before the unit.
const DIGITS_MAX: usize = 8;

/// The time that this value names; None where it is none.
pub(super) fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut count = 0_u64;
    for digit in digits {
        count = count * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, expected: Option<Duration>) {
        assert_eq!(parse(value.as_bytes()), expected, "{value:?}");
    }

    #[test]
    fn timeouts_have_digits_and_a_unit() {
        check("1H", Some(Duration::from_secs(3600)));
        check("2M", Some(Duration::from_secs(120)));
        check("3S", Some(Duration::from_secs(3)));
        check("4m", Some(Duration::from_millis(4)));
        check("5u", Some(Duration::from_micros(5)));
        check("6n", Some(Duration::from_nanos(6)));
        check("0S", Some(Duration::ZERO));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "S", "1", "1s", "1h", "-1S", "+1S", " 1S", "1.5S", "123456789S", "1SS"] {
            check(wrong, None);
        }
    }
}
