//! Every way in which a CoAP request ends without a function's reply, and its
//! code.
//!
//! Owns the one mapping of [`InvokeError`] to CoAP. Must not know how a call is
//! run.

use std::time::Duration;

use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, OptionNumber, OptionsBuilder};
use tinyfaas_model::{BodyError, CallOutcome, InvokeError, NameError};

use crate::asynchronous::AskError;

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
    /// The function's reply is none that CoAP could carry.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// Why a request never became a call.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the path names no function; GET /.well-known/core lists those that there are")]
    NoName,
    #[error("no function can have that name: {0}")]
    BadName(NameError),
    #[error("nothing is served there; GET /.well-known/core lists what is")]
    NothingThere,
    #[error("that method means nothing here; use one of: {0}")]
    MethodNotAllowed(&'static str),
    #[error("that method is not known")]
    BadMethod,
    #[error("a segment of the path is . or .., which must not be sent (RFC 7252 section 5.10.1)")]
    DotSegment,
    #[error("path and query are too long for a function: 65,534 bytes as in a URL are allowed")]
    LongPath,
    #[error("that is to be had in content format {0} only")]
    NotAcceptable(u16),
}

/// Why a reply cannot be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("the function's reply is longer than the {limit_bytes} bytes that are sent over CoAP")]
    TooLarge { limit_bytes: usize },
    #[error("the server has no room to hold the function's reply; try again later")]
    NoRoom,
    #[error("the function replied in content format {has}, and only {wanted} is accepted")]
    NotAcceptable { has: u16, wanted: u16 },
    #[error("the function redirects ({status}) to {location:?}, and CoAP has no redirects")]
    Redirect { status: u16, location: String },
}

