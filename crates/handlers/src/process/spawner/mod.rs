//! The small process that starts and ends all others.
