//! gRPC over real sockets, with the generated client and fake handlers.

#![allow(clippy::unwrap_used, reason = "a test fails where something is not as expected")]

mod about;
mod calls;
mod ends;
#[allow(dead_code, reason = "what the tests of several protocols share, each in part")]
#[path = "../functions/mod.rs"]
mod functions;
mod plain;
mod streams;
mod support;
mod v2;
mod web;
