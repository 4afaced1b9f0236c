//! Deploying a function: what was sent becomes an order, and how it goes becomes
//! an answer, at its end or as it happens.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::answer::{self, AnswerBody};
use crate::api::body::BodyReader;
use crate::api::form;
use crate::api::query::{Query, decoded};
use crate::api::refusal::{Format, Problem, Refusal};
use crate::api::{Api, Endpoints};
use crate::archive::Formats;
use crate::manager::{Deployed, Manager, Order, Progress, Source, Step, UploadError};
use crate::request::{Fields, RequestError};
use crate::spool::Spooled;

use super::shapes;

/// The settings of a function that a query may hold, where the body is the archive.
pub(in crate::api) const PUT_QUERY: &[&str] = &["env", "threads", "envs", "subfolder_path"];

/// What the body of a deploy is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The archive.
    Archive,
    /// JSON that says where the archive lies.
    Json,
    /// A form of this content type.
    Form(String),
}

impl Api {
    pub(in crate::api) async fn put_function(
        &self,
        host: &str,
        name: &str,
        head: &Parts,
        body: &mut BodyReader,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let kind = Kind::of(&head.headers)?;
        let slot = self.upload_slot()?;
        let (fields, source) = match &kind {
            Kind::Archive => {
                let fields = of_query(head)?.named(decoded(name));
                // What is wrong is told before the archive is read.
                fields.wanted(self.manager.config())?;
                let subfolder = fields.subfolder()?;
                (fields, Source::Sent { archive: body.archive().await?, subfolder })
            }
            Kind::Json => {
                Query::parse(head.uri.query(), &[])?;
                let fields = Fields::parse(&body.whole().await?)?.named(decoded(name));
                let source = Source::Url(fields.url_source()?);
                (fields, source)
            }
            Kind::Form(content_type) => {
                Query::parse(head.uri.query(), &[])?;
                let form = body.form(content_type).await?;
                let fields = of_form(form.texts)?.named(decoded(name));
                let source = source_of(&fields, form.archive)?;
                (fields, source)
            }
        };
        let wanted = fields.wanted(self.manager.config())?;
        let formats = Formats::ZipOrTarGz;
        let Some(framing) = Framing::of(&head.headers) else {
            let progress = Progress::default();
            let order = Order { slot, wanted, source, formats, progress };
            let mut deployed = self.manager.deploy(order).await?;
            measure(&self.manager, &mut deployed).await;
            return Ok(done(&deployed, host, self.surroundings.endpoints));
        };
        let lines_max = self.manager.config().progress_lines_max;
        let (progress, steps) = Progress::to_listener(lines_max);
        let manager = Arc::clone(&self.manager);
        let order = Order { slot, wanted, source, formats, progress };
        let deploy = tokio::spawn(async move { manager.deploy(order).await });
        let reader = ProgressReader {
            steps,
            deploy: Some(deploy),
            framing,
            manager: Arc::clone(&self.manager),
            host: host.to_owned(),
            endpoints: self.surroundings.endpoints,
        };
        let mut response = answer::progress(reader);
        let content_type = HeaderValue::from_static(framing.content_type());
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        Ok(response)
    }
}

/// The settings that stand in the query.
fn of_query(head: &Parts) -> Result<Fields, Refusal> {
    let query = Query::parse(head.uri.query(), PUT_QUERY)?;
    let mut fields = Fields::default();
    for &name in PUT_QUERY {
        if name != "envs" {
            query.one(name)?;
        }
        query.all(name).for_each(|value| fields.add_text(name, value));
    }
    Ok(fields)
}

