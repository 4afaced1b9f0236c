//! The JSON API: what is deployed, and calls, as resources.
//!
//! Owns what each of its operations answers. Must not know how functions come and
//! go, nor how calls run: it asks the manager and the gateway's registry.

pub(super) mod calls;
pub(super) mod deploy;
mod functions;
pub(super) mod logs;
mod server;
pub(super) mod shapes;

use std::time::SystemTime;

use jiff::Timestamp;

/// A time as it stands in JSON: RFC 3339, UTC, milliseconds.
fn time(at: SystemTime) -> String {
    match Timestamp::try_from(at) {
        Ok(at) => format!("{at:.3}"),
        // A clock that far off is nothing to stop for.
        Err(_) => Timestamp::UNIX_EPOCH.to_string(),
    }
}

#[cfg(test)]
mod tests;
