//! The way to a gRPC server.
//!
//! Owns the connection, and what it means to a user that there is none. Must not
//! know what is called.

use std::error::Error;
use std::time::Duration;

use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tinyfaas_grpc::v1::tiny_faa_s_client::TinyFaaSClient as Version1;
use tinyfaas_grpc::v1::{Data, Response};
use tinyfaas_grpc::v2::tiny_faa_s_client::TinyFaaSClient as Version2;
use tinyfaas_grpc::v2::{
    GetResultRequest, GetResultResponse, InvokeAsyncResponse, InvokeRequest, InvokeResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::place::Place;
use crate::client::{Trust, deepest_cause, not_trusted};
use crate::failure::{Code, Failure};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it still stands; a call may take
/// as long as it likes. HTTP/2's own pings would do, but the original's server takes
/// them for an attack.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The longest reply that is taken, in bytes.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// A connection to one server.
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody answers there, or over TLS nobody who is trusted.
    pub(super) async fn connect(place: &Place, trust: &Trust) -> Result<Self, Failure> {
        let channel = channel(place, trust).await?;
        Ok(Self { channel })
    }

    /// Calls a function and waits for its reply.
    pub(super) async fn invoke(&mut self, call: InvokeRequest) -> Result<InvokeResponse, Status> {
        Ok(self.version_2().invoke(call).await?.into_inner())
    }

    /// Leaves a call to be run later.
    pub(super) async fn invoke_async(
        &mut self,
        call: InvokeRequest,
    ) -> Result<InvokeAsyncResponse, Status> {
        Ok(self.version_2().invoke_async(call).await?.into_inner())
    }

    /// Asks how such a call stands.
    pub(super) async fn get_result(
        &mut self,
        call: GetResultRequest,
    ) -> Result<GetResultResponse, Status> {
        Ok(self.version_2().get_result(call).await?.into_inner())
    }

    /// Calls a function as the original tinyFaaS has it.
    pub(super) async fn request(&mut self, call: Request<Data>) -> Result<InvokeResponse, Status> {
        let client = Version1::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(REPLY_BYTES_MAX);
        let Response { response } = client.request(call).await?.into_inner();
        // It tells of nothing but success.
        Ok(InvokeResponse { status: 200, body: response, ..InvokeResponse::default() })
    }

    fn version_2(&self) -> Version2<Channel> {
        Version2::new(self.channel.clone()).max_decoding_message_size(REPLY_BYTES_MAX)
    }
}

/// Connects to a server.
async fn channel(place: &Place, trust: &Trust) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(place.uri())
        .and_then(|endpoint| endpoint.user_agent(concat!("tinyfaas/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| Failure::usage(format!("{place}: {}", deepest_cause(&error))))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(Some(KEEP_ALIVE));
    let connected = if place.is_tls() {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        let tls = HttpsConnector::from((tcp, trust.config(&[b"h2"])?));
        endpoint.connect_with_connector(tls).await
    } else {
        endpoint.connect().await
    };
    connected
        .map_err(|error| not_trusted(place, &error).unwrap_or_else(|| unreachable(place, &error)))
}

fn unreachable(place: &Place, error: &(dyn Error + 'static)) -> Failure {
    let why = deepest_cause(error);
    Failure::new(Code::Unreachable, format!("no server answers at {place}: {why}"))
        .tip("is it running, and is its gRPC endpoint on (GRPC_PORT, GRPC_ADDRESS)?")
}

/// What a status means that no server sent: the connection is not there any more, or
/// what is there does not speak gRPC. None: the server sent it.
pub(super) fn broken(place: &Place, status: &Status) -> Option<Failure> {
    let source = status.source()?;
    if let Some(failure) = not_trusted(place, source) {
        return Some(failure);
    }
    let why = deepest_cause(source);
    let said = format!("the connection to {place} broke off: {why}");
    Some(Failure::new(Code::Unreachable, said).tip("does gRPC answer on that port?"))
}
