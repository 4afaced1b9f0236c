//! Asking for an asynchronous call.
//!
//! Owns how its state and its end are told. Must not know how calls are remembered.

use std::time::Duration;

use tinyfaas_grpc::v2::get_result_response::{Error, State};
use tinyfaas_grpc::v2::{GetResultRequest, GetResultResponse, InvokeResponse};
use tinyfaas_model::{CallId, CallRecord, CallRegistry, CallState};
use tokio::time::Instant;
use tonic::Code;

use super::response;
use crate::asynchronous::{AskError, Outcome, no_result};
use crate::dispatch::{deadline, now};
use crate::grpc::call::{Call, raised_text};
use crate::grpc::error::{CallError, code_of};

/// How the call stands that is asked for.
pub(super) async fn answer(
    call: &Call,
    asked: GetResultRequest,
) -> Result<GetResultResponse, CallError> {
    let id = CallId::parse(&asked.call_id).ok_or(AskError::UnknownCall)?;
    let wait = match asked.wait {
        None => Duration::ZERO,
        Some(wait) => wait_of(wait.seconds, wait.nanos)?,
    };
    let record = look(call, id, wait).await?;
    let (mut reply, mut error) = (None, None);
    if record.state.has_ended() {
        match tell(call, id, &record).await? {
            Ok(response) => reply = Some(response),
            Err(why) => error = Some(why),
        }
    }
    let state = state(record.state).into();
    Ok(GetResultResponse { state, response: reply, error })
}

fn wait_of(seconds: i64, nanos: i32) -> Result<Duration, AskError> {
    let parts = u64::try_from(seconds).ok().zip(u32::try_from(nanos).ok());
    match parts {
        Some((seconds, nanos)) if nanos < 1_000_000_000 => Ok(Duration::new(seconds, nanos)),
        _ => {
            let problem = "a time is not negative and has less than 1,000,000,000 nanos".to_owned();
            Err(AskError::BadWait { problem })
        }
    }
}

/// What is known of the call, at its end if it ends within that time.
async fn look(call: &Call, id: CallId, wait: Duration) -> Result<CallRecord, CallError> {
    let accepted = &call.grpc.accepted;
    let wait = wait.min(call.config().async_wait_max);
    let record = if wait.is_zero() {
        accepted.get(id)
    } else {
        let until = deadline(now(), wait);
        let until = call.ends_by().map_or(until, |at| at.min(until));
        accepted.ended(id, Instant::from_std(until)).await
    };
    let record = record.ok_or(AskError::UnknownCall)?;
    match call.is_late(now()) {
        Some(late) if !record.state.has_ended() => Err(late.into()),
        _ => Ok(record),
    }
}

/// The reply of a call that has ended, or why there is none.
async fn tell(
    call: &Call,
    id: CallId,
    record: &CallRecord,
) -> Result<Result<InvokeResponse, Error>, CallError> {
    let (code, message) = match call.grpc.accepted.outcome(id) {
        Some(Outcome::Reply(kept)) => {
            let reply = kept.reply();
            let failed = reply.failed;
            let body = call.collect(reply.body, &call.held).await?;
            if !failed {
                let head = response::head(reply.status, reply.headers, id);
                return Ok(Ok(InvokeResponse { body, ..head }));
            }
            (Code::Internal, raised_text(&body, record.function.as_str()))
        }
        Some(Outcome::Error(error)) => (code_of(&error), error.to_string()),
        None => {
            let code = match record.state {
                CallState::Cancelled => Code::Cancelled,
                CallState::Lost => Code::Unknown,
                _ => Code::NotFound,
            };
            let why = record.problem.clone().unwrap_or_else(|| no_result(record).to_owned());
            (code, why)
        }
    };
    Ok(Err(Error { code: code.into(), message }))
}

fn state(state: CallState) -> State {
    match state {
        CallState::Waiting => State::Waiting,
        CallState::Running => State::Running,
        CallState::Succeeded => State::Succeeded,
        CallState::Failed => State::Failed,
        CallState::Cancelled => State::Cancelled,
        CallState::Lost => State::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: i64, nanos: i32, expected: Option<Duration>) {
        assert_eq!(wait_of(seconds, nanos).ok(), expected, "{seconds} s, {nanos} ns");
    }

    #[test]
    fn a_wait_is_a_time_that_can_pass() {
        check(0, 0, Some(Duration::ZERO));
        check(1, 500_000_000, Some(Duration::from_millis(1500)));
        check(-1, 0, None);
        check(0, -1, None);
        check(0, 1_000_000_000, None);
        check(i64::MAX, 999_999_999, Some(Duration::new(i64::MAX as u64, 999_999_999)));
    }
}
