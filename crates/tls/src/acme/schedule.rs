//! When a certificate is asked for: renewal, and the waits after failures.
//!
//! Pure: times and chance are passed in. Must not know of the authority.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::config::AcmeConfig;

/// The part of its life that a certificate has left when it is renewed.
const LEFT: u32 = 3;
/// So much of its life earlier may it be, so that not all servers of a site renew
/// at once.
const JITTER: f64 = 0.02;
/// However short its life is, or how wrong the clock.
const GAP_MIN: Duration = Duration::from_secs(1);
/// Between looks at a far time: clocks are set, and machines sleep.
pub(crate) const LOOK: Duration = Duration::from_secs(60 * 60);
/// What an authority may say of how often it is asked about a renewal.
const RENEWAL_INFO: Range<Duration> = Duration::from_secs(60)..Duration::from_secs(24 * 60 * 60);

fn at(seconds: u64) -> SystemTime {
    let since = Duration::from_secs(seconds);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

/// What became of the attempts so far. Kept on disk: a server that is started again
/// and again must not order each time.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Attempts {
    /// What was asked for. With another question the count begins anew.
    pub(crate) asked: String,
    /// How many have failed in a row; one under way counts until it has succeeded.
    pub(crate) failures: u32,
    /// When the last was begun, in seconds since 1970.
    pub(crate) last: u64,
    /// The authority said not to come before this, in seconds since 1970.
    pub(crate) not_before: Option<u64>,
}

/// When a certificate is to be renewed: at a third of its life left, or when the
/// authority suggests, but not right after it came.
pub(crate) fn renewal(
    validity: Validity,
    came: SystemTime,
    suggested: Option<SystemTime>,
    gap_max: Duration,
    chance: f64,
) -> SystemTime {
    let life = validity.until.duration_since(validity.from).unwrap_or_default();
    let earlier = life / LEFT + life.mul_f64(JITTER * chance);
    let ordinary = validity.until.checked_sub(earlier).unwrap_or(validity.from);
    let soonest = came + gap_max.min(life / LEFT).max(GAP_MIN);
    suggested.unwrap_or(ordinary).min(validity.until).max(soonest)
}

/// A moment of the window that the authority suggests (RFC 9773, section 4.2). One
/// that ends before it begins suggests nothing.
pub(crate) fn suggestion(window: Range<SystemTime>, chance: f64) -> Option<SystemTime> {
    let width = window.end.duration_since(window.start).ok()?;
    Some(window.start + width.mul_f64(chance))
}

/// When the authority is to be asked again about the renewal.
pub(crate) fn renewal_info_wait(said: Duration) -> Duration {
    said.clamp(RENEWAL_INFO.start, RENEWAL_INFO.end)
}

/// The wait after so many failures in a row, the last of which was heard by the
/// authority or not.
pub(crate) fn wait(
    config: &AcmeConfig,
    failures: u32,
    heard: bool,
    retry_after: Option<Duration>,
    chance: f64,
) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let most =
        if heard { config.retry_max } else { config.retry_max.min(config.retry_unheard_max) };
    let ours = config.retry_first.saturating_mul(doubled).min(most);
    // Up to a tenth less, so that not all come again at once.
    let ours = ours.mul_f64(1.0 - 0.1 * chance);
    ours.max(retry_after.unwrap_or_default()).min(config.retry_max)
}

