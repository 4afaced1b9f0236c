//! The functions' logs: what they print, and what their backend says of them.
//!
//! Owns the log of each name from its first deploy to its deletion. Writing only
//! appends to a bounded piece of memory, so a slow or full disk never holds a
//! function up; one background task carries the lines to disk. Must not know who
//! prints or who reads.

mod function;
mod line;
mod reader;
mod segments;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tinyfaas_model::FunctionName;
use tokio::sync::{Notify, Semaphore, watch};

use crate::config::ManagementConfig;

pub(crate) use self::function::FunctionLog;
pub(crate) use self::line::Line;
pub(crate) use self::reader::LogReader;
pub(crate) use self::view::LogView;

/// Why a log is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LogError {
    /// There is none of that name.
    #[error("there is no function of that name")]
    Unknown,
    /// There are as many followers as there may be.
    #[error("{followers_max} clients follow logs already; try again later")]
    TooManyFollowers {
        /// How many there may be.
        followers_max: usize,
    },
}

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
    /// Places for readers that follow.
    followers: Arc<Semaphore>,
    followers_max: usize,
}

/// Logs with lines that wait to be written; each stands in it once at most.
#[derive(Debug, Default)]
struct Writer {
    queue: Mutex<Queue>,
    wake: Notify,
    /// Counts what becomes of any log, for those who follow.
    changed: watch::Sender<u64>,
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
        Self {
            dir: config.logs_dir.clone(),
            limits,
            by_name: Mutex::default(),
            writer,
            followers: Arc::new(Semaphore::new(config.log_followers_max)),
            followers_max: config.log_followers_max,
        }
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
            self.writer.tell_change();
        }
    }

    /// The names that have a log, in their order.
    pub(crate) fn names(&self) -> Vec<FunctionName> {
        self.by_name.lock().keys().cloned().collect()
    }

    /// Reads the log of one function, or all of them, one after the other.
    ///
    /// # Errors
    /// Where there is no such log, or no place for one more follower.
    pub(crate) fn read(
        self: &Arc<Self>,
        of: Option<FunctionName>,
        view: LogView,
    ) -> Result<LogReader, LogError> {
        if of.as_ref().is_some_and(|name| !self.by_name.lock().contains_key(name)) {
            return Err(LogError::Unknown);
        }
        let place = if view.follow {
            let full = LogError::TooManyFollowers { followers_max: self.followers_max };
            Some(Arc::clone(&self.followers).try_acquire_owned().map_err(|_| full)?)
        } else {
            None
        };
        Ok(LogReader::new(Arc::clone(self), of, view, place))
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

    fn tell_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
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

#[cfg(test)]
mod tests;
