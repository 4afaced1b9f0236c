//! The management API: HTTP becomes a command, an outcome becomes HTTP.
//!
//! Owns the calls, their paths and methods, and nothing else: what a call does is
//! the manager's business. One request goes through the guard (whose page or
//! script sent it), then to its call; every refusal becomes an answer in one
//! place.

mod answer;
mod body;
mod guard;
mod server;

use std::sync::Arc;

use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::manager::{Manager, Source};
use crate::request::Fields;

use self::answer::{AnswerBody, Format, Refusal};
use self::body::BodyReader;
use self::guard::Hosts;

pub use self::server::serve;

/// The ports at which functions are called, for the answer to an upload; none
/// where that protocol is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Of HTTP.
    pub http: Option<u16>,
    /// Of CoAP.
    pub coap: Option<u16>,
    /// Of gRPC.
    pub grpc: Option<u16>,
}

/// What all requests share.
struct Api {
    manager: Arc<Manager>,
    endpoints: Endpoints,
    hosts: Hosts,
}

/// What can be asked of management.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Upload,
    UploadUrl,
    Delete,
    List,
    Wipe,
    Logs,
}

impl Call {
    const ALL: [Self; 6] =
        [Self::Upload, Self::UploadUrl, Self::Delete, Self::List, Self::Wipe, Self::Logs];

    const fn path(self) -> &'static str {
        match self {
            Self::Upload => "/upload",
            Self::UploadUrl => "/uploadURL",
            Self::Delete => "/delete",
            Self::List => "/list",
            Self::Wipe => "/wipe",
            Self::Logs => "/logs",
        }
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Upload | Self::UploadUrl | Self::Delete | Self::Wipe => "POST",
            Self::List | Self::Logs => "GET, HEAD",
        }
    }

    fn find(path: &str, method: &Method) -> Result<Self, Refusal> {
        let Some(call) = Self::ALL.into_iter().find(|call| call.path() == path) else {
            return Err(Refusal::no_such_path(path));
        };
        if !call.allow().split(", ").any(|allowed| allowed == method.as_str()) {
            return Err(Refusal::wrong_method(call.path(), method, call.allow()));
        }
        Ok(call)
    }
}

impl Api {
    /// Answers one request that has reached this port.
    async fn answer(
        &self,
        port: u16,
        request: Request<Incoming>,
        stop: server::Stop,
    ) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let mut body = BodyReader::new(&head, body, self.manager.config(), stop);
        let outcome = self.carry_out(port, &head, &mut body).await;
        body.leave();
        outcome.unwrap_or_else(|refusal| refusal.into_response(Format::of(&head.headers)))
    }

    async fn carry_out(
        &self,
        port: u16,
        head: &http::request::Parts,
        body: &mut BodyReader,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let host = self.hosts.check(head, port)?;
        match Call::find(head.uri.path(), &head.method)? {
            Call::Upload => self.upload(&host, body).await,
            Call::UploadUrl => self.upload_url(&host, body).await,
            Call::Delete => self.delete(body).await,
            Call::List => Ok(answer::lines(self.manager.names())),
            Call::Wipe => {
                self.manager.wipe().await?;
                Ok(answer::text(String::new()))
            }
            Call::Logs => self.logs(head.uri.query().unwrap_or_default()),
        }
    }

    async fn upload(
        &self,
        host: &str,
        body: &mut BodyReader,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let slot = self.manager.upload_slot().ok_or_else(|| self.too_many_uploads())?;
        let (rest, archive) = body.upload().await?;
        let fields = Fields::parse(&rest.json)?;
        let wanted = fields.wanted(self.manager.config())?;
        fields.require_zip(rest.has_zip)?;
        let name = wanted.name.clone();
        self.manager.deploy(slot, wanted, Source::Zip(archive)).await?;
        Ok(answer::lines(self.endpoints.urls(host, name.as_str())))
    }

    async fn upload_url(
        &self,
        host: &str,
        body: &mut BodyReader,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let slot = self.manager.upload_slot().ok_or_else(|| self.too_many_uploads())?;
        let fields = Fields::parse(&body.whole().await?)?;
        let wanted = fields.wanted(self.manager.config())?;
        let from = fields.url_source()?;
        let name = wanted.name.clone();
        self.manager.deploy(slot, wanted, Source::Url(from)).await?;
        Ok(answer::lines(self.endpoints.urls(host, name.as_str())))
    }

    async fn delete(&self, body: &mut BodyReader) -> Result<Response<AnswerBody>, Refusal> {
        let name = Fields::parse(&body.whole().await?)?.name()?;
        self.manager.delete(name).await?;
        Ok(answer::text(String::new()))
    }

    fn logs(&self, query: &str) -> Result<Response<AnswerBody>, Refusal> {
        let name = query_value(query, "name").filter(|name| !name.is_empty());
        let reader = self.manager.read_logs(name.as_deref());
        let reader = reader.ok_or_else(|| Refusal::no_such_function(name.unwrap_or_default()))?;
        Ok(answer::log(reader))
    }

    fn too_many_uploads(&self) -> Refusal {
        Refusal::too_many_uploads(self.manager.config().uploads_max)
    }
}

impl Endpoints {
    fn urls(self, host: &str, name: &str) -> Vec<String> {
        [("coap", self.coap), ("http", self.http), ("grpc", self.grpc)]
            .into_iter()
            .filter_map(|(scheme, port)| Some(format!("{scheme}://{host}:{}/{name}", port?)))
            .collect()
    }
}

/// The first value of a key in a query.
fn query_value(query: &str, wanted: &str) -> Option<String> {
    // The URL parser knows how queries are encoded; the host is of no matter.
    let url = reqwest::Url::parse(&format!("http://localhost/?{query}")).ok()?;
    url.query_pairs().find(|(key, _)| key == wanted).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests;
