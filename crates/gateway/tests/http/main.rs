//! The gateway over real sockets, with raw bytes and fake handlers.

mod asynchronous;
mod bodies;
mod calls;
mod h2;
mod limits;
mod places;
mod shutdown;
mod smuggling;
mod support;
