//! The bounds of the message layer.

use std::time::Duration;

use super::SourceLimits;
use crate::observe::ObserverLimits;

/// The message layer's times and bounds, each with its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Requests that run at a time; further ones get 5.03. 4,096.
    pub calls_max: usize,
    /// Requests of one IP address that run at a time; further ones get 4.29
    /// (RFC 8516). 1,024.
    pub calls_per_source_max: usize,
    /// When an empty acknowledgement goes out ahead of the reply. 1 s, below a
    /// client's first retransmission.
    pub acknowledge_after: Duration,
    /// ACK_TIMEOUT: the least first wait for an acknowledgement; each further one
    /// is twice as long (RFC 7252 section 4.8). 2 s.
    pub ack_timeout: Duration,
    /// By what part of ACK_TIMEOUT the first wait may be longer, in percent:
    /// ACK_RANDOM_FACTOR less one. 50.
    pub ack_random_percent: u32,
    /// MAX_RETRANSMIT. 4.
    pub retransmissions_max: u32,
    /// For how long a confirmable request is remembered: EXCHANGE_LIFETIME. 247 s.
    pub confirmable_for: Duration,
    /// The same for a non-confirmable one: NON_LIFETIME. 145 s.
    pub non_confirmable_for: Duration,
    /// What remembered requests and their replies may take, in bytes; then the
    /// oldest are forgotten early. 16 MiB.
    pub remembered_bytes_max: usize,
    /// Separate replies that wait for their acknowledgement; further ones are sent
    /// once and non-confirmably (RFC 7252 section 5.2.2 allows it). 4,096.
    pub confirmables_max: usize,
    /// Notifications not to be acknowledged that are remembered for a reset; then
    /// the oldest are forgotten. 4,096.
    pub notifications_remembered_max: usize,
    /// Those of observers.
    pub observers: ObserverLimits,
    /// What sources that are not proven may be sent.
    pub sources: SourceLimits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            calls_max: 4096,
            calls_per_source_max: 1024,
            acknowledge_after: Duration::from_secs(1),
            ack_timeout: Duration::from_secs(2),
            ack_random_percent: 50,
            retransmissions_max: 4,
            confirmable_for: Duration::from_secs(247),
            non_confirmable_for: Duration::from_secs(145),
            remembered_bytes_max: 16 << 20,
            confirmables_max: 4096,
            notifications_remembered_max: 4096,
            observers: ObserverLimits::default(),
            sources: SourceLimits::default(),
        }
    }
}
