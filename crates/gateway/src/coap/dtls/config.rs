//! The bounds of DTLS, with names, units and defaults.

use std::time::Duration;

/// The bounds within which DTLS is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsConfig {
    /// Clients that may have a session at a time; beyond: the one that was silent
    /// for longest gives way, or the new one waits. Default 1024.
    pub sessions_max: usize,
    /// How long a session without a word from its client is kept. Default 25 h: a
    /// device that reports once a day, and sleeps between, is spared a handshake
    /// for each report. One behind a NAT that forgets within minutes comes back by
    /// another port, thus as a new session, whatever stands here; the old one then
    /// gives way first.
    pub idle: Duration,
    /// How long a client must have been silent before its session may give way to a
    /// new client. Default 30 s.
    pub idle_before_giving_way: Duration,
    /// Handshakes at a time; beyond: the oldest is given up. Default 128.
    pub handshakes_max: usize,
    /// How long a handshake may take. Default 30 s.
    pub handshake_timeout: Duration,
    /// How long a client has to answer before it is sent the same again; doubled
    /// each time. Default 1 s.
    pub retransmit: Duration,
    /// How often it is sent the same again. Default 4.
    pub retransmits_max: usize,
    /// How long a cookie is good at least; up to twice as long. Default 60 s.
    pub cookie_lifetime: Duration,
    /// How often at most it is told in the log that clients were refused. Default
    /// 10 s.
    pub refusals_told_every: Duration,
}

impl Default for DtlsConfig {
    fn default() -> Self {
        Self {
            sessions_max: 1024,
            idle: Duration::from_secs(25 * 3600),
            idle_before_giving_way: Duration::from_secs(30),
            handshakes_max: 128,
            handshake_timeout: Duration::from_secs(30),
            retransmit: Duration::from_secs(1),
            retransmits_max: 4,
            cookie_lifetime: Duration::from_secs(60),
            refusals_told_every: Duration::from_secs(10),
        }
    }
}
