//! Serves handlers that do nothing (`/echo` answers at once, `/yield` when it is
//! polled again), through the gateway and, for comparison, by hyper alone. Drive both with a load generator:
//!
//! ```text
//! cargo run --release -p tinyfaas-gateway --example speed
//! wrk -t1 -c32 -d5 http://127.0.0.1:PORT/echo
//! ```

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tinyfaas_gateway::{Gateway, GatewayConfig};
use tinyfaas_model::{
    BoxFuture, CoapAttributes, FunctionName, FunctionSpec, Handler, HandlerError, HandlerId,
    HandlerSet, Invocation, Limits, Place, Reply, Route, RoutesWriter, Runtime,
};
use tokio::net::TcpListener;

/// Answers with what it was sent: at once, or when it is polled again, as it is
/// with a worker.
struct Echo {
    id: HandlerId,
    at_once: bool,
}

impl Handler for Echo {
    fn id(&self) -> &HandlerId {
        &self.id
    }

    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        place: Place,
    ) -> BoxFuture<'static, Result<Reply, HandlerError>> {
        Box::pin(async move {
            if !self.at_once {
                tokio::task::yield_now().await;
            }
            drop(place);
            Ok(Reply { body: invocation.body, ..Reply::from_bytes(Bytes::new()) })
        })
    }
}

fn echo(name: &str, at_once: bool) -> Arc<Route> {
    let handlers = HandlerSet::new(256);
    handlers.add(Arc::new(Echo { id: HandlerId::new(name), at_once }), 64);
    let limits = Limits {
        call_deadline: Duration::from_secs(300),
        start_timeout: Duration::from_secs(60),
        calls_per_handler: 64,
        waiting_max: 256,
        build_timeout: Duration::from_secs(600),
    };
    let function = FunctionSpec {
        name: FunctionName::parse(name).expect("it follows the rules"),
        description: None,
        runtime: Runtime::Binary,
        threads: 1,
        envs: Vec::new(),
        limits,
        cgi: false,
        coap: CoapAttributes::default(),
    };
    Arc::new(Route { function: Arc::new(function), handlers, counters: Arc::default() })
}

async fn bare(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let answer =
                |_| async { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::new()))) };
            let builder = auto::Builder::new(TokioExecutor::new());
            // A caller who leaves is no matter here.
            let _ = builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        });
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> std::io::Result<()> {
    let (mut writer, routes) = RoutesWriter::new();
    writer.put(echo("echo", true));
    writer.put(echo("yield", false));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = Gateway::new(GatewayConfig::default(), routes);
    let endpoint = gateway.serve_http(vec![listener])?;
    println!("gateway http://{}/echo", endpoint.addresses[0]);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("hyper   http://{}/echo", listener.local_addr()?);
    bare(listener).await
}
