//! When requests begin: at once in a closed loop, by the clock in an open one.
//!
//! Owns the intended starts and the timer that waits for them. Must not know what
//! is asked. In an open loop whichever connection is free takes the next start, so
//! a slow reply delays nobody's clock: latency counts from the intended start, and
//! what waited is not left out (no coordinated omission).

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::Pace;
use crate::latency::Latencies;

/// How long after a run's end requests begin whose start has passed; those behind
/// them never do, so that a server far below the rate does not hold the run.
const OVERTIME: Duration = Duration::from_secs(1);

/// The starts of a run, handed out to its connections in order.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    begun: Instant,
    until: Instant,
    next: AtomicU64,
}

impl Schedule {
    pub(super) fn new(pace: Pace, begun: Instant, until: Instant) -> Self {
        Self { pace, begun, until, next: AtomicU64::new(0) }
    }

    /// A connection's own way to them.
    ///
    /// # Errors
    /// Where the kernel gives no timer.
    pub(super) fn starts(self: &Arc<Self>) -> anyhow::Result<Starts> {
        let timer = match self.pace {
            Pace::Closed => None,
            Pace::Open(_) => Some(Timer::new()?),
        };
        Ok(Starts { schedule: self.clone(), timer })
    }

    /// The intended starts that no connection took.
    pub(super) fn never_begun(&self) -> impl Iterator<Item = Instant> {
        let first = self.next.load(Ordering::Relaxed);
        let rate = match self.pace {
            Pace::Closed => None,
            Pace::Open(rate) => Some(rate),
        };
        let all = rate
            .into_iter()
            .flat_map(move |rate| (first..).map(move |number| intended(self.begun, rate, number)));
        all.take_while(|&intended| intended < self.until)
    }

    fn take(&self, rate: u64, now: Instant) -> Option<Instant> {
        if now > self.until + OVERTIME {
            return None;
        }
        let intended = intended(self.begun, rate, self.next.fetch_add(1, Ordering::Relaxed));
        (intended < self.until).then_some(intended)
    }
}

/// Computed from the number, so that no error adds up.
fn intended(begun: Instant, rate: u64, number: u64) -> Instant {
    let (seconds, rest) = (number / rate, number % rate);
    // Below a billion times a rate of at most a million: it fits.
    begun + Duration::from_secs(seconds) + Duration::from_nanos(rest * 1_000_000_000 / rate)
}

/// One connection's starts.
#[derive(Debug)]
pub(super) struct Starts {
    schedule: Arc<Schedule>,
    timer: Option<Timer>,
}

impl Starts {
    /// Waits for the next start; from when its latency counts, or `None` at the
    /// run's end. What a start came too late by, with a connection free, goes to
    /// `lateness`.
    ///
    /// # Errors
    /// Where the timer breaks.
    pub(super) async fn next(
        &mut self,
        lateness: &mut Latencies,
    ) -> anyhow::Result<Option<Instant>> {
        let now = Instant::now();
        let (Pace::Open(rate), Some(timer)) = (self.schedule.pace, &self.timer) else {
            return Ok((now < self.schedule.until).then_some(now));
        };
        let Some(intended) = self.schedule.take(rate, now) else { return Ok(None) };
        if intended > now {
            timer.wait(intended - now).await.context("waiting for a request's start")?;
            lateness.add(intended.elapsed());
        }
        Ok(Some(intended))
    }
}

/// Finer than the runtime's own timer, whose milliseconds are longer than a call.
#[derive(Debug)]
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(
        deprecated,
        reason = "what follows it is unsafe; an owned descriptor that is never replaced is sound"
    )]
    fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("no timer")?;
        Ok(Self(AsyncFd::new(timer).context("no timer")?))
    }

    async fn wait(&self, time: Duration) -> anyhow::Result<()> {
        // All zeros would switch it off.
        let time = time.max(Duration::from_nanos(1));
        let value = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec::try_from(time).context("a start too far away")?,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &value)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut expired = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expired)?));
            if let Ok(read) = read {
                read?;
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_evenly_spread_and_never_drift() {
        let begun = Instant::now();
        let at = |rate, number| (intended(begun, rate, number) - begun).as_nanos();
        assert_eq!(
            (at(3, 0), at(3, 1), at(3, 2), at(3, 3)),
            (0, 333_333_333, 666_666_666, 1_000_000_000)
        );
        assert_eq!(at(7, 7_000_000), 1_000_000_000_000_000);
        assert_eq!(at(1_000_000, 999_999), 999_999_000);
    }

    #[test]
    fn what_nobody_took_is_known() {
        let begun = Instant::now();
        let schedule = Schedule::new(Pace::Open(10), begun, begun + Duration::from_secs(1));
        assert_eq!(schedule.take(10, begun), Some(begun));
        assert_eq!(schedule.never_begun().count(), 9);
        let late = begun + Duration::from_secs(1) + OVERTIME;
        assert!(schedule.take(10, late).is_some());
        assert_eq!(schedule.take(10, late + Duration::from_millis(1)), None);
        assert_eq!(schedule.never_begun().count(), 8);
        let closed = Schedule::new(Pace::Closed, begun, begun + Duration::from_secs(1));
        assert_eq!(closed.never_begun().count(), 0);
    }
}
