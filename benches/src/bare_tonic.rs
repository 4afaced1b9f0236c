//! The ceiling of gRPC: the field's own server with its own health service and
//! nothing else, as its documentation has it.
//!
//! Owns that server. Must not know what it is compared with.

use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Answers whoever connects.
pub(crate) async fn serve(listener: TcpListener) {
    let (_reporter, health) = tonic_health::server::health_reporter();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    // A server that breaks leaves the load without one, which it reports.
    let _ = Server::builder().add_service(health).serve_with_incoming(incoming).await;
}
