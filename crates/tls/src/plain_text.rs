//! Who speaks plain HTTP to a port that speaks TLS.
//!
//! Owns recognising it, and the answer. Must not know sockets.

/// What is read of a request line to recognise it.
pub(crate) const LINE_BYTES_MAX: usize = 8 << 10;

/// Methods are shorter than this.
const METHOD_BYTES_MAX: usize = 32;

/// What bytes that are no TLS are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// HTTP, of whatever version.
    Http {
        /// A reply to HEAD has no body.
        head: bool,
    },
    /// What has come may be the start of HTTP.
    Unsure,
    /// Something else.
    Other,
}

/// Whether these first bytes are HTTP.
pub(crate) fn recognise(bytes: &[u8]) -> Speech {
    // Empty lines before a request are ignored (RFC 9112, section 2.2).
    let bytes = bytes.trim_ascii_start();
    let end = bytes.iter().position(|byte| *byte == b'\n');
    // The line may have come but for the last byte of its end.
    let line = end.map_or(bytes, |end| &bytes[..end]).trim_ascii_end();
    let method = line.iter().position(|byte| *byte == b' ');
    let token = &line[..method.unwrap_or(line.len())];
    if token.len() > METHOD_BYTES_MAX
        || !token.iter().all(|byte| byte.is_ascii_graphic())
        || line.iter().any(|byte| byte.is_ascii_control())
    {
        return Speech::Other;
    }
    let http = Speech::Http { head: token == b"HEAD" };
    if end.is_none() {
        return if bytes.len() < LINE_BYTES_MAX { Speech::Unsure } else { http };
    }
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    // HTTP/2 begins with a line that looks so (RFC 9113, section 3.4).
    let is_http = method.is_some() && version.starts_with(b"HTTP/");
    if is_http { http } else { Speech::Other }
}

/// What it is told. HTTP/1.1 in any case: that is what clients of HTTP/2 expect of
/// a server that has none, and show.
pub(crate) fn answer(head: bool) -> String {
    let body = "this port speaks TLS: use https://, with gRPC a channel with TLS\n";
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{}",
        body.len(),
        if head { "" } else { body },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Speech) {
        assert_eq!(recognise(bytes), expected, "{:?}", bytes.escape_ascii().to_string());
    }

    #[test]
    fn http_is_told_from_the_rest() {
        let http = Speech::Http { head: false };
        check(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", http);
        check(b"\r\nGET / HTTP/1.0\n", http);
        check(b"HEAD /f HTTP/1.1\r\n", Speech::Http { head: true });
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", http);
        check(b"PATCH", Speech::Unsure);
        check(b"GET /a%20lo", Speech::Unsure);
        check(b"GET / HTTP/1.1\r", Speech::Unsure);
        check(b"", Speech::Unsure);
        check(b"EHLO example.org\r\n", Speech::Other);
        check(b"hello\r\n", Speech::Other);
        check(b"\x80\x2e\x01\x03", Speech::Other);
        check(&[b'A'; 40], Speech::Other);
        let mut long = b"GET /".to_vec();
        long.resize(LINE_BYTES_MAX, b'a');
        check(&long, http);
    }
}
