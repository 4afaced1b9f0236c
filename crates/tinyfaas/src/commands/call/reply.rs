//! A reply, printed, and the exit code that it is.
//!
//! Owns the mapping of replies to exit codes, and whose a reply is: the gateway
//! tells its own errors as problem details, because it is asked to.

use std::io::IsTerminal;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::Gateway;
use crate::client::{self, broke_off, refusal};
use crate::failure::{Code, Failure};
use crate::terminal::{print, print_json, say};

/// How the gateway ends a call that has begun to run.
const ENDED_BY_GATEWAY: [StatusCode; 6] = [
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::BAD_GATEWAY,
    StatusCode::GATEWAY_TIMEOUT,
];
/// The largest reply that is printed as JSON, in bytes.
const JSON_BODY_BYTES_MAX: usize = 64 << 20;

/// Prints a reply.
pub(super) async fn finish(
    gateway: &Gateway,
    response: Response,
    as_json: bool,
) -> Result<(), Failure> {
    let status = response.status();
    let by_function = !is_gateways(&response);
    if !by_function && !as_json {
        let failure = refusal(response).await;
        return Err(match code(status, false) {
            Some(code) => failure.with_code(code),
            None => failure,
        });
    }
    if as_json {
        print_as_json(gateway, response).await?;
    } else {
        copy(gateway, response).await?;
    }
    match code(status, by_function) {
        None => Ok(()),
        Some(code) if as_json => Err(Failure::silent(code)),
        Some(code) => Err(Failure::new(code, format!("the function replied with {status}"))),
    }
}

/// Whether this is the gateway's own error and no function's reply.
pub(super) fn is_gateways(response: &Response) -> bool {
    let status = response.status();
    if status.as_u16() < 400 {
        return false;
    }
    if !response.headers().contains_key("x-tinyfaas-call-id") {
        // An original tinyFaaS has one error of its own.
        return status == StatusCode::NOT_FOUND;
    }
    let timings = response.headers().get_all("server-timing").iter();
    let function_ran =
        timings.filter_map(|value| value.to_str().ok()).any(|text| text.contains("function;"));
    // A function may tell its errors in the same way.
    client::is_problem(response) && (!function_ran || ENDED_BY_GATEWAY.contains(&status))
}

/// The exit code of a status; none for a success.
fn code(status: StatusCode, by_function: bool) -> Option<Code> {
    match status {
        _ if status.as_u16() < 400 => None,
        _ if by_function => Some(Code::FunctionFailed),
        StatusCode::NOT_FOUND | StatusCode::GONE => Some(Code::NotFound),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some(Code::Busy),
        StatusCode::GATEWAY_TIMEOUT => Some(Code::TimedOut),
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY => Some(Code::FunctionFailed),
        _ => Some(Code::Failed),
    }
}

async fn copy(gateway: &Gateway, mut response: Response) -> Result<(), Failure> {
    let mut last = b'\n';
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                last = chunk.last().copied().unwrap_or(last);
                print(&chunk)?;
            }
            Ok(None) => break,
            Err(error) => return Err(broke_off(&gateway.address, error)),
        }
    }
    // The shell's prompt would stand behind it.
    if last != b'\n' && std::io::stdout().is_terminal() {
        say("");
    }
    Ok(())
}

async fn print_as_json(gateway: &Gateway, mut response: Response) -> Result<(), Failure> {
    let status = response.status().as_u16();
    let mut headers = Map::new();
    for name in response.headers().keys() {
        let values = response.headers().get_all(name).iter();
        let values: Vec<Value> =
            values.map(|value| json!(String::from_utf8_lossy(value.as_bytes()))).collect();
        headers.insert(name.as_str().to_owned(), json!(values));
    }
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| broke_off(&gateway.address, error))?
    {
        if body.len() + chunk.len() > JSON_BODY_BYTES_MAX {
            return Err(Failure::failed("the reply is too large for --json; leave that out"));
        }
        body.extend_from_slice(&chunk);
    }
    let mut shown = json!({"status": status, "headers": headers});
    match String::from_utf8(body) {
        Ok(text) => shown["body"] = json!(text),
        Err(error) => shown["body_base64"] = json!(STANDARD.encode(error.as_bytes())),
    }
    print_json(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_tells_who_failed() {
        let check = |status: u16, by_function, expected| {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(code(status, by_function), expected, "{status}");
        };
        check(200, true, None);
        check(302, true, None);
        check(404, true, Some(Code::FunctionFailed));
        check(500, true, Some(Code::FunctionFailed));
        check(404, false, Some(Code::NotFound));
        check(410, false, Some(Code::NotFound));
        check(413, false, Some(Code::Failed));
        check(429, false, Some(Code::Busy));
        check(503, false, Some(Code::Busy));
        check(504, false, Some(Code::TimedOut));
        check(500, false, Some(Code::FunctionFailed));
        check(502, false, Some(Code::FunctionFailed));
    }
}
