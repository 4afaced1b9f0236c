//! Reading the files that TLS needs.
//!
//! Owns what the system says about a file. Must not know what is in it.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::FileProblem;

/// A chain of ten certificates has 20 kB, all of the web's roots have 250 kB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Rights of a file by which others than its owner and group may read it.
const OTHERS_MAY_READ: u32 = 0o004;

/// What a file held.
pub(crate) struct Content {
    pub(crate) text: Vec<u8>,
    pub(crate) stamp: Stamp,
    /// Everybody on this machine may read it.
    pub(crate) open_to_all: bool,
}

/// What tells a file from what it was: two that are equal hold the same, unless
/// somebody takes pains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// When anything about it changed, its rights too: one that could not be read
    /// may have become readable.
    changed: (i64, i64),
}

impl Stamp {
    /// As it is now; None where there is no such file.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::from)
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a file whole. Its stamp is from before, so what is written meanwhile makes
/// another.
pub(crate) fn read(path: &Path) -> Result<Content, FileProblem> {
    // Asked before it is opened: opening a pipe would wait for who writes to it.
    if !fs::metadata(path).map_err(FileProblem::of)?.is_file() {
        return Err(FileProblem::NotAFile);
    }
    let file = File::open(path).map_err(FileProblem::of)?;
    let metadata = file.metadata().map_err(FileProblem::of)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(FileProblem::of)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FileProblem::TooLarge { limit: FILE_BYTES_MAX });
    }
    Ok(Content {
        text,
        stamp: Stamp::from(&metadata),
        open_to_all: metadata.mode() & OTHERS_MAY_READ != 0,
    })
}
