//! What is refused, and the one place where an error becomes a status.
//!
//! Owns the mapping of every operation's errors. What goes wrong is told as plain
//! lines, or as RFC 9457 problem details: always in the JSON API, elsewhere where
//! `Accept` names JSON.

use std::error::Error;
use std::fmt::Display;
use std::io;

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Serialize;
use tinyfaas_model::{BuildError, CallState, DeployError};

use crate::archive::UnpackError;
use crate::download::DownloadError;
use crate::logs::LogError;
use crate::manager::{DeleteError, UploadError};
use crate::request::RequestError;
use crate::settings::SettingsError;
use crate::shown::shown;
use crate::spool::SpoolError;
use crate::upload_body::BodyFormError;

use super::answer::{self, AnswerBody};
use super::body::BodyReadError;
use super::guard::GuardError;
use super::query::QueryError;
use super::routes::{self, Operation};

/// When to try again where all places are taken, in seconds.
const RETRY_AFTER_SECONDS: u32 = 2;

/// How errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines of text.
    Plain,
    /// Problem details, with all that there is to say in `detail`.
    Problem,
    /// Problem details, with members of their own for what has a structure.
    Members,
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    /// What a build or a start printed.
    output: Option<String>,
    /// Names that may have been meant.
    suggestions: Vec<String>,
    allow: Option<String>,
    retry_after_seconds: Option<u32>,
}

/// RFC 9457; without a type of its own the title is the status's.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub(super) struct Problem {
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// The end of what the build, or the function at its start, has printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// Names that may have been meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suggestions: Vec<String>,
}

impl Format {
    /// What the client asks for.
    pub(super) fn of(path: &str, headers: &HeaderMap) -> Self {
        if routes::is_json_api(path) {
            return Self::Members;
        }
        if names_json(headers) { Self::Problem } else { Self::Plain }
    }
}

/// Whether the client asks for JSON by its name.
pub(super) fn names_json(headers: &HeaderMap) -> bool {
    ["application/json", "application/problem+json"]
        .into_iter()
        .any(|media| answer::names(headers, ACCEPT, media))
}

impl Refusal {
    fn new(status: StatusCode, detail: impl Display) -> Self {
        Self {
            status,
            detail: detail.to_string(),
            output: None,
            suggestions: Vec::new(),
            allow: None,
            retry_after_seconds: None,
        }
    }

