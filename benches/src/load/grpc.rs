//! The load over gRPC: unary calls, several at a time on a connection.
//!
//! Owns connections and what of HTTP/2 a call is. Works on frames' own library and
//! not on a gRPC client, which costs more than the servers that it would measure.
//! Must not know which server answers.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

use super::callers;
use super::conversation::Verdict;
use super::{Outcome, Plan};

/// As many callers share a connection.
pub(crate) const CALLS_PER_CONNECTION: usize = 8;
/// What may be under way to this side on a connection and on a call before it was
/// taken, in bytes: more than any reply here.
const WINDOW_BYTES: u32 = 16 << 20;
/// As much of a wrong reply is shown, in bytes.
const SHOWN_BYTES: usize = 200;

/// What to ask, and what must be answered.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The server.
    pub(crate) address: SocketAddr,
    /// Package, service and method.
    path: &'static str,
    /// A whole message with its prefix.
    message: Bytes,
    /// That of a right reply; its status is 0.
    expected: Bytes,
}

impl Target {
    /// A call of a function whose reply is its input, as version 1 of the interface
    /// has it.
    pub(crate) fn echo(address: SocketAddr, name: &str, body: &[u8]) -> Self {
        use tinyfaas_grpc::v1::{Data, Response};
        let body = Bytes::copy_from_slice(body);
        let data = Data { function_identifier: name.to_owned(), data: body.clone() };
        Self {
            address,
            path: "/openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request",
            message: message(&data),
            expected: message(&Response { response: body }),
        }
    }

    /// Whether a server is well; it must say so.
    pub(crate) fn health(address: SocketAddr) -> Self {
        use tonic_health::pb::health_check_response::ServingStatus;
        use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
        let serving = HealthCheckResponse { status: ServingStatus::Serving.into() };
        Self {
            address,
            path: "/grpc.health.v1.Health/Check",
            message: message(&HealthCheckRequest { service: String::new() }),
            expected: message(&serving),
        }
    }
}

/// A message, not compressed, behind its length (the PROTOCOL-HTTP2 document of
/// gRPC, "Length-Prefixed-Message").
fn message(message: &impl Message) -> Bytes {
    let length = u32::try_from(message.encoded_len()).expect("the bench's own messages are short");
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(length);
    message.encode(&mut framed).expect("a buffer that grows has room");
    framed.freeze()
}

/// Runs the load; blocks until every caller is done.
///
/// # Errors
/// Where there is no runtime or no timer.
pub(super) fn run(target: &Target, plan: Plan) -> anyhow::Result<Outcome> {
    let mut shared = Arc::new(Shared::default());
    let targets = (0..plan.connections).map(|at| {
        if at % CALLS_PER_CONNECTION == 0 {
            shared = Arc::new(Shared::default());
        }
        callers::Target::Grpc(target.clone(), shared.clone())
    });
    callers::run(targets, plan)
}

/// A connection that several callers share. What broke stays broken: a run that
/// lost one has failed.
#[derive(Debug, Default)]
pub(super) struct Shared(OnceCell<SendRequest<Bytes>>);

/// A caller's part of it.
pub(super) struct Calls<'a> {
    target: &'a Target,
    connection: SendRequest<Bytes>,
    request: Request<()>,
}

impl<'a> Calls<'a> {
    /// Connects, if no caller has yet.
    ///
    /// # Errors
    /// Where there is no connection.
    pub(super) async fn begin(target: &'a Target, shared: &Shared) -> anyhow::Result<Self> {
        let connection = shared.0.get_or_try_init(|| connect(target.address)).await?.clone();
        let uri = format!("http://{}{}", target.address, target.path);
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(uri)
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(())
            .context("a request")?;
        Ok(Self { target, connection, request })
    }

