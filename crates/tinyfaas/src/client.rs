//! Asking a server: where it is, what it is asked, what its refusals mean.
//!
//! Owns the HTTP client of the command line, and the one mapping of statuses to
//! exit codes. Must not know what a command does with an answer. A server without
//! `/v1` is an original tinyFaaS; `original.rs` speaks to it.

mod address;
mod lines;
mod multipart;
pub(crate) mod original;
mod refusal;
mod trust;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use clap::{Arg, ArgMatches};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use rustls::crypto::ring;
use serde_json::Value;

use crate::failure::{Code, Failure};

pub(crate) use address::Address;
pub(crate) use lines::Lines;
pub(crate) use multipart::Multipart;
pub(crate) use refusal::{deepest_cause, failure_of_problem, is_problem, refusal};
pub(crate) use trust::Trust;
use trust::trouble::Trouble;

/// How long reaching the server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take that needs no build; deleting drains calls first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest JSON document that is taken from a server, in bytes.
const JSON_BYTES_MAX: usize = 64 << 20;
/// The flag for the server's address.
const SERVER: &str = "server";
/// The same from the environment.
const SERVER_VARIABLE: &str = "TINYFAAS_SERVER";
/// Where a server is unless something else is said.
const SERVER_DEFAULT: &str = "http://localhost:8080";

/// The flags by which a command finds its server, and knows that it is the one.
pub(crate) fn server_flags() -> impl Iterator<Item = Arg> {
    let server = Arg::new(SERVER).long(SERVER).value_name("URL").help(format!(
        "the server's management service, http:// or https:// [default {SERVER_DEFAULT}, env \
         {SERVER_VARIABLE}]"
    ));
    std::iter::once(server).chain(Trust::flags())
}

/// A server's management service.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    address: Address,
    trust: Trust,
    http: Client,
}

impl Server {
    /// The server that the command line or the environment names.
    ///
    /// # Errors
    /// Where that is no address, or what it says of TLS cannot be done.
    pub(crate) fn find(matches: &ArgMatches) -> Result<Self, Failure> {
        let trust = Trust::read(matches)?;
        let given = matches.get_one::<String>(SERVER).map(|text| (text.clone(), "--server"));
        let variable = || {
            let text = std::env::var_os(SERVER_VARIABLE)?.to_string_lossy().into_owned();
            (!text.is_empty()).then_some((text, SERVER_VARIABLE))
        };
        let (text, source) =
            given.or_else(variable).unwrap_or_else(|| (SERVER_DEFAULT.to_owned(), SERVER_VARIABLE));
        let address = Address::parse(&text)
            .map_err(|why| Failure::usage(format!("{source}={text:?}: {why}")))?;
        // The server may be asked openly for a gateway that is called over TLS.
        let calls_over_tls = matches!(matches.try_get_one::<bool>("tls"), Ok(Some(true)));
        if !calls_over_tls {
            trust.suits(address.is_https(), &address)?;
        }
        Self::at(address, trust)
    }

    /// The server at an address.
    ///
    /// # Errors
    /// Where this machine lacks what a client needs.
    pub(crate) fn at(address: Address, trust: Trust) -> Result<Self, Failure> {
        let http = client(&address, &trust)?;
        Ok(Self { address, trust, http })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whom a connection over TLS to it, or to its gateway, trusts.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// A request that is to be filled and sent; it asks for no kind of answer yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.address.join(path))
    }

    /// A request for JSON that comes at once.
    pub(crate) fn brief(&self, method: Method, path: &str) -> RequestBuilder {
        let json = HeaderValue::from_static("application/json, application/problem+json");
        self.request(method, path).header(ACCEPT, json).timeout(ANSWER_TIMEOUT)
    }

