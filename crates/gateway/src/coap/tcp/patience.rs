//! How long a connection's client is waited for, and with what.
//!
//! Owns since when. Must not know what is done when the time is over.

use std::time::Instant;

use tinyfaas_coap::stream::Connection;

use super::TcpConfig;

/// What has a limit in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The first message is to come.
    Greeting,
    /// The rest of a message is to come.
    Message,
    /// What is written is to be taken.
    Stall,
    /// Anything is to come or to run.
    Idle,
    /// Anything is to come, of who observes.
    Silence,
    /// An answer is to come to whether anybody is there.
    Absence,
    /// The server is to stop.
    Stop,
}

/// Since when the client is waited for.
#[derive(Debug)]
pub(super) struct Patience {
    opened: Instant,
    /// When bytes last came, or a call ended.
    busy: Instant,
    /// Since when a message has been coming; none if none is.
    message: Option<Instant>,
    /// Since when no byte of what is to be written could be; none if nothing is.
    stalled: Option<Instant>,
    /// Since when an answer has been waited for to whether the client is there; none
    /// if it was not asked since it was last heard.
    pub(super) asked: Option<Instant>,
    /// When the server's stop is over.
    pub(super) until: Option<Instant>,
}

impl Patience {
    /// With a client that has just come.
    pub(super) fn new(now: Instant) -> Self {
        Self { opened: now, busy: now, message: None, stalled: None, asked: None, until: None }
    }

    /// Bytes came.
    pub(super) fn heard(&mut self, now: Instant) {
        (self.busy, self.asked) = (now, None);
    }

    /// A call has ended.
    pub(super) fn replied(&mut self, now: Instant) {
        self.busy = now;
    }

    /// A whole message was among them.
    pub(super) fn took(&mut self) {
        self.message = None;
    }

    /// Bytes were written.
    pub(super) fn wrote(&mut self) {
        self.stalled = None;
    }

    /// Takes note of how the connection stands.
    pub(super) fn note(&mut self, now: Instant, connection: &Connection, input_bytes: usize) {
        if connection.running() > 0 {
            self.busy = now;
        }
        let coming = input_bytes > 0 && connection.wants_input() && !connection.has_ended();
        self.message = coming.then(|| self.message.unwrap_or(now));
        let writing = connection.output_bytes() > 0;
        self.stalled = writing.then(|| self.stalled.unwrap_or(now));
    }

    /// When patience ends first, and with what; none while only the server itself
    /// is waited for.
    pub(super) fn next(
        &self,
        config: &TcpConfig,
        connection: &Connection,
    ) -> Option<(Instant, Limit)> {
        let ended = connection.has_ended();
        let stall = if ended { config.linger_timeout } else { config.write_stall_timeout };
        let greeting = !connection.is_greeted() && !ended;
        // What is still to be written is waited for as long as it is taken.
        let quiet = connection.running() == 0 && connection.output_bytes() == 0;
        let idle = quiet && !ended && self.until.is_none();
        let silence = match self.asked {
            _ if connection.observers() == 0 => (self.busy + config.idle_timeout, Limit::Idle),
            None => (self.busy + config.idle_timeout, Limit::Silence),
            Some(asked) => (asked + config.ping_timeout, Limit::Absence),
        };
        [
            self.until.map(|until| (until, Limit::Stop)),
            self.stalled.map(|since| (since + stall, Limit::Stall)),
            self.message.map(|since| (since + config.message_timeout, Limit::Message)),
            greeting.then(|| (self.opened + config.greeting_timeout, Limit::Greeting)),
            idle.then_some(silence),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(due, _)| *due)
    }
}
