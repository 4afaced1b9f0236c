//! Counts latencies in buckets that are as fine as they must be.
//!
//! Owns the buckets and percentiles. Must not know what was measured.

use std::time::Duration;

/// Buckets per doubling: a percentile is off by less than 1 in 128.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Longer latencies count as this, about 69 s.
const NANOSECONDS_MAX: u64 = (1 << 36) - 1;
const BUCKETS: usize = index(NANOSECONDS_MAX) + 1;

/// How often each latency was seen; of constant size, however many there were.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    counts: Box<[u32]>,
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0 }
    }
}

impl Latencies {
    /// Counts one.
    pub(crate) fn add(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[index(nanoseconds.min(NANOSECONDS_MAX))] += 1;
        self.total += 1;
    }

    /// Adds what another has counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// The latency that `share` (0 to 1) of all do not exceed; `None` where there
    /// are none.
    pub(crate) fn percentile(&self, share: f64) -> Option<Duration> {
        // At most 2^53 are counted, so a float holds every rank.
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|&count| {
            seen += u64::from(count);
            seen >= rank
        })?;
        Some(Duration::from_nanos(middle(bucket)))
    }
}

/// Below two times `STEPS` every nanosecond has its bucket; above, every doubling
/// has `STEPS` of them.
const fn index(nanoseconds: u64) -> usize {
    let shift = (u64::BITS - nanoseconds.leading_zeros()).saturating_sub(STEP_BITS + 1);
    (shift as u64 * STEPS + (nanoseconds >> shift)) as usize
}

fn middle(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let first = (bucket - shift * STEPS) << shift;
    first + ((1 << shift) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_hold_their_middle() {
        for bucket in 0..BUCKETS {
            assert_eq!(index(middle(bucket)), bucket);
        }
        for power in 0..36 {
            let (below, at) = ((1_u64 << power) - 1, 1 << power);
            assert_eq!(index(at) - index(below), 1, "around 2^{power}");
        }
    }

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
            assert!((found - truth).abs() <= truth / 128.0, "{share}: {found}, not {truth}");
        }
    }

    #[test]
    fn none_and_endless_ones() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(0.5), None);
        latencies.add(Duration::from_secs(1_000_000));
        let longest = latencies.percentile(0.5).expect("one");
        assert!(longest.as_secs() >= 68, "{longest:?}");
    }
}