    /// Sends a request, whatever the answer is.
    ///
    /// # Errors
    /// Where no answer comes.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        request.send().await.map_err(|error| unreachable(&self.address, &error))
    }

    /// Sends a request of `/v1`. None: this server has no `/v1`.
    ///
    /// # Errors
    /// Where no answer comes, or one that is no success.
    pub(crate) async fn v1(&self, request: RequestBuilder) -> Result<Option<Response>, Failure> {
        let response = self.send(request).await?;
        if response.status() == StatusCode::NOT_FOUND && !is_problem(&response) {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(Some(response))
    }

    /// What the server says of itself. None: it has no `/v1`.
    ///
    /// # Errors
    /// As [`Self::v1`].
    pub(crate) async fn about(&self) -> Result<Option<Value>, Failure> {
        match self.v1(self.brief(Method::GET, "/v1/server")).await? {
            Some(response) => Ok(Some(self.json(response).await?)),
            None => Ok(None),
        }
    }

    /// The JSON of an answer.
    ///
    /// # Errors
    /// Where it breaks off, is too large, or is none.
    pub(crate) async fn json(&self, response: Response) -> Result<Value, Failure> {
        let body = self.body(response, JSON_BYTES_MAX).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Failure::failed(format!("{} sent something that is not JSON: {error}", self.address))
                .tip("is it a tinyFaaS server's management service?")
        })
    }

    /// A whole body.
    ///
    /// # Errors
    /// Where it breaks off or is too large.
    pub(crate) async fn body(
        &self,
        mut response: Response,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if body.len() + chunk.len() > bytes_max {
                let most = crate::terminal::bytes(bytes_max as u64);
                return Err(Failure::failed(format!("the answer is larger than {most}")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next piece of a body.
    ///
    /// # Errors
    /// Where it breaks off.
    pub(crate) async fn chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<bytes::Bytes>, Failure> {
        response.chunk().await.map_err(|error| broke_off(&self.address, error))
    }
}

/// A client for one address. For plain HTTP no certificates are read, which would
/// take longer than most commands; what runs on this machine is never asked
/// through a proxy.
///
/// # Errors
/// Where a file that says whom to trust is none.
pub(crate) fn client(address: &Address, trust: &Trust) -> Result<Client, Failure> {
    // reqwest needs the process to have chosen.
    drop(ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("tinyfaas/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    builder = if address.is_https() {
        builder.tls_backend_preconfigured(trust.config(&[b"http/1.1"])?)
    } else {
        builder.tls_certs_only([])
    };
    if address.is_loopback() {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| {
        Failure::failed(format!("cannot make an HTTP client: {}", deepest_cause(&error)))
    })
}

/// TLS does not come about with who answers there: why, and what to do. None: that is
/// not what the error tells of.
pub(crate) fn not_trusted(
    address: impl fmt::Display,
    error: &(dyn Error + 'static),
) -> Option<Failure> {
    let trouble = Trouble::of(error)?;
    let message = format!("{address} is not asked: {}", trouble.why);
    Some(trouble.advise(Failure::new(Code::Unreachable, message)))
}

/// Nobody answers there who can be asked.
pub(crate) fn unreachable(address: &Address, error: &reqwest::Error) -> Failure {
    if let Some(failure) = not_trusted(address, error) {
        return failure;
    }
    if error.is_builder() {
        return Failure::usage(format!("that cannot be asked: {}", deepest_cause(error)));
    }
    let why = deepest_cause(error);
    if error.is_timeout() && !error.is_connect() {
        return Failure::new(Code::Unreachable, format!("{address} does not answer: {why}"));
    }
    let failure = Failure::new(Code::Unreachable, format!("no server answers at {address}: {why}"));
    if address.is_loopback() {
        failure
            .tip("start one in another terminal: tinyfaas")
            .tip(format!("or name the one to ask: --server URL, or {SERVER_VARIABLE}=URL"))
    } else {
        failure.tip(
            "is it running, and does its management service listen there (MANAGEMENT_ADDRESS)?",
        )
    }
}

/// It began to answer, and stopped.
pub(crate) fn broke_off(address: &Address, error: reqwest::Error) -> Failure {
    let why = deepest_cause(&error);
    Failure::new(Code::Unreachable, format!("the answer from {address} broke off: {why}"))
}
