//! Reads HTTP/1.1 replies as they arrive: status, and a body by length or in
//! chunks.
//!
//! Owns as much of RFC 9112 as a client needs that asks one thing at a time on a
//! connection which stays open. Must not know where the bytes come from, nor keep
//! a body: a load of large ones would measure this copying.

/// The longest head, line of a chunk or trailer that is read, in bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Why bytes are no reply that this reads.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplyError {
    /// It does not begin as `HTTP/1.1 200`.
    #[error("the status line is none: {0:?}")]
    StatusLine(String),
    /// The head, or a line between chunks, does not end.
    #[error("the head is longer than {LINE_BYTES_MAX} bytes")]
    Head,
    /// Without a length its end is the connection's end.
    #[error("a reply without content-length or chunks, which would end the connection")]
    NoLength,
    /// A length or a chunk's size that is no number.
    #[error("{0:?} is no length")]
    Length(String),
}

/// What comes next (RFC 9112, sections 6 and 7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Head,
    /// So many bytes of the body, which are the last.
    Body(usize),
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line break behind a chunk.
    ChunkEnd,
    Trailers,
    Nothing,
}

/// One reply, read as far as it has arrived.
#[derive(Debug)]
pub(crate) struct Reader {
    next: Next,
    status: u16,
}

impl Reader {
    /// Before the first byte of a reply.
    pub(crate) fn new() -> Self {
        Self { next: Next::Head, status: 0 }
    }

    /// Its status code, 0 while the head has not come.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Whether it has come whole.
    pub(crate) fn is_whole(&self) -> bool {
        self.next == Next::Nothing
    }

    /// Reads what it can from the front of `bytes`, gives the body's parts to
    /// `body`, and tells how many bytes it has done with. The rest is to be shown
    /// again with what follows, or belongs to the next reply.
    ///
    /// # Errors
    /// Where more bytes could not make a reply of it.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        mut body: impl FnMut(&[u8]),
    ) -> Result<usize, ReplyError> {
        let mut at = 0;
        while let Some((taken, next)) = self.step(&bytes[at..], &mut body)? {
            at += taken;
            self.next = next;
        }
        Ok(at)
    }

    /// One element of the reply: its bytes and what follows; `None` where it has
    /// not arrived.
    fn step(
        &mut self,
        bytes: &[u8],
        body: &mut impl FnMut(&[u8]),
    ) -> Result<Option<(usize, Next)>, ReplyError> {
        Ok(match self.next {
            Next::Head => match until(bytes, b"\r\n\r\n")? {
                Some(length) => {
                    let mut lines = bytes[..length].split(|&byte| byte == b'\n');
                    self.status = status(lines.next().unwrap_or_default())?;
                    Some((length, framing(self.status, lines)?))
                }
                None => None,
            },
            Next::Body(left) => part(bytes, left, body).map(|(taken, left)| {
                (taken, if left == 0 { Next::Nothing } else { Next::Body(left) })
            }),
            Next::ChunkSize => match until(bytes, b"\r\n")? {
                Some(length) => {
                    let size = bytes[..length - 2].split(|&byte| byte == b';').next();
                    let size = number(size.unwrap_or_default(), 16)?;
                    let next = if size == 0 { Next::Trailers } else { Next::Chunk(size) };
                    Some((length, next))
                }
                None => None,
            },
            Next::Chunk(left) => part(bytes, left, body).map(|(taken, left)| {
                (taken, if left == 0 { Next::ChunkEnd } else { Next::Chunk(left) })
            }),
            Next::ChunkEnd => (bytes.len() >= 2).then_some((2, Next::ChunkSize)),
            Next::Trailers => until(bytes, b"\r\n")?
                .map(|length| (length, if length == 2 { Next::Nothing } else { Next::Trailers })),
            Next::Nothing => None,
        })
    }
}

/// What of a body's part has arrived: taken, and still to come.
fn part(bytes: &[u8], left: usize, body: &mut impl FnMut(&[u8])) -> Option<(usize, usize)> {
    let taken = bytes.len().min(left);
    if taken == 0 {
        return None;
    }
    body(&bytes[..taken]);
    Some((taken, left - taken))
}

