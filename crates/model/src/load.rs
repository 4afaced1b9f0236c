//! How busy the gateway is.
//!
//! Owns the words for it and the seam by which management shows it; the gateway
//! fills it in. Must not know how the numbers come about.

/// How busy the gateway is at one moment, against what it may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayLoad {
    /// Open connections.
    pub connections: Share,
    /// Calls whose callers wait for a place, of all functions.
    pub waiting: Share,
    /// Accepted asynchronous calls that wait for a place.
    pub accepted_waiting: Share,
    /// Bytes of bodies that are held whole.
    pub held_bytes: Share,
    /// Bytes of results that are kept for who asks.
    pub result_bytes: Share,
    /// Connections that were turned away because there were too many, since the
    /// start.
    pub connections_refused: u64,
    /// Calls to names that no function has, since the start.
    pub unknown_functions: u64,
    /// CoAP's own figures.
    pub coap: CoapLoad,
}

/// How busy CoAP is at one moment, and what it has counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoapLoad {
    /// Datagrams that came, those within DTLS included.
    pub datagrams_received: u64,
    /// Datagrams that left.
    pub datagrams_sent: u64,
    /// Messages in datagrams that could not be read.
    pub malformed: u64,
    /// Requests that came again, and so were not run again.
    pub copies: u64,
    /// Messages that were sent again because nobody had acknowledged them.
    pub retransmitted: u64,
    /// Requests in datagrams that run.
    pub calls: Share,
    /// Who observes over datagrams.
    pub observers: Share,
    /// DTLS sessions that are open.
    pub sessions: Share,
    /// TCP connections that are open.
    pub connections: Share,
    /// TCP connections that were turned away because there were too many.
    pub connections_refused: u64,
}

/// So much of so much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// What is taken.
    pub taken: u64,
    /// What there is.
    pub limit: u64,
}

/// Tells how busy the gateway is. Gateway to management.
pub trait GatewayStatus: Send + Sync {
    /// How busy it is now.
    fn load(&self) -> GatewayLoad;
}
