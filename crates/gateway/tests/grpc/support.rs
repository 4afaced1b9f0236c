//! A gateway with fake functions, and clients that are generated.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tinyfaas_gateway::{Gateway, GatewayConfig};
use tinyfaas_grpc::v1;
use tinyfaas_grpc::v1::tiny_faa_s_client::TinyFaaSClient as V1;
use tinyfaas_grpc::v2::tiny_faa_s_client::TinyFaaSClient as V2;
use tinyfaas_model::{FunctionCounters, Handler, HandlerSet, Routes, RoutesWriter};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;

pub(crate) use crate::functions::*;

pub(crate) struct Server {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    pub(crate) writer: RoutesWriter,
    routes: Routes,
}

impl Server {
    pub(crate) async fn start(config: GatewayConfig) -> Self {
        let (writer, routes) = RoutesWriter::new();
        let gateway = Gateway::new(config, routes.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        gateway.serve_grpc(vec![listener]);
        Self { gateway, address, writer, routes }
    }

    /// A server with the defaults and one function `f`.
    pub(crate) async fn with(handler: Arc<dyn Handler>) -> Self {
        let mut server = Self::start(GatewayConfig::default()).await;
        server.deploy(Function::default(), handler);
        server
    }

    pub(crate) fn deploy(
        &mut self,
        function: Function,
        handler: Arc<dyn Handler>,
    ) -> Arc<HandlerSet> {
        deploy(&mut self.writer, function, handler)
    }

    /// What is counted of the function `f`.
    pub(crate) fn counters(&self) -> Arc<FunctionCounters> {
        Arc::clone(&self.routes.find("f").unwrap().counters)
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        // Acknowledgements come in real time, of which a paused clock leaves none.
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A connection of HTTP/2.
    pub(crate) async fn connect(&self) -> Channel {
        let io = TokioIo::new(self.tcp().await);
        let executor = TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        Channel(sender)
    }

    /// A client of version 1, on a connection of its own.
    pub(crate) async fn v1(&self) -> V1<Channel> {
        V1::with_origin(self.connect().await, self.origin())
    }

    /// A client of version 2, on a connection of its own.
    pub(crate) async fn v2(&self) -> V2<Channel> {
        V2::with_origin(self.connect().await, self.origin())
    }

    /// What requests without a client of their own start with.
    pub(crate) fn origin(&self) -> http::Uri {
        format!("http://{}", self.address).parse().unwrap()
    }
}

/// What generated clients send their requests by.
#[derive(Clone)]
pub(crate) struct Channel(pub(crate) SendRequest<Body>);

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A call of the function `f` with this input.
pub(crate) fn data(input: impl Into<bytes::Bytes>) -> v1::Data {
    v1::Data { function_identifier: "f".into(), data: input.into() }
}
