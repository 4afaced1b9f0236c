//! Unpacks a zip or a tar.gz into a folder, within bounds and nowhere else.
//!
//! Owns the rules for what an archive may hold. Must not know where it came from
//! or what the folder is for. An archive is a stranger's: nothing that it says of
//! itself is believed, bytes are counted as they come out, and nothing is written
//! through a link, because links are made last.

mod links;
mod name;
mod tarball;
mod tree;
mod zipped;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::ArchiveLimits;
use crate::shown::shown;

use self::name::EntryName;
pub(crate) use self::name::{Subfolder, SubfolderError};
use self::tree::Tree;

/// How many top-level entries an error lists.
const SHOWN_ENTRIES_MAX: usize = 20;

/// What is being done when the server's disk fails under an archive.
const READING: &str = "reading the spooled archive";

/// How a gzip file begins, RFC 1952 section 2.3.1.
const GZIP: &[u8] = b"\x1f\x8b";

/// How other things begin that are sent by mistake, and what they are.
const NO_ARCHIVES: [(&[u8], &str); 8] = [
    (GZIP, "a gzip file, such as a .tar.gz"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"<", "a web page"),
    (b"{", "JSON"),
];

/// Why an archive was not unpacked. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// It is no archive, or a damaged one: a sentence that says which.
    #[error("{0}; zip the function's folder and send that")]
    NoArchive(String),
    /// It, or what comes out of it, is too large.
    #[error("{0}")]
    TooLarge(String),
    /// An entry is one that no archive may hold.
    #[error("the archive's entry {name} is refused: {why}")]
    Refused {
        /// The entry, fit to be shown.
        name: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The folder asked for is not in it.
    #[error("the archive has no folder {wanted}; at its top it has {}", top.join(", "))]
    NoSubfolder {
        /// What was asked for, fit to be shown.
        wanted: String,
        /// The first of the entries at its top, fit to be shown.
        top: Vec<String>,
    },
    /// There is nothing in it.
    #[error("the archive is empty; zip the function's folder so that its files are at the top")]
    Empty,
    /// Nobody wants it any more.
    #[error("the server is stopping")]
    Cancelled,
    /// The server's own trouble: a full disk, no rights.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's word for it.
        source: io::Error,
    },
}

/// A folder that is removed unless somebody takes it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: Option<PathBuf>,
}

impl Folder {
    /// Hands the folder over.
    pub(crate) fn into_path(mut self) -> PathBuf {
        self.path.take().expect("the path is there until it is taken, once")
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        self.path.as_deref().expect("the path is there until it is taken, once")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Some(path) = self.path.take()
            && let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "an unpacked folder stays behind");
        }
    }
}

/// What an archive may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Formats {
    /// A zip, as the original's clients send it.
    Zip,
    /// A zip or a tar.gz; its first bytes tell which.
    ZipOrTarGz,
}

/// Unpacks what `archive` has in `subfolder` into the new folder `into`. Blocks;
/// `cancelled` ends it early.
///
/// # Errors
/// Says what is wrong with the archive. The folder is gone then.
pub(crate) fn unpack(
    archive: File,
    formats: Formats,
    into: PathBuf,
    subfolder: &Subfolder,
    limits: &ArchiveLimits,
    cancelled: &AtomicBool,
) -> Result<Folder, UnpackError> {
    let packed_bytes = archive.metadata().map_err(io_error(READING))?.len();
    let mut head = [0; 4];
    let head_bytes = archive.read_at(&mut head, 0).map_err(io_error(READING))?;
    let head = &head[..head_bytes];
    let job = Job { packed_bytes, formats, subfolder, limits, cancelled };
    let create = |into: PathBuf| Folder { path: Some(into) };
    if formats == Formats::ZipOrTarGz && head.starts_with(GZIP) {
        let folder = create(into);
        let mut tree = Tree::create(folder.path(), limits, job.unpacked_bytes_max())?;
        tarball::extract(archive, &job, &mut tree)?;
        tree.finish()?;
        return Ok(folder);
    }
    let zip = zipped::inspect(archive, head, &job)?;
    let folder = create(into);
    let mut tree = Tree::create(folder.path(), limits, job.unpacked_bytes_max())?;
    zipped::extract(zip, &job, &mut tree)?;
    tree.finish()?;
    Ok(folder)
}

