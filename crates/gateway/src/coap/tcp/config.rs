//! Every bound of CoAP over TCP, with its name, unit and default.
//!
//! Owns the numbers only. Must not know where they come from nor what enforces
//! them.

use std::time::Duration;

use tinyfaas_coap::stream::StreamLimits;

/// The bounds within which connections are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Connections at a time; further ones are told so and closed. Default 256.
    pub connections_max: usize,
    /// Connections beyond those that are told so at a time; beyond: closed without
    /// a word. Default 16.
    pub refusals_max: usize,
    /// What one connection may take.
    pub stream: StreamLimits,
    /// How long accepting rests after the system refused a connection. Default
    /// 100 ms.
    pub accept_pause: Duration,
    /// From connecting to the end of the first message, which says what the client
    /// can; beyond: closed. Default 10 s.
    pub greeting_timeout: Duration,
    /// From a message's first byte to its last; beyond: closed. Default 60 s.
    pub message_timeout: Duration,
    /// How long a connection may be kept open in silence; then it is closed, or, if
    /// its client observes something, asked whether it is there. Default 300 s.
    pub idle_timeout: Duration,
    /// How long a client that is asked whether it is there may be silent; beyond:
    /// closed. Default 20 s.
    pub ping_timeout: Duration,
    /// How long a client may take no byte of what is sent to it; beyond: cut off.
    /// Default 30 s.
    pub write_stall_timeout: Duration,
    /// How long a connection that is closed is still read, so that what was said
    /// last is not lost. Default 2 s.
    pub linger_timeout: Duration,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            connections_max: 256,
            refusals_max: 16,
            stream: StreamLimits::default(),
            accept_pause: Duration::from_millis(100),
            greeting_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            ping_timeout: Duration::from_secs(20),
            write_stall_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(2),
        }
    }
}
