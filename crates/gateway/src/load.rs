//! How busy the gateway is, gathered from where it is known.
//!
//! Owns the answer to [`GatewayStatus`]. Must not know who asks.

use std::sync::Arc;

use tinyfaas_model::{GatewayLoad, GatewayStatus, Share};

use crate::coap::Coap;
use crate::connections::Door;
use crate::http::Http;

/// Looks at all protocols.
pub(crate) struct Load {
    pub(crate) door: Arc<Door>,
    pub(crate) http: Arc<Http>,
    pub(crate) coap: Arc<Coap>,
}

impl GatewayStatus for Load {
    fn load(&self) -> GatewayLoad {
        let share = |taken: usize, limit: usize| Share { taken: taken as u64, limit: limit as u64 };
        let http = &self.http;
        let (config, (waiting, accepted_waiting)) = (&http.config, http.dispatch.waiting());
        let results = http.accepted.results();
        GatewayLoad {
            connections: share(self.door.connections.open(), config.connections_max),
            waiting: share(waiting, config.waiting_max),
            accepted_waiting: share(accepted_waiting, config.async_waiting_max),
            held_bytes: share(http.held.taken(), http.held.max()),
            result_bytes: share(results.taken(), results.max()),
            connections_refused: self.door.connections.refused(),
            unknown_functions: http.dispatch.unknown(),
            coap: self.coap.load(),
        }
    }
}
