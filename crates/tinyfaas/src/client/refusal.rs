//! What a server's refusal means to a command.
//!
//! Owns the reading of problem details (RFC 9457) and of plain texts, and the one
//! mapping of statuses to exit codes.

use std::error::Error;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::failure::{Code, Failure};
use crate::terminal;

/// How much of a refusal's body is read, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How many near names are told.
const SUGGESTIONS_MAX: usize = 3;

/// Whether an answer says in problem details what is wrong.
pub(crate) fn is_problem(response: &Response) -> bool {
    let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().starts_with("application/problem+json"))
}

/// The failure that an answer other than a success is.
pub(crate) async fn refusal(mut response: Response) -> Failure {
    let (status, problem) = (response.status(), is_problem(&response));
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.map(str::to_owned);
    let mut body = Vec::new();
    // A refusal that breaks off is still one.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_BYTES_MAX {
            break;
        }
    }
    let failure = match serde_json::from_slice::<Value>(&body) {
        Ok(details) if problem => failure_of_problem(&details, status),
        _ => of_text(String::from_utf8_lossy(&body).trim(), status),
    };
    match retry_after {
        Some(after) => failure.tip(format!("try again in {after} s")),
        None => failure,
    }
}

/// The failure that problem details tell of; `otherwise` is the status where they
/// name none.
pub(crate) fn failure_of_problem(details: &Value, otherwise: StatusCode) -> Failure {
    let status = details["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(otherwise);
    let text = details["detail"].as_str().or_else(|| details["title"].as_str());
    let mut text = text.unwrap_or_default().trim().to_owned();
    for line in details["output"].as_str().unwrap_or_default().trim_end().lines() {
        text.push_str("\n  ");
        text.push_str(line);
    }
    let mut failure = of_text(&text, status);
    let names = details["suggestions"].as_array().into_iter().flatten();
    let names: Vec<&str> = names.filter_map(Value::as_str).take(SUGGESTIONS_MAX).collect();
    if !names.is_empty() && !names.iter().any(|name| text.contains(name)) {
        failure = failure.tip(format!("is {} meant?", terminal::tame(&names.join(" or "))));
    }
    failure
}

fn of_text(text: &str, status: StatusCode) -> Failure {
    let code = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Code::NotFound,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::INSUFFICIENT_STORAGE => Code::Busy,
        StatusCode::GATEWAY_TIMEOUT => Code::TimedOut,
        _ => Code::Failed,
    };
    if text.is_empty() {
        return Failure::new(code, format!("the server answers {status} and no more"));
    }
    Failure::new(code, terminal::tame(text))
}

/// The deepest cause says what is wrong; what stands above it repeats the URL.
pub(crate) fn deepest_cause(error: &(dyn Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    // reqwest's own word for a timeout is no more than that.
    match deepest.to_string() {
        text if text == "operation timed out" => "it takes too long".to_owned(),
        text => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(details: &Value, otherwise: u16, code: Code, message: &str) {
        let status = StatusCode::from_u16(otherwise).expect("a status");
        let failure = failure_of_problem(details, status);
        assert_eq!((failure.code(), failure.to_string().as_str()), (code as u8, message));
    }

    #[test]
    fn problems_become_failures() {
        check(&json!({"status": 404, "detail": "no x"}), 200, Code::NotFound, "no x");
        check(&json!({"title": "Busy", "status": 503}), 200, Code::Busy, "Busy");
        check(&json!({"detail": "\u{1b}[1mx"}), 422, Code::Failed, "\u{fffd}[1mx");
        check(
            &json!([]),
            504,
            Code::TimedOut,
            "the server answers 504 Gateway Timeout and no more",
        );
        let built = json!({"detail": "no", "output": "a\nb\n", "suggestions": ["no"]});
        check(&built, 422, Code::Failed, "no\n  a\n  b");
        check(&json!({"status": 99999, "detail": "x"}), 429, Code::Busy, "x");
    }

    #[test]
    fn near_names_become_a_tip() {
        let details = json!({"detail": "no ecko", "suggestions": ["echo", 5, "echo-js"]});
        let shown =
            failure_of_problem(&details, StatusCode::NOT_FOUND).shown(terminal::Paint::NEVER);
        assert_eq!(shown, "tinyfaas: no ecko\n  tip: is echo or echo-js meant?\n");
    }
}
