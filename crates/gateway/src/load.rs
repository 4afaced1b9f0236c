//! How busy the gateway is, gathered from where it is known.
//!
//! Owns the answer to [`GatewayStatus`]. Must not know who asks.

use tinyfaas_model::{GatewayLoad, GatewayStatus, Share};

use crate::http::Http;

impl GatewayStatus for Http {
    fn load(&self) -> GatewayLoad {
        let share = |taken: usize, limit: usize| Share { taken: taken as u64, limit: limit as u64 };
        let (config, (waiting, accepted_waiting)) = (&self.config, self.dispatch.waiting());
        let results = self.accepted.results();
        GatewayLoad {
            connections: share(self.connections.open(), config.connections_max),
            waiting: share(waiting, config.waiting_max),
            accepted_waiting: share(accepted_waiting, config.async_waiting_max),
            held_bytes: share(self.held.taken(), self.held.max()),
            result_bytes: share(results.taken(), results.max()),
            connections_refused: self.connections.refused(),
            unknown_functions: self.dispatch.unknown(),
        }
    }
}
