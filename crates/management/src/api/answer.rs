//! Answers, and the one place where an error becomes a status.
//!
//! Owns bodies, content types and the mapping of every operation's errors. What
//! goes wrong is told as plain lines, or as RFC 9457 problem details where
//! `Accept` names JSON.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tinyfaas_model::{BuildError, DeployError};

use crate::archive::UnpackError;
use crate::download::DownloadError;
use crate::logs::LogReader;
use crate::manager::{DeleteError, UploadError};
use crate::request::RequestError;
use crate::settings::SettingsError;
use crate::spool::SpoolError;
use crate::upload_body::BodyFormError;

use super::Call;
use super::body::BodyReadError;
use super::guard::GuardError;

/// When to try again where all places are taken, in seconds.
const RETRY_AFTER_SECONDS: u32 = 2;

/// How errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Problem,
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    detail: String,
    allow: Option<&'static str>,
    retry_after_seconds: Option<u32>,
}

/// The bytes of an answer.
pub(super) enum AnswerBody {
    Text(Full<Bytes>),
    Log(LogBody),
}

/// A log that is read as it is sent.
pub(super) struct LogBody(ReadLog);

type ReadLog = Pin<Box<dyn Future<Output = (LogReader, io::Result<Option<Bytes>>)> + Send>>;

/// A successful answer of plain text.
pub(super) fn text(text: String) -> Response<AnswerBody> {
    plain(AnswerBody::Text(Full::from(text)))
}

/// A successful answer of one line for each item.
pub(super) fn lines(items: impl IntoIterator<Item = impl Display>) -> Response<AnswerBody> {
    text(items.into_iter().map(|item| format!("{item}\n")).collect())
}

/// A successful answer that is a log.
pub(super) fn log(reader: LogReader) -> Response<AnswerBody> {
    plain(AnswerBody::Log(LogBody(read(reader))))
}

fn plain(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What functions print is theirs: no browser shall take it for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn read(mut reader: LogReader) -> ReadLog {
    Box::pin(async move {
        let piece = reader.next().await;
        (reader, piece)
    })
}

impl Format {
    /// What the client asks for.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let names_json = headers.get_all(ACCEPT).iter().any(|accept| {
            String::from_utf8_lossy(accept.as_bytes()).split(',').any(|range| {
                let media = range.split(';').next().unwrap_or_default().trim();
                media.eq_ignore_ascii_case("application/json")
                    || media.eq_ignore_ascii_case("application/problem+json")
            })
        });
        if names_json { Self::Problem } else { Self::Plain }
    }
}

impl Refusal {
    fn new(status: StatusCode, detail: impl Display) -> Self {
        Self { status, detail: detail.to_string(), allow: None, retry_after_seconds: None }
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
        let calls: Vec<String> = Call::ALL
            .iter()
            .map(|call| format!("  {} {}", call.allow().replace(", HEAD", ""), call.path()))
            .collect();
        let detail = format!("there is no {path:?} here; there are\n{}", calls.join("\n"));
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn wrong_method(path: &str, method: &Method, allow: &'static str) -> Self {
        let detail = format!("{path} does not take {method}; use {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
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

    pub(super) fn into_response(self, format: Format) -> Response<AnswerBody> {
        let mut response = match format {
            Format::Plain => text(format!("{}\n", self.detail.trim_end())),
            Format::Problem => text(self.problem()),
        };
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if format == Format::Problem {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }

    /// RFC 9457; without a type of its own the title is the status's.
    fn problem(&self) -> String {
        let title = self.status.canonical_reason().unwrap_or_default();
        let (status, detail) = (self.status.as_u16(), self.detail.trim_end());
        serde_json::json!({ "title": title, "status": status, "detail": detail }).to_string()
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
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull,
            _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => Self::OutOfFiles,
            _ => Self::Other,
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
            | RequestError::Name(_)
            | RequestError::UnknownRuntime { .. }
            | RequestError::Threads { .. }
            | RequestError::Env { .. }
            | RequestError::Subfolder(_) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error)
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
        Self::of_error(status, &error)
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
        DownloadError::BadUrl(_) | DownloadError::NotAZip { .. } => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        DownloadError::Failed { .. } | DownloadError::Status { .. } => StatusCode::BAD_GATEWAY,
        DownloadError::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        DownloadError::Spool(spool) => status_of_spool(spool),
    }
}

fn status_of_unpack(error: &UnpackError) -> StatusCode {
    match error {
        UnpackError::NotAZip(_) => StatusCode::BAD_REQUEST,
        UnpackError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        UnpackError::Refused { .. } | UnpackError::NoSubfolder { .. } | UnpackError::Empty => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        UnpackError::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        UnpackError::Io { source, .. } => status_of_io(source),
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

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Log(LogBody(reading)) => {
                let Poll::Ready((reader, piece)) = reading.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                *reading = read(reader);
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)).transpose())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Log(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Log(_) => SizeHint::default(),
        }
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
        assert_eq!(Format::of(&headers), expected, "{accept:?}");
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
