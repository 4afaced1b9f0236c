//! The only module with unsafe code: system calls.
#![allow(unsafe_code, reason = "the one module of system calls; each block says why it is sound")]
