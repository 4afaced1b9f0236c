//! Counts latencies: a histogram of constant size, however many there were.
//!
//! Owns its precision and bounds. Must not know what was measured.

use std::time::Duration;

use hdrhistogram::Histogram;

/// A percentile is off by less than 1 in 100.
const SIGNIFICANT_DIGITS: u8 = 2;
/// Longer latencies count as this; longer than any run lets a reply wait.
const LONGEST: Duration = Duration::from_secs(2 * 60);

/// How often each latency was seen.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    nanoseconds: Histogram<u32>,
    longest: Option<Duration>,
}

impl Default for Latencies {
    fn default() -> Self {
        let most = u64::try_from(LONGEST.as_nanos()).expect("two minutes of nanoseconds fit");
        let nanoseconds = Histogram::new_with_bounds(1, most, SIGNIFICANT_DIGITS)
            .expect("the bounds are constant and far apart");
        Self { nanoseconds, longest: None }
    }
}

impl Latencies {
    /// Counts one.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.nanoseconds.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.longest = self.longest.max(Some(latency));
    }

    /// Adds what another has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.nanoseconds.add(&other.nanoseconds).expect("all have the same bounds");
        self.longest = self.longest.max(other.longest);
    }

    /// The longest of all, exactly; `None` where there are none.
    pub(crate) fn longest(&self) -> Option<Duration> {
        self.longest
    }

    /// The latency that `share` (0 to 1) of all do not exceed; `None` where there
    /// are none.
    pub(crate) fn percentile(&self, share: f64) -> Option<Duration> {
        let nanoseconds = self.nanoseconds.value_at_quantile(share);
        // A bucket may end above the longest one that is in it.
        self.longest.map(|longest| Duration::from_nanos(nanoseconds).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the definition, on sorted numbers of many magnitudes.
    #[test]
    fn percentiles_are_near_the_true_ones() {
        let mut numbers = Vec::new();
        let mut state = 1_u64;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            numbers.push((state >> 33) >> (state % 24));
        }
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        for (at, &number) in numbers.iter().enumerate() {
            if at % 3 == 0 { &mut one } else { &mut other }.add(Duration::from_nanos(number));
        }
        one.merge(&other);
        numbers.sort_unstable();
        for (share, rank) in [(0.0, 0), (0.5, 4_999), (0.99, 9_899), (0.999, 9_989), (1.0, 9_999)] {
            let found = one.percentile(share).expect("some").as_nanos() as f64;
            let truth = numbers[rank] as f64;
            assert!((found - truth).abs() <= truth / 100.0, "{share}: {found}, not {truth}");
        }
        assert_eq!(one.longest(), Some(Duration::from_nanos(numbers[9_999])));
    }

    #[test]
    fn none_and_endless_ones() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.percentile(0.5), latencies.longest()), (None, None));
        latencies.add(Duration::ZERO);
        assert_eq!(latencies.percentile(0.5), Some(Duration::ZERO));
        latencies.add(Duration::from_secs(1_000_000));
        let longest = latencies.percentile(1.0).expect("one");
        assert!(longest >= LONGEST, "{longest:?}");
        let mut other = Latencies::default();
        other.add(Duration::from_nanos(7));
        other.merge(&latencies);
        assert_eq!(other.longest(), Some(Duration::from_secs(1_000_000)));
    }
}
