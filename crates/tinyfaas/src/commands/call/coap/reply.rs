//! A reply over CoAP, printed, and the exit code that it is.
//!
//! Owns the mapping of codes to exit codes. What the gateway says and what a
//! function says look alike in CoAP; so a code is taken for what it says, but for
//! a 4.04, about which the server can be asked.

use std::io::IsTerminal;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::formats;
use tinyfaas_coap::message::{Code, OptionNumber};

use super::request;
use crate::failure::{self, Failure};
use crate::terminal::{self, print, print_json, say};

/// Whose a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The function's.
    Function,
    /// The function's or the gateway's.
    Unclear,
}

/// Whether a reply may say that there is no such function.
pub(super) fn may_name_nobody(response: &Response) -> bool {
    response.code == Code::NOT_FOUND
}

/// Prints a reply.
pub(super) fn finish(response: &Response, owner: Owner, as_json: bool) -> Result<(), Failure> {
    let code = exit_code(response, owner);
    if as_json {
        print_json(&shown(response))?;
        return code.map_or(Ok(()), |code| Err(Failure::silent(code)));
    }
    match code {
        None => copy(&response.payload),
        Some(failure::Code::FunctionFailed) => {
            copy(&response.payload)?;
            let name = named(response.code);
            Err(Failure::new(failure::Code::FunctionFailed, format!("the reply is {name}")))
        }
        Some(code) => Err(refusal(code, response)),
    }
}

/// The exit code of a reply; none for a success.
fn exit_code(response: &Response, owner: Owner) -> Option<failure::Code> {
    // What the gateway says is text for people; only a function's may be more.
    let is_functions =
        owner == Owner::Function || response.options.get(OptionNumber::CONTENT_FORMAT).is_some();
    match response.code {
        code if code.is_success() => None,
        Code::NOT_FOUND if !is_functions => Some(failure::Code::NotFound),
        Code::SERVICE_UNAVAILABLE | Code::TOO_MANY_REQUESTS => Some(failure::Code::Busy),
        Code::GATEWAY_TIMEOUT => Some(failure::Code::TimedOut),
        _ => Some(failure::Code::FunctionFailed),
    }
}

/// A reply that says why there is none: its payload is a sentence for people
/// (RFC 7252 section 5.5.2).
fn refusal(code: failure::Code, response: &Response) -> Failure {
    let said = terminal::tame(String::from_utf8_lossy(&response.payload).trim());
    let failure = if said.is_empty() {
        Failure::new(code, format!("the server answers {} and no more", named(response.code)))
    } else {
        Failure::new(code, said)
    };
    match response.options.uint(OptionNumber::MAX_AGE) {
        Some(seconds) if code == failure::Code::Busy => {
            failure.tip(format!("try again in {seconds} s"))
        }
        _ => failure,
    }
}

fn copy(payload: &[u8]) -> Result<(), Failure> {
    print(payload)?;
    // The shell's prompt would stand behind it.
    if payload.last().is_some_and(|last| *last != b'\n') && std::io::stdout().is_terminal() {
        say("");
    }
    Ok(())
}

fn shown(response: &Response) -> serde_json::Value {
    let mut shown = json!({
        "code": response.code.to_string(),
        "options": request::shown(&response.options),
    });
    let number = response.options.uint(OptionNumber::CONTENT_FORMAT);
    if let Some(number) = number.and_then(|number| u16::try_from(number).ok()) {
        shown["content_type"] = json!(formats::media_type(number).0);
    }
    match std::str::from_utf8(&response.payload) {
        Ok(text) => shown["body"] = json!(text),
        Err(_) => shown["body_base64"] = json!(STANDARD.encode(&response.payload)),
    }
    shown
}

