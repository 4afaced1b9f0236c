//! The gateway over CoAP on real sockets, with datagrams made by hand and fake
//! handlers.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

mod calls;
mod counting;
mod discovery;
mod errors;
#[path = "../functions/mod.rs"]
#[allow(dead_code, reason = "what HTTP alone needs is not used here")]
mod functions;
mod observing;
mod results;
mod support;
