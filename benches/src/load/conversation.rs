//! One connection: a request goes out, a reply comes in and is checked.
//!
//! Owns the socket and what of it has been read. Must not know when requests begin
//! nor what is counted.

use anyhow::{Context, bail, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::Target;
use crate::reply::Reader;

/// Requests up to this size go out whole before the reply is read: they fit the
/// socket's buffers. Longer ones do so meanwhile, as a server may reply early.
const AT_ONCE_BYTES: usize = 16 * 1024;
/// Room that is made before each reading, in bytes.
const READ_BYTES: usize = 4 * 1024;
/// The same for large bodies.
const READ_LARGE_BYTES: usize = 64 * 1024;
/// As much of a wrong reply is shown, in bytes.
const SHOWN_BYTES: usize = 200;

/// Whether a reply was the expected one.
#[derive(Debug)]
pub(super) enum Verdict {
    Right,
    /// What it was instead.
    Wrong(String),
}

/// A connection to the target.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    target: &'a Target,
    stream: TcpStream,
    buffer: BytesMut,
}

impl<'a> Conversation<'a> {
    /// Connects.
    ///
    /// # Errors
    /// Where there is no connection.
    pub(super) async fn begin(target: &'a Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address).await.context("connecting")?;
        stream.set_nodelay(true).context("connecting")?;
        Ok(Self { target, stream, buffer: BytesMut::with_capacity(READ_LARGE_BYTES) })
    }

    /// Asks once.
    ///
    /// # Errors
    /// Where the connection can be used no more.
    pub(super) async fn ask(&mut self) -> anyhow::Result<Verdict> {
        let Self { target, stream, buffer } = self;
        if target.request.len() <= AT_ONCE_BYTES {
            stream.write_all(&target.request).await.context("sending a request")?;
            return answer(stream, buffer, &target.expected).await;
        }
        let (mut from, mut to) = stream.split();
        let sending = to.write_all(&target.request);
        let reading = answer(&mut from, buffer, &target.expected);
        let (sent, verdict) = tokio::join!(sending, reading);
        match (sent, verdict?) {
            (Ok(()), verdict) => Ok(verdict),
            (Err(_), Verdict::Wrong(what)) => bail!("{what}, before the request was sent whole"),
            (Err(error), Verdict::Right) => Err(error).context("sending a request"),
        }
    }
}

/// Reads one reply.
async fn answer(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    expected: &[u8],
) -> anyhow::Result<Verdict> {
    let room = if expected.len() < READ_BYTES { READ_BYTES } else { READ_LARGE_BYTES };
    let mut reader = Reader::new();
    let mut check = Check { rest: expected, wrong: None };
    while !reader.is_whole() {
        buffer.reserve(room);
        let read = stream.read_buf(buffer).await.context("reading a reply")?;
        ensure!(read > 0, "the server closed the connection before it had replied");
        let taken = reader.take(buffer, |part| check.part(part)).context("reading a reply")?;
        buffer.advance(taken);
    }
    Ok(check.verdict(reader.status(), expected))
}

/// Compares a body with the expected one as it comes.
struct Check<'a> {
    rest: &'a [u8],
    /// The first part that was not as expected, its beginning.
    wrong: Option<Vec<u8>>,
}

impl Check<'_> {
    fn part(&mut self, part: &[u8]) {
        match self.rest.strip_prefix(part) {
            Some(rest) => self.rest = rest,
            None if self.wrong.is_none() => {
                self.wrong = Some(part[..part.len().min(SHOWN_BYTES)].to_vec());
            }
            None => {}
        }
    }

    fn verdict(self, status: u16, expected: &[u8]) -> Verdict {
        if status == 200 && self.wrong.is_none() && self.rest.is_empty() {
            return Verdict::Right;
        }
        let come = &expected[..expected.len() - self.rest.len()];
        let shown = self.wrong.as_deref().unwrap_or(&come[..come.len().min(SHOWN_BYTES)]);
        Verdict::Wrong(format!("status {status}, body {:?}", String::from_utf8_lossy(shown)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(parts: &[&str]) -> String {
        let mut check = Check { rest: b"hello", wrong: None };
        for part in parts {
            check.part(part.as_bytes());
        }
        match check.verdict(200, b"hello") {
            Verdict::Right => "right".to_owned(),
            Verdict::Wrong(what) => what,
        }
    }

    #[test]
    fn bodies_are_compared_in_parts() {
        assert_eq!(verdict(&["hello"]), "right");
        assert_eq!(verdict(&["he", "", "llo"]), "right");
        assert_eq!(verdict(&["he", "lp", "lo"]), "status 200, body \"lp\"");
        assert_eq!(verdict(&["hello", "!"]), "status 200, body \"!\"");
        assert_eq!(verdict(&["he"]), "status 200, body \"he\"");
        assert_eq!(verdict(&[]), "status 200, body \"\"");
    }
}
