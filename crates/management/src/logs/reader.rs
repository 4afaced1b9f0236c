//! Reading logs from disk, piece by piece, and following them as they grow.
//!
//! Owns how far a reader has come in each log. A follower holds no queue: it reads
//! from disk what has come since it last looked, and what was removed before it
//! came to it is counted in a line. Must not know how the lines are shown.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tinyfaas_model::FunctionName;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom, Take};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::segments::Piece;
use super::{FunctionLog, LogView, Logs};

/// How much of a log is read at a time, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Reads logs: one function's, or all, one after the other.
#[derive(Debug)]
pub(crate) struct LogReader {
    logs: Arc<Logs>,
    /// Whose; none is everybody's.
    of: Option<FunctionName>,
    view: LogView,
    /// Counts what is written, whoever's it is.
    changed: watch::Receiver<u64>,
    /// Logs to be read next, the next last.
    ahead: Vec<Arc<FunctionLog>>,
    /// Of the log being read, the next last.
    parts: Vec<Part>,
    /// How far each log was read that is still there.
    read: BTreeMap<FunctionName, Mark>,
    /// Whether one was read at all.
    begun: bool,
    _place: Option<OwnedSemaphorePermit>,
}

/// How far a log was read.
#[derive(Debug)]
struct Mark {
    log: Weak<FunctionLog>,
    position: u64,
}

/// A piece of a log that has been fixed for a reader.
#[derive(Debug)]
enum Part {
    Text(Bytes),
    Piece(Piece),
    File(Take<File>),
}

impl LogReader {
    pub(super) fn new(
        logs: Arc<Logs>,
        of: Option<FunctionName>,
        view: LogView,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let changed = logs.writer.changed.subscribe();
        let mut reader = Self {
            logs,
            of,
            view,
            changed,
            ahead: Vec::new(),
            parts: Vec::new(),
            read: BTreeMap::new(),
            begun: false,
            _place: place,
        };
        reader.look_ahead();
        reader
    }

    /// The next piece, whole lines if the log is followed; none at the end. A
    /// follower waits, until the one log that it follows is gone.
    ///
    /// # Errors
    /// Passes on that the disk cannot be read.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(part) = self.parts.pop() {
                if let Some(text) = self.read_part(part).await? {
                    return Ok(Some(text));
                }
            } else if let Some(log) = self.ahead.pop() {
                self.open(log).await?;
            } else if !self.view.follow || !self.more_to_come().await {
                return Ok(None);
            }
        }
    }

    async fn read_part(&mut self, part: Part) -> io::Result<Option<Bytes>> {
        let mut file = match part {
            Part::Text(text) => return Ok(Some(text)),
            Part::Piece(piece) => {
                let mut file = File::from_std(piece.file);
                file.seek(SeekFrom::Start(piece.from)).await?;
                file.take(piece.to - piece.from)
            }
            Part::File(file) => file,
        };
        let mut text = Vec::with_capacity(READ_BYTES);
        (&mut file).take(READ_BYTES as u64).read_to_end(&mut text).await?;
        if text.is_empty() {
            return Ok(None);
        }
        self.parts.push(Part::File(file));
        Ok(Some(text.into()))
    }

    /// Fixes what has come into a log since it was last read.
    async fn open(&mut self, log: Arc<FunctionLog>) -> io::Result<()> {
        let known = self.read.get(log.name());
        let from = known.filter(|mark| mark.is_of(&log)).map(|mark| mark.position);
        let (view, weak, name) = (self.view.clone(), Arc::downgrade(&log), log.name().clone());
        let snapshot = tokio::task::spawn_blocking(move || match from {
            Some(from) => log.snapshot(from),
            None => log.snapshot(0).and_then(|snapshot| snapshot.within(&view)),
        });
        let snapshot = snapshot.await.map_err(io::Error::other)??;
        self.begun = true;
        self.read.insert(name, Mark { log: weak, position: snapshot.end });
        let notice = snapshot.notice.into_iter().map(|text| Part::Text(text.into()));
        self.parts = notice.chain(snapshot.pieces.into_iter().map(Part::Piece)).collect();
        self.parts.reverse();
        Ok(())
    }

    /// Waits until something has been written; false if nothing can come any more.
    async fn more_to_come(&mut self) -> bool {
        loop {
            self.changed.borrow_and_update();
            self.look_ahead();
            if !self.ahead.is_empty() {
                return true;
            }
            if self.of.is_some() && self.read.is_empty() {
                return false;
            }
            if self.changed.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Notes the logs that hold something that was not read.
    fn look_ahead(&mut self) {
        let by_name = self.logs.by_name.lock();
        self.read.retain(|name, mark| by_name.get(name).is_some_and(|log| mark.is_of(log)));
        let wanted = |name: &FunctionName| self.of.as_ref().is_none_or(|of| of == name);
        // A log that came in the place of a followed one is another function's.
        let may_begin = self.of.is_none() || !self.begun;
        self.ahead = by_name
            .iter()
            .filter(|(name, _)| wanted(name))
            .filter(|(name, log)| {
                self.read.get(*name).map_or(may_begin, |mark| mark.position < log.end())
            })
            .map(|(_, log)| Arc::clone(log))
            .rev()
            .collect();
    }
}

impl Mark {
    fn is_of(&self, log: &Arc<FunctionLog>) -> bool {
        std::ptr::eq(self.log.as_ptr(), Arc::as_ptr(log))
    }
}
