//! What is told of a certificate that is served: that it ends soon, or is of no use
//! for a name by which clients ask.
//!
//! Owns how often it is told. Must not know who could replace it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::certificate::Certificate;
use crate::clock;

/// It is told as long before the end, or a quarter of its life where that is less:
/// some are valid for days only.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);
/// It is told this often.
const TOLD_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What was told when.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    told: Option<Instant>,
    /// Of which certificate names were told, by its end and key.
    names_of: Option<(Timestamp, String)>,
}

impl Expiry {
    /// Looks at what is served.
    pub(crate) fn look(&mut self, certificate: &Certificate, expected: &[String]) {
        let facts = &certificate.facts;
        let this = (facts.not_after, facts.pin.clone());
        if self.names_of.as_ref() != Some(&this) {
            self.names_of = Some(this);
            self.told = None;
            let lacks = certificate.lacks(expected);
            if !lacks.is_empty() {
                tracing::warn!(
                    "TLS: the certificate is for {}, so clients refuse it for {}",
                    facts.names.join(", "),
                    lacks.join(", ")
                );
            }
        }
        if self.told.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return;
        }
        if let Some(words) = ending(facts.not_before, facts.not_after, clock::now()) {
            self.told = Some(Instant::now());
            tracing::warn!("TLS: {words}");
        }
    }
}

fn ending(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Option<String> {
    let left = not_after.duration_since(now);
    if left.is_negative() {
        return Some(format!(
            "the certificate has expired, clients refuse it: it was valid until {not_after}"
        ));
    }
    let soon = SOON.min(not_after.duration_since(not_before) / 4);
    (left < soon).then(|| format!("the certificate is valid until {not_after} only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_in_time_and_not_before() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let check = |from: &str, until: &str, now: &str, expected: Option<&str>| {
            let said = ending(time(from), time(until), time(now));
            match expected {
                None => assert_eq!(said, None),
                Some(words) => {
                    assert!(said.clone().is_some_and(|it| it.contains(words)), "{said:?}")
                }
            }
        };
        let (from, until) = ("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z");
        check(from, until, "2026-03-01T00:00:00Z", None);
        check(from, until, "2026-03-20T00:00:00Z", Some("until 2026-04-01T00:00:00Z only"));
        check(from, until, "2026-04-01T00:00:01Z", Some("has expired"));
        check(from, "2026-01-07T00:00:00Z", "2026-01-05T00:00:00Z", None);
        check(from, "2026-01-07T00:00:00Z", "2026-01-06T00:00:00Z", Some("only"));
    }
}
