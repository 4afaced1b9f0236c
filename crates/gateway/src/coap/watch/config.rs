//! The bounds of what is observed.
//!
//! Owns the numbers only. Must not know what enforces them.

use std::time::Duration;

/// What watching resources for those who observe them may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchConfig {
    /// Resources that are watched at a time; beyond, requests are answered as if they
    /// did not ask to observe. 256.
    pub resources_max: usize,
    /// Bytes of all their states; one without room ends what is observed. 16 MiB.
    pub states_bytes_max: usize,
    /// The least time between the starts of two runs that calls of others ask for.
    /// 100 ms.
    pub changes_pause: Duration,
    /// How often in a row a run may find the function busy or unavailable before
    /// that is told and ends what is observed. 3.
    pub busy_runs_max: u32,
    /// After so long a state is told again though it did not change, to learn who
    /// still listens. 10 min.
    pub retell_every: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            resources_max: 256,
            states_bytes_max: 16 << 20,
            changes_pause: Duration::from_millis(100),
            busy_runs_max: 3,
            retell_every: Duration::from_secs(600),
        }
    }
}
