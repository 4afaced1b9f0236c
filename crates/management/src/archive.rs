//! Unpacks a zip into a folder, within bounds and nowhere else.
//!
//! Owns the rules for what an archive may hold. Must not know where it came from
//! or what the folder is for. An archive is a stranger's: nothing that it says of
//! itself is believed, bytes are counted as they come out, and nothing is written
//! through a link, because links are made last.

mod links;
mod name;
mod tree;

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use crate::config::ArchiveLimits;
use crate::shown::shown;

use self::name::EntryName;
pub(crate) use self::name::{Subfolder, SubfolderError};
use self::tree::Tree;

/// How many top-level entries an error lists.
const SHOWN_ENTRIES_MAX: usize = 20;

/// How other things begin that are sent by mistake, and what they are.
const NO_ZIPS: [(&[u8], &str); 8] = [
    (b"\x1f\x8b", "a gzip file, such as a .tar.gz"),
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
    /// It is no zip, or a damaged one: a sentence that says which.
    #[error("{0}; zip the function's folder and send that")]
    NotAZip(String),
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

/// Unpacks what `archive` has in `subfolder` into the new folder `into`. Blocks;
/// `cancelled` ends it early.
///
/// # Errors
/// Says what is wrong with the archive. The folder is gone then.
pub(crate) fn unpack(
    archive: File,
    into: PathBuf,
    subfolder: &Subfolder,
    limits: &ArchiveLimits,
    cancelled: &AtomicBool,
) -> Result<Folder, UnpackError> {
    let packed_bytes = archive.metadata().map_err(io_error("reading the spooled archive"))?.len();
    // The offset is fixed: searching the whole file for the start of its
    // directory would need memory for whatever looks like one.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut head = [0; 4];
    let head_bytes =
        archive.read_at(&mut head, 0).map_err(io_error("reading the spooled archive"))?;
    let mut zip = ZipIterable::try_new(BufReader::new(archive), config)
        .map_err(|error| no_zip(&head[..head_bytes], error))?;
    if zip.len() > limits.entries_max {
        return Err(too_many_entries(limits));
    }
    let job = Job { packed_bytes, subfolder, limits, cancelled };
    job.inspect(&mut zip)?;
    let folder = Folder { path: Some(into) };
    let mut tree = Tree::create(folder.path(), limits, job.unpacked_bytes_max())?;
    job.extract(&mut zip, &mut tree)?;
    tree.finish()?;
    Ok(folder)
}

/// What the two passes over an archive have in common.
struct Job<'a> {
    packed_bytes: u64,
    subfolder: &'a Subfolder,
    limits: &'a ArchiveLimits,
    cancelled: &'a AtomicBool,
}

/// What an entry is.
enum Kind {
    File,
    Folder,
    Link,
}

impl Job<'_> {
    /// How much may come out of this archive: the size limit or the ratio,
    /// whichever is reached first.
    fn unpacked_bytes_max(&self) -> u64 {
        let by_ratio = self.packed_bytes.saturating_mul(self.limits.ratio_max);
        self.limits.unpacked_bytes_max.min(by_ratio.max(self.limits.ratio_free_bytes))
    }

    /// Refuses what can be refused by the directory alone, before anything is
    /// written.
    fn inspect(&self, zip: &mut Zip) -> Result<(), UnpackError> {
        let mut declared: u64 = 0;
        let mut top: Vec<String> = Vec::new();
        let (mut any, mut found) = (false, self.subfolder.is_top());
        for entry in zip.files().map_err(zip_error)? {
            let entry = entry.map_err(zip_error)?;
            self.check_cancelled()?;
            let name = parse_name(&entry, self.limits)?;
            let kind = kind_of(&entry, &name)?;
            check_readable(&entry)?;
            any |= !name.parts.is_empty();
            if let Some(first) = name.parts.first()
                && top.len() < SHOWN_ENTRIES_MAX
                && !top.contains(&shown(first.as_bytes()))
            {
                top.push(shown(first.as_bytes()));
            }
            let Some(below) = self.subfolder.strip(&name.parts) else { continue };
            found |= !below.is_empty() || matches!(kind, Kind::Folder);
            declared = declared.saturating_add(entry.size());
        }
        if !any {
            return Err(UnpackError::Empty);
        }
        if !found {
            let wanted = shown(self.subfolder.to_string().as_bytes());
            return Err(UnpackError::NoSubfolder { wanted, top });
        }
        if declared > self.unpacked_bytes_max() {
            return Err(too_large(self.limits, self.unpacked_bytes_max()));
        }
        Ok(())
    }

    fn extract(&self, zip: &mut Zip, tree: &mut Tree<'_>) -> Result<(), UnpackError> {
        let files = zip.files().map_err(zip_error)?;
        while let Some(entry) = files.next() {
            let entry = entry.map_err(zip_error)?;
            self.check_cancelled()?;
            let raw_name = entry.name_raw().to_vec();
            let name = parse_name(&entry, self.limits)?;
            let kind = kind_of(&entry, &name)?;
            let Some(below) = self.subfolder.strip(&name.parts) else { continue };
            // The name borrows from the entry, which is used up below.
            let below: Vec<String> = below.iter().map(|part| (*part).to_owned()).collect();
            let below: Vec<&str> = below.iter().map(String::as_str).collect();
            let mode = entry.unix_mode();
            let outcome = match kind {
                Kind::Folder => tree.folder(&below, mode),
                Kind::File | Kind::Link if below.is_empty() => continue,
                Kind::File => {
                    let mut reader = open(entry, files.reader_mut())?;
                    tree.file(&below, mode, &mut reader, self.cancelled)
                }
                Kind::Link => {
                    let mut reader = open(entry, files.reader_mut())?;
                    tree.link(&below, &mut reader)
                }
            };
            outcome.map_err(|error| error.of_entry(&raw_name))?;
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), UnpackError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(UnpackError::Cancelled) } else { Ok(()) }
    }
}