/// The settings that stand in a form: those of its JSON, and over them those that
/// stand for themselves.
fn of_form(texts: Vec<(&'static str, String)>) -> Result<Fields, Refusal> {
    let (json, plain): (Vec<_>, Vec<_>) =
        texts.into_iter().partition(|(name, _)| *name == form::SETTINGS);
    let mut fields = match json.first() {
        Some((_, json)) => Fields::parse(json.as_bytes())?,
        None => Fields::default(),
    };
    plain.into_iter().for_each(|(name, text)| fields.add_text(name, &text));
    Ok(fields)
}

fn source_of(fields: &Fields, archive: Option<Spooled>) -> Result<Source, RequestError> {
    match (archive, fields.has_url()) {
        (Some(archive), false) => Ok(Source::Sent { archive, subfolder: fields.subfolder()? }),
        (Some(_), true) => Err(RequestError::ArchiveAndUrl),
        (None, true) => Ok(Source::Url(fields.url_source()?)),
        (None, false) => {
            let what = "a zip or tar.gz of the function's folder; or send \"url\" instead";
            Err(RequestError::Missing { key: "archive", what })
        }
    }
}

/// Adds what the function takes of the machine, if it is still that one.
async fn measure(manager: &Manager, deployed: &mut Deployed) {
    let function = &mut deployed.function;
    let now = manager.function(function.spec.name.as_str()).await;
    if let Some(now) = now.filter(|now| now.version == function.version) {
        function.usage = now.usage;
    }
}

fn done(deployed: &Deployed, host: &str, endpoints: Endpoints) -> Response<AnswerBody> {
    let function = shapes::Function::of(&deployed.function, host, endpoints);
    let mut response = answer::json(&function);
    *response.status_mut() = if deployed.replaced { StatusCode::OK } else { StatusCode::CREATED };
    let location = format!("/v1/functions/{}", function.name);
    let location = HeaderValue::from_str(&location).expect("names are letters and digits");
    response.headers_mut().insert(LOCATION, location);
    response
}

impl Kind {
    /// By the content type; an archive's own first bytes tell which it is.
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Self::Archive) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match media.as_str() {
            "application/zip"
            | "application/x-zip-compressed"
            | "application/gzip"
            | "application/x-gzip"
            | "application/x-tar+gzip"
            | "application/octet-stream" => Ok(Self::Archive),
            "application/json" => Ok(Self::Json),
            "multipart/form-data" => Ok(Self::Form(text.into_owned())),
            _ => Err(Refusal::unknown_content_type(&media)),
        }
    }
}

/// How a stream of events is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// A JSON object a line.
    Lines,
    /// Server-sent events, WHATWG HTML section 9.2.
    Sse,
}

impl Framing {
    /// What the client asks for.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let asks = |media: &str| answer::names(headers, ACCEPT, media);
        if asks("application/x-ndjson") {
            Some(Self::Lines)
        } else if asks("text/event-stream") {
            Some(Self::Sse)
        } else {
            None
        }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }
}

/// What happens in a deploy, as a client is told it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(tag = "event", rename_all = "lowercase")]
pub(in crate::api) enum Event {
    /// It waits for its turn.
    Queued,
    /// The archive is being downloaded.
    Downloading,
    /// The archive is being unpacked.
    Unpacking,
    /// The folder is being made ready to run.
    Building,
    /// An installer, or the function as it starts, has printed a line.
    Output {
        /// The line.
        text: String,
    },
    /// The handlers are being started.
    Starting,
    /// The last: the function takes calls.
    Ready {
        /// The function.
        function: Box<shapes::Function>,
        /// Whether there was one of that name before.
        replaced: bool,
    },
    /// The last: there is nothing new; what ran before still runs.
    Failed(Problem),
}

/// A deploy's events, read as they happen.
pub(in crate::api) struct ProgressReader {
    steps: mpsc::Receiver<Step>,
    /// Until its outcome has been told.
    deploy: Option<JoinHandle<Result<Deployed, UploadError>>>,
    framing: Framing,
    manager: Arc<Manager>,
    host: String,
    endpoints: Endpoints,
}

impl ProgressReader {
    /// The next event; none after the last.
    pub(in crate::api) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let event = match self.steps.recv().await {
            Some(step) => Event::of(step),
            None => {
                let Some(deploy) = self.deploy.take() else { return Ok(None) };
                match deploy.await.map_err(|error| UploadError::Fault(error.to_string())) {
                    Ok(Ok(mut deployed)) => {
                        measure(&self.manager, &mut deployed).await;
                        let (view, host) = (&deployed.function, self.host.as_str());
                        let function = Box::new(shapes::Function::of(view, host, self.endpoints));
                        Event::Ready { function, replaced: deployed.replaced }
                    }
                    Ok(Err(error)) | Err(error) => {
                        Event::Failed(Refusal::from(error).into_problem(Format::Members))
                    }
                }
            }
        };
        let json = serde_json::to_string(&event).expect("text, numbers, lists and objects only");
        Ok(Some(Bytes::from(match self.framing {
            Framing::Lines => json + "\n",
            Framing::Sse => format!("data: {json}\n\n"),
        })))
    }
}

impl Event {
    fn of(step: Step) -> Self {
        match step {
            Step::Queued => Self::Queued,
            Step::Downloading => Self::Downloading,
            Step::Unpacking => Self::Unpacking,
            Step::Building => Self::Building,
            Step::Output(text) => Self::Output { text },
            Step::Starting => Self::Starting,
        }
    }
}