    /// What an operator can do stands behind what the system says.
    fn of_error(status: StatusCode, error: &(dyn Error + 'static)) -> Self {
        let mut refusal = Self::new(status, error);
        let mut cause = Some(error);
        let mut io = None;
        while let Some(error) = cause {
            io = error.downcast_ref::<io::Error>().or(io);
            cause = error.source();
        }
        refusal.detail.push_str(match io.map(ServerTrouble::of) {
            Some(ServerTrouble::DiskFull) => "; free some space on the server's disk and try again",
            Some(ServerTrouble::OutOfFiles) => {
                "; the server may have no more files open: delete functions, or raise its limit \
                 (ulimit -n, or LimitNOFILE= of its systemd unit)"
            }
            Some(ServerTrouble::Other) | None => "",
        });
        refusal
    }

    pub(super) fn no_such_path(path: &str) -> Self {
        let calls: Vec<String> = Operation::ALL
            .iter()
            .map(|operation| {
                let (method, path) = operation.route();
                format!("  {method} {path}")
            })
            .collect();
        let detail = format!("there is no {path:?} here; there are\n{}", calls.join("\n"));
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn wrong_method(path: &str, method: &Method, allow: String) -> Self {
        let detail = format!("{path} does not take {method}; use {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    /// No function has this name; those have names near it.
    pub(super) fn unknown_function(name: &str, near: Vec<String>) -> Self {
        let mut detail = format!("there is no function {}", shown(name.as_bytes()));
        match near.as_slice() {
            [] => detail.push_str("; GET /v1/functions lists those that there are"),
            near => detail.push_str(&format!("; is {} meant?", near.join(" or "))),
        }
        Self { suggestions: near, ..Self::new(StatusCode::NOT_FOUND, detail) }
    }

    pub(super) fn unknown_content_type(media: &str) -> Self {
        let detail = format!(
            "a body of type {} is not taken here; send a zip or tar.gz as application/zip, \
             application/gzip or application/octet-stream (curl --upload-file does), a form as \
             multipart/form-data, or JSON with a \"url\" as application/json",
            shown(media.as_bytes())
        );
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
    }

    pub(super) fn unknown_call(id: &str) -> Self {
        let id = shown(id.as_bytes());
        let detail = format!("there is no call {id}, or it is forgotten; GET /v1/calls lists them");
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn call_has_ended(state: CallState) -> Self {
        let detail = format!("the call has ended already, it has {}", state.name());
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub(super) fn no_such_function(name: String) -> Self {
        DeleteError::Unknown { name }.into()
    }

    pub(super) fn too_many_uploads(uploads_max: usize) -> Self {
        let detail = format!("{uploads_max} uploads are under way already; try again later");
        Self {
            retry_after_seconds: Some(RETRY_AFTER_SECONDS),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        }
    }

    /// Takes the output, which ends the text, out of it.
    fn with_output(mut self, output: String) -> Self {
        if let Some(text) = self.detail.strip_suffix(output.as_str()) {
            self.detail = text.trim_end().to_owned();
            self.output = Some(output);
        }
        self
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn into_response(self, format: Format) -> Response<AnswerBody> {
        let (status, allow, retry_after_seconds) =
            (self.status, self.allow.clone(), self.retry_after_seconds);
        let mut response = match format {
            Format::Plain => answer::text(format!("{}\n", self.whole_text().trim_end())),
            Format::Problem | Format::Members => {
                let mut response = answer::json(&self.into_problem(format));
                let problem = HeaderValue::from_static("application/problem+json");
                response.headers_mut().insert(CONTENT_TYPE, problem);
                response
            }
        };
        *response.status_mut() = status;
        let headers = response.headers_mut();
        if let Some(allow) = allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if let Some(seconds) = retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// As problem details.
    pub(super) fn into_problem(self, format: Format) -> Problem {
        let (title, status) =
            (self.status.canonical_reason().unwrap_or_default(), self.status.as_u16());
        match format {
            Format::Plain | Format::Problem => {
                let detail = self.whole_text().trim_end().to_owned();
                Problem { title, status, detail, output: None, suggestions: Vec::new() }
            }
            Format::Members => Problem {
                title,
                status,
                detail: self.detail,
                output: self.output,
                suggestions: self.suggestions,
            },
        }
    }

    fn whole_text(&self) -> String {
        match &self.output {
            Some(output) => format!("{}\n{output}", self.detail),
            None => self.detail.clone(),
        }
    }
}

/// What the system has refused the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ServerTrouble {
    DiskFull,
    OutOfFiles,
    Other,
}

impl ServerTrouble {
    fn of(error: &io::Error) -> Self {
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        // An error that says where it happened has the system's own behind it.
        let behind = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => Self::OutOfFiles,
            _ => behind.map_or(Self::Other, Self::of),
        }
    }
}

/// What is full or used up is the operator's to mend, anything else ours.
fn status_of_io(error: &io::Error) -> StatusCode {
    match ServerTrouble::of(error) {
        ServerTrouble::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ServerTrouble::OutOfFiles => StatusCode::SERVICE_UNAVAILABLE,
        ServerTrouble::Other => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<GuardError> for Refusal {
    fn from(error: GuardError) -> Self {
        let status = match error {
            GuardError::NoHost => StatusCode::BAD_REQUEST,
            GuardError::ForeignHost { .. } | GuardError::ForeignOrigin { .. } => {
                StatusCode::FORBIDDEN
            }
        };
        Self::new(status, error)
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        let status = match error {
            QueryError::Unknown { .. } | QueryError::Twice { .. } => StatusCode::BAD_REQUEST,
            QueryError::Value { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error)
    }
}

impl From<BodyReadError> for Refusal {
    fn from(error: BodyReadError) -> Self {
        let status = match &error {
            BodyReadError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyReadError::Silent { .. } | BodyReadError::Slow { .. } => {
                StatusCode::REQUEST_TIMEOUT
            }
            BodyReadError::CutOff | BodyReadError::Broken(_) => StatusCode::BAD_REQUEST,
            BodyReadError::Form(form) => match form {
                BodyFormError::ZipTwice | BodyFormError::NotBase64(_) | BodyFormError::CutOff => {
                    StatusCode::BAD_REQUEST
                }
                BodyFormError::RestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            },
            BodyReadError::Parts(_) => StatusCode::BAD_REQUEST,
            BodyReadError::Spool(spool) => status_of_spool(spool),
            BodyReadError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::of_error(status, &error)
    }
}

fn status_of_spool(error: &SpoolError) -> StatusCode {
    match error {
        SpoolError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        SpoolError::Io { source, .. } => status_of_io(source),
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let status = match error {
            RequestError::Empty
            | RequestError::NotJson(_)
            | RequestError::CutOff
            | RequestError::TooDeep
            | RequestError::NoObject => StatusCode::BAD_REQUEST,
            RequestError::Missing { .. }
            | RequestError::WrongKind { .. }
            | RequestError::ArchiveAndUrl
            | RequestError::Name(_)
            | RequestError::UnknownRuntime { .. }
            | RequestError::Threads { .. }
            | RequestError::Env { .. }
            | RequestError::Subfolder(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::of_error(status, &error)
    }
}

impl From<UploadError> for Refusal {
    fn from(error: UploadError) -> Self {
        let status = match &error {
            UploadError::Download(download) => status_of_download(download),
            UploadError::Unpack(unpack) => status_of_unpack(unpack),
            UploadError::Settings(settings) => status_of_settings(settings),
            UploadError::Build(build) => match build {
                BuildError::RuntimeMissing { .. } => StatusCode::SERVICE_UNAVAILABLE,
                BuildError::InvalidFunction(_) | BuildError::InstallFailed { .. } => {
                    StatusCode::UNPROCESSABLE_ENTITY
                }
                BuildError::Io { source, .. } => status_of_io(source),
            },
            UploadError::Start(start) => match start {
                DeployError::StartFailed { .. } | DeployError::StartTimedOut { .. } => {
                    StatusCode::UNPROCESSABLE_ENTITY
                }
                DeployError::Io { source, .. } => status_of_io(source),
                DeployError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            },
            UploadError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            UploadError::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let refusal = Self::of_error(status, &error);
        match output_of(error) {
            Some(output) => refusal.with_output(output),
            None => refusal,
        }
    }
}

/// What was printed by what went wrong.
fn output_of(error: UploadError) -> Option<String> {
    match error {
        UploadError::Build(BuildError::InstallFailed { output, .. })
        | UploadError::Start(
            DeployError::StartFailed { output, .. } | DeployError::StartTimedOut { output, .. },
        ) => Some(output).filter(|output| !output.is_empty()),
        _ => None,
    }
}

fn status_of_settings(error: &SettingsError) -> StatusCode {
    match error {
        SettingsError::Mistakes(_)
        | SettingsError::TooLarge
        | SettingsError::NotUtf8
        | SettingsError::Folder
        | SettingsError::NoRuntime
        | SettingsError::CgiElsewhere { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        SettingsError::Io(source) => status_of_io(source),
    }
}

fn status_of_download(error: &DownloadError) -> StatusCode {
    match error {
        DownloadError::BadUrl(_) | DownloadError::NoArchive { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        DownloadError::Failed { .. } | DownloadError::Status { .. } => StatusCode::BAD_GATEWAY,
        DownloadError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        DownloadError::Spool(spool) => status_of_spool(spool),
    }
}

fn status_of_unpack(error: &UnpackError) -> StatusCode {
    match error {
        UnpackError::NoArchive(_) => StatusCode::BAD_REQUEST,
        UnpackError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        UnpackError::Refused { .. } | UnpackError::NoSubfolder { .. } | UnpackError::Empty => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        UnpackError::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        UnpackError::Io { source, .. } => status_of_io(source),
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unknown => Self::new(StatusCode::NOT_FOUND, error),
            LogError::TooManyFollowers { .. } => Self {
                retry_after_seconds: Some(RETRY_AFTER_SECONDS),
                ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
            },
        }
    }
}

impl From<DeleteError> for Refusal {
    fn from(error: DeleteError) -> Self {
        let status = match error {
            DeleteError::Unknown { .. } => StatusCode::NOT_FOUND,
            DeleteError::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &[&str], expected: Format) {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        assert_eq!(Format::of("/list", &headers), expected, "{accept:?}");
    }

    #[test]
    fn json_is_told_where_it_is_named() {
        check(&[], Format::Plain);
        check(&["*/*"], Format::Plain);
        check(&["text/plain", "image/png"], Format::Plain);
        check(&["text/html, Application/JSON;q=0.5"], Format::Problem);
        check(&["text/html", "application/problem+json"], Format::Problem);
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let status = |code| status_of_io(&io::Error::from_raw_os_error(code));
        assert_eq!(status(28), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(status(122), StatusCode::INSUFFICIENT_STORAGE);
        assert_eq!(status(24), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(13), StatusCode::INTERNAL_SERVER_ERROR);
        let told = |code| {
            let source = io::Error::from_raw_os_error(code);
            let error = SpoolError::Io { what: "writing".to_owned(), source };
            Refusal::from(BodyReadError::Spool(error)).detail
        };
        assert!(told(28).ends_with("free some space on the server's disk and try again"));
        assert!(told(24).contains("raise its limit (ulimit -n"), "{}", told(24));
        assert_eq!(told(13), "writing: Permission denied (os error 13)");
    }
}
