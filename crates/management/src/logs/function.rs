//! The log of one function: lines in memory on their way to disk.
//!
//! Owns stamping, the bound on what waits, and the count of what was dropped.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use tinyfaas_model::{FunctionName, HandlerId, LogSink};

use super::segments::{Lost, Segments, Snapshot};
use super::{LogLimits, Writer, line};

/// One function's log.
#[derive(Debug)]
pub(crate) struct FunctionLog {
    name: FunctionName,
    line_bytes_max: usize,
    waiting_bytes_max: usize,
    writer: Arc<Writer>,
    waiting: Mutex<Waiting>,
    /// Held while the disk is written or looked at, never by who prints.
    disk: Mutex<Segments>,
    /// Bytes ever written to it.
    end: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    text: Vec<u8>,
    lines: u64,
    /// Lines that found no room, since the last that did.
    dropped: u64,
    queued: bool,
    removed: bool,
}

impl FunctionLog {
    pub(super) fn new(
        name: FunctionName,
        dir: &Path,
        limits: LogLimits,
        writer: Arc<Writer>,
    ) -> Arc<Self> {
        let disk = Segments::new(dir, &name, limits.disk_bytes_max);
        Arc::new(Self {
            name,
            line_bytes_max: limits.line_bytes_max,
            waiting_bytes_max: limits.waiting_bytes_max,
            writer,
            waiting: Mutex::default(),
            disk: Mutex::new(disk),
            end: AtomicU64::new(0),
        })
    }

    /// A sink that keeps the log alive as long as somebody may write to it.
    pub(crate) fn sink(self: &Arc<Self>) -> Arc<dyn LogSink> {
        Arc::new(Sink(Arc::clone(self)))
    }

    /// Carries what waits to disk. Blocks on it.
    pub(super) fn flush(&self) {
        let mut disk = self.disk.lock();
        self.flush_to(&mut disk);
    }

    pub(super) fn name(&self) -> &FunctionName {
        &self.name
    }

    /// The position behind its last line on disk.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// What the log holds from this position on, for a reader. Blocks on the disk.
    pub(super) fn snapshot(&self, from: u64) -> io::Result<Snapshot> {
        let mut disk = self.disk.lock();
        self.flush_to(&mut disk);
        let mut snapshot = disk.snapshot(from)?;
        if let Some((at, why)) = snapshot.gone.take() {
            let mut notice = Vec::new();
            self.append_own(&mut notice, at, &why);
            snapshot.notice = Some(notice);
        }
        Ok(snapshot)
    }

    /// Ends the log. Blocks on the disk.
    pub(super) fn remove(&self) {
        let mut disk = self.disk.lock();
        *self.waiting.lock() = Waiting { removed: true, ..Waiting::default() };
        disk.remove();
    }

    fn flush_to(&self, disk: &mut Segments) {
        // Taken under the lock: every line so far is older, every later one younger.
        let (text, lines, now) = {
            let mut waiting = self.waiting.lock();
            let now = Timestamp::now();
            waiting.queued = false;
            if waiting.dropped > 0 {
                let dropped = std::mem::take(&mut waiting.dropped);
                let why = format!("{dropped} lines were dropped: they came faster than the disk");
                self.append_own(&mut waiting.text, now, &why);
            }
            (std::mem::take(&mut waiting.text), std::mem::take(&mut waiting.lines), now)
        };
        if text.is_empty() {
            return;
        }
        if let Some(lost) = disk.take_lost() {
            let mut notice = Vec::new();
            let why = format!("{} lines were dropped: {}", lost.lines, lost.why);
            self.append_own(&mut notice, lost.at, &why);
            if disk.append(&notice).is_err() {
                disk.lose(lost);
            }
        }
        if let Err(error) = disk.append(&text) {
            disk.lose(Lost { lines, at: now, why: error.to_string() });
        }
        self.end.store(disk.end(), Ordering::Release);
        self.writer.tell_change();
    }

    fn append_own(&self, out: &mut Vec<u8>, at: Timestamp, text: &str) {
        line::append(out, self.name.as_str(), line::SELF, at, text.as_bytes(), self.line_bytes_max);
    }
}

struct Sink(Arc<FunctionLog>);

impl LogSink for Sink {
    fn line(&self, handler: &HandlerId, text: &[u8]) {
        let log = &self.0;
        let newly_queued = {
            let mut waiting = log.waiting.lock();
            if waiting.removed {
                return;
            }
            if waiting.text.len() >= log.waiting_bytes_max {
                waiting.dropped += 1;
            } else {
                let (name, at) = (log.name.as_str(), Timestamp::now());
                let bytes_max = log.line_bytes_max;
                line::append(&mut waiting.text, name, handler.as_str(), at, text, bytes_max);
                waiting.lines += 1;
            }
            !std::mem::replace(&mut waiting.queued, true)
        };
        if newly_queued {
            log.writer.enqueue(Arc::clone(log));
        }
    }
}
