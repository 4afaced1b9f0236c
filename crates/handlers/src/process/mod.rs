//! The embedded backend: a function's handlers are processes of this machine.

mod connection;
pub mod leftovers;
pub mod spawner;
mod sys;
