//! Asks the server one thing on a connection of its own, and waits.
//!
//! Owns nothing that lasts. For management and first calls; the load has its own
//! connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::reply::Reader;

/// How long an answer may let wait, a deploy included.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest reply that is read, in bytes.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// A reply as text for people or bytes to compare.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status code.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Its body where the status is 200.
    ///
    /// # Errors
    /// Any other status, with what the server said.
    pub(crate) fn success(self) -> anyhow::Result<Vec<u8>> {
        if self.status == 200 {
            return Ok(self.body);
        }
        bail!("status {}: {}", self.status, String::from_utf8_lossy(&self.body).trim())
    }
}

/// Sends one request and reads its answer.
///
/// # Errors
/// Where the connection breaks, or what comes is no reply.
pub(crate) fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &[u8],
) -> anyhow::Result<Answer> {
    exchange(address, method, path, body)
        .with_context(|| format!("{method} http://{address}{path}"))
}

fn exchange(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n")
            .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request)?;
    let (mut reader, mut answer) = (Reader::new(), Vec::new());
    let (mut received, mut part) = (Vec::new(), [0; 4096]);
    while !reader.is_whole() {
        let read = stream.read(&mut part)?;
        if read == 0 {
            bail!("the server closed the connection before it had replied");
        }
        received.extend_from_slice(&part[..read]);
        let taken = reader.take(&received, |part| answer.extend_from_slice(part))?;
        received.drain(..taken);
        if answer.len() > REPLY_BYTES_MAX {
            bail!("the reply is longer than {REPLY_BYTES_MAX} bytes");
        }
    }
    Ok(Answer { status: reader.status(), body: answer })
}
