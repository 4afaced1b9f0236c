//! What time it is, and whether that can be believed.
//!
//! Boards without a battery clock start in 1970 or at the time of their last stop,
//! and learn the time from the network minutes later. What they believe until then
//! must not keep them from serving.

use jiff::Timestamp;

/// This was written after it, so no right clock says less: 2026-11-01. A constant,
/// not the time of the build, so that builds stay reproducible.
const EARLIEST: Timestamp = Timestamp::constant(1_793_491_200, 0);

/// What the clock says.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// Whether a clock that says so has been set.
pub(crate) fn is_set(now: Timestamp) -> bool {
    now >= EARLIEST
}

/// What the clock says, or where it is not set the least that it must be.
pub(crate) fn at_least(now: Timestamp) -> Timestamp {
    now.max(EARLIEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_starts_in_1970_is_not_set() {
        assert!(!is_set(Timestamp::UNIX_EPOCH));
        assert_eq!(at_least(Timestamp::UNIX_EPOCH).to_string(), "2026-11-01T00:00:00Z");
        assert!(is_set(EARLIEST));
    }
}
