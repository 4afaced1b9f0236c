//! Asking for an asynchronous call: its state, its result, its end.
//!
//! Owns what is served below `/.tinyfaas/`, where no function can be. Must not
//! know how calls are remembered. Who knows a call's id may ask for it; nothing
//! here lists ids.

use std::time::{Duration, SystemTime};

use ::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use ::http::{HeaderValue, Method, Response, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use tinyfaas_model::{
    Body, CallId, CallRecord, CallRegistry, CallResult, CallState, CallTarget, Cancelling, Moment,
    parse_duration,
};
use tokio::time::Instant;

use super::Http;
use super::error::{CallError, Refused};
use super::reply::{self, Deadline};
use crate::asynchronous::{AskError, Outcome, no_result};
use crate::connections::seconds;
use crate::dispatch::{deadline, now};

/// Where a function's name stands otherwise: none starts with a dot.
pub(super) const ROOM: &str = ".tinyfaas";

/// What is asked of which call.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    State(Duration),
    Result(Duration),
    Cancel,
}

/// Where the call with this id is asked for.
pub(super) fn location(id: CallId) -> HeaderValue {
    HeaderValue::from_str(&state_path(id)).expect("a path of letters, digits and slashes")
}

fn state_path(id: CallId) -> String {
    format!("/{ROOM}/calls/{id}")
}

/// Answers a request below `/.tinyfaas/`; `id` becomes that of the call asked
/// for.
///
/// # Errors
/// Says what keeps it from being answered.
pub(super) async fn answer(
    http: &Http,
    id: &mut CallId,
    method: &Method,
    target: &CallTarget,
) -> Result<Response<Body>, CallError> {
    let (asked, ask) = parse(method, target)?;
    *id = asked;
    let head_only = method == Method::HEAD;
    let retry_after = http.config.retry_after;
    match ask {
        Ask::State(wait) => {
            let record = look(http, asked, wait).await?;
            Ok(state(&record, head_only, retry_after))
        }
        Ask::Result(wait) => {
            let record = look(http, asked, wait).await?;
            result(http, &record, head_only).await
        }
        Ask::Cancel => match http.accepted.cancel(asked) {
            Cancelling::Cancelled(record) => Ok(state(&record, head_only, retry_after)),
            Cancelling::TooLate(record) => Err(AskError::TooLate(record.state).into()),
            Cancelling::Unknown => Err(AskError::UnknownCall.into()),
        },
    }
}

fn parse(method: &Method, target: &CallTarget) -> Result<(CallId, Ask), CallError> {
    let below = target.path().strip_prefix("/calls/").ok_or(Refused::NothingThere)?;
    let (id, is_result) = match below.split_once('/') {
        None => (below, false),
        Some((id, "result")) => (id, true),
        Some(_) => return Err(Refused::NothingThere.into()),
    };
    let id = CallId::parse(id).ok_or(AskError::UnknownCall)?;
    let ask = match *method {
        Method::GET | Method::HEAD if is_result => Ask::Result(wait(target.query())?),
        Method::GET | Method::HEAD => Ask::State(wait(target.query())?),
        Method::DELETE if !is_result => Ask::Cancel,
        _ => {
            let allowed = if is_result { "GET, HEAD" } else { "GET, HEAD, DELETE" };
            return Err(Refused::BadMethod { allowed }.into());
        }
    };
    Ok((id, ask))
}

/// How long to wait for the call's end; not at all where nothing is said.
fn wait(query: &str) -> Result<Duration, AskError> {
    let mut values = query.split('&').filter_map(|part| part.strip_prefix("wait="));
    match values.next_back() {
        None => Ok(Duration::ZERO),
        Some(text) => {
            parse_duration(text).map_err(|error| AskError::BadWait { problem: error.to_string() })
        }
    }
}

/// What is known of the call, at its end if it ends within that time.
async fn look(http: &Http, id: CallId, wait: Duration) -> Result<CallRecord, AskError> {
    let wait = wait.min(http.config.async_wait_max);
    let record = if wait.is_zero() {
        http.accepted.get(id)
    } else {
        http.accepted.ended(id, Instant::from_std(deadline(now(), wait))).await
    };
    record.ok_or(AskError::UnknownCall)
}

#[derive(Serialize)]
struct StateView<'a> {
    id: String,
    function: &'a str,
    state: &'static str,
    accepted_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    waited_ms: Option<f64>,
    ran_ms: Option<f64>,
    problem: Option<&'a str>,
    result: Option<ResultView>,
}

