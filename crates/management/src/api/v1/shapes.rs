//! What the JSON API answers with: the shapes of its JSON, and nothing else.
//!
//! The OpenAPI description is made of these types; clients must bear members that
//! they do not know.

use std::collections::BTreeMap;

use serde::Serialize;

/// The index of the API.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Index {
    /// The server's version.
    pub(super) version: &'static str,
    /// Where things are: a name, and its path on this server.
    pub(super) links: BTreeMap<&'static str, &'static str>,
}

/// The server as a whole.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Server {
    /// Its version.
    pub(super) version: &'static str,
    /// When it started.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(super) started: String,
    /// How long ago that is.
    pub(super) uptime_seconds: f64,
    /// What runs the functions.
    pub(super) backend: &'static str,
    /// The environments.
    pub(super) runtimes: Vec<Runtime>,
    /// The ports.
    pub(super) endpoints: Ports,
    /// How busy the gateway is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) load: Option<ServerLoad>,
    /// What a request may be at most.
    pub(super) limits: ServerLimits,
}

/// An environment of functions.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Runtime {
    /// Its name in requests.
    pub(super) env: &'static str,
    /// Whether functions of it can be run here.
    pub(super) available: bool,
    /// What runs them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<String>,
    /// Why none can be run, and what to install.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) problem: Option<String>,
}

/// The ports by which the server is reached; null where a protocol is off.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Ports {
    /// Of calls over HTTP.
    pub(super) http: Option<u16>,
    /// Of calls over HTTP with TLS.
    pub(super) https: Option<u16>,
    /// Of calls over CoAP.
    pub(super) coap: Option<u16>,
    /// Of calls over CoAP over TCP.
    pub(super) coap_tcp: Option<u16>,
    /// Of calls over CoAP over TCP with TLS.
    pub(super) coaps_tcp: Option<u16>,
    /// Of calls over CoAP over DTLS.
    pub(super) coaps: Option<u16>,
    /// Of calls over gRPC.
    pub(super) grpc: Option<u16>,
    /// Of calls over gRPC with TLS.
    pub(super) grpc_tls: Option<u16>,
    /// Of management.
    pub(super) management: Option<u16>,
    /// Of management over TLS.
    pub(super) management_tls: Option<u16>,
}

/// How busy the gateway is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct ServerLoad {
    /// Open connections.
    pub(super) connections: Share,
    /// Calls whose callers wait for a place, of all functions.
    pub(super) waiting: Share,
    /// Accepted asynchronous calls that wait for a place.
    pub(super) accepted_waiting: Share,
    /// Bytes of bodies that are held whole.
    pub(super) held_bytes: Share,
    /// Bytes of results that are kept for who asks.
    pub(super) result_bytes: Share,
    /// Connections turned away because there were too many, since the start.
    pub(super) connections_refused: u64,
    /// Calls to names that no function has, since the start.
    pub(super) unknown_functions: u64,
    /// CoAP's own figures.
    pub(super) coap: CoapLoad,
}

/// How busy CoAP is, and what it has counted since the start.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct CoapLoad {
    /// Datagrams that came, those within DTLS included.
    pub(super) datagrams_received: u64,
    /// Datagrams that left.
    pub(super) datagrams_sent: u64,
    /// Messages in datagrams that could not be read.
    pub(super) malformed: u64,
    /// Requests that came again, and so were not run again.
    pub(super) copies: u64,
    /// Messages that were sent again because nobody had acknowledged them.
    pub(super) retransmitted: u64,
    /// Requests in datagrams that run.
    pub(super) calls: Share,
    /// Observers over datagrams.
    pub(super) observers: Share,
    /// DTLS sessions that are open.
    pub(super) sessions: Share,
    /// TCP connections that are open.
    pub(super) connections: Share,
    /// TCP connections that were turned away because there were too many.
    pub(super) connections_refused: u64,
}

/// So much of so much.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Share {
    /// What is taken.
    pub(super) taken: u64,
    /// What there is.
    pub(super) limit: u64,
}

/// What a request for a deploy may be at most.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct ServerLimits {
    /// Uploads at a time.
    pub(super) uploads_max: usize,
    /// Handlers of one function.
    pub(super) threads_max: usize,
    /// The archive.
    pub(super) archive_bytes_max: u64,
    /// What comes out of it.
    pub(super) unpacked_bytes_max: u64,
    /// Files, links and folders in it.
    pub(super) entries_max: usize,
}

/// All functions.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Functions {
    /// In the order of their names; the output of their builds is left out.
    pub(super) functions: Vec<Function>,
}

