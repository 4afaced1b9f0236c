//! Reading, watching and writing the files that TLS needs.
//!
//! Owns what the system says about a file. Must not know what is in it.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::FileProblem;

/// A chain of ten certificates has 20 kB, all of the web's roots have 250 kB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Rights of a file by which others than its owner and group may read it.
const OTHERS_MAY_READ: u32 = 0o004;

/// What tells a file from what it was: two that are equal hold the same, unless
/// somebody takes pains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
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
    fn of(path: &Path) -> Option<Self> {
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

/// How often what has changed is read. Who replaces two files writes one after the
/// other, and some write a file in place: the first reading may find what does not
/// fit, or was written again within the file system's tick. The second, a look
/// later, counts.
const READINGS: u8 = 2;

/// Tells when files have changed.
#[derive(Debug)]
pub(crate) struct Watch {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    readings_left: u8,
}

/// What a look at files says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// They are as they were.
    Same,
    /// They have changed and are to be read; what is wrong may pass.
    Changed,
    /// They stay as they have become; what is wrong is to be told.
    Settled,
}

impl Watch {
    /// To be made before the files are read, so that no change is missed.
    pub(crate) fn new(paths: &[&Path]) -> Self {
        let paths: Vec<_> = paths.iter().map(|path| path.to_path_buf()).collect();
        let seen = paths.iter().map(|path| Stamp::of(path)).collect();
        // Read once more: they may have been written a moment ago.
        Self { paths, seen, readings_left: 1 }
    }

    pub(crate) fn look(&mut self) -> Look {
        let now: Vec<_> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        if now != self.seen {
            self.seen = now;
            self.readings_left = READINGS;
        }
        if self.readings_left == 0 {
            return Look::Same;
        }
        self.readings_left -= 1;
        if self.readings_left == 0 { Look::Settled } else { Look::Changed }
    }
}

/// Makes a directory, with those above it, for this user alone.
pub(crate) fn make_directory(path: &Path) -> Result<(), FileProblem> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FileProblem::Write)
}

/// Puts a file in the place of another, or of none: whole or not at all, even when
/// the power goes, and for this user alone.
pub(crate) fn replace(path: &Path, text: &str) -> Result<(), FileProblem> {
    let fresh = path.with_extension("new");
    let write = || {
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        match path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(FileProblem::Write)
}

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileProblem> {
    // Asked before it is opened: opening a pipe would wait for who writes to it.
    if !fs::metadata(path).map_err(FileProblem::of)?.is_file() {
        return Err(FileProblem::NotAFile);
    }
    let file = File::open(path).map_err(FileProblem::of)?;
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(FileProblem::of)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(FileProblem::TooLarge { limit: FILE_BYTES_MAX });
    }
    Ok(text)
}

/// Tells that everybody on this machine may read a private key.
pub(crate) fn warn_if_open(key: &Path) {
    if fs::metadata(key).is_ok_and(|it| it.mode() & OTHERS_MAY_READ != 0) {
        tracing::warn!(
            "TLS: every user of this machine may read the private key in {0}; \"chmod o-r {0}\" \
             keeps it from them",
            key.display()
        );
    }
}
