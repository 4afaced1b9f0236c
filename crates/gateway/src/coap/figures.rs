//! What CoAP counts, for who watches the server.
//!
//! Owns numbers that transports write and anybody reads, each for itself: none
//! orders anything. Must not know who asks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tinyfaas_model::{CoapLoad, Share};

use super::CoapConfig;

/// What is counted since the start, and what there is now.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// By the endpoint for datagrams, as its own numbers stood last.
    pub(crate) datagrams: Datagrams,
    /// TCP connections that are open.
    pub(crate) connections: AtomicUsize,
    /// TCP connections that were turned away because there were too many.
    pub(crate) connections_refused: AtomicU64,
}

/// What the endpoint for datagrams counts. It alone writes, so that nothing is
/// added up here.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) copies: AtomicU64,
    pub(crate) retransmitted: AtomicU64,
    pub(crate) calls: AtomicUsize,
    pub(crate) observers: AtomicUsize,
    pub(crate) sessions: AtomicUsize,
}

impl Figures {
    /// All of them, with their bounds.
    pub(crate) fn load(&self, config: &CoapConfig) -> CoapLoad {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let share = |taken: &AtomicUsize, limit: usize| Share {
            taken: taken.load(Ordering::Relaxed) as u64,
            limit: limit as u64,
        };
        let datagrams = &self.datagrams;
        CoapLoad {
            datagrams_received: count(&datagrams.received),
            datagrams_sent: count(&datagrams.sent),
            malformed: count(&datagrams.malformed),
            copies: count(&datagrams.copies),
            retransmitted: count(&datagrams.retransmitted),
            calls: share(&datagrams.calls, config.messages.calls_max),
            observers: share(&datagrams.observers, config.messages.observers.observers_max),
            sessions: share(&datagrams.sessions, config.dtls.sessions_max),
            connections: share(&self.connections, config.tcp.connections_max),
            connections_refused: count(&self.connections_refused),
        }
    }
}
