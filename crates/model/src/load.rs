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
