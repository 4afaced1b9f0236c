//! The body of a call: from the command line, a file, or standard input.
//!
//! Owns how it is read: piece by piece as it is sent, or whole within a bound.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use clap::ArgMatches;
use http_body::Frame;
use reqwest::Body;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::terminal;

/// Where a body comes from.
enum Source {
    Given(Vec<u8>),
    Stdin,
    File(std::fs::File),
}

/// Whether there is one.
pub(super) fn is_given(matches: &ArgMatches) -> bool {
    matches.contains_id("data") || matches.contains_id("data-file")
}

/// The body to be sent piece by piece; none without the flags for one.
pub(super) fn stream(matches: &ArgMatches) -> Result<Option<Body>, Failure> {
    Ok(source(matches)?.map(|source| match source {
        Source::Given(data) => Body::from(data),
        Source::Stdin => of_stdin(),
        Source::File(file) => Body::from(tokio::fs::File::from_std(file)),
    }))
}

/// How much a protocol carries that takes a body whole.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    /// The longest body, in bytes.
    pub(super) bytes: usize,
    /// The protocol.
    pub(super) over: &'static str,
    /// The flag that asks for it.
    pub(super) flag: &'static str,
}

/// The whole body; none without the flags for one.
///
/// # Errors
/// Where it cannot be read, or is longer than the limit.
pub(super) fn whole(matches: &ArgMatches, limit: Limit) -> Result<Option<Bytes>, Failure> {
    let Some(source) = source(matches)? else { return Ok(None) };
    let one_more = limit.bytes as u64 + 1;
    let mut body = Vec::new();
    let read = match source {
        Source::Given(data) => {
            body = data;
            Ok(0)
        }
        Source::Stdin => io::stdin().lock().take(one_more).read_to_end(&mut body),
        Source::File(file) => file.take(one_more).read_to_end(&mut body),
    };
    read.map_err(|error| Failure::failed(format!("the body cannot be read: {error}")))?;
    let Limit { bytes, over, flag } = limit;
    if body.len() > bytes {
        let most = terminal::bytes(bytes as u64);
        return Err(Failure::failed(format!(
            "the body is longer than the {most} that go over {over}"
        ))
        .tip(format!("call over HTTP, which takes more: leave {flag} out")));
    }
    Ok(Some(body.into()))
}

fn source(matches: &ArgMatches) -> Result<Option<Source>, Failure> {
    if let Some(data) = matches.get_one::<String>("data") {
        return Ok(Some(Source::Given(data.clone().into_bytes())));
    }
    let Some(path) = matches.get_one::<PathBuf>("data-file") else { return Ok(None) };
    if path == Path::new("-") {
        if io::stdin().is_terminal() {
            terminal::say("reading the body from the terminal; Ctrl+D ends it");
        }
        return Ok(Some(Source::Stdin));
    }
    let failed = |error: io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_dir() {
        return Err(Failure::failed(format!("{}: it is a folder", path.display())));
    }
    Ok(Some(Source::File(file)))
}

/// Standard input piece by piece, read by a thread of its own.
fn of_stdin() -> Body {
    /// Pieces that are read ahead.
    const AHEAD: usize = 4;
    let (pieces, taken) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let piece = match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(read) => Ok(Bytes::copy_from_slice(&buffer[..read])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let last = piece.is_err();
            // Nobody takes it any more, or it was the last.
            if pieces.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    Body::wrap(Pieces(taken))
}

/// A body of unknown length.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.get_mut().0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
