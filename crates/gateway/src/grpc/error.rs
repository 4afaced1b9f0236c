//! Every way in which a gRPC call ends without a reply, and its code.
//!
//! Owns the one mapping of [`InvokeError`] to gRPC
//! (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>), and that of the
//! statuses that functions set. Must not know how a call is run.

use std::time::Duration;

use ::http::{HeaderName, HeaderValue, StatusCode};
use tinyfaas_model::{BodyError, CallOutcome, InvokeError, NameError};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::asynchronous::AskError;

/// When to try again, in milliseconds: clients that retry go by it
/// (<https://github.com/grpc/proposal/blob/master/A6-client-retries.md>).
static PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// What a function may say in a status, in bytes: it travels as a header, threefold
/// where every byte must be escaped, and many clients take 8 KiB of those.
const MESSAGE_BYTES_MAX: usize = 2 << 10;

/// Why a call is not answered by a function's reply.
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
    /// There is a reply, but it is no answer.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// Why a request never became a call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the request names no function; its name is the first field")]
    NoName,
    #[error("no function can have that name: {0}")]
    BadName(NameError),
    #[error("grpc-timeout is {value:?}; it must be up to 8 digits and a unit, as in 500m or 30S")]
    BadTimeout { value: String },
    #[error("the call has {lines} headers; at most {limit} are allowed")]
    TooManyHeaders { lines: usize, limit: usize },
    #[error("the call's headers, path and method are longer than {limit_bytes} bytes")]
    HeadTooLarge { limit_bytes: u32 },
    #[error("{name:?} is no header, or its value is none (RFC 9110 section 5)")]
    BadHeader { name: String },
    #[error("{method:?} is no method (RFC 9110 section 9.1); it may be left out")]
    BadMethod { method: String },
    #[error(
        "{path:?} is no path; it starts with / or ?, or is empty, and what has a meaning in it \
         is percent-encoded"
    )]
    BadPath { path: String },
    #[error("the first message has no head; send one that has, then the body")]
    NoHead,
    #[error("there is a second head; after the first one only body may come")]
    SecondHead,
    #[error("{service:?} has no method {method:?}; it has {served}")]
    NoMethod { service: String, method: String, served: String },
    #[error("no service {service:?} is served here; there are {served}")]
    NoService { service: String, served: String },
    #[error("the request has no message, and this method takes one")]
    NoMessage,
    #[error("the request's message is cut off: it is shorter than it says")]
    CutOff,
    #[error("the request has more than the one message that this method takes")]
    SecondMessage,
    #[error("a panic ended the call; that is a defect of the server, whose log has more of it")]
    Panicked,
}

/// Why a function's reply is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    /// The function raised an error.
    #[error("{text}")]
    Raised { text: String },
    /// The function answered with an error status, which version 1 cannot carry.
    #[error("{text}")]
    Status { status: StatusCode, text: String },
    #[error(
        "the function's reply is not UTF-8, which version 1 cannot carry; call it by Invoke of \
         tinyfaas.v2, whose replies are bytes"
    )]
    NotText,
    #[error(
        "the function's reply is larger than the {limit_bytes} bytes that a message may have; \
         call it by InvokeStream of tinyfaas.v2, over HTTP, or raise grpc-message-max"
    )]
    TooLarge { limit_bytes: usize },
    #[error("the server is busy: bodies take as much memory as they may; try again later")]
    NoRoom { retry_after: Duration },
}

