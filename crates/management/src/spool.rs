//! A file for bytes on their way: an upload, a download.
//!
//! Owns the temporary file. It has no name from the moment it is made, so nothing
//! is left of it however the server ends.

use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::fs::File;
use tokio::io::AsyncWriteExt;

/// How much is gathered before it is written, in bytes.
const WRITE_BYTES: usize = 256 << 10;

/// Why bytes could not be spooled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    /// There are more than allowed.
    #[error("the zip is larger than the {limit_bytes} bytes that are allowed")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The server's own trouble: a full disk, no rights.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and where.
        what: String,
        /// The system's word for it.
        source: io::Error,
    },
}

/// A spooled archive, complete.
#[derive(Debug)]
pub(crate) struct Spooled(std::fs::File);

impl Spooled {
    pub(crate) fn into_file(self) -> std::fs::File {
        self.0
    }
}

/// A spool file that is being written.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    file: File,
    dir: PathBuf,
    waiting: Vec<u8>,
    bytes: u64,
    bytes_max: u64,
}

impl SpoolFile {
    /// Makes a file for at most `bytes_max` bytes, and the folder if need be.
    pub(crate) async fn create(dir: &Path, bytes_max: u64) -> Result<Self, SpoolError> {
        let owned = dir.to_owned();
        let made = tokio::task::spawn_blocking(move || create_nameless(&owned)).await;
        let made = made.map_err(io::Error::other).and_then(|made| made);
        let file = made.map_err(|source| io_error("making a file in", dir, source))?;
        Ok(Self {
            file: File::from_std(file),
            dir: dir.to_owned(),
            waiting: Vec::new(),
            bytes: 0,
            bytes_max,
        })
    }

    /// Takes more bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.bytes_max {
            return Err(SpoolError::TooLarge { limit_bytes: self.bytes_max });
        }
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= WRITE_BYTES {
            self.write_waiting().await?;
        }
        Ok(())
    }

    /// Ends the file.
    pub(crate) async fn finish(mut self) -> Result<Spooled, SpoolError> {
        self.write_waiting().await?;
        // Tokio tells of a failed write with the next call only.
        self.file.flush().await.map_err(|e| io_error("writing to", &self.dir, e))?;
        Ok(Spooled(self.file.into_std().await))
    }

    async fn write_waiting(&mut self) -> Result<(), SpoolError> {
        let written = self.file.write_all(&self.waiting).await;
        self.waiting.clear();
        written.map_err(|e| io_error("writing to", &self.dir, e))
    }
}

/// Makes a folder that only this server may look into.
pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn create_nameless(dir: &Path) -> io::Result<std::fs::File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    create_private_dir(dir)?;
    let path = dir.join(format!("upload-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn io_error(what: &str, dir: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io { what: format!("{what} {}", dir.display()), source }
}
