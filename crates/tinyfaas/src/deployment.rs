//! One deploy, as the command line does it: what is deployed, the guesses said
//! aloud, the server's progress shown.
//!
//! Owns the way from a folder to a function that is ready. Must not know which
//! command asked for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Map, Value, json};
use tinyfaas_model::{FunctionName, Runtime};

use crate::client::{Lines, Multipart, Server, failure_of_problem, original};
use crate::failure::{Code, Failure};
use crate::guess::{self, Environment};
use crate::pack::{self, PackError};
use crate::progress::Progress;
use crate::terminal::{self, Paint, Style, say};

/// The largest archive that is made where the server does not tell its own limit.
const PACKED_BYTES_MAX: u64 = 1 << 30;
/// How often the number of bytes sent is shown anew.
const SENT_TICK: Duration = Duration::from_millis(200);

/// Where a function's code comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Folder(PathBuf),
    Url { url: String, subfolder: Option<String> },
}

/// What is to be deployed. Not to be shown whole: there are values among it.
pub(crate) struct Plan {
    pub(crate) name: FunctionName,
    pub(crate) source: Source,
    /// None: the folder's settings or the server decide.
    pub(crate) runtime: Option<Runtime>,
    pub(crate) threads: Option<u64>,
    /// `KEY=VALUE` each.
    pub(crate) variables: Vec<String>,
}

/// A function that is ready.
pub(crate) struct Deployed {
    /// As the server describes it; an original tinyFaaS only gives URLs.
    pub(crate) function: Value,
    pub(crate) replaced: Option<bool>,
    pub(crate) took: Duration,
}

impl Plan {
    /// A folder's function; what is not given is guessed.
    ///
    /// # Errors
    /// Where it cannot be guessed.
    pub(crate) fn of_folder(
        folder: &Path,
        name: Option<FunctionName>,
        runtime: Option<Runtime>,
    ) -> Result<(Self, String), Failure> {
        if !folder.is_dir() {
            let what = if folder.exists() { "is no folder" } else { "there is no such folder" };
            return Err(Failure::failed(format!("{}: {what}", folder.display())));
        }
        let name = name.map_or_else(|| guess::name_of_folder(folder), Ok)?;
        let (runtime, why) = match runtime {
            Some(runtime) => (Some(runtime), runtime.to_string()),
            None => match guess::environment(folder)? {
                Environment::Said(text) => (None, format!("{text} (tinyfaas.toml)")),
                Environment::Found(found, file) => {
                    (Some(found), format!("{found} (there is {file})"))
                }
            },
        };
        let source = Source::Folder(folder.to_owned());
        Ok((Self { name, source, runtime, threads: None, variables: Vec::new() }, why))
    }

    /// The settings that go with the archive.
    fn settings(&self) -> Map<String, Value> {
        let mut settings = Map::new();
        if let Some(runtime) = self.runtime {
            settings.insert("env".into(), json!(runtime.name()));
        }
        if let Some(threads) = self.threads {
            settings.insert("threads".into(), json!(threads));
        }
        if !self.variables.is_empty() {
            settings.insert("envs".into(), json!(self.variables));
        }
        if let Source::Url { url, subfolder } = &self.source {
            settings.insert("url".into(), json!(url));
            if let Some(subfolder) = subfolder {
                settings.insert("subfolder_path".into(), json!(subfolder));
            }
        }
        settings
    }

    fn handlers(&self) -> String {
        let said = || match &self.source {
            Source::Folder(folder) => guess::settings(folder).threads,
            Source::Url { .. } => None,
        };
        match (self.threads, said()) {
            (Some(threads), _) => terminal::count(threads, "handler", "handlers"),
            (None, Some(1)) => "1 handler (tinyfaas.toml)".to_owned(),
            (None, Some(said)) => format!("{said} handlers (tinyfaas.toml)"),
            (None, None) => "1 handler".to_owned(),
        }
    }
}

/// Says what is about to be deployed; `why` tells where the environment is from.
pub(crate) fn announce(plan: &Plan, why: &str) {
    let from = match &plan.source {
        Source::Folder(folder) => folder.display().to_string(),
        // A URL may hold credentials.
        Source::Url { .. } => "that archive".to_owned(),
    };
    say(format!("deploying {from} as function {}: {why}, {}", plan.name, plan.handlers()));
}

/// Deploys, and shows how it goes.
///
/// # Errors
/// Why the function is not ready; one that was there before is untouched.
pub(crate) async fn deploy(server: &Server, plan: &Plan) -> Result<Deployed, Failure> {
    let began = Instant::now();
    let progress = Progress::start(format!("asking {}", server.address()));
    let about = server.about().await?;
    let mut deployed = match about {
        Some(about) => {
            let request = request(server, plan, &about, &progress).await?;
            send(server, request, &progress).await?
        }
        None => deploy_to_original(server, plan, &progress).await?,
    };
    deployed.took = began.elapsed();
    Ok(deployed)
}

/// The server's own limit of an archive, in bytes.
fn packed_bytes_max(about: &Value) -> u64 {
    about["limits"]["archive_bytes_max"].as_u64().unwrap_or(PACKED_BYTES_MAX)
}