impl CallError {
    /// How a call is counted that ends so.
    pub(super) fn outcome(&self) -> CallOutcome {
        match self {
            Self::Invoke(error) => CallOutcome::of_error(error),
            Self::Refused(_) | Self::Ask(_) => CallOutcome::RequestBroken,
            Self::Reply(error) => match error {
                ReplyError::Raised { .. } => CallOutcome::Failed,
                ReplyError::Status { .. } => CallOutcome::Succeeded,
                ReplyError::NotText | ReplyError::TooLarge { .. } => CallOutcome::ReplyBroken,
                ReplyError::NoRoom { .. } => CallOutcome::ReplyBroken,
            },
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Refused(refused) => match refused {
                Refused::NoName
                | Refused::BadName(_)
                | Refused::BadTimeout { .. }
                | Refused::BadHeader { .. }
                | Refused::BadMethod { .. }
                | Refused::BadPath { .. }
                | Refused::NoHead
                | Refused::SecondHead
                | Refused::NoMessage
                | Refused::CutOff => Code::InvalidArgument,
                Refused::TooManyHeaders { .. } | Refused::HeadTooLarge { .. } => {
                    Code::ResourceExhausted
                }
                Refused::NoMethod { .. } | Refused::NoService { .. } | Refused::SecondMessage => {
                    Code::Unimplemented
                }
                Refused::Panicked => Code::Internal,
            },
            Self::Ask(error) => match error {
                AskError::UnknownCall | AskError::NoResult(_) => Code::NotFound,
                AskError::BadWait { .. } => Code::InvalidArgument,
                AskError::NotEnded(_) | AskError::TooLate(_) => Code::FailedPrecondition,
            },
            Self::Invoke(error) => code_of(error),
            Self::Reply(error) => match error {
                ReplyError::Raised { .. } | ReplyError::NotText => Code::Internal,
                ReplyError::Status { status, .. } => code_of_status(*status),
                ReplyError::TooLarge { .. } | ReplyError::NoRoom { .. } => Code::ResourceExhausted,
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
            // What has run is not to be run again unasked.
            Self::Refused(_) | Self::Ask(_) | Self::Invoke(_) | Self::Reply(_) => None,
        }
    }

    /// The status that tells it.
    pub(super) fn status(&self, otherwise: Duration) -> Status {
        let mut metadata = MetadataMap::new();
        if let Some(wait) = self.retry_after(otherwise) {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let mut headers = metadata.into_headers();
            headers.insert(&PUSHBACK, HeaderValue::from(millis));
            metadata = MetadataMap::from_headers(headers);
        }
        Status::with_metadata(self.code(), clipped(self.to_string()), metadata)
    }
}

/// UNAVAILABLE says that nothing has run: clients try that again by themselves.
pub(super) fn code_of(error: &InvokeError) -> Code {
    match error {
        InvokeError::NotFound { .. } => Code::NotFound,
        InvokeError::FunctionBusy { .. } | InvokeError::ServerBusy { .. } => {
            Code::ResourceExhausted
        }
        InvokeError::Unavailable { .. } | InvokeError::Stopping => Code::Unavailable,
        InvokeError::DeadlineExceeded { .. } => Code::DeadlineExceeded,
        InvokeError::Crashed { .. } | InvokeError::ReplyBroken { .. } => Code::Internal,
        InvokeError::Request(BodyError::TooLarge { .. }) => Code::ResourceExhausted,
        InvokeError::Request(BodyError::TimedOut) => Code::DeadlineExceeded,
        InvokeError::Request(BodyError::Broken(_)) => Code::InvalidArgument,
    }
}

/// The code for an error status that a function has set. Never UNAVAILABLE: the
/// function has run.
fn code_of_status(status: StatusCode) -> Code {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidArgument,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND | StatusCode::GONE => Code::NotFound,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
        StatusCode::CONFLICT => Code::Aborted,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
        StatusCode::RANGE_NOT_SATISFIABLE => Code::OutOfRange,
        StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
        other if other.is_client_error() => Code::FailedPrecondition,
        _ => Code::Internal,
    }
}

/// No more of a stranger's words than a status can carry.
fn clipped(mut words: String) -> String {
    if words.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX;
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        words.truncate(end);
        words.push_str(" …");
    }
    words
}

#[cfg(test)]
mod tests {
    use tinyfaas_model::CallState;

    use super::*;

    fn check(error: impl Into<CallError>, code: Code, pushback: Option<&str>) {
        let error = error.into();
        let status = error.status(Duration::from_secs(7));
        assert_eq!(status.code(), code, "{error}");
        let found = status.metadata().get("grpc-retry-pushback-ms");
        assert_eq!(found.map(|value| value.to_str().unwrap_or_default()), pushback, "{error}");
        assert!(!status.message().is_empty(), "{code:?}");
    }