#[derive(Serialize)]
struct ResultView {
    kept: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// A call's state as JSON: 202 until it has ended, then 200.
fn state(record: &CallRecord, head_only: bool, retry_after: Duration) -> Response<Body> {
    let view = StateView {
        id: record.id.to_string(),
        function: record.function.as_str(),
        state: record.state.name(),
        accepted_at: time(record.accepted),
        started_at: record.started.map(time),
        ended_at: record.ended.map(time),
        waited_ms: record.waited().map(millis),
        ran_ms: record.ran().map(millis),
        problem: record.problem.as_deref(),
        result: result_view(record),
    };
    let mut text = serde_json::to_string(&view).expect("text, numbers and nothing else");
    text.push('\n');
    let length = text.len();
    let mut response = Response::new(if head_only { Body::Empty } else { Body::from_bytes(text) });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if !record.state.has_ended() {
        headers.insert(RETRY_AFTER, seconds(retry_after));
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    response
}

fn result_view(record: &CallRecord) -> Option<ResultView> {
    let gone = ResultView { kept: false, status: None, bytes: None, location: None, why: None };
    Some(match record.result {
        CallResult::None => return None,
        CallResult::Kept { status, body_bytes } => ResultView {
            kept: true,
            status: Some(reply::status(record.state == CallState::Failed, status).as_u16()),
            bytes: Some(body_bytes),
            location: Some(state_path(record.id) + "/result"),
            ..gone
        },
        CallResult::TooLarge => ResultView { why: Some("it was too large to keep"), ..gone },
        CallResult::NoRoom => ResultView { why: Some("there was no room to keep it"), ..gone },
    })
}

/// As people read it, in milliseconds; a clock that nobody can read is the
/// epoch's.
fn time(moment: Moment) -> String {
    let at = Timestamp::try_from(moment.wall).or_else(|_| SystemTime::UNIX_EPOCH.try_into());
    at.map(|at: Timestamp| format!("{at:.3}")).unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// What a caller would have got who had waited.
async fn result(
    http: &Http,
    record: &CallRecord,
    head_only: bool,
) -> Result<Response<Body>, CallError> {
    match http.accepted.outcome(record.id) {
        Some(Outcome::Error(error)) => Err(error.into()),
        Some(Outcome::Reply(kept)) => {
            // All of it is there: the deadline has nothing to end.
            let never = Deadline { at: now(), after: Duration::ZERO };
            Ok(reply::respond(kept.reply(), head_only, never).await?)
        }
        None if !record.state.has_ended() => Err(AskError::NotEnded(record.state).into()),
        None => Err(AskError::NoResult(no_result(record)).into()),
    }
}

#[cfg(test)]
mod tests {
    use ::http::uri::PathAndQuery;

    use super::*;

    fn check(method: Method, below: &str, expected: Result<Ask, CallError>) {
        let id = CallId::random();
        let whole = format!("/{ROOM}{}", below.replace("ID", &id.to_string()));
        let whole = PathAndQuery::try_from(whole).expect("a path");
        let (name, target) = CallTarget::split(&whole);
        assert_eq!(name, ROOM);
        assert_eq!(parse(&method, &target), expected.map(|ask| (id, ask)), "{method} {below}");
    }

    #[test]
    fn what_is_asked_is_in_path_method_and_query() {
        let secs = Duration::from_secs;
        check(Method::GET, "/calls/ID", Ok(Ask::State(secs(0))));
        check(Method::HEAD, "/calls/ID?wait=30s", Ok(Ask::State(secs(30))));
        check(Method::GET, "/calls/ID/result?x&wait=2min", Ok(Ask::Result(secs(120))));
        check(Method::DELETE, "/calls/ID?wait=x", Ok(Ask::Cancel));
        let bad = Refused::BadMethod { allowed: "GET, HEAD, DELETE" };
        check(Method::POST, "/calls/ID", Err(bad.into()));
        check(
            Method::DELETE,
            "/calls/ID/result",
            Err(Refused::BadMethod { allowed: "GET, HEAD" }.into()),
        );
        for nothing in ["", "/", "/calls", "/calls/ID/", "/calls/ID/results", "/functions"] {
            check(Method::GET, nothing, Err(Refused::NothingThere.into()));
        }
        for unknown in ["/calls/", "/calls/ID0", "/calls/..", "/calls/%41"] {
            check(Method::GET, unknown, Err(AskError::UnknownCall.into()));
        }
        let problem = "not a time; write 500ms, 30s, 10min or 1h".to_owned();
        for bad in ["/calls/ID?wait=", "/calls/ID?wait=-1s", "/calls/ID?wait=soon"] {
            check(Method::GET, bad, Err(AskError::BadWait { problem: problem.clone() }.into()));
        }
    }
}