async fn request(
    server: &Server,
    plan: &Plan,
    about: &Value,
    progress: &Progress,
) -> Result<(RequestBuilder, Option<(Arc<AtomicU64>, u64)>), Failure> {
    let settings = Value::Object(plan.settings());
    let request = server.request(Method::PUT, &format!("/v1/functions/{}", plan.name));
    let Source::Folder(folder) = &plan.source else {
        let request = request.header(CONTENT_TYPE, "application/json").body(settings.to_string());
        return Ok((request, None));
    };
    let packed = packed(folder, packed_bytes_max(about), progress).await?;
    let bytes = packed.bytes;
    let form = Multipart::new(&settings, packed.file)
        .map_err(|error| Failure::failed(format!("cannot read the archive again: {error}")))?;
    let sent = Arc::new(AtomicU64::new(0));
    let request = request.header(CONTENT_TYPE, form.content_type());
    Ok((request.body(form.into_body(Arc::clone(&sent))), Some((sent, bytes))))
}

async fn packed(
    folder: &Path,
    bytes_max: u64,
    progress: &Progress,
) -> Result<pack::Packed, Failure> {
    progress.now(format!("packing {}", folder.display()));
    let owned = folder.to_owned();
    let packed = tokio::task::spawn_blocking(move || pack::pack(&owned, bytes_max)).await;
    let packed = packed.map_err(Failure::failed)?.map_err(|error| match error {
        PackError::Empty(_) => Failure::usage(error),
        other => Failure::failed(other),
    })?;
    let files = terminal::count(packed.files, "file", "files");
    let left_out = match packed.left_out.as_slice() {
        [] => String::new(),
        names => format!(", without {}", names.join(", ")),
    };
    progress.say(&format!("packed {files}, {}{left_out}", terminal::bytes(packed.bytes)));
    Ok(packed)
}

/// Sends the request, and shows what the server says until the function is ready.
async fn send(
    server: &Server,
    (request, sending): (RequestBuilder, Option<(Arc<AtomicU64>, u64)>),
    progress: &Progress,
) -> Result<Deployed, Failure> {
    let request = request.header(
        ACCEPT,
        HeaderValue::from_static("application/x-ndjson, application/problem+json;q=0.5"),
    );
    progress.now("waiting for the server");
    let answer = server.v1(request);
    tokio::pin!(answer);
    let response = loop {
        tokio::select! {
            answer = &mut answer => break answer?,
            () = tokio::time::sleep(SENT_TICK), if sending.is_some() => {
                if let Some((sent, bytes)) = &sending {
                    progress.now(sent_of(sent.load(Ordering::Relaxed), *bytes));
                }
            }
        }
    };
    let Some(response) = response else {
        return Err(original::not_offered(server, "it has no /v1/functions"));
    };
    let created = response.status() == StatusCode::CREATED;
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/json")) {
        let function = server.json(response).await?;
        return Ok(Deployed { function, replaced: Some(!created), took: Duration::ZERO });
    }
    follow(Lines::of(response, server.address()), progress).await
}

fn sent_of(sent: u64, bytes: u64) -> String {
    if sent >= bytes {
        return "waiting for the server".to_owned();
    }
    format!("sending {} of {}", terminal::bytes(sent), terminal::bytes(bytes))
}

/// Shows events until the last one.
async fn follow(mut lines: Lines, progress: &Progress) -> Result<Deployed, Failure> {
    let paint = Paint::stderr();
    let mut shown = false;
    while let Some(line) = lines.next().await? {
        let mut event: Value = serde_json::from_str(&line).unwrap_or_default();
        match event["event"].as_str().unwrap_or_default() {
            "output" => {
                shown = true;
                let text = terminal::tame(event["text"].as_str().unwrap_or_default());
                progress.say(&paint.of(Style::Dim, &format!("  {}", text.trim_end())));
            }
            "ready" => {
                let (function, replaced) = (event["function"].clone(), event["replaced"].as_bool());
                return Ok(Deployed { function, replaced, took: Duration::ZERO });
            }
            "failed" => {
                if shown && let Some(event) = event.as_object_mut() {
                    // It stands above.
                    event.remove("output");
                }
                return Err(failure_of_problem(&event, StatusCode::INTERNAL_SERVER_ERROR));
            }
            "queued" => progress.now("waiting for another deploy of this function"),
            "starting" => progress.now("starting its handlers"),
            step => {
                // What later servers may add is shown by its name.
                let step = terminal::tame(step);
                if !step.is_empty() {
                    progress.now(step);
                }
            }
        }
    }
    Err(Failure::new(
        Code::Unreachable,
        "the server ended its answer before the function was ready; what became of it: tinyfaas list",
    ))
}

async fn deploy_to_original(
    server: &Server,
    plan: &Plan,
    progress: &Progress,
) -> Result<Deployed, Failure> {
    progress.say("the server is an older tinyFaaS: its answer comes when all is done");
    let mut fields = plan.settings();
    fields.insert("name".into(), json!(plan.name.as_str()));
    // It needs them said.
    fields.entry("threads").or_insert_with(|| json!(1));
    if plan.runtime.is_none() {
        let said = match &plan.source {
            Source::Folder(folder) => guess::settings(folder).environment,
            Source::Url { .. } => None,
        };
        let said = said.ok_or_else(|| {
            Failure::usage("an older tinyFaaS must be told the environment: --env ENV")
        })?;
        fields.insert("env".into(), json!(said));
    }
    let archive = match &plan.source {
        Source::Folder(folder) => Some(packed(folder, PACKED_BYTES_MAX, progress).await?.file),
        Source::Url { .. } => {
            fields.entry("subfolder_path").or_insert_with(|| json!("/"));
            None
        }
    };
    progress.now("waiting for the server");
    let words = original::upload(server, &Value::Object(fields), archive).await?;
    let urls: Map<String, Value> = words
        .lines()
        .filter_map(|line| Some((line.split_once("://")?.0.to_owned(), json!(line.trim()))))
        .collect();
    let function = json!({"name": plan.name.as_str(), "urls": urls});
    Ok(Deployed { function, replaced: None, took: Duration::ZERO })
}
