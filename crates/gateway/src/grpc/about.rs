//! What the server tells of itself: its health, and what is served.
//!
//! Owns the services grpc.health.v1 and grpc.reflection, the latter from tonic. Must
//! not know functions.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ::http::Request;
use futures_util::FutureExt;
use tinyfaas_grpc::FILE_DESCRIPTOR_SET;
use tokio::sync::watch;
use tonic::body::Body;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;
use tower_service::Service;

use super::Answer;
use super::health::Health;

type Served = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Serve = Arc<dyn Fn(Request<Body>) -> Served + Send + Sync>;

/// The two services.
pub(crate) struct About {
    pub(super) health: HealthServer<Health>,
    pub(super) reflection_v1: Serve,
    pub(super) reflection_v1alpha: Serve,
    stopping: watch::Sender<bool>,
}

impl About {
    pub(crate) fn new() -> Self {
        let builder = || {
            Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(
                    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
                )
        };
        let valid = "they are generated, and a test reads them";
        let stopping = watch::Sender::new(false);
        Self {
            health: HealthServer::new(Health::new(stopping.clone())),
            reflection_v1: erased(builder().build_v1().expect(valid)),
            reflection_v1alpha: erased(builder().build_v1alpha().expect(valid)),
            stopping,
        }
    }

    /// The server stops: who watches its health is told, and nothing is listened to
    /// any more.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Comes when the server stops.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stopping.subscribe();
        async move {
            // Where there is nobody left to tell it, it has stopped.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    }
}

/// The service without its type, which has no name.
fn erased<S>(service: S) -> Serve
where
    S: Service<Request<Body>, Response = Answer, Error = std::convert::Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    Arc::new(move |request| {
        let answer = service.clone().call(request);
        Box::pin(answer.map(|answered| match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }))
    })
}
