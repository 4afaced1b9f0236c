//! How busy the generator itself was: a rate that it missed while it always ran,
//! or always waited for a processor, says nothing of the server.
//!
//! Owns the reading of this thread's scheduling statistics.

use std::time::Instant;

/// From the moment when it was started.
#[derive(Debug)]
pub(super) struct Meter {
    begun: Instant,
    /// Nanoseconds that this thread had run or waited for a processor.
    spent: Option<u64>,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { begun: Instant::now(), spent: spent() }
    }

    /// The share of the time since then in which this thread wanted a processor;
    /// `None` where the kernel keeps no such statistics.
    pub(super) fn share(&self) -> Option<f64> {
        let spent = spent()?.saturating_sub(self.spent?);
        Some(spent as f64 / self.begun.elapsed().as_nanos() as f64)
    }
}

fn spent() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// Nanoseconds on a processor and nanoseconds waiting for one (the kernel's
/// Documentation/scheduler/sched-stats.rst, of `/proc/PID/schedstat`).
fn parse(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().ok());
    Some(numbers.next()?? + numbers.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_and_waiting_count() {
        assert_eq!(parse("5 7 1\n"), Some(12));
        assert_eq!(parse("5\n"), None);
        assert_eq!(parse(""), None);
    }
}
