//! Every limit of the gateway, with its name, unit and default.
//!
//! Owns the numbers only. Must not know where they come from (flags,
//! environment, a file) nor what enforces them.

use std::time::Duration;

use crate::coap::CoapConfig;
use crate::grpc::GrpcConfig;

/// The limits within which calls come in and replies go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Bytes of a request's body over HTTP; beyond: 413. Default 64 MiB.
    pub body_bytes_max: u64,
    /// Bytes up to which a body of known length is read whole before its call
    /// asks for a place, so that a slow sender holds its connection only.
    /// Default 64 KiB.
    pub whole_body_bytes_max: usize,
    /// Bytes of all bodies held whole at a time; beyond: 503 for an
    /// asynchronous call. Default 64 MiB.
    pub held_bytes_max: usize,
    /// Calls that may wait for a place in the whole server; beyond: 503.
    /// Default 4096.
    pub waiting_max: usize,
    /// Asynchronous calls that may be accepted and not yet ended; beyond: 503.
    /// Default 4096.
    pub async_waiting_max: usize,
    /// How long an asynchronous call that has ended is remembered, with its
    /// result. Default 10 min.
    pub async_keep: Duration,
    /// Asynchronous calls that have ended and are remembered; beyond: the oldest
    /// is forgotten. Default 10,000.
    pub async_ended_max: usize,
    /// Bytes of one asynchronous call's result (headers and body) that are kept;
    /// beyond: the call's state says that it was too large. Default 8 MiB.
    pub async_result_bytes_max: usize,
    /// Bytes of all asynchronous calls' results that are kept, those that are
    /// being read included; beyond: the oldest goes. Default 64 MiB.
    pub async_results_bytes_max: usize,
    /// How long a caller may wait for an asynchronous call's end in one request;
    /// who asks for more is answered then. Default 60 s.
    pub async_wait_max: Duration,
    /// Handlers that one call is offered to before it is answered with 503.
    /// Default 4.
    pub tries_max: usize,
    /// What a caller is told to wait where nothing better is known. Default 1 s.
    pub retry_after: Duration,
    /// Connections at a time; beyond: 503 and closed. Default 4096.
    pub connections_max: usize,
    /// Connections beyond those that are told so at a time; beyond: they wait to be
    /// accepted. Default 64.
    pub refusals_max: usize,
    /// How long accepting rests after the system refused a connection (no file
    /// descriptors left, say), and how often a connection that waits looks for a
    /// place. Default 100 ms.
    pub accept_pause: Duration,
    /// Header lines of a request; beyond: 431. Default 100.
    pub header_lines_max: usize,
    /// Bytes of a request's head; beyond: 431. An HTTP/1 connection buffers so
    /// many bytes in each direction, 8 KiB at least. Default 64 KiB.
    pub header_bytes_max: u32,
    /// From the first byte of a request (or from connecting) to the end of its
    /// head; beyond: closed. Default 30 s.
    pub header_timeout: Duration,
    /// How long a connection may be kept open without a call. Default 75 s.
    pub idle_timeout: Duration,
    /// How long a request's body may stall; beyond: 408. Default 30 s.
    pub body_idle_timeout: Duration,
    /// How long a caller may take no byte of its reply; beyond: cut off.
    /// Default 30 s.
    pub write_stall_timeout: Duration,
    /// How long a connection that is closed with unread input is still read, so
    /// that the reply is not lost. Default 2 s.
    pub linger_timeout: Duration,
    /// How long a connection without a call may take to end when the server stops;
    /// beyond: cut off. A peer on HTTP/2 has its part in that end, and may be gone
    /// without a word. Default 500 ms.
    pub close_grace: Duration,
    /// How often the four timeouts before that are looked at: so much later they may
    /// strike. Default 500 ms.
    pub sweep_interval: Duration,
    /// Calls at a time on one HTTP/2 connection. Default 128.
    pub h2_streams_max: u32,
    /// Streams that an HTTP/2 caller may have reset before they were looked at;
    /// beyond: the connection ends. Default 20.
    pub h2_pending_resets_max: usize,
    /// Streams that may be reset for a caller's own errors; beyond: the
    /// HTTP/2 connection ends. Default 128.
    pub h2_error_resets_max: usize,
    /// Bytes of a body that an HTTP/2 caller may send ahead, per stream and per
    /// connection. Default 256 KiB.
    pub h2_window_bytes: u32,
    /// Bytes of a reply that are buffered for one HTTP/2 stream. Default 64 KiB.
    pub h2_send_bytes_max: usize,
    /// How often a quiet HTTP/2 connection is pinged. Default 30 s.
    pub h2_ping_interval: Duration,
    /// How long the answer to a ping may take; beyond: closed. Default 20 s.
    pub h2_ping_timeout: Duration,
    /// The bounds of CoAP.
    pub coap: CoapConfig,
    /// The bounds of gRPC.
    pub grpc: GrpcConfig,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            whole_body_bytes_max: 64 << 10,
            held_bytes_max: 64 << 20,
            waiting_max: 4096,
            async_waiting_max: 4096,
            async_keep: Duration::from_secs(600),
            async_ended_max: 10_000,
            async_result_bytes_max: 8 << 20,
            async_results_bytes_max: 64 << 20,
            async_wait_max: Duration::from_secs(60),
            tries_max: 4,
            retry_after: Duration::from_secs(1),
            connections_max: 4096,
            refusals_max: 64,
            accept_pause: Duration::from_millis(100),
            header_lines_max: 100,
            header_bytes_max: 64 << 10,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(2),
            close_grace: Duration::from_millis(500),
            sweep_interval: Duration::from_millis(500),
            h2_streams_max: 128,
            h2_pending_resets_max: 20,
            h2_error_resets_max: 128,
            h2_window_bytes: 256 << 10,
            h2_send_bytes_max: 64 << 10,
            h2_ping_interval: Duration::from_secs(30),
            h2_ping_timeout: Duration::from_secs(20),
            coap: CoapConfig::default(),
            grpc: GrpcConfig::default(),
        }
    }
}