/// The wait of a server that was just started, before its first attempt.
pub(crate) fn wait_at_start(config: &AcmeConfig, attempts: &Attempts, now: SystemTime) -> Duration {
    if attempts.failures == 0 {
        return Duration::ZERO;
    }
    let most = wait(config, attempts.failures, false, None, 0.0);
    // A clock that was set back must not make it longer.
    let until = at(attempts.last).checked_add(most);
    let ours = until.and_then(|until| until.duration_since(now).ok()).unwrap_or_default().min(most);
    let said = attempts.not_before.map(|seconds| at(seconds).duration_since(now));
    let said = said.and_then(Result::ok).unwrap_or_default().min(config.retry_max);
    ours.max(said)
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// From 0 to 1, for jitter. Without randomness there is none.
pub(crate) fn chance() -> f64 {
    use ring::rand::SecureRandom as _;
    let mut bytes = [0; 4];
    match ring::rand::SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(ring::error::Unspecified) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn now() -> SystemTime {
        at(1_800_000_000)
    }

    fn config() -> AcmeConfig {
        AcmeConfig::new("https://ca.example/".to_owned(), Vec::new(), PathBuf::new())
    }

    fn days(days: u64) -> Duration {
        Duration::from_secs(days * DAY)
    }

    #[test]
    fn a_third_of_the_life_is_left_at_renewal() {
        let validity = Validity { from: now(), until: now() + days(90) };
        let gap = Duration::from_secs(3600);
        let due = |suggested, chance| renewal(validity, now(), suggested, gap, chance);
        assert_eq!(due(None, 0.0), now() + days(60));
        assert!(due(None, 1.0) < now() + days(59) && due(None, 1.0) > now() + days(58));
        assert_eq!(due(Some(now() + days(70)), 1.0), now() + days(70), "as the authority says");
        assert_eq!(due(Some(now() - days(1)), 0.0), now() + gap, "but not at once");
        assert_eq!(due(Some(now() + days(100)), 0.0), now() + days(90), "nor too late");
        let short = Validity { from: now(), until: now() + Duration::from_secs(30) };
        assert_eq!(renewal(short, now(), Some(now()), gap, 0.0), now() + Duration::from_secs(10));
        let absurd = Validity { from: now(), until: now() - days(1) };
        assert_eq!(renewal(absurd, now(), None, gap, 0.0), now() + GAP_MIN);
    }

    #[test]
    fn a_suggested_window_is_used_somewhere() {
        assert_eq!(suggestion(now()..now() + days(2), 0.5), Some(now() + days(1)));
        assert_eq!(suggestion(now()..now() - days(2), 0.5), None);
        assert_eq!(renewal_info_wait(Duration::ZERO), Duration::from_secs(60));
        assert_eq!(renewal_info_wait(days(400)), days(1));
    }

    #[test]
    fn waits_double_up_to_a_day() {
        let config = config();
        let heard = |failures| wait(&config, failures, true, None, 0.0).as_secs();
        assert_eq!([heard(1), heard(2), heard(3), heard(8)], [60, 120, 240, 7680]);
        assert_eq!([heard(20), heard(u32::MAX)], [DAY, DAY]);
        assert_eq!(wait(&config, 1, true, None, 1.0), Duration::from_secs(54));
        assert_eq!(wait(&config, 20, false, None, 0.0), config.retry_unheard_max);
        let said = |seconds| wait(&config, 1, true, Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(said(5).as_secs(), 60, "the authority can only slow it down");
        assert_eq!(said(3600).as_secs(), 3600);
        assert_eq!(said(400 * DAY).as_secs(), DAY, "within bounds");
    }

    #[test]
    fn a_restarted_server_does_not_order_at_once_again() {
        let config = config();
        let attempts = |failures, last: SystemTime, not_before: Option<SystemTime>| Attempts {
            asked: String::new(),
            failures,
            last: seconds(last),
            not_before: not_before.map(seconds),
        };
        let wait = |attempts| wait_at_start(&config, &attempts, now()).as_secs();
        assert_eq!(wait(attempts(0, now(), None)), 0);
        assert_eq!(wait(attempts(3, now(), None)), 240);
        assert_eq!(wait(attempts(30, now(), None)), 15 * 60);
        assert_eq!(wait(attempts(3, now() - Duration::from_secs(200), None)), 40);
        assert_eq!(wait(attempts(3, now() - days(1), None)), 0);
        assert_eq!(wait(attempts(3, now() + days(9), None)), 240, "the clock was set back");
        let later = Some(now() + Duration::from_secs(7200));
        assert_eq!(wait(attempts(1, now(), later)), 7200, "the authority said so");
        assert_eq!(wait(attempts(1, now(), Some(now() + days(99)))), DAY);
    }

    #[test]
    fn chance_is_a_part_of_one() {
        assert!((0.0..=1.0).contains(&chance()));
    }
}
