//! Every bound of gRPC, with its name, unit and default.
//!
//! Owns the numbers only. Must not know where they come from nor what enforces
//! them. What gRPC shares with HTTP (connections, streams, headers, patience) stands
//! in [`crate::GatewayConfig`].

/// The bounds within which gRPC is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcConfig {
    /// Bytes of one message, either way; beyond: RESOURCE_EXHAUSTED. Default 16 MiB.
    pub message_bytes_max: usize,
    /// Origins (RFC 6454) whose pages may call by grpc-web, as browsers write them;
    /// `*` is any. Default none.
    pub web_origins: Vec<String>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self { message_bytes_max: 16 << 20, web_origins: Vec::new() }
    }
}
