//! What a process prints, as lines.
//!
//! Owns the way from two pipes to a log: lines of bounded length, and the end of
//! it all for whoever must be told why a start or a build failed. Must not know
//! what the process is.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::pipe::{PipeFlags, pipe_with};
use tinyfaas_model::{HandlerId, LogSink};
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

/// What is read at a time, in bytes.
const READ_BYTES: usize = 8 << 10;

/// The output of one process on its way to the log. Dropping it stops reading.
pub(super) struct Output {
    reading: JoinHandle<()>,
    tail: Arc<Mutex<Tail>>,
}

/// The ends of the pipes that the process writes to.
pub(super) struct Streams {
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Whose lines they are and how long they may be.
#[derive(Clone)]
pub(super) struct Log {
    pub(super) sink: Arc<dyn LogSink>,
    pub(super) handler: HandlerId,
    pub(super) line_bytes_max: usize,
}

impl Output {
    /// Makes the pipes and reads them from now on. The last `tail_bytes_max`
    /// bytes are kept besides.
    pub(super) fn start(log: &Log, tail_bytes_max: usize) -> io::Result<(Self, Streams)> {
        let (stdout, stdout_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let stdout = Receiver::from_owned_fd(stdout)?;
        let stderr = Receiver::from_owned_fd(stderr)?;
        let tail = Arc::new(Mutex::new(Tail::new(tail_bytes_max)));
        let (log, kept) = (log.clone(), Arc::clone(&tail));
        let reading = tokio::spawn(async move {
            tokio::join!(read(&stdout, &log, &kept), read(&stderr, &log, &kept));
        });
        Ok((Self { reading, tail }, Streams { stdout: stdout_in, stderr: stderr_in }))
    }

    /// Keeps the end of the output no longer: nobody will ask for it.
    pub(super) fn forget_tail(&self) {
        *self.tail.lock() = Tail::new(0);
    }

    /// Waits until the process and its children have closed the pipes, so that
    /// every line is in the log; not longer than `patience`. Returns the end of
    /// the output.
    pub(super) async fn drain(mut self, patience: Duration) -> String {
        drop(tokio::time::timeout(patience, &mut self.reading).await);
        self.tail.lock().text()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

async fn read(pipe: &Receiver, log: &Log, tail: &Mutex<Tail>) {
    let mut lines = Lines::new(log.line_bytes_max);
    let write = |line: &[u8]| log.sink.line(&log.handler, line);
    while pipe.readable().await.is_ok() {
        match read_some(pipe, &mut lines, tail, write) {
            Ok(0) => break,
            Ok(_) => tokio::task::consume_budget().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    lines.finish(write);
}

/// Reads once. Apart from [`read`], so that an idle reader holds no buffer.
fn read_some(
    pipe: &Receiver,
    lines: &mut Lines,
    tail: &Mutex<Tail>,
    write: impl FnMut(&[u8]),
) -> io::Result<usize> {
    let mut buffer = [0; READ_BYTES];
    let bytes = pipe.try_read(&mut buffer)?;
    tail.lock().push(&buffer[..bytes]);
    lines.push(&buffer[..bytes], write);
    Ok(bytes)
}

/// Splits a stream into lines of at most so many bytes.
struct Lines {
    bytes_max: usize,
    begun: Vec<u8>,
}

impl Lines {
    fn new(bytes_max: usize) -> Self {
        Self { bytes_max: bytes_max.max(1), begun: Vec::new() }
    }

    fn push(&mut self, mut bytes: &[u8], mut write: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = self.bytes_max - self.begun.len();
            let end = bytes.iter().take(room + 1).position(|byte| *byte == b'\n');
            let (part, rest) = bytes.split_at(end.unwrap_or(bytes.len().min(room)));
            let whole = end.is_some() || bytes.len() > room;
            bytes = &rest[usize::from(end.is_some())..];
            match (whole, self.begun.is_empty()) {
                (true, true) => write(part),
                (true, false) => {
                    self.begun.extend_from_slice(part);
                    write(&self.begun);
                    self.begun = Vec::new();
                }
                (false, _) => self.begun.extend_from_slice(part),
            }
        }
    }

    fn finish(self, mut write: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            write(&self.begun);
        }
    }
}

/// The end of a stream.
struct Tail {
    bytes_max: usize,
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: Vec::new(), cut: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.bytes_max == 0 {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        // Cut only now and then: moving the rest costs its length.
        if self.bytes.len() > self.bytes_max * 2 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(self.bytes_max);
        self.cut |= surplus > 0;
        self.bytes.drain(..surplus);
    }

    /// The text, from a line's beginning where something is missing before it.
    fn text(&mut self) -> String {
        self.cut();
        let line = if self.cut { self.bytes.iter().position(|byte| *byte == b'\n') } else { None };
        let from = line.map_or(0, |line| line + 1);
        let text = String::from_utf8_lossy(&self.bytes[from..]);
        let note = if self.cut { "(what came before is in the log)\n" } else { "" };
        format!("{note}{}", text.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(parts: &[&str], bytes_max: usize, expected: &[&str]) {
        let (mut lines, mut got) = (Lines::new(bytes_max), Vec::new());
        let mut write = |line: &[u8]| got.push(String::from_utf8(line.to_vec()).unwrap());
        for part in parts {
            lines.push(part.as_bytes(), &mut write);
        }
        lines.finish(&mut write);
        assert_eq!(got, expected, "{parts:?}");
    }

    #[test]
    fn lines_are_split_whatever_way_they_come() {
        check(&["a\nb\n"], 8, &["a", "b"]);
        check(&["a", "b\n\nc"], 8, &["ab", "", "c"]);
        check(&["a\r\n"], 8, &["a\r"]);
        check(&[], 8, &[]);
        check(&["\n"], 8, &[""]);
    }

    #[test]
    fn a_line_that_is_too_long_becomes_several() {
        check(&["abcd\n"], 4, &["abcd"]);
        check(&["abcd", "\ne"], 4, &["abcd", "e"]);
        check(&["abcdef\n"], 4, &["abcd", "ef"]);
        check(&["abc", "defghi"], 4, &["abcd", "efgh", "i"]);
    }

    proptest::proptest! {
        #[test]
        fn no_byte_is_lost(text in "[ab\n]{0,60}", cut in 1_usize..9, bytes_max in 1_usize..9) {
            let (mut lines, mut got) = (Lines::new(bytes_max), Vec::new());
            let mut write = |line: &[u8]| {
                assert!(line.len() <= bytes_max);
                got.extend_from_slice(line);
            };
            for part in text.as_bytes().chunks(cut) {
                lines.push(part, &mut write);
            }
            lines.finish(write);
            proptest::prop_assert_eq!(got, text.replace('\n', "").into_bytes());
        }
    }

    #[test]
    fn the_tail_starts_with_a_whole_line() {
        let mut tail = Tail::new(10);
        for line in 0..50 {
            tail.push(format!("line {line}\n").as_bytes());
        }
        assert_eq!(tail.text(), "(what came before is in the log)\nline 49");
        let mut short = Tail::new(10);
        short.push(b"one\ntwo\n");
        assert_eq!(short.text(), "one\ntwo");
    }
}