/// What is asked of an archive.
struct Job<'a> {
    packed_bytes: u64,
    formats: Formats,
    subfolder: &'a Subfolder,
    limits: &'a ArchiveLimits,
    cancelled: &'a AtomicBool,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Folder,
    Link,
}

/// What has been seen of an archive.
#[derive(Default)]
struct Contents {
    any: bool,
    found: bool,
    /// The first entries at its top, fit to be shown.
    top: Vec<String>,
}

impl Contents {
    /// Notes an entry; what is left of its name inside the subfolder, if it lies
    /// there.
    fn note<'a, 'n>(
        &mut self,
        name: &'a EntryName<'n>,
        kind: Kind,
        subfolder: &Subfolder,
    ) -> Option<&'a [&'n str]> {
        self.any |= !name.parts.is_empty();
        if let Some(first) = name.parts.first()
            && self.top.len() < SHOWN_ENTRIES_MAX
            && !self.top.contains(&shown(first.as_bytes()))
        {
            self.top.push(shown(first.as_bytes()));
        }
        let below = subfolder.strip(&name.parts)?;
        self.found |= !below.is_empty() || kind == Kind::Folder;
        Some(below)
    }

    /// That there is something in the archive, and in the subfolder.
    fn check(self, subfolder: &Subfolder) -> Result<(), UnpackError> {
        if !self.any {
            return Err(UnpackError::Empty);
        }
        if !self.found && !subfolder.is_top() {
            let wanted = shown(subfolder.to_string().as_bytes());
            return Err(UnpackError::NoSubfolder { wanted, top: self.top });
        }
        Ok(())
    }
}

impl Job<'_> {
    /// How much may come out of this archive: the size limit or the ratio,
    /// whichever is reached first.
    fn unpacked_bytes_max(&self) -> u64 {
        let by_ratio = self.packed_bytes.saturating_mul(self.limits.ratio_max);
        self.limits.unpacked_bytes_max.min(by_ratio.max(self.limits.ratio_free_bytes))
    }

    fn check_cancelled(&self) -> Result<(), UnpackError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(UnpackError::Cancelled) } else { Ok(()) }
    }
}

fn refused(name: &[u8], why: String) -> UnpackError {
    UnpackError::Refused { name: shown(name), why }
}

fn too_many_entries(limits: &ArchiveLimits) -> UnpackError {
    UnpackError::TooLarge(format!(
        "the archive holds more than the {} files and folders that are allowed",
        limits.entries_max
    ))
}

fn too_large(limits: &ArchiveLimits, bytes_max: u64) -> UnpackError {
    UnpackError::TooLarge(if bytes_max == limits.unpacked_bytes_max {
        format!("what comes out of the archive is larger than the {bytes_max} bytes allowed")
    } else {
        format!(
            "what comes out of the archive is more than {} times as large as the archive; \
             it looks like a zip bomb",
            limits.ratio_max
        )
    })
}

/// What is wrong with something that begins as no archive does.
fn no_archive(head: &[u8], formats: Formats) -> UnpackError {
    let known = NO_ARCHIVES.iter().find(|(start, _)| head.starts_with(start));
    let but = known.map_or(String::new(), |(_, what)| format!(", it looks like {what}"));
    UnpackError::NoArchive(match formats {
        Formats::Zip if head.is_empty() => "the zip has no bytes".to_owned(),
        Formats::Zip => format!("this is no zip archive{but}"),
        Formats::ZipOrTarGz if head.is_empty() => "the archive has no bytes".to_owned(),
        Formats::ZipOrTarGz => format!("this is neither a zip nor a tar.gz archive{but}"),
    })
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> UnpackError {
    let what = what.to_owned();
    |source| UnpackError::Io { what, source }
}

#[cfg(test)]
mod tests;
