//! Which part of a log is asked for.
//!
//! Owns finding the line at which it begins, in files that are fixed for a reader.
//! Blocks on the disk.

use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use jiff::Timestamp;

use super::segments::{Piece, Snapshot, time_of};

/// How much is looked at a time from the end, in bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// What of a log is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogView {
    /// Only lines from this time on.
    pub(crate) since: Option<Timestamp>,
    /// Only the last lines, so many.
    pub(crate) tail: Option<usize>,
    /// What comes later too.
    pub(crate) follow: bool,
}

impl Snapshot {
    /// What the view shows of it.
    pub(super) fn within(mut self, view: &LogView) -> io::Result<Self> {
        if view.since.is_some() || view.tail.is_some() {
            // It is older than all.
            self.notice = None;
        }
        if let Some(since) = view.since {
            drop_before(&mut self.pieces, since)?;
        }
        if let Some(lines) = view.tail {
            keep_last(&mut self.pieces, lines)?;
        }
        Ok(self)
    }
}

/// Takes away the lines before this time.
fn drop_before(pieces: &mut Vec<Piece>, since: Timestamp) -> io::Result<()> {
    while let Some(piece) = pieces.first_mut() {
        if let Some(from) = first_since(piece, since)? {
            piece.from = from;
            break;
        }
        pieces.remove(0);
    }
    Ok(())
}

/// Where in the piece the first line stands that is not older.
fn first_since(piece: &Piece, since: Timestamp) -> io::Result<Option<u64>> {
    let mut file = &piece.file;
    file.seek(SeekFrom::Start(piece.from))?;
    let mut reader = BufReader::new(file);
    let (mut at, mut line) = (piece.from, Vec::new());
    while at < piece.to {
        line.clear();
        let bytes = reader.read_until(b'\n', &mut line)?;
        if bytes == 0 {
            break;
        }
        if time_of(&line).is_some_and(|time| time >= since) {
            return Ok(Some(at));
        }
        at += bytes as u64;
    }
    Ok(None)
}

/// Takes away all but the last lines.
fn keep_last(pieces: &mut Vec<Piece>, lines: usize) -> io::Result<()> {
    let mut left = lines;
    for at in (0..pieces.len()).rev() {
        if let Some(from) = start_of_last(&pieces[at], &mut left)? {
            pieces[at].from = from;
            pieces.drain(..at);
            break;
        }
    }
    Ok(())
}

/// Where the last lines of the piece begin, if it has more; else `lines` becomes
/// how many are still missing.
fn start_of_last(piece: &Piece, lines: &mut usize) -> io::Result<Option<u64>> {
    let mut block = vec![0; BLOCK_BYTES];
    let mut end = piece.to;
    // A line's end belongs to it: the one that counts is the end of the line before.
    while end > piece.from {
        let start = end.saturating_sub(BLOCK_BYTES as u64).max(piece.from);
        let bytes = &mut block[..usize::try_from(end - start).unwrap_or(BLOCK_BYTES)];
        piece.file.read_exact_at(bytes, start)?;
        for (at, byte) in bytes.iter().enumerate().rev() {
            if *byte != b'\n' {
                continue;
            }
            if *lines == 0 {
                return Ok(Some(start + at as u64 + 1));
            }
            *lines -= 1;
        }
        end = start;
    }
    Ok(None)
}
