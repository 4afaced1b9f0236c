//! The server's health, as grpc.health.v1 has it.
//!
//! Owns what its two methods answer. Must not know functions: one that is sick does
//! not make the server so.

use std::pin::Pin;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as Served;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::service::SERVED;

/// All services together, in the words of health checks.
const ALL: &str = "";

/// Answers for every service that is served; all of them do as the server does.
#[derive(Debug)]
pub(super) struct Health {
    stopping: watch::Sender<bool>,
}

impl Health {
    /// Of a server whose stop `stopping` tells.
    pub(super) fn new(stopping: watch::Sender<bool>) -> Self {
        Self { stopping }
    }
}

fn is_served(service: &str) -> bool {
    service == ALL || SERVED.iter().any(|(name, _)| *name == service)
}

fn status(stopping: bool) -> ServingStatus {
    if stopping { ServingStatus::NotServing } else { ServingStatus::Serving }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Served for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if is_served(service) {
            return Ok(Response::new(response(status(*self.stopping.borrow()))));
        }
        Err(Status::not_found("no such service is served here; ask reflection which there are"))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// Tells the status now and at the stop, after which it ends. A service that is
    /// not served is no error here: it might be, one day, says the protocol.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let served = is_served(&request.get_ref().service);
        let stopping = self.stopping.subscribe();
        let told = stream::unfold((stopping, None), move |(mut stopping, before)| async move {
            let is = match before {
                None => *stopping.borrow_and_update(),
                Some(true) => return None,
                // Where there is nobody left to tell it, it has stopped.
                Some(false) => stopping.wait_for(|stopping| *stopping).await.map_or(true, |is| *is),
            };
            let status = if served { status(is) } else { ServingStatus::ServiceUnknown };
            Some((Ok(response(status)), (stopping, Some(is))))
        });
        Ok(Response::new(Box::pin(told)))
    }
}