    #[test]
    fn errors_have_their_codes() {
        let (name, retry_after) = ("f".to_owned(), Duration::from_millis(1500));
        check(InvokeError::NotFound { name: name.clone() }, Code::NotFound, None);
        let busy = InvokeError::FunctionBusy { name, limit: 1, retry_after };
        check(busy, Code::ResourceExhausted, Some("1500"));
        let busy = InvokeError::ServerBusy { what: "too much", retry_after };
        check(busy, Code::ResourceExhausted, Some("1500"));
        let reason = "it dies".to_owned();
        check(InvokeError::Unavailable { reason, retry_after }, Code::Unavailable, Some("1500"));
        check(InvokeError::Stopping, Code::Unavailable, Some("7000"));
        let late = InvokeError::DeadlineExceeded { after: retry_after };
        check(late, Code::DeadlineExceeded, None);
        check(InvokeError::Crashed { how: "signal 9".into() }, Code::Internal, None);
        check(InvokeError::ReplyBroken { how: "no".into() }, Code::Internal, None);
        let large = BodyError::TooLarge { limit_bytes: 1 };
        check(InvokeError::Request(large), Code::ResourceExhausted, None);
        check(InvokeError::Request(BodyError::TimedOut), Code::DeadlineExceeded, None);
        let broken = BodyError::Broken("no".into());
        check(InvokeError::Request(broken), Code::InvalidArgument, None);
        check(Refused::NoName, Code::InvalidArgument, None);
        check(Refused::BadName(NameError::Empty), Code::InvalidArgument, None);
        check(Refused::BadTimeout { value: "x".into() }, Code::InvalidArgument, None);
        check(Refused::TooManyHeaders { lines: 2, limit: 1 }, Code::ResourceExhausted, None);
        check(Refused::HeadTooLarge { limit_bytes: 1 }, Code::ResourceExhausted, None);
        check(Refused::BadHeader { name: "a b".into() }, Code::InvalidArgument, None);
        check(Refused::BadMethod { method: "a b".into() }, Code::InvalidArgument, None);
        check(Refused::BadPath { path: "a b".into() }, Code::InvalidArgument, None);
        check(Refused::NoHead, Code::InvalidArgument, None);
        check(Refused::SecondHead, Code::InvalidArgument, None);
        let (service, method, served) = (String::new(), String::new(), String::new());
        let unknown = Refused::NoMethod { service, method, served };
        check(unknown, Code::Unimplemented, None);
        let unknown = Refused::NoService { service: String::new(), served: String::new() };
        check(unknown, Code::Unimplemented, None);
        check(Refused::NoMessage, Code::InvalidArgument, None);
        check(Refused::CutOff, Code::InvalidArgument, None);
        check(Refused::SecondMessage, Code::Unimplemented, None);
        check(Refused::Panicked, Code::Internal, None);
        check(AskError::UnknownCall, Code::NotFound, None);
        check(AskError::BadWait { problem: "no".into() }, Code::InvalidArgument, None);
        check(AskError::NotEnded(CallState::Running), Code::FailedPrecondition, Some("7000"));
        check(AskError::NoResult("it was cancelled"), Code::NotFound, None);
        check(AskError::TooLate(CallState::Failed), Code::FailedPrecondition, None);
        check(ReplyError::Raised { text: "no".into() }, Code::Internal, None);
        check(ReplyError::NotText, Code::Internal, None);
        check(ReplyError::TooLarge { limit_bytes: 1 }, Code::ResourceExhausted, None);
        check(ReplyError::NoRoom { retry_after }, Code::ResourceExhausted, None);
    }

    #[test]
    fn no_status_of_a_function_is_unavailable() {
        for status in 400..600 {
            let status = StatusCode::from_u16(status).expect("three digits");
            assert_ne!(code_of_status(status), Code::Unavailable, "{status}");
        }
        for (status, code) in [
            (400, Code::InvalidArgument),
            (401, Code::Unauthenticated),
            (404, Code::NotFound),
            (418, Code::FailedPrecondition),
            (429, Code::ResourceExhausted),
            (500, Code::Internal),
            (503, Code::Internal),
            (504, Code::DeadlineExceeded),
        ] {
            let status = StatusCode::from_u16(status).expect("three digits");
            check(ReplyError::Status { status, text: "no".into() }, code, None);
        }
    }

    #[test]
    fn a_function_cannot_say_more_than_a_status_carries() {
        let error = CallError::from(ReplyError::Raised { text: "ä".repeat(4096) });
        let status = error.status(Duration::ZERO);
        assert!(status.message().len() < MESSAGE_BYTES_MAX + 8);
        assert!(status.message().ends_with("ä …"));
    }
}
