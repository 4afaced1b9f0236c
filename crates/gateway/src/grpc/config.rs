//! Every bound of gRPC, with its name, unit and default.
//!
//! Owns the numbers only. Must not know where they come from nor what enforces
//! them. What gRPC shares with HTTP (connections, streams, headers, patience) stands
//! in [`crate::GatewayConfig`].

use std::time::Duration;

/// The bounds within which gRPC is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcConfig {
    /// Bytes of one message, either way; beyond: RESOURCE_EXHAUSTED. Default 16 MiB.
    pub message_bytes_max: usize,
    /// How long one message may take to come whole, however it trickles; beyond:
    /// DEADLINE_EXCEEDED. Default 300 s.
    pub message_timeout: Duration,
    /// Origins (RFC 6454) whose pages may call by grpc-web, as browsers write them;
    /// `*` is any. Default none.
    pub web_origins: Vec<String>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            message_timeout: Duration::from_secs(300),
            web_origins: Vec::new(),
        }
    }
}
