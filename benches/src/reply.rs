//! Reads HTTP/1.1 replies: status, and a body by length or in chunks.
//!
//! Owns as much of RFC 9112 as a client needs that asks one thing at a time on a
//! connection which stays open. Must not know where the bytes come from.

use std::borrow::Cow;

/// The longest head that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// One whole reply at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    /// Its status code.
    pub(crate) status: u16,
    /// Its body; a copy only where it came in chunks.
    pub(crate) body: Cow<'a, [u8]>,
    /// The bytes of the buffer that it took up.
    pub(crate) length: usize,
}

/// Why bytes are no reply that this reads.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplyError {
    /// It does not begin as `HTTP/1.1 200`.
    #[error("the status line is none: {0:?}")]
    StatusLine(String),
    /// The head does not end.
    #[error("the head is longer than {HEAD_BYTES_MAX} bytes")]
    Head,
    /// Without a length its end is the connection's end.
    #[error("a reply without content-length or chunks, which would end the connection")]
    NoLength,
    /// A length or a chunk's size that is no number.
    #[error("{0:?} is no length")]
    Length(String),
}

/// How a body says where it ends (RFC 9112, section 6.3).
enum Framing {
    Length(usize),
    Chunks,
}

/// Reads one reply; `None` while it has not arrived whole.
///
/// # Errors
/// Where more bytes could not make a reply of it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Reply<'_>>, ReplyError> {
    let Some(head_length) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(ReplyError::Head) } else { Ok(None) };
    };
    let (head, rest) = bytes.split_at(head_length);
    let mut lines = head.split(|&byte| byte == b'\n');
    let status = status(lines.next().unwrap_or_default())?;
    match framing(status, lines)? {
        Framing::Length(length) => Ok(rest.get(..length).map(|body| Reply {
            status,
            body: Cow::Borrowed(body),
            length: head_length + length,
        })),
        Framing::Chunks => Ok(chunks(rest)?.map(|(body, length)| Reply {
            status,
            body: Cow::Owned(body),
            length: head_length + length,
        })),
    }
}

fn status(line: &[u8]) -> Result<u16, ReplyError> {
    line.strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| std::str::from_utf8(code).ok())
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| ReplyError::StatusLine(lossy(line)))
}

fn framing<'a>(status: u16, lines: impl Iterator<Item = &'a [u8]>) -> Result<Framing, ReplyError> {
    let mut found = None;
    for line in lines {
        // Most lines are neither, and the length of a name tells it.
        match line.iter().position(|&byte| byte == b':') {
            Some(14) if line[..14].eq_ignore_ascii_case(b"content-length") => {
                found = Some(Framing::Length(number(&line[15..], 10)?));
            }
            Some(17) if line[..17].eq_ignore_ascii_case(b"transfer-encoding") => {
                return Ok(Framing::Chunks);
            }
            _ => {}
        }
    }
    match found {
        Some(framing) => Ok(framing),
        None if status == 204 || status == 304 => Ok(Framing::Length(0)),
        None => Err(ReplyError::NoLength),
    }
}

/// The body and the bytes it took up with its chunks' frames and trailers.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, ReplyError> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = line_at(bytes, at) else { return Ok(None) };
        let size = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let size = number(size, 16)?;
        at += line.len() + 2;
        if size == 0 {
            return Ok(trailers_end(bytes, at).map(|end| (body, end)));
        }
        let Some(chunk) = at.checked_add(size).and_then(|end| bytes.get(at..end)) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        at += size + 2;
    }
}

/// Where the empty line after the trailers ends.
fn trailers_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = line_at(bytes, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some(at);
        }
    }
}

fn line_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = bytes.get(at..)?;
    find(rest, b"\r\n").map(|end| &rest[..end])
}

fn number(text: &[u8], radix: u32) -> Result<usize, ReplyError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| usize::from_str_radix(text.trim(), radix).ok())
        .ok_or_else(|| ReplyError::Length(lossy(text)))
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

fn lossy(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(80)];
    String::from_utf8_lossy(shown).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reply is read whole with whatever follows it, and not a byte earlier.
    fn check(text: &str, status: u16, body: &str) {
        let reply = Reply { status, body: Cow::Borrowed(body.as_bytes()), length: text.len() };
        assert_eq!(parse(text.as_bytes()), Ok(Some(reply)), "{text:?}");
        let followed = format!("{text}HTTP/1.1 500 next");
        let reply = parse(followed.as_bytes()).expect("sound").expect("whole");
        assert_eq!((reply.length, &*reply.body), (text.len(), body.as_bytes()), "{text:?}");
        for cut in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{text:?} cut at {cut}");
        }
    }

    #[test]
    fn a_body_by_length() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
        check("HTTP/1.1 404 Not Found\r\ncontent-LENGTH:2\r\nx: y\r\n\r\nno", 404, "no");
        check("HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n", 200, "");
        check("HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n", 204, "");
    }

    #[test]
    fn a_body_in_chunks() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{head}5\r\nhello\r\n0\r\n\r\n"), 200, "hello");
        check(&format!("{head}2;x=y\r\nhe\r\nA\r\nllo, world\r\n0\r\n\r\n"), 200, "hello, world");
        check(&format!("{head}0\r\ntrailer: yes\r\n\r\n"), 200, "");
    }

    #[test]
    fn what_is_no_reply_says_so() {
        let error = |text: &str| parse(text.as_bytes()).expect_err(text);
        assert_eq!(error("HTTP/1.1 OK\r\n\r\n"), ReplyError::StatusLine("HTTP/1.1 OK".into()));
        assert_eq!(error("SSH-2.0\r\n\r\n"), ReplyError::StatusLine("SSH-2.0".into()));
        assert_eq!(error("HTTP/1.1 200 OK\r\n\r\nhello"), ReplyError::NoLength);
        let length = "HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n";
        assert_eq!(error(length), ReplyError::Length("five".into()));
        let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
        assert_eq!(error(chunk), ReplyError::Length("zz".into()));
        let endless = "HTTP/1.1 200 OK\r\n".repeat(HEAD_BYTES_MAX / 16);
        assert_eq!(error(&endless), ReplyError::Head);
    }
}
