//! Tells the operator of clients that were refused: a line now and then, whatever
//! they send.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::coap::keys::shown;

/// Why a client was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    WrongKey,
    UnknownIdentity,
    NothingInCommon,
    OutOfOrder,
    Full,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Reason::WrongKey => "its key is not the one that belongs to its identity",
            Reason::UnknownIdentity => "its identity has no key here",
            Reason::NothingInCommon => {
                "it does not offer DTLS 1.2 with TLS_PSK_WITH_AES_128_CCM_8 and the extended master secret (RFC 7627)"
            }
            Reason::OutOfOrder => "its handshake is not one of DTLS 1.2",
            Reason::Full => "there are as many sessions as may be, and all are in use",
        }
    }
}

/// What was told of those refused, and when.
pub(super) struct Refusals {
    every: Duration,
    told: Option<Instant>,
    untold: u64,
}

impl Refusals {
    pub(super) fn new(every: Duration) -> Refusals {
        Refusals { every, told: None, untold: 0 }
    }

    /// Tells of a client, or counts it.
    pub(super) fn tell(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        identity: Option<&[u8]>,
        reason: Reason,
    ) {
        if let Some(line) = self.line(now, remote, identity, reason) {
            tracing::warn!("{line}");
        }
    }

    fn line(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        identity: Option<&[u8]>,
        reason: Reason,
    ) -> Option<String> {
        let is_early = |told| now.saturating_duration_since(told) < self.every;
        if self.told.is_some_and(is_early) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        let before = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            untold => format!(" (and {untold} more before, untold)"),
        };
        let who = identity.map(|identity| format!(" \"{}\"", shown(identity))).unwrap_or_default();
        let reason = reason.text();
        Some(format!("the client{who} at {remote} was refused over DTLS: {reason}{before}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_now_and_then_with_what_cannot_do_harm() {
        let mut refusals = Refusals::new(Duration::from_secs(10));
        let began = Instant::now();
        let mut line = |seconds, identity: Option<&[u8]>, reason| {
            let now = began + Duration::from_secs(seconds);
            refusals.line(now, "10.0.0.1:5".parse().unwrap(), identity, reason)
        };
        assert_eq!(
            line(0, Some(b"a\nb"), Reason::WrongKey).unwrap(),
            "the client \"a\\nb\" at 10.0.0.1:5 was refused over DTLS: its key is not the one that belongs to its identity"
        );
        for second in 1..10 {
            assert_eq!(line(second, Some(&[0; 60_000]), Reason::UnknownIdentity), None);
        }
        let told = line(10, Some(&[0; 60_000]), Reason::UnknownIdentity).unwrap();
        assert!(told.len() < 1024, "{told}");
        assert!(told.ends_with("its identity has no key here (and 9 more before, untold)"));
        assert!(line(20, None, Reason::Full).unwrap().starts_with("the client at 10.0.0.1:5 was"));
    }
}
