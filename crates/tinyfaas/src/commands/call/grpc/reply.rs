//! A reply over gRPC, printed, and the exit code that it is.
//!
//! Owns the mapping of statuses to exit codes. gRPC tells a function's own error
//! status (a reply that has it) from the gateway's errors (statuses of gRPC).

use std::io::IsTerminal;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use tinyfaas_grpc::v2::{Header, InvokeResponse};
use tonic::{Code, Status};

use super::channel;
use super::place::Place;
use crate::failure::{self, Failure};
use crate::terminal::{self, print, print_json, say};

/// When to try again, in milliseconds
/// (<https://github.com/grpc/proposal/blob/master/A6-client-retries.md>).
const RETRY_AFTER: &str = "grpc-retry-pushback-ms";

/// Prints a reply, or says why there is none.
pub(super) fn finish(
    place: &Place,
    outcome: Result<InvokeResponse, Status>,
    as_json: bool,
) -> Result<(), Failure> {
    let response = match outcome {
        Ok(response) => response,
        Err(status) => return Err(refused(place, &status, as_json)?),
    };
    if as_json {
        print_json(&shown(&response))?;
    } else {
        copy(&response.body)?;
    }
    if response.status < 400 {
        return Ok(());
    }
    let code = failure::Code::FunctionFailed;
    if as_json {
        return Err(Failure::silent(code));
    }
    let number = u16::try_from(response.status).ok();
    let status = number.and_then(|number| StatusCode::from_u16(number).ok());
    let named = status.map_or_else(|| response.status.to_string(), |status| status.to_string());
    Err(Failure::new(code, format!("the function replied with {named}")))
}

fn refused(place: &Place, status: &Status, as_json: bool) -> Result<Failure, Failure> {
    let failure = failure(place, status);
    if !as_json || channel::broken(place, status).is_some() {
        return Ok(failure);
    }
    print_json(&json!({"code": name(status.code()), "message": status.message()}))?;
    Ok(Failure::silent(exit_code(status)))
}

/// What a status means that is no success.
pub(super) fn failure(place: &Place, status: &Status) -> Failure {
    if let Some(failure) = channel::broken(place, status) {
        return failure;
    }
    let code = exit_code(status);
    let failure = match terminal::tame(status.message().trim()) {
        said if said.is_empty() => {
            Failure::new(code, format!("the server answers {} and no more", name(status.code())))
        }
        said => Failure::new(code, said),
    };
    match retry_after(status) {
        Some(millis) => failure.tip(format!("try again in {} s", millis.div_ceil(1000))),
        None => failure,
    }
}

fn retry_after(status: &Status) -> Option<u32> {
    status.metadata().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// The exit code of a status that is no success.
fn exit_code(status: &Status) -> failure::Code {
    match status.code() {
        Code::NotFound => failure::Code::NotFound,
        Code::Unavailable => failure::Code::Busy,
        Code::ResourceExhausted if retry_after(status).is_some() => failure::Code::Busy,
        Code::DeadlineExceeded => failure::Code::TimedOut,
        // The original says of everything that it is unknown.
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Aborted => {
            failure::Code::FunctionFailed
        }
        // What is too large is so later as well.
        Code::ResourceExhausted
        | Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => failure::Code::Failed,
    }
}

fn copy(body: &[u8]) -> Result<(), Failure> {
    print(body)?;
    // The shell's prompt would stand behind it.
    if body.last().is_some_and(|last| *last != b'\n') && std::io::stdout().is_terminal() {
        say("");
    }
    Ok(())
}

fn shown(response: &InvokeResponse) -> Value {
    let mut headers = Map::new();
    for Header { name, value } in &response.headers {
        let values = headers.entry(name.as_str()).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(json!(String::from_utf8_lossy(value)));
        }
    }
    let mut shown = json!({"status": response.status, "headers": headers});
    // Version 1 gives a call no id.
    if !response.call_id.is_empty() {
        shown["call_id"] = json!(response.call_id);
    }
    match std::str::from_utf8(&response.body) {
        Ok(text) => shown["body"] = json!(text),
        Err(_) => shown["body_base64"] = json!(STANDARD.encode(&response.body)),
    }
    shown
}

/// A code as gRPC's documents write it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_exit_codes_and_words() {
        let check = |status: Status, expected, words: &str| {
            let failure = failure(&Place::parse("h:1").expect("a place"), &status);
            let shown = failure.shown(terminal::Paint::NEVER);
            assert_eq!((failure.code(), shown.as_str()), (expected as u8, words));
        };
        use failure::Code::{Busy, Failed, FunctionFailed, NotFound, TimedOut, Unreachable};
        check(Status::not_found("no x"), NotFound, "tinyfaas: no x\n");
        check(Status::deadline_exceeded("late"), TimedOut, "tinyfaas: late\n");
        check(Status::internal("\u{1b}[1mx"), FunctionFailed, "tinyfaas: \u{fffd}[1mx\n");
        check(Status::unknown("as the original"), FunctionFailed, "tinyfaas: as the original\n");
        check(
            Status::invalid_argument(""),
            Failed,
            "tinyfaas: the server answers INVALID_ARGUMENT and no more\n",
        );
        let mut busy = Status::resource_exhausted("full");
        check(busy.clone(), Failed, "tinyfaas: full\n");
        busy.metadata_mut().insert(RETRY_AFTER, "6500".parse().expect("a value"));
        check(busy, Busy, "tinyfaas: full\n  tip: try again in 7 s\n");
        check(Status::unavailable("it stops"), Busy, "tinyfaas: it stops\n");
        let mut broken = Status::unavailable("transport error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("gone")));
        let words = "tinyfaas: the connection to grpc://h:1 broke off: gone\n  \
                     tip: does gRPC answer on that port?\n";
        check(broken, Unreachable, words);
    }

    #[test]
    fn programs_get_status_headers_and_body() {
        let header = |name: &str, value: &'static [u8]| Header {
            name: name.to_owned(),
            value: value.into(),
        };
        let response = InvokeResponse {
            status: 201,
            headers: vec![header("a", b"1"), header("b", b"2"), header("a", b"\xff")],
            body: bytes::Bytes::from_static(b"{}"),
            call_id: "5".to_owned(),
        };
        let expected = json!({
            "status": 201, "headers": {"a": ["1", "\u{fffd}"], "b": ["2"]},
            "call_id": "5", "body": "{}",
        });
        assert_eq!(shown(&response), expected);
        let bytes = bytes::Bytes::from_static(b"\xff");
        let response = InvokeResponse { status: 200, body: bytes, ..InvokeResponse::default() };
        let expected = json!({"status": 200, "headers": {}, "body_base64": "/w=="});
        assert_eq!(shown(&response), expected);
    }
}
