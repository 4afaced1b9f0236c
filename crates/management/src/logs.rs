//! The functions' logs: what they print, and what their backend says of them.
//!
//! Owns the log of each name from its first deploy to its deletion. Writing only
//! appends to a bounded piece of memory, so a slow or full disk never holds a
//! function up; one background task carries the lines to disk. Must not know who
//! prints or who reads.

mod function;
mod line;
mod segments;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tinyfaas_model::FunctionName;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, Take};
use tokio::sync::Notify;

use crate::config::ManagementConfig;

pub(crate) use self::function::FunctionLog;

/// How much of a log is read at a time, in bytes.
const READ_BYTES: usize = 64 << 10;

/// The bounds of one function's log.
#[derive(Debug, Clone, Copy)]
struct LogLimits {
    disk_bytes_max: u64,
    line_bytes_max: usize,
    waiting_bytes_max: usize,
}

/// All functions' logs.
#[derive(Debug)]
pub(crate) struct Logs {
    dir: PathBuf,
    limits: LogLimits,
    by_name: Mutex<BTreeMap<FunctionName, Arc<FunctionLog>>>,
    writer: Arc<Writer>,
}

/// Logs with lines that wait to be written; each stands in it once at most.
#[derive(Debug, Default)]
struct Writer {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    logs: Vec<Arc<FunctionLog>>,
    closed: bool,
}

impl Logs {
    /// Makes the logs and starts their writer, which ends with them. Must be
    /// called within a tokio runtime.
    pub(crate) fn new(config: &ManagementConfig) -> Self {
        let limits = LogLimits {
            disk_bytes_max: config.log_bytes_max,
            line_bytes_max: config.log_line_bytes_max,
            waiting_bytes_max: config.log_waiting_bytes_max,
        };
        let writer = Arc::new(Writer::default());
        tokio::spawn(write_waiting(Arc::clone(&writer)));
        Self { dir: config.logs_dir.clone(), limits, by_name: Mutex::default(), writer }
    }

    /// The log of this function; a new one if it has none. Says whether it is new.
    pub(crate) fn open(&self, name: &FunctionName) -> (Arc<FunctionLog>, bool) {
        let mut by_name = self.by_name.lock();
        if let Some(log) = by_name.get(name) {
            return (Arc::clone(log), false);
        }
        let log = FunctionLog::new(name.clone(), &self.dir, self.limits, Arc::clone(&self.writer));
        by_name.insert(name.clone(), Arc::clone(&log));
        (log, true)
    }

    /// Forgets the function's log. Lines that still come are dropped. Blocks on
    /// the disk.
    pub(crate) fn remove(&self, name: &FunctionName) {
        let log = self.by_name.lock().remove(name);
        if let Some(log) = log {
            log.remove();
        }
    }

    /// The names that have a log, in their order.
    pub(crate) fn names(&self) -> Vec<FunctionName> {
        self.by_name.lock().keys().cloned().collect()
    }

    /// Reads the logs of these functions, one after the other; those that have
    /// none are left out.
    pub(crate) fn read(self: &Arc<Self>, names: Vec<FunctionName>) -> LogReader {
        let mut names = names;
        names.reverse();
        LogReader { logs: Arc::clone(self), names, parts: Vec::new() }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.writer.queue.lock().closed = true;
        self.writer.wake.notify_one();
    }
}

impl Writer {
    fn enqueue(&self, log: Arc<FunctionLog>) {
        {
            let mut queue = self.queue.lock();
            if queue.closed {
                return;
            }
            queue.logs.push(log);
        }
        self.wake.notify_one();
    }
}

/// Writes what waits until the logs are gone.
async fn write_waiting(writer: Arc<Writer>) {
    loop {
        let (batch, closed) = {
            let mut queue = writer.queue.lock();
            (std::mem::take(&mut queue.logs), queue.closed)
        };
        if batch.is_empty() {
            if closed {
                return;
            }
            writer.wake.notified().await;
            continue;
        }
        let written = tokio::task::spawn_blocking(move || {
            for log in batch {
                log.flush();
            }
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "writing the functions' logs broke off");
        }
    }
}

/// Reads logs from disk, piece by piece.
#[derive(Debug)]
pub(crate) struct LogReader {
    logs: Arc<Logs>,
    /// Still to be read, the next last.
    names: Vec<FunctionName>,
    /// Of the log being read, the next last.
    parts: Vec<LogPart>,
}

/// A piece of a log that has been fixed for a reader.
#[derive(Debug)]
enum LogPart {
    Text(Bytes),
    File(Take<File>),
}

impl LogReader {
    /// The next piece; none at the end.
    ///
    /// # Errors
    /// Passes on that the disk cannot be read.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            match self.parts.pop() {
                Some(LogPart::Text(text)) => return Ok(Some(text)),
                Some(LogPart::File(mut file)) => {
                    let mut piece = Vec::with_capacity(READ_BYTES);
                    (&mut file).take(READ_BYTES as u64).read_to_end(&mut piece).await?;
                    if !piece.is_empty() {
                        self.parts.push(LogPart::File(file));
                        return Ok(Some(piece.into()));
                    }
                }
                None => {
                    let Some(name) = self.names.pop() else { return Ok(None) };
                    let log = self.logs.by_name.lock().get(&name).cloned();
                    if let Some(log) = log {
                        self.parts = open_parts(log).await?;
                    }
                }
            }
        }
    }
}

async fn open_parts(log: Arc<FunctionLog>) -> std::io::Result<Vec<LogPart>> {
    let snapshot = tokio::task::spawn_blocking(move || log.snapshot());
    let snapshot = snapshot.await.map_err(std::io::Error::other)??;
    let files = snapshot
        .files
        .into_iter()
        .map(|(file, bytes)| LogPart::File(File::from_std(file).take(bytes)));
    let notice = snapshot.notice.into_iter().map(|text| LogPart::Text(text.into()));
    let mut parts: Vec<LogPart> = notice.chain(files).collect();
    parts.reverse();
    Ok(parts)
}

#[cfg(test)]
mod tests;
