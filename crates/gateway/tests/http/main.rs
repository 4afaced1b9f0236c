//! The gateway over real sockets, with raw bytes and fake handlers.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

mod asynchronous;
mod bodies;
mod calls;
mod counting;
#[path = "../functions/mod.rs"]
mod functions;
mod h2;
mod limits;
mod places;
mod results;
mod shutdown;
mod smuggling;
mod support;
mod watching;
