//! Every bound of CoAP, with its name, unit and default.
//!
//! Owns the numbers only. Must not know where they come from nor what enforces
//! them.

use tinyfaas_coap::block::BlockLimits;
use tinyfaas_coap::exchange::Limits;

use super::dtls::DtlsConfig;
use super::tcp::TcpConfig;
use super::watch::WatchConfig;

/// The bounds within which CoAP is spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoapConfig {
    /// The message layer's, over UDP and DTLS.
    pub messages: Limits,
    /// Those of block-wise transfers, for all datagrams together and once more for all
    /// connections.
    pub blocks: BlockLimits,
    /// Those of connections.
    pub tcp: TcpConfig,
    /// Those of DTLS.
    pub dtls: DtlsConfig,
    /// Those of resources that are observed.
    pub watch: WatchConfig,
}
