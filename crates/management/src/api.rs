//! The management API: HTTP becomes a command, an outcome becomes HTTP.
//!
//! Owns the calls, their paths and methods, and nothing else: what a call does is
//! the manager's business. One request goes through the guard (whose page or
//! script sent it), then to its call; every refusal becomes an answer in one
//! place.

mod answer;
mod body;
mod form;
mod guard;
mod metrics;
mod openapi;
mod query;
mod refusal;
mod routes;
mod server;
mod v1;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tinyfaas_model::{CallRegistry, FunctionName, GatewayStatus, Moment};

use crate::archive::{Formats, Subfolder};
use crate::logs::{LogError, LogView};
use crate::manager::{Manager, Order, Progress, Source, UploadSlot};
use crate::request::{Fields, Wanted};

use self::answer::AnswerBody;
use self::body::BodyReader;
use self::guard::{Hosts, Reached};
use self::refusal::{Format, Refusal};
use self::routes::Operation;
use self::v1::logs::LogStream;

pub use self::server::{Entrance, serve};

/// The ports at which functions are called and managed; none where that endpoint is
/// off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Of HTTP.
    pub http: Option<u16>,
    /// Of CoAP.
    pub coap: Option<u16>,
    /// Of CoAP over TCP.
    pub coap_tcp: Option<u16>,
    /// Of CoAP over TCP with TLS.
    pub coaps_tcp: Option<u16>,
    /// Of CoAP over DTLS.
    pub coaps: Option<u16>,
    /// Of gRPC.
    pub grpc: Option<u16>,
    /// Of HTTP over TLS.
    pub https: Option<u16>,
    /// Of gRPC over TLS.
    pub grpc_tls: Option<u16>,
    /// Of management.
    pub management: Option<u16>,
    /// Of management over TLS.
    pub management_tls: Option<u16>,
}

/// What management shows of the rest of the server.
#[derive(Clone)]
pub struct Surroundings {
    /// Where functions are called.
    pub endpoints: Endpoints,
    /// The asynchronous calls that are known.
    pub calls: Arc<dyn CallRegistry>,
    /// How busy the gateway is, where it tells.
    pub gateway: Option<Arc<dyn GatewayStatus>>,
}

/// What all requests share.
struct Api {
    manager: Arc<Manager>,
    surroundings: Surroundings,
    hosts: Hosts,
    started: Moment,
}