impl CallError {
    /// How a call is counted that is not answered by its function.
    pub(super) fn outcome(&self) -> CallOutcome {
        match self {
            Self::Invoke(error) => CallOutcome::of_error(error),
            Self::Refused(_) | Self::Ask(_) => CallOutcome::RequestBroken,
            // It ran, and what it said was of no use to this caller alone.
            Self::Reply(ReplyError::NotAcceptable { .. } | ReplyError::Redirect { .. }) => {
                CallOutcome::Succeeded
            }
            Self::Reply(ReplyError::TooLarge { .. } | ReplyError::NoRoom) => {
                CallOutcome::ReplyBroken
            }
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Refused(refused) => match refused {
                Refused::NoName | Refused::BadName(_) | Refused::NothingThere => Code::NOT_FOUND,
                Refused::MethodNotAllowed(_) | Refused::BadMethod => Code::METHOD_NOT_ALLOWED,
                Refused::DotSegment | Refused::LongPath => Code::BAD_REQUEST,
                Refused::NotAcceptable(_) => Code::NOT_ACCEPTABLE,
            },
            Self::Ask(error) => match error {
                AskError::UnknownCall | AskError::NoResult(_) => Code::NOT_FOUND,
                AskError::BadWait { .. } => Code::BAD_REQUEST,
                AskError::NotEnded(_) => Code::SERVICE_UNAVAILABLE,
                AskError::TooLate(_) => Code::CONFLICT,
            },
            Self::Invoke(error) => match error {
                InvokeError::NotFound { .. } => Code::NOT_FOUND,
                InvokeError::FunctionBusy { .. }
                | InvokeError::ServerBusy { .. }
                | InvokeError::Unavailable { .. }
                | InvokeError::Stopping => Code::SERVICE_UNAVAILABLE,
                InvokeError::DeadlineExceeded { .. } => Code::GATEWAY_TIMEOUT,
                InvokeError::Crashed { .. } => Code::INTERNAL_SERVER_ERROR,
                InvokeError::ReplyBroken { .. } => Code::BAD_GATEWAY,
                InvokeError::Request(BodyError::TooLarge { .. }) => Code::REQUEST_ENTITY_TOO_LARGE,
                InvokeError::Request(BodyError::TimedOut) => Code::REQUEST_ENTITY_INCOMPLETE,
                InvokeError::Request(BodyError::Broken(_)) => Code::BAD_REQUEST,
            },
            Self::Reply(error) => match error {
                ReplyError::TooLarge { .. } => Code::INTERNAL_SERVER_ERROR,
                ReplyError::NoRoom => Code::SERVICE_UNAVAILABLE,
                ReplyError::NotAcceptable { .. } => Code::NOT_ACCEPTABLE,
                ReplyError::Redirect { .. } => Code::BAD_GATEWAY,
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
            Self::Invoke(InvokeError::Stopping)
            | Self::Ask(AskError::NotEnded(_))
            | Self::Reply(ReplyError::NoRoom) => Some(otherwise),
            Self::Refused(_) | Self::Ask(_) | Self::Invoke(_) | Self::Reply(_) => None,
        }
    }
}

/// The response for an error: a sentence for people (RFC 7252 section 5.5.2), and
/// with 5.03 when to try again (section 5.9.3.4).
pub(super) fn respond(error: &CallError, otherwise: Duration) -> Response {
    let mut options = OptionsBuilder::new();
    if let Some(wait) = error.retry_after(otherwise) {
        options.push_uint(OptionNumber::MAX_AGE, seconds(wait));
    }
    let payload = error.to_string().into();
    Response { code: error.code(), options: options.build(), payload }
}

/// Whole seconds, one at least: less would not be waiting.
pub(super) fn seconds(wait: Duration) -> u32 {
    let whole = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    u32::try_from(whole.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tinyfaas_model::CallState;

    use super::*;

    fn check(error: impl Into<CallError>, code: &str, max_age: Option<u32>) {
        let error = error.into();
        let response = respond(&error, Duration::from_secs(7));
        assert_eq!(response.code.to_string(), code, "{error}");
        assert_eq!(response.options.uint(OptionNumber::MAX_AGE), max_age, "{error}");
        assert_eq!(response.payload, error.to_string());
        assert!(!response.payload.is_empty());
    }

    #[test]
    fn errors_have_their_codes() {
        let (name, retry_after) = ("f".to_owned(), Duration::from_millis(1500));
        check(InvokeError::NotFound { name: name.clone() }, "4.04", None);
        check(InvokeError::FunctionBusy { name, limit: 1, retry_after }, "5.03", Some(2));
        check(InvokeError::ServerBusy { what: "too much", retry_after }, "5.03", Some(2));
        let reason = "it dies".to_owned();
        check(InvokeError::Unavailable { reason, retry_after }, "5.03", Some(2));
        check(InvokeError::Stopping, "5.03", Some(7));
        check(InvokeError::DeadlineExceeded { after: retry_after }, "5.04", None);
        check(InvokeError::Crashed { how: "signal 9".into() }, "5.00", None);
        check(InvokeError::ReplyBroken { how: "no".into() }, "5.02", None);
        check(InvokeError::Request(BodyError::TooLarge { limit_bytes: 1 }), "4.13", None);
        check(InvokeError::Request(BodyError::TimedOut), "4.08", None);
        check(InvokeError::Request(BodyError::Broken("no".into())), "4.00", None);
        check(Refused::NoName, "4.04", None);
        check(Refused::BadName(NameError::Empty), "4.04", None);
        check(Refused::NothingThere, "4.04", None);
        check(Refused::MethodNotAllowed("GET"), "4.05", None);
        check(Refused::BadMethod, "4.05", None);
        check(Refused::DotSegment, "4.00", None);
        check(Refused::LongPath, "4.00", None);
        check(Refused::NotAcceptable(40), "4.06", None);
        check(AskError::UnknownCall, "4.04", None);
        check(AskError::BadWait { problem: "no".into() }, "4.00", None);
        check(AskError::NotEnded(CallState::Running), "5.03", Some(7));
        check(AskError::NoResult("it was cancelled"), "4.04", None);
        check(AskError::TooLate(CallState::Failed), "4.09", None);
        check(ReplyError::TooLarge { limit_bytes: 1 }, "5.00", None);
        check(ReplyError::NoRoom, "5.03", Some(7));
        check(ReplyError::NotAcceptable { has: 0, wanted: 50 }, "4.06", None);
        check(ReplyError::Redirect { status: 302, location: "/x".into() }, "5.02", None);
    }

    #[test]
    fn seconds_are_whole_and_never_none() {
        for (millis, expected) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected);
        }
        assert_eq!(seconds(Duration::MAX), u32::MAX);
    }
}