type Zip = ZipIterable<BufReader<File>>;

fn open<'a>(
    entry: ZipFileEntry<'a>,
    reader: &'a mut BufReader<File>,
) -> Result<zip::read::ZipFile<'a, BufReader<File>>, UnpackError> {
    entry.with_reader(reader, ZipReadOptions::new()).map_err(zip_error)
}

fn parse_name<'a>(
    entry: &'a ZipFileEntry<'_>,
    limits: &ArchiveLimits,
) -> Result<EntryName<'a>, UnpackError> {
    EntryName::parse(entry.name_raw(), limits).map_err(|why| refused(entry.name_raw(), why))
}

fn kind_of(entry: &ZipFileEntry<'_>, name: &EntryName<'_>) -> Result<Kind, UnpackError> {
    const TYPE: u32 = 0o170_000;
    let file_type = entry.unix_mode().map_or(0, |mode| mode & TYPE);
    let refuse = |why: &str| Err(refused(entry.name_raw(), why.to_owned()));
    match (file_type, name.folder) {
        (0 | 0o100_000 | 0o040_000, true) | (0o040_000, false) => Ok(Kind::Folder),
        (0 | 0o100_000, false) if name.parts.is_empty() => refuse("it has no name"),
        (0 | 0o100_000, false) => Ok(Kind::File),
        (0o120_000, false) => Ok(Kind::Link),
        (0o120_000, true) => refuse("it is a link whose name ends like that of a folder"),
        (0o010_000, _) => refuse("it is a named pipe; only files, folders and links are unpacked"),
        (0o140_000, _) => refuse("it is a socket; only files, folders and links are unpacked"),
        _ => refuse("it is a device; only files, folders and links are unpacked"),
    }
}

fn check_readable(entry: &ZipFileEntry<'_>) -> Result<(), UnpackError> {
    if entry.encrypted() {
        let why = "it is encrypted; make the archive without a password";
        return Err(refused(entry.name_raw(), why.to_owned()));
    }
    match entry.compression() {
        CompressionMethod::Stored | CompressionMethod::Deflated => Ok(()),
        other => {
            let why = format!(
                "it is compressed by {}; make the archive with deflate, the usual one",
                compression_name(other)
            );
            Err(refused(entry.name_raw(), why))
        }
    }
}

/// The methods' names by their numbers, APPNOTE 6.3.10 section 4.4.5.
fn compression_name(method: CompressionMethod) -> String {
    let text = format!("{method:?}");
    let number = text.trim_start_matches("Unsupported(").trim_end_matches(')');
    match number {
        "9" => "Deflate64 (method 9)".to_owned(),
        "12" => "bzip2 (method 12)".to_owned(),
        "14" => "LZMA (method 14)".to_owned(),
        "93" => "Zstandard (method 93)".to_owned(),
        "95" => "XZ (method 95)".to_owned(),
        "98" => "PPMd (method 98)".to_owned(),
        other => format!("method {other}"),
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

/// What is wrong with something that has no directory as zips have it, by how it
/// begins.
fn no_zip(head: &[u8], error: ZipError) -> UnpackError {
    let error = zip_error(error);
    if !matches!(error, UnpackError::NotAZip(_)) {
        return error;
    }
    UnpackError::NotAZip(if head.is_empty() {
        "the zip has no bytes".to_owned()
    } else if head.starts_with(b"PK") {
        "the zip archive is cut off or damaged: the directory at its end cannot be read".to_owned()
    } else {
        let known = NO_ZIPS.iter().find(|(start, _)| head.starts_with(start));
        let but = known.map_or(String::new(), |(_, what)| format!(", it looks like {what}"));
        format!("this is no zip archive{but}")
    })
}

/// The zip crate tells a damaged archive and a failing disk apart by whether the
/// system has a number for it.
fn zip_error(error: ZipError) -> UnpackError {
    match error {
        ZipError::Io(source) => read_error(source),
        other => damaged(&other),
    }
}

fn read_error(source: io::Error) -> UnpackError {
    if source.raw_os_error().is_some() {
        UnpackError::Io { what: "reading the spooled archive".to_owned(), source }
    } else {
        damaged(&source)
    }
}

fn damaged(why: &dyn std::fmt::Display) -> UnpackError {
    UnpackError::NotAZip(format!("the zip archive is damaged: {why}"))
}

fn io_error(what: &str) -> impl FnOnce(io::Error) -> UnpackError {
    let what = what.to_owned();
    |source| UnpackError::Io { what, source }
}

#[cfg(test)]
mod tests;
