//! Every way in which an HTTP request ends without a function's reply, and its
//! status.
//!
//! Owns the one mapping of [`InvokeError`] to HTTP. Must not know how a call is
//! run.

use std::time::Duration;

use ::http::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use tinyfaas_model::{Body, BodyError, CallOutcome, InvokeError, NameError};

use crate::asynchronous::AskError;
use crate::connections::seconds;

/// Why a request is not answered by a function.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// It never became a call.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It asks for an asynchronous call, and there is no answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The call has no reply.
    #[error(transparent)]
    Invoke(#[from] InvokeError),
}

/// Why a request never became a call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the path names no function; call one at /NAME")]
    NoName,
    #[error("no function can have that name: {0}")]
    BadName(NameError),
    #[error("this is no proxy: CONNECT is not served; call a function at /NAME")]
    Connect,
    #[error("an HTTP/1.1 request must have exactly one Host header (RFC 9112, section 3.2)")]
    Host,
    #[error(
        "the request has both Transfer-Encoding and Content-Length; send one of them \
         (RFC 9112, section 6.1)"
    )]
    TwoLengths,
    #[error("the request has {lines} header lines; at most {limit} are allowed")]
    TooManyHeaders { lines: usize, limit: usize },
    #[error("nothing is served there; an asynchronous call is asked for at /.tinyfaas/calls/ID")]
    NothingThere,
    #[error("that method means nothing here; use one of: {allowed}")]
    BadMethod { allowed: &'static str },
}

impl CallError {
    /// How a call is counted that is not answered by its function.
    pub(super) fn outcome(&self) -> CallOutcome {
        match self {
            Self::Invoke(error) => CallOutcome::of_error(error),
            // What was asked for was no call that a function could run.
            Self::Refused(_) | Self::Ask(_) => CallOutcome::RequestBroken,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refused) => match refused {
                Refused::NoName | Refused::BadName(_) | Refused::NothingThere => {
                    StatusCode::NOT_FOUND
                }
                Refused::BadMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
                Refused::Connect => StatusCode::NOT_IMPLEMENTED,
                Refused::Host | Refused::TwoLengths => StatusCode::BAD_REQUEST,
                Refused::TooManyHeaders { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            },
            Self::Ask(error) => match error {
                AskError::UnknownCall => StatusCode::NOT_FOUND,
                AskError::BadWait { .. } => StatusCode::BAD_REQUEST,
                AskError::NotEnded(_) | AskError::TooLate(_) => StatusCode::CONFLICT,
                AskError::NoResult(_) => StatusCode::GONE,
            },
            Self::Invoke(error) => match error {
                InvokeError::NotFound { .. } => StatusCode::NOT_FOUND,
                InvokeError::FunctionBusy { .. } => StatusCode::TOO_MANY_REQUESTS,
                InvokeError::ServerBusy { .. }
                | InvokeError::Unavailable { .. }
                | InvokeError::Stopping => StatusCode::SERVICE_UNAVAILABLE,
                InvokeError::DeadlineExceeded { .. } => StatusCode::GATEWAY_TIMEOUT,
                InvokeError::Crashed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
                InvokeError::ReplyBroken { .. } => StatusCode::BAD_GATEWAY,
                InvokeError::Request(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
                InvokeError::Request(BodyError::TimedOut) => StatusCode::REQUEST_TIMEOUT,
                InvokeError::Request(BodyError::Broken(_)) => StatusCode::BAD_REQUEST,
            },
        }
    }

    /// When to try again, where that makes sense.
    fn retry_after(&self, otherwise: Duration) -> Option<Duration> {
        match self {
            Self::Invoke(
                InvokeError::FunctionBusy { retry_after, .. }
                | InvokeError::ServerBusy { retry_after, .. }
                | InvokeError::Unavailable { retry_after, .. },
            ) => Some(*retry_after),
            Self::Invoke(InvokeError::Stopping) | Self::Ask(AskError::NotEnded(_)) => {
                Some(otherwise)
            }
            Self::Refused(_) | Self::Ask(_) | Self::Invoke(_) => None,
        }
    }

    /// Whether what the caller still sends is of no use to anybody.
    pub(super) fn closes(&self) -> bool {
        match self {
            Self::Refused(Refused::Host | Refused::TwoLengths | Refused::TooManyHeaders { .. }) => {
                true
            }
            Self::Invoke(error) => {
                matches!(error, InvokeError::Request(_) | InvokeError::Stopping)
            }
            Self::Refused(_) | Self::Ask(_) => false,
        }
    }
}

/// How an error is told: what the request says of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// As problem details (RFC 9457) instead of plain text.
    json: bool,
    /// A Connection header means something in this version.
    h1: bool,
}

impl Manner {
    /// `accept` tells whether there is such a header at all.
    pub(super) fn of(version: Version, headers: &HeaderMap, accept: bool) -> Self {
        let json = accept && headers.get_all(ACCEPT).iter().any(names_json);
        Self { json, h1: version < Version::HTTP_2 }
    }
}

/// The response for an error. `read`: the request's body was read whole, so its
/// connection may be used again.
pub(super) fn respond(
    error: &CallError,
    manner: Manner,
    read: bool,
    otherwise: Duration,
) -> Response<Body> {
    let status = error.status();
    let sentence = error.to_string();
    let (kind, text) = if manner.json {
        ("application/problem+json", problem(status, &sentence))
    } else {
        ("text/plain; charset=utf-8", sentence + "\n")
    };
    let mut response = Response::new(Body::from_bytes(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(wait) = error.retry_after(otherwise) {
        headers.insert(RETRY_AFTER, seconds(wait));
    }
    if let CallError::Refused(Refused::BadMethod { allowed }) = error {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if manner.h1 && (!read || error.closes()) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn names_json(value: &HeaderValue) -> bool {
    value.as_bytes().split(|byte| *byte == b',').any(|range| {
        let kind = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        kind.eq_ignore_ascii_case(b"application/json")
            || kind.eq_ignore_ascii_case(b"application/problem+json")
    })
}

fn problem(status: StatusCode, detail: &str) -> String {
    let title = status.canonical_reason().unwrap_or_default();
    let detail = json_text(detail);
    format!("{{\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\"}}\n", status.as_u16())
}

/// The text as it stands within a JSON string (RFC 8259, section 7).
fn json_text(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_names_json_only_by_its_name() {
        for (accept, expected) in [
            ("*/*", false),
            ("text/html, application/json;q=0.9", true),
            ("application/Problem+JSON", true),
            ("application/jsonl", false),
            ("", false),
        ] {
            assert_eq!(names_json(&HeaderValue::from_static(accept)), expected, "{accept}");
        }
    }

    #[test]
    fn a_problem_is_valid_json_whatever_the_sentence() {
        assert_eq!(
            problem(StatusCode::NOT_FOUND, "no \"a\\b\"\n"),
            "{\"title\":\"Not Found\",\"status\":404,\
             \"detail\":\"no \\\"a\\\\b\\\"\\u000a\"}\n"
        );
    }
}
