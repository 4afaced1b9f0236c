//! ROOM 3: where functions are built and run.
//!
//! Owns backends: what makes handlers of folders, and what speaks to their
//! workers. Must not know how calls arrive or who deploys.

pub mod process;
pub mod wire;