fn status(line: &[u8]) -> Result<u16, ReplyError> {
    line.strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| std::str::from_utf8(code).ok())
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| ReplyError::StatusLine(lossy(line)))
}

/// How a body says where it ends (RFC 9112, section 6.3).
fn framing<'a>(status: u16, lines: impl Iterator<Item = &'a [u8]>) -> Result<Next, ReplyError> {
    let by_length = |length| if length == 0 { Next::Nothing } else { Next::Body(length) };
    let mut found = None;
    for line in lines {
        // Most lines are neither, and the length of a name tells it.
        match line.iter().position(|&byte| byte == b':') {
            Some(14) if line[..14].eq_ignore_ascii_case(b"content-length") => {
                found = Some(by_length(number(&line[15..], 10)?));
            }
            Some(17) if line[..17].eq_ignore_ascii_case(b"transfer-encoding") => {
                return Ok(Next::ChunkSize);
            }
            _ => {}
        }
    }
    match found {
        Some(next) => Ok(next),
        None if status == 204 || status == 304 => Ok(Next::Nothing),
        None => Err(ReplyError::NoLength),
    }
}

/// The bytes up to the mark, the mark included.
fn until(bytes: &[u8], mark: &[u8]) -> Result<Option<usize>, ReplyError> {
    match bytes.windows(mark.len()).position(|window| window == mark) {
        Some(at) => Ok(Some(at + mark.len())),
        None if bytes.len() > LINE_BYTES_MAX => Err(ReplyError::Head),
        None => Ok(None),
    }
}

fn number(text: &[u8], radix: u32) -> Result<usize, ReplyError> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| usize::from_str_radix(text.trim(), radix).ok())
        .ok_or_else(|| ReplyError::Length(lossy(text)))
}

fn lossy(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(80)];
    String::from_utf8_lossy(shown).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the text in pieces of this size, keeping what is not taken.
    fn read(text: &str, size: usize) -> Result<(Reader, String, usize), ReplyError> {
        let (mut reader, mut body, mut taken) = (Reader::new(), Vec::new(), 0);
        for end in (size..text.len()).step_by(size).chain([text.len()]) {
            let bytes = &text.as_bytes()[taken..end];
            taken += reader.take(bytes, |part| body.extend_from_slice(part))?;
        }
        Ok((reader, String::from_utf8(body).expect("text"), taken))
    }

    /// The reply is read whole with whatever follows it, however it is cut, and
    /// is not whole a byte earlier.
    fn check(text: &str, status: u16, body: &str) {
        let followed = format!("{text}HTTP/1.1 500 next");
        for size in 1..followed.len() {
            let (reader, found, taken) = read(&followed, size).expect("sound");
            assert!(reader.is_whole(), "{text:?} by {size}");
            assert_eq!((reader.status(), &*found, taken), (status, body, text.len()), "by {size}");
        }
        for cut in 1..text.len() {
            let (reader, _, _) = read(&text[..cut], cut).expect("sound");
            assert!(!reader.is_whole(), "{text:?} cut at {cut}");
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
        let error = |text: &str| read(text, text.len()).expect_err(text);
        assert_eq!(error("HTTP/1.1 OK\r\n\r\n"), ReplyError::StatusLine("HTTP/1.1 OK".into()));
        assert_eq!(error("SSH-2.0\r\n\r\n"), ReplyError::StatusLine("SSH-2.0".into()));
        assert_eq!(error("HTTP/1.1 200 OK\r\n\r\nhello"), ReplyError::NoLength);
        let length = "HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\n";
        assert_eq!(error(length), ReplyError::Length("five".into()));
        let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
        assert_eq!(error(chunk), ReplyError::Length("zz".into()));
        let endless = "HTTP/1.1 200 OK\r\n".repeat(LINE_BYTES_MAX / 16);
        assert_eq!(error(&endless), ReplyError::Head);
    }
}
