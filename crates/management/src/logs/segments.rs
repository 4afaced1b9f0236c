//! A log on disk: a few files, the oldest of which goes when there is too much.
//!
//! Owns the files. Their text is whole lines; must not know what is in them
//! except where the first of a file says its time.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tinyfaas_model::FunctionName;

use crate::spool::create_private_dir;

/// Into how many files a log is divided.
const SEGMENTS: u64 = 4;

#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    name: FunctionName,
    segment_bytes_max: u64,
    /// The oldest first.
    kept: VecDeque<Segment>,
    next_number: u64,
    gone_bytes: u64,
    lost: Option<Lost>,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    bytes: u64,
    /// The time of its first line.
    began: Timestamp,
}

/// Lines that could not be written.
#[derive(Debug)]
pub(super) struct Lost {
    pub(super) lines: u64,
    /// A moment after the last of them and before the next line.
    pub(super) at: Timestamp,
    pub(super) why: String,
}

/// What a log holds at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Its text, the oldest first.
    pub(super) pieces: Vec<Piece>,
    /// The position behind it.
    pub(super) end: u64,
    /// That the oldest lines are gone, and the time that goes with it.
    pub(super) gone: Option<(Timestamp, String)>,
    /// The line that says so.
    pub(super) notice: Option<Vec<u8>>,
}

/// Whole lines in a file.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) file: File,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Segments {
    pub(super) fn new(dir: &Path, name: &FunctionName, bytes_max: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.clone(),
            segment_bytes_max: (bytes_max / SEGMENTS).max(1),
            kept: VecDeque::new(),
            next_number: 0,
            gone_bytes: 0,
            lost: None,
        }
    }

    /// Appends whole lines. On an error the file ends with a whole line all the
    /// same.
    pub(super) fn append(&mut self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            let room = self
                .kept
                .back()
                .map_or(0, |last| self.segment_bytes_max.saturating_sub(last.bytes));
            let mut fitting = whole_lines_within(text, room);
            if fitting == 0 {
                self.begin_segment()?;
                fitting = whole_lines_within(text, self.segment_bytes_max);
                if fitting == 0 {
                    // A line longer than a file: the limits are absurdly small.
                    fitting = first_line(text);
                }
            }
            self.write(&text[..fitting])?;
            text = &text[fitting..];
        }
        Ok(())
    }

    /// Remembers that lines could not be written.
    pub(super) fn lose(&mut self, mut lost: Lost) {
        lost.lines += self.lost.take().map_or(0, |before| before.lines);
        self.lost = Some(lost);
    }

    /// What was lost since this was last asked.
    pub(super) fn take_lost(&mut self) -> Option<Lost> {
        self.lost.take()
    }

    /// The position behind all that was ever written.
    pub(super) fn end(&self) -> u64 {
        self.gone_bytes + self.kept.iter().map(|segment| segment.bytes).sum::<u64>()
    }

    /// Opens what is there from this position on.
    pub(super) fn snapshot(&self, from: u64) -> io::Result<Snapshot> {
        let mut snapshot = Snapshot { end: self.end(), ..Snapshot::default() };
        let mut begins = self.gone_bytes;
        for segment in &self.kept {
            let passed = from.saturating_sub(begins);
            if passed < segment.bytes {
                let file = File::open(&segment.path)?;
                snapshot.pieces.push(Piece { file, from: passed, to: segment.bytes });
            }
            begins += segment.bytes;
        }
        if from < self.gone_bytes
            && let Some(first) = self.kept.front()
        {
            let bytes = self.gone_bytes - from;
            let which = if from == 0 { "the oldest" } else { "the next" };
            snapshot.gone =
                Some((first.began, format!("{which} {bytes} bytes of this log are gone")));
        }
        Ok(snapshot)
    }

    /// Removes the files.
    pub(super) fn remove(&mut self) {
        for segment in self.kept.drain(..) {
            remove_file(&segment.path);
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        create_private_dir(&self.dir)?;
        let path = self.dir.join(format!("{}.{}.log", self.name, self.next_number));
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        self.next_number += 1;
        self.kept.push_back(Segment { path, bytes: 0, began: Timestamp::now() });
        while self.kept.len() as u64 > SEGMENTS
            && let Some(oldest) = self.kept.pop_front()
        {
            remove_file(&oldest.path);
            self.gone_bytes += oldest.bytes;
        }
        Ok(())
    }

    /// Writes to the newest file. It is opened for this only: a thousand idle
    /// functions hold no file open.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        let last = self.kept.back_mut().expect("a segment was begun before it is written to");
        let mut file = OpenOptions::new().append(true).open(&last.path)?;
        if last.bytes == 0
            && let Some(began) = time_of(text)
        {
            last.began = began;
        }
        if let Err(error) = file.write_all(text) {
            // Half a line must not stay.
            file.set_len(last.bytes)?;
            return Err(error);
        }
        last.bytes += text.len() as u64;
        Ok(())
    }
}

/// The time that the first of these lines tells.
pub(super) fn time_of(text: &[u8]) -> Option<Timestamp> {
    let stamp = text.splitn(4, |byte| *byte == b' ').nth(2)?;
    std::str::from_utf8(stamp).ok()?.parse().ok()
}

/// How many bytes the whole lines have that fit into `room`.
fn whole_lines_within(text: &[u8], room: u64) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if text.len() <= room {
        return text.len();
    }
    text[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

fn first_line(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1)
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a log file stays behind");
    }
}
