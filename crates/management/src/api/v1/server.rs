//! The server as a whole: what it is, whether it lives, whether it can serve.

use std::collections::BTreeMap;

use http::request::Parts;
use http::{Response, StatusCode};
use tinyfaas_model::{GatewayLoad, RuntimeStatus};

use crate::api::answer::{self, AnswerBody};
use crate::api::query::Query;
use crate::api::refusal::{self, Refusal};
use crate::api::{Api, Endpoints, openapi};
use crate::config::ManagementConfig;

use super::shapes::{
    CoapLoad, Fitness, Index, Ports, Runtime, Server, ServerLimits, ServerLoad, Share,
};
use super::time;

/// What is told of the server.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Api {
    pub(in crate::api) fn index(&self, head: &Parts) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        let links = BTreeMap::from([
            ("calls", "/v1/calls"),
            ("functions", "/v1/functions"),
            ("description", "/openapi.json"),
            ("health", "/healthz"),
            ("logs", "/v1/logs"),
            ("metrics", "/metrics"),
            ("ready", "/readyz"),
            ("server", "/v1/server"),
        ]);
        Ok(answer::json(&Index { version: VERSION, links }))
    }

    pub(in crate::api) fn description(
        &self,
        head: &Parts,
    ) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        Ok(answer::json_text(openapi::DOCUMENT))
    }

    pub(in crate::api) fn server(&self, head: &Parts) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        Ok(answer::json(&Server {
            version: VERSION,
            started: time(self.started.wall),
            uptime_seconds: self.started.steady.elapsed().as_secs_f64(),
            backend: self.manager.backend_name(),
            runtimes: self.manager.runtimes().into_iter().map(Runtime::of).collect(),
            endpoints: Ports::of(self.surroundings.endpoints),
            load: self.surroundings.gateway.as_ref().map(|gateway| ServerLoad::of(gateway.load())),
            limits: ServerLimits::of(self.manager.config()),
        }))
    }

    /// Who asks gets an answer, whatever else is wrong: the process lives.
    /// What stands behind a `?` is passed over: probes add what they like.
    pub(in crate::api) fn healthy(head: &Parts) -> Response<AnswerBody> {
        fitness(head, Vec::new())
    }

    /// Every socket was bound before this one answered; what can fail later is
    /// the backend.
    pub(in crate::api) fn ready(&self, head: &Parts) -> Response<AnswerBody> {
        fitness(head, self.manager.problems())
    }
}

fn fitness(head: &Parts, reasons: Vec<String>) -> Response<AnswerBody> {
    let ok = reasons.is_empty();
    let mut response = if refusal::names_json(&head.headers) {
        answer::json(&Fitness { status: if ok { "ok" } else { "not ready" }, reasons })
    } else if ok {
        answer::text("ok\n".to_owned())
    } else {
        answer::lines(reasons)
    };
    if !ok {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

impl Runtime {
    fn of(status: RuntimeStatus) -> Self {
        let (available, env) = (status.found.is_ok(), status.runtime.name());
        let (found, problem) = match status.found {
            Ok(found) => (Some(found), None),
            Err(problem) => (None, Some(problem)),
        };
        Self { env, available, found, problem }
    }
}

impl Ports {
    const fn of(endpoints: Endpoints) -> Self {
        let Endpoints {
            http,
            https,
            coap,
            coap_tcp,
            coaps_tcp,
            coaps,
            grpc,
            grpc_tls,
            management,
            management_tls,
        } = endpoints;
        Self {
            http,
            https,
            coap,
            coap_tcp,
            coaps_tcp,
            coaps,
            grpc,
            grpc_tls,
            management,
            management_tls,
        }
    }
}

impl ServerLimits {
    const fn of(config: &ManagementConfig) -> Self {
        Self {
            uploads_max: config.uploads_max,
            threads_max: config.threads_max,
            archive_bytes_max: config.archive.packed_bytes_max,
            unpacked_bytes_max: config.archive.unpacked_bytes_max,
            entries_max: config.archive.entries_max,
        }
    }
}

impl ServerLoad {
    fn of(load: GatewayLoad) -> Self {
        let share = |share: tinyfaas_model::Share| Share { taken: share.taken, limit: share.limit };
        Self {
            connections: share(load.connections),
            waiting: share(load.waiting),
            accepted_waiting: share(load.accepted_waiting),
            held_bytes: share(load.held_bytes),
            result_bytes: share(load.result_bytes),
            connections_refused: load.connections_refused,
            unknown_functions: load.unknown_functions,
            coap: CoapLoad {
                datagrams_received: load.coap.datagrams_received,
                datagrams_sent: load.coap.datagrams_sent,
                malformed: load.coap.malformed,
                copies: load.coap.copies,
                retransmitted: load.coap.retransmitted,
                calls: share(load.coap.calls),
                observers: share(load.coap.observers),
                sessions: share(load.coap.sessions),
                connections: share(load.coap.connections),
                connections_refused: load.coap.connections_refused,
            },
        }
    }
}
