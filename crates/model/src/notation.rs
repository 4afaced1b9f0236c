//! How people write a length of time, wherever they do: in the server's settings
//! and in a function's folder.
//!
//! Owns the notation. Must not know which settings there are.

use std::time::Duration;

/// The longest time that makes sense anywhere here.
const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why a text is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is none at all.
    #[error("not a time; write 500ms, 30s, 10min or 1h")]
    NotATime,
    /// It is more than anybody waits.
    #[error("longer than a year; give a shorter time")]
    TooLong,
}

/// Splits `300s` into 300 and `s`; `None` where no number stands first.
#[must_use]
pub fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..digits].parse().ok()?;
    Some((number, text[digits..].trim()))
}

/// Reads `500ms`, `30s`, `10min` (or `10m`), `1h`, or a number of seconds.
///
/// # Errors
/// Says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = number_and_unit(text.trim()).ok_or(DurationError::NotATime)?;
    let millis_each = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationError::NotATime),
    };
    let millis = number.checked_mul(millis_each).ok_or(DurationError::TooLong)?;
    let time = Duration::from_millis(millis);
    if time > TIME_MAX { Err(DurationError::TooLong) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<u64, DurationError>) {
        assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
    }

    #[test]
    fn times() {
        check("300", Ok(300_000));
        check("300s", Ok(300_000));
        check(" 10 min ", Ok(600_000));
        check("10m", Ok(600_000));
        check("500ms", Ok(500));
        check("1h", Ok(3_600_000));
        check("0", Ok(0));
        check("", Err(DurationError::NotATime));
        check("1d", Err(DurationError::NotATime));
        check("-1s", Err(DurationError::NotATime));
        check("1.5s", Err(DurationError::NotATime));
        check("99999999h", Err(DurationError::TooLong));
        check("9999999999999999h", Err(DurationError::TooLong));
        check("99999999999999999999", Err(DurationError::NotATime));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in ".{0,40}", number: u64) {
            let _ = parse_duration(&text);
            let _ = parse_duration(&format!("{number}{text}"));
        }
    }
}