    /// Asks once.
    ///
    /// # Errors
    /// Where the connection can be used no more.
    pub(super) async fn ask(&mut self) -> anyhow::Result<Verdict> {
        let mut connection = self.connection.clone().ready().await.context("a new stream")?;
        let (response, mut sending) =
            connection.send_request(self.request.clone(), false).context("sending a request")?;
        sending.send_data(self.target.message.clone(), true).context("sending a message")?;
        let response = response.await.context("reading a reply")?;
        let status = response.status();
        let (head, mut body) = response.into_parts();
        let (mut rest, mut wrong) = (&self.target.expected[..], None);
        while let Some(part) = body.data().await {
            let part = part.context("reading a reply")?;
            body.flow_control().release_capacity(part.len()).context("reading a reply")?;
            match rest.strip_prefix(&part[..]) {
                Some(others) => rest = others,
                None => wrong = wrong.or(Some(part)),
            }
        }
        // Who has nothing to say but a status says it in the head.
        let trailers = body.trailers().await.context("reading a reply's end")?;
        let trailers = trailers.unwrap_or(head.headers);
        let is_right = wrong.is_none() && rest.is_empty() && status == 200;
        if is_right && trailers.get("grpc-status").is_some_and(|status| status == "0") {
            return Ok(Verdict::Right);
        }
        let come = &self.target.expected[..self.target.expected.len() - rest.len()];
        let shown = wrong.as_deref().unwrap_or(come);
        Ok(Verdict::Wrong(format!(
            "status {status}, gRPC's {}, message {:?}",
            told(&trailers),
            String::from_utf8_lossy(&shown[..shown.len().min(SHOWN_BYTES)])
        )))
    }
}

fn told(trailers: &HeaderMap) -> String {
    let text = |name| trailers.get(name).map(HeaderValue::to_str);
    let code = text("grpc-status").and_then(Result::ok).unwrap_or("missing");
    let words = text("grpc-message").and_then(Result::ok).unwrap_or_default();
    format!("{code} {words}").trim_end().to_owned()
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true).context("connecting")?;
    let (requests, connection) = client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .handshake(stream)
        .await
        .map_err(|error| anyhow!("speaking HTTP/2: {error}"))?;
    // It ends with the last caller; what breaks it, callers are told.
    tokio::spawn(connection);
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Pace;
    use super::*;

    const PLAN: Plan = Plan {
        connections: 10,
        pace: Pace::Closed,
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(100),
    };

    /// Runs the load against the bare server, which knows its health alone.
    fn outcome_of(target: fn(SocketAddr) -> Target, plan: Plan) -> Outcome {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("binds");
        let address = listener.local_addr().expect("bound");
        runtime.spawn(crate::bare_tonic::serve(listener));
        run(&target(address), plan).expect("runs")
    }

    #[test]
    fn right_replies_are_counted() {
        let outcome = outcome_of(Target::health, PLAN);
        assert_eq!((outcome.errors, outcome.first_error), (0, None));
        assert!(outcome.replies > 0 && outcome.answered >= outcome.replies);
        let open = Plan { pace: Pace::Open(200), ..PLAN };
        let outcome = outcome_of(Target::health, open);
        assert_eq!((outcome.errors, outcome.answered), (0, 24));
    }

    #[test]
    fn wrong_replies_are_errors_and_not_counted() {
        let outcome = outcome_of(|address| Target::echo(address, "echo", b"hello"), PLAN);
        assert_eq!((outcome.replies, outcome.answered), (0, 0));
        let error = outcome.first_error.expect("told");
        assert!(error.starts_with("status 200 OK, gRPC's 12"), "{error}");
        let other = |address| Target {
            expected: Bytes::from_static(b"\0\0\0\0\x02\x08\x02"),
            ..Target::health(address)
        };
        let error = outcome_of(other, PLAN).first_error.expect("told");
        assert!(error.contains("gRPC's 0, message"), "{error}");
    }

    #[test]
    fn a_server_that_is_gone_is_given_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        let outcome = run(&Target::health(address), PLAN).expect("runs");
        let each = u64::from(super::super::BREAKS_MAX + 1);
        assert_eq!((outcome.errors, outcome.answered), (PLAN.connections as u64 * each, 0));
    }

    #[test]
    fn messages_stand_behind_their_length() {
        let target = Target::echo(([127, 0, 0, 1], 1).into(), "ab", b"xyz");
        assert_eq!(&target.message[..], b"\0\0\0\0\x09\x0a\x02ab\x12\x03xyz");
        assert_eq!(&target.expected[..], b"\0\0\0\0\x05\x0a\x03xyz");
    }
}