/// A code and its name (RFC 7252 section 12.1.2 and its successors).
fn named(code: Code) -> String {
    let name = match code {
        Code::BAD_REQUEST => "Bad Request",
        Code::UNAUTHORIZED => "Unauthorized",
        Code::BAD_OPTION => "Bad Option",
        Code::FORBIDDEN => "Forbidden",
        Code::NOT_FOUND => "Not Found",
        Code::METHOD_NOT_ALLOWED => "Method Not Allowed",
        Code::NOT_ACCEPTABLE => "Not Acceptable",
        Code::REQUEST_ENTITY_INCOMPLETE => "Request Entity Incomplete",
        Code::CONFLICT => "Conflict",
        Code::PRECONDITION_FAILED => "Precondition Failed",
        Code::REQUEST_ENTITY_TOO_LARGE => "Request Entity Too Large",
        Code::UNSUPPORTED_CONTENT_FORMAT => "Unsupported Content-Format",
        Code::UNPROCESSABLE_ENTITY => "Unprocessable Entity",
        Code::TOO_MANY_REQUESTS => "Too Many Requests",
        Code::INTERNAL_SERVER_ERROR => "Internal Server Error",
        Code::NOT_IMPLEMENTED => "Not Implemented",
        Code::BAD_GATEWAY => "Bad Gateway",
        Code::SERVICE_UNAVAILABLE => "Service Unavailable",
        Code::GATEWAY_TIMEOUT => "Gateway Timeout",
        Code::PROXYING_NOT_SUPPORTED => "Proxying Not Supported",
        Code::HOP_LIMIT_REACHED => "Hop Limit Reached",
        code => return code.to_string(),
    };
    format!("{code} {name}")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tinyfaas_coap::message::OptionsBuilder;

    use super::*;

    fn response(code: Code, format: Option<u32>, payload: &'static [u8]) -> Response {
        let mut options = OptionsBuilder::new();
        if let Some(format) = format {
            options.push_uint(OptionNumber::CONTENT_FORMAT, format);
        }
        Response { code, options: options.build(), payload: Bytes::from_static(payload) }
    }

    #[test]
    fn the_exit_code_tells_what_happened() {
        use failure::Code::{Busy, FunctionFailed, NotFound, TimedOut};
        let check = |code: Code, format, owner, expected| {
            assert_eq!(exit_code(&response(code, format, b""), owner), expected, "{code}");
        };
        check(Code::CONTENT, None, Owner::Unclear, None);
        check(Code::VALID, None, Owner::Unclear, None);
        check(Code::NOT_FOUND, None, Owner::Unclear, Some(NotFound));
        check(Code::NOT_FOUND, Some(50), Owner::Unclear, Some(FunctionFailed));
        check(Code::NOT_FOUND, None, Owner::Function, Some(FunctionFailed));
        check(Code::SERVICE_UNAVAILABLE, None, Owner::Unclear, Some(Busy));
        check(Code::TOO_MANY_REQUESTS, None, Owner::Unclear, Some(Busy));
        check(Code::GATEWAY_TIMEOUT, None, Owner::Unclear, Some(TimedOut));
        check(Code::INTERNAL_SERVER_ERROR, None, Owner::Unclear, Some(FunctionFailed));
        check(Code::REQUEST_ENTITY_TOO_LARGE, None, Owner::Unclear, Some(FunctionFailed));
    }

    #[test]
    fn refusals_say_what_the_server_says() {
        let check = |payload, expected: &str| {
            let failure = refusal(failure::Code::Busy, &response(Code::NOT_FOUND, None, payload));
            assert_eq!(failure.to_string(), expected);
        };
        check(b"no room\n", "no room");
        check(b"\x1b[1mx", "\u{fffd}[1mx");
        check(b"", "the server answers 4.04 Not Found and no more");
        let mut options = OptionsBuilder::new();
        options.push_uint(OptionNumber::MAX_AGE, 9);
        let busy = Response { options: options.build(), ..response(Code::NOT_FOUND, None, b"x") };
        let said = refusal(failure::Code::Busy, &busy).shown(terminal::Paint::NEVER);
        assert!(said.contains("tip: try again in 9 s"), "{said}");
    }

    #[test]
    fn programs_get_code_options_and_body() {
        let expected = json!({
            "code": "2.05", "options": {"Content-Format": [50]},
            "content_type": "application/json", "body": "{}",
        });
        assert_eq!(shown(&response(Code::CONTENT, Some(50), b"{}")), expected);
        let expected = json!({"code": "4.04", "options": {}, "body_base64": "/w=="});
        assert_eq!(shown(&response(Code::NOT_FOUND, None, b"\xff")), expected);
        assert_eq!(named(Code::new(4, 18)), "4.18");
    }
}