/// A function.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Function {
    /// By which it is called.
    pub(super) name: String,
    /// What it is for, in its owner's words.
    pub(super) description: Option<String>,
    /// Its environment.
    pub(super) env: &'static str,
    /// Handlers that are kept for it.
    pub(super) threads: usize,
    /// The names of its environment variables; values are never shown.
    pub(super) envs: Vec<String>,
    /// The bounds within which it runs.
    pub(super) limits: FunctionLimits,
    /// Whether its output begins with CGI's header lines.
    pub(super) cgi: bool,
    /// What it is over CoAP.
    pub(super) coap: CoapAttributes,
    /// Its health in a word: `healthy`, `degraded` or `unavailable`.
    pub(super) state: &'static str,
    /// When it went live.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(super) deployed: String,
    /// Successful deploys of this name since its first; this is the last of them.
    pub(super) version: u64,
    /// Its handlers.
    pub(super) handlers: Handlers,
    /// Its calls that have not ended.
    pub(super) load: FunctionLoad,
    /// What its processes take of the machine; null where that could not be told.
    pub(super) usage: Option<Usage>,
    /// How many calls ended so, a number for each outcome.
    pub(super) calls: BTreeMap<&'static str, u64>,
    /// Of the last try to deploy this name, whether or not it is what runs.
    pub(super) build: Build,
    /// Where it is called, by protocol.
    pub(super) urls: BTreeMap<&'static str, String>,
}

/// The bounds within which a function runs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct FunctionLimits {
    /// From a call's arrival to its last byte.
    pub(super) call_deadline_seconds: f64,
    /// From a handler's start to its readiness.
    pub(super) start_timeout_seconds: f64,
    /// Calls at a time in one handler.
    pub(super) calls_per_handler: usize,
    /// Calls that may wait for a place.
    pub(super) waiting_max: usize,
    /// For installing its dependencies.
    pub(super) build_timeout_seconds: f64,
}

/// What a function is over CoAP, and what `/.well-known/core` tells of it (RFC 6690).
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct CoapAttributes {
    /// Whether it may be observed.
    pub(super) observable: bool,
    /// Its resource types.
    pub(super) rt: Option<String>,
    /// Its interface descriptions.
    #[serde(rename = "if")]
    pub(super) interface: Option<String>,
    /// The content formats in which it answers.
    pub(super) ct: Vec<u16>,
    /// About how many bytes its replies have.
    pub(super) sz: Option<u32>,
    /// What it is, for people.
    pub(super) title: Option<String>,
}

/// A function's handlers.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Handlers {
    /// That take calls.
    pub(super) ready: usize,
    /// That there should be.
    pub(super) wanted: usize,
    /// How often one was started in place of another.
    pub(super) restarts: u64,
    /// What happened last to one of them.
    pub(super) trouble: Option<Trouble>,
}

/// Why a handler had to be replaced, or could not be.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Trouble {
    /// The handler, as it stands in the log.
    pub(super) handler: String,
    /// What happened.
    pub(super) what: String,
    /// When.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(super) at: String,
}

/// A function's calls that have not ended.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct FunctionLoad {
    /// That its handlers run.
    pub(super) running: usize,
    /// That wait for a place.
    pub(super) waiting: usize,
}

/// What a function's processes take of the machine.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Usage {
    /// Processes that live, those included that the function started.
    pub(super) processes: u64,
    /// Their memory; what is shared with others counts in part.
    pub(super) memory_bytes: u64,
    /// The function's processor time since its first deploy, as far as it is known.
    pub(super) cpu_seconds: f64,
}

/// What came of the last try to deploy a name.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Build {
    /// When its turn came.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(super) began: String,
    /// How long it took until the handlers were ready, or until it failed.
    pub(super) seconds: f64,
    /// Whether it succeeded: if not, what ran before still runs.
    pub(super) succeeded: bool,
    /// Why it failed.
    pub(super) problem: Option<String>,
    /// The end of what was printed. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<String>,
}

/// Some of the asynchronous calls that are known.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Calls {
    /// The newest first.
    pub(super) calls: Vec<Call>,
    /// `before` of the next page, where there are more.
    pub(super) next: Option<u64>,
}

/// An asynchronous call.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Call {
    /// Its id. Who knows it may have the result from the gateway.
    pub(super) id: String,
    /// The function that was called.
    pub(super) function: String,
    /// `waiting`, `running`, `succeeded`, `failed`, `cancelled` or `lost`.
    pub(super) state: &'static str,
    /// When it was accepted.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(super) accepted: String,
    /// When a handler took it.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(super) started: Option<String>,
    /// When it ended.
    #[cfg_attr(test, schema(format = DateTime))]
    pub(super) ended: Option<String>,
    /// How long it waited for a handler; null where it still does.
    pub(super) waited_seconds: Option<f64>,
    /// How long a handler ran it; null where none did, or one still does.
    pub(super) ran_seconds: Option<f64>,
    /// Why it has no reply, or why the reply was not kept.
    pub(super) problem: Option<String>,
    /// What is kept of its reply.
    pub(super) result: Option<CallResult>,
}

/// What is kept of a reply.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct CallResult {
    /// The status, where the function set one.
    pub(super) status: Option<u16>,
    /// Its body.
    pub(super) bytes: usize,
}

/// Whether the server can serve.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(in crate::api) struct Fitness {
    /// `ok`, or `not ready`.
    pub(super) status: &'static str,
    /// Why it is not ready.
    pub(super) reasons: Vec<String>,
}
