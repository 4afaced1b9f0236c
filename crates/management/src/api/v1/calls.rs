//! The asynchronous calls that the gateway knows.

use http::Response;
use http::request::Parts;
use tinyfaas_model::calls::PAGE_CALLS_MAX;
use tinyfaas_model::{
    CallId, CallQuery, CallRecord, CallResult, CallState, Cancelling, FunctionName,
};

use crate::api::Api;
use crate::api::answer::{self, AnswerBody};
use crate::api::query::Query;
use crate::api::refusal::Refusal;

use super::{shapes, time};

/// Calls on a page, unless asked for otherwise.
const PAGE_CALLS: usize = 100;

/// What a list of calls may be asked for.
pub(in crate::api) const LIST_QUERY: &[&str] = &["function", "state", "limit", "before"];

impl Api {
    pub(in crate::api) fn list_calls(&self, head: &Parts) -> Result<Response<AnswerBody>, Refusal> {
        let query = Query::parse(head.uri.query(), LIST_QUERY)?;
        let name = |text: &str| FunctionName::parse(text).ok();
        let states = CallState::ALL.map(CallState::name).join(", ");
        let limit =
            |text: &str| text.parse().ok().filter(|limit| (1..=PAGE_CALLS_MAX).contains(limit));
        let wanted = CallQuery {
            function: query.read("function", "a function's name", name)?,
            state: query.read("state", format!("one of {states}"), CallState::from_name)?,
            limit: query
                .read("limit", format!("a whole number from 1 to {PAGE_CALLS_MAX}"), limit)?
                .unwrap_or(PAGE_CALLS),
            before: query.read("before", "\"next\" of another page", |text| text.parse().ok())?,
        };
        let page = self.surroundings.calls.list(&wanted);
        let calls = page.calls.into_iter().map(shapes::Call::of).collect();
        Ok(answer::json(&shapes::Calls { calls, next: page.next }))
    }

    pub(in crate::api) fn get_call(
        &self,
        id: &str,
        head: &Parts,
    ) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        let call = CallId::parse(id).and_then(|id| self.surroundings.calls.get(id));
        let call = call.ok_or_else(|| Refusal::unknown_call(id))?;
        Ok(answer::json(&shapes::Call::of(call)))
    }

    pub(in crate::api) fn cancel_call(
        &self,
        id: &str,
        head: &Parts,
    ) -> Result<Response<AnswerBody>, Refusal> {
        Query::parse(head.uri.query(), &[])?;
        let asked = CallId::parse(id).ok_or_else(|| Refusal::unknown_call(id))?;
        match self.surroundings.calls.cancel(asked) {
            Cancelling::Cancelled(call) => Ok(answer::json(&shapes::Call::of(call))),
            Cancelling::TooLate(call) => Err(Refusal::call_has_ended(call.state)),
            Cancelling::Unknown => Err(Refusal::unknown_call(id)),
        }
    }
}

impl shapes::Call {
    fn of(call: CallRecord) -> Self {
        let (waited, ran) = (call.waited(), call.ran());
        let (problem, result) = match call.result {
            CallResult::None => (call.problem, None),
            CallResult::Kept { status, body_bytes } => {
                let status = status.map(|status| status.as_u16());
                (call.problem, Some(shapes::CallResult { status, bytes: body_bytes }))
            }
            CallResult::TooLarge => {
                (Some("the reply is larger than one that is kept may be".to_owned()), None)
            }
            CallResult::NoRoom => {
                (Some("the reply is gone: there was no more room for it".to_owned()), None)
            }
        };
        Self {
            id: call.id.to_string(),
            function: call.function.to_string(),
            state: call.state.name(),
            accepted: time(call.accepted.wall),
            started: call.started.map(|at| time(at.wall)),
            ended: call.ended.map(|at| time(at.wall)),
            waited_seconds: waited.map(|waited| waited.as_secs_f64()),
            ran_seconds: ran.map(|ran| ran.as_secs_f64()),
            problem,
            result,
        }
    }
}
