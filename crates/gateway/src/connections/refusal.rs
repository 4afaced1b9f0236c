//! What hyper refuses by itself, in words.
//!
//! Owns the reply to a head that cannot be read: hyper's own has a status and
//! nothing else. Must not know sockets; whether a head was being read is for the
//! caller to say.

use tinyfaas_model::CallId;

use super::CALL_ID;
use crate::config::GatewayConfig;

/// hyper's refusals are shorter than this.
const REFUSAL_BYTES_MAX: usize = 256;

/// What the words tell of the limits.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    lines: usize,
    bytes: u32,
}

impl HeadLimits {
    pub(super) fn of(config: &GatewayConfig) -> Self {
        Self { lines: config.header_lines_max, bytes: config.header_bytes_max }
    }
}

/// The reply in the place of this one, where it is a refusal of hyper's: a client
/// error without a body, and without the id that each reply of ours carries.
pub(super) fn in_words(reply: &[u8], limits: HeadLimits) -> Option<Vec<u8>> {
    if reply.len() > REFUSAL_BYTES_MAX || !reply.ends_with(b"\r\n\r\n") {
        return None;
    }
    let reply = std::str::from_utf8(reply).ok()?;
    let mut lines = reply.split("\r\n");
    let status =
        lines.next()?.strip_prefix("HTTP/1.1 ").filter(|status| status.starts_with('4'))?;
    let has = |wanted: &str| reply.split("\r\n").any(|line| line.eq_ignore_ascii_case(wanted));
    if !has("content-length: 0") || reply.contains(CALL_ID.as_str()) {
        return None;
    }
    let HeadLimits { lines: lines_max, bytes } = limits;
    let words = match status.split(' ').next()? {
        "431" => format!(
            "the request's headers are more than the {lines_max} lines or the {bytes} bytes that \
             are allowed; send fewer, or send them in the body"
        ),
        "414" => "the request's target is too long; send what is in it in the body".into(),
        _ => "the request is not valid HTTP/1.1, its first line, a header or its length \
              (RFC 9112); call a function at /NAME"
            .to_owned(),
    };
    let (length, id) = (words.len() + 1, CallId::random());
    let kept = lines.filter(|line| !line.is_empty() && !line.starts_with("content-length"));
    let head: String = kept.map(|line| format!("{line}\r\n")).collect();
    Some(
        format!(
            "HTTP/1.1 {status}\r\n{head}content-type: text/plain; charset=utf-8\r\n\
             content-length: {length}\r\n{CALL_ID}: {id}\r\n\r\n{words}\n"
        )
        .into_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reply: &str, expected: Option<&str>) {
        let words = in_words(reply.as_bytes(), HeadLimits { lines: 100, bytes: 65_536 });
        let words = words.map(|words| String::from_utf8(words).unwrap());
        match (&words, expected) {
            (None, None) => {}
            (Some(words), Some(expected)) => {
                let (head, body) = words.split_once("\r\n\r\n").unwrap();
                assert!(body.contains(expected), "{words}");
                assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{words}");
                assert!(head.contains("connection: close") && head.contains(CALL_ID.as_str()));
                assert_eq!(head.matches("content-length").count(), 1, "{words}");
            }
            _ => panic!("{reply:?} became {words:?}"),
        }
    }

    #[test]
    fn only_what_hyper_refuses_is_put_into_words() {
        let head = "connection: close\r\ncontent-length: 0\r\ndate: Sun, 22 Nov 2026 18:00:00 GMT";
        check(
            &format!("HTTP/1.1 431 Request Header Fields Too Large\r\n{head}\r\n\r\n"),
            Some("more than the 100 lines or the 65536 bytes"),
        );
        check(&format!("HTTP/1.1 414 URI Too Long\r\n{head}\r\n\r\n"), Some("target is too long"));
        check(&format!("HTTP/1.1 400 Bad Request\r\n{head}\r\n\r\n"), Some("not valid HTTP/1.1"));
        check(&format!("HTTP/1.1 404 Not Found\r\n{CALL_ID}: 1\r\n{head}\r\n\r\n"), None);
        check(&format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"), None);
        check("HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nabc", None);
        check("HTTP/1.1 400 Bad Request\r\n", None);
        check("", None);
    }
}
