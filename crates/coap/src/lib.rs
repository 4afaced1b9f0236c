//! CoAP without I/O: the codec, the message layers of server and client, block-wise
//! transfer and the server's side of streams as state machines.
//!
//! Nothing here has a socket, a clock, a thread or a source of randomness: bytes,
//! instants and randomness are passed in, and what to do about them comes out. So
//! loss, reordering, duplication and restarts are tested by playing schedules.

pub mod block;
mod chain;
pub mod client;
pub mod etag;
pub mod exchange;
pub mod formats;
mod keyed;
pub mod link;
pub mod message;
pub mod observe;
mod peer;
mod per_source;
pub mod server;
pub mod stream;

pub use peer::Peer;