impl Api {
    /// Answers one request that has come in there.
    async fn answer(
        &self,
        reached: Reached,
        request: Request<Incoming>,
        stop: server::Stop,
    ) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let format = Format::of(head.uri.path(), &head.headers);
        let mut body = BodyReader::new(&head, body, self.manager.config(), stop.clone());
        let outcome = self.carry_out(reached, &head, &mut body, stop).await;
        body.leave();
        outcome.unwrap_or_else(|refusal| refusal.into_response(format))
    }

    async fn carry_out(
        &self,
        reached: Reached,
        head: &http::request::Parts,
        body: &mut BodyReader,
        stop: server::Stop,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let host = self.hosts.check(head, reached)?;
        let asked = routes::find(head.uri.path(), &head.method)?;
        match asked.operation {
            Operation::Upload => self.upload(&host, body).await,
            Operation::UploadUrl => self.upload_url(&host, body).await,
            Operation::Delete => self.delete(body).await,
            Operation::List => Ok(answer::lines(self.manager.names())),
            Operation::Wipe => {
                self.manager.wipe().await?;
                Ok(answer::text(String::new()))
            }
            Operation::Logs => self.logs(head.uri.query().unwrap_or_default(), stop),
            Operation::Index => self.index(head),
            Operation::Description => self.description(head),
            Operation::Server => self.server(head),
            Operation::ListFunctions => self.list_functions(&host, head).await,
            Operation::DeleteFunctions => self.delete_functions(head).await,
            Operation::GetFunction => self.get_function(&host, asked.variable, head).await,
            Operation::PutFunction => self.put_function(&host, asked.variable, head, body).await,
            Operation::DeleteFunction => self.delete_function(asked.variable, head).await,
            Operation::AllLogs => self.all_logs(head, stop),
            Operation::FunctionLogs => self.function_logs(asked.variable, head, stop),
            Operation::ListCalls => self.list_calls(head),
            Operation::GetCall => self.get_call(asked.variable, head),
            Operation::CancelCall => self.cancel_call(asked.variable, head),
            Operation::Healthy => Ok(Self::healthy(head)),
            Operation::Ready => Ok(self.ready(head)),
            Operation::Metrics => {
                let load = self.surroundings.gateway.as_ref().map(|gateway| gateway.load());
                metrics::answer(&self.manager, load.unwrap_or_default(), &head.headers).await
            }
        }
    }

    async fn upload(
        &self,
        host: &str,
        body: &mut BodyReader,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let slot = self.upload_slot()?;
        let (rest, archive) = body.upload().await?;
        let fields = Fields::parse(&rest.json)?;
        let wanted = fields.wanted(self.manager.config())?;
        fields.require_zip(rest.has_zip)?;
        let source = Source::Sent { archive, subfolder: Subfolder::default() };
        self.deploy_as_ever(host, slot, wanted, source).await
    }

    async fn upload_url(
        &self,
        host: &str,
        body: &mut BodyReader,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let slot = self.upload_slot()?;
        let fields = Fields::parse(&body.whole().await?)?;
        let wanted = fields.wanted(self.manager.config())?;
        let from = fields.url_source()?;
        self.deploy_as_ever(host, slot, wanted, Source::Url(from)).await
    }

    /// A deploy of which the original's clients hear when it is done.
    async fn deploy_as_ever(
        &self,
        host: &str,
        slot: UploadSlot,
        wanted: Wanted,
        source: Source,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let name = wanted.name.clone();
        let (formats, progress) = (Formats::Zip, Progress::default());
        self.manager.deploy(Order { slot, wanted, source, formats, progress }).await?;
        let urls = self.surroundings.endpoints.by_protocol(host, name.as_str());
        Ok(answer::lines(urls.map(|(_, url)| url)))
    }

    async fn delete(&self, body: &mut BodyReader) -> Result<Response<AnswerBody>, Refusal> {
        let name = Fields::parse(&body.whole().await?)?.name()?;
        self.manager.delete(name).await?;
        Ok(answer::text(String::new()))
    }

    fn logs(&self, query: &str, stop: server::Stop) -> Result<Response<AnswerBody>, Refusal> {
        let name = query_value(query, "name").filter(|name| !name.is_empty());
        let unknown = |name: &str| Refusal::no_such_function(name.to_owned());
        let of = name.as_deref().map(|name| FunctionName::parse(name).map_err(|_| unknown(name)));
        let reader = self.manager.read_logs(of.transpose()?, LogView::default());
        let reader = reader.map_err(|error| match error {
            LogError::Unknown => unknown(&name.unwrap_or_default()),
            full @ LogError::TooManyFollowers { .. } => full.into(),
        })?;
        Ok(answer::log(LogStream::text(reader, stop)))
    }

    fn upload_slot(&self) -> Result<UploadSlot, Refusal> {
        let uploads_max = self.manager.config().uploads_max;
        self.manager.upload_slot().ok_or_else(|| Refusal::too_many_uploads(uploads_max))
    }
}

impl Endpoints {
    /// The URLs of a function, each with its protocol's name, as clients of old
    /// know them.
    fn by_protocol(self, host: &str, name: &str) -> impl Iterator<Item = (&'static str, String)> {
        urls([("coap", self.coap), ("http", self.http), ("grpc", self.grpc)], host, name)
    }

    /// All of them.
    fn by_scheme(self, host: &str, name: &str) -> impl Iterator<Item = (&'static str, String)> {
        let more = [
            ("coap+tcp", self.coap_tcp),
            ("coaps+tcp", self.coaps_tcp),
            ("coaps", self.coaps),
            ("https", self.https),
            ("grpcs", self.grpc_tls),
        ];
        let more = urls(more, host, name);
        self.by_protocol(host, name).chain(more)
    }
}

fn urls<const N: usize>(
    ports: [(&'static str, Option<u16>); N],
    host: &str,
    name: &str,
) -> impl Iterator<Item = (&'static str, String)> {
    ports.into_iter().filter_map(move |(scheme, port)| {
        Some((scheme, format!("{scheme}://{host}:{}/{name}", port?)))
    })
}

/// The first value of a key in a query.
fn query_value(text: &str, wanted: &str) -> Option<String> {
    query::pairs(text).into_iter().find(|(key, _)| key == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
