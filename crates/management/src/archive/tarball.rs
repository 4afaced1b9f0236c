//! Reading a tar.gz, entry by entry.
//!
//! Owns the one pass over it and the headers that stand before an entry (long
//! names, pax records), which it reads itself, within bounds: a length in a header
//! is a stranger's word. What has been written when it turns out to be refused
//! goes with the folder. Must not know where files are written.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::name::EntryName;
use super::tree::{EntryError, Tree};
use super::{Contents, Job, Kind, READING, UnpackError, io_error, too_large};

/// What an entry takes beside its content, in bytes: its header, and what fills
/// its last block up.
const ENTRY_OVERHEAD_BYTES: u64 = 2 * 512;
/// The longest of the headers before an entry, in bytes; links' targets and names
/// fit into it.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;

/// Writes all that the archive has in the job's folder.
pub(super) fn extract(
    mut archive: File,
    job: &Job<'_>,
    tree: &mut Tree<'_>,
) -> Result<(), UnpackError> {
    // Who has written it has left it at its end.
    archive.rewind().map_err(io_error(READING))?;
    let overhead = ENTRY_OVERHEAD_BYTES.saturating_mul(job.limits.entries_max as u64);
    let cut = Cell::new(None);
    let stream = Bounded {
        inner: MultiGzDecoder::new(BufReader::new(archive)),
        bytes_left: job.unpacked_bytes_max().saturating_add(overhead),
        cancelled: job.cancelled,
        cut: &cut,
    };
    let unreadable = |error: io::Error| match cut.get() {
        Some(Cut::TooLarge) => too_large(job.limits, job.unpacked_bytes_max()),
        Some(Cut::Cancelled) => UnpackError::Cancelled,
        None if error.raw_os_error().is_some() => {
            UnpackError::Io { what: READING.to_owned(), source: error }
        }
        None => {
            UnpackError::NoArchive(format!("the tar.gz archive is cut off or damaged: {error}"))
        }
    };
    let mut archive = Archive::new(stream);
    let mut contents = Contents::default();
    let mut before = Extensions::default();
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        job.check_cancelled()?;
        if before.take(&mut entry).map_err(unreadable)? {
            continue;
        }
        let extensions = std::mem::take(&mut before);
        let raw_name = extensions.path.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
        extensions
            .agree(&entry)
            .and_then(|()| write(entry, &raw_name, &extensions, job, (&mut contents, tree)))
            .map_err(|error| error.of_entry(&raw_name, unreadable))?;
    }
    // The checksum stands at the end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(unreadable)?;
    contents.check(job.subfolder)
}

fn write<R: Read>(
    entry: Entry<'_, R>,
    raw_name: &[u8],
    extensions: &Extensions,
    job: &Job<'_>,
    (contents, tree): (&mut Contents, &mut Tree<'_>),
) -> Result<(), EntryError> {
    let name = EntryName::parse(raw_name, job.limits).map_err(EntryError::Refused)?;
    let of_type = entry.header().entry_type();
    let kind = kind_of(of_type, &name).map_err(EntryError::Refused)?;
    let Some(below) = contents.note(&name, kind, job.subfolder) else { return Ok(()) };
    let mode = entry.header().mode().ok();
    match kind {
        Kind::Folder => tree.folder(below, mode),
        Kind::File | Kind::Link if below.is_empty() => Ok(()),
        Kind::File if of_type == EntryType::Link => {
            let target = target(&entry, extensions);
            let mut file = linked(&target, job, tree)?;
            tree.file(below, mode, &mut file, job.cancelled)
        }
        Kind::File => {
            let mut content = Whole { bytes_left: entry.size(), inner: entry };
            tree.file(below, mode, &mut content, job.cancelled)
        }
        Kind::Link => tree.link(below, &mut target(&entry, extensions).as_slice()),
    }
}

fn kind_of(of_type: EntryType, name: &EntryName<'_>) -> Result<Kind, String> {
    let refuse = |why: &str| Err(why.to_owned());
    match of_type {
        EntryType::Directory => Ok(Kind::Folder),
        // Old archives tell a folder by the slash at its name's end.
        EntryType::Regular if name.folder => Ok(Kind::Folder),
        EntryType::Regular | EntryType::Continuous | EntryType::Link if name.parts.is_empty() => {
            refuse("it has no name")
        }
        EntryType::Regular | EntryType::Continuous | EntryType::Link => Ok(Kind::File),
        EntryType::Symlink => Ok(Kind::Link),
        EntryType::Fifo => refuse("it is a named pipe; only files, folders and links are unpacked"),
        EntryType::Char | EntryType::Block => {
            refuse("it is a device; only files, folders and links are unpacked")
        }
        EntryType::GNUSparse => refuse("it is a sparse file; make the archive without --sparse"),
        _ => {
            refuse("it is of a kind that is not known; only files, folders and links are unpacked")
        }
    }
}

/// What a link says.
fn target<R: Read>(entry: &Entry<'_, R>, extensions: &Extensions) -> Vec<u8> {
    let short = || entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
    extensions.link.clone().unwrap_or_else(short)
}

/// The file that a hard link is another name of.
fn linked(target: &[u8], job: &Job<'_>, tree: &Tree<'_>) -> Result<File, EntryError> {
    let name = EntryName::parse(target, job.limits)
        .map_err(|why| EntryError::Refused(format!("of the file that it links to: {why}")))?;
    let below = job.subfolder.strip(&name.parts).ok_or_else(|| {
        EntryError::Refused("it is a hard link to a file outside of the folder".to_owned())
    })?;
    tree.written(below)
}

/// What headers before an entry say of it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<Vec<u8>>,
    sparse: bool,
}

impl Extensions {
    /// Reads such a header; false if the entry is none.
    fn take<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<bool> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(c_text(read_small(entry)?)),
            EntryType::GNULongLink => self.link = Some(c_text(read_small(entry)?)),
            EntryType::XHeader => self.take_records(&read_small(entry)?)?,
            // It is of all entries: a comment, a time. Its content is skipped.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Records `LENGTH KEY=VALUE`, POSIX.1-2017 `pax` "Extended Header".
    fn take_records(&mut self, mut records: &[u8]) -> io::Result<()> {
        while !records.is_empty() {
            let (record, rest) = split_record(records)
                .ok_or_else(|| io::Error::other("one of its pax headers is none"))?;
            match record {
                (b"path", path) => self.path = Some(path.to_vec()),
                (b"linkpath", path) => self.link = Some(path.to_vec()),
                (b"size", size) => self.size = Some(size.to_vec()),
                (key, _) => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            records = rest;
        }
        Ok(())
    }

    /// That the headers are of one mind: who reads only one of them must not see
    /// another archive.
    fn agree<R: Read>(&self, entry: &Entry<'_, R>) -> Result<(), EntryError> {
        if self.sparse {
            let why = "it is a sparse file; make the archive without --sparse";
            return Err(EntryError::Refused(why.to_owned()));
        }
        match &self.size {
            Some(size) if *size != entry.size().to_string().as_bytes() => {
                Err(EntryError::Refused("its headers tell two sizes".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split_record(records: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = records.iter().take(8).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), rest))
}

fn read_small<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Vec<u8>> {
    if entry.size() > EXTENSION_BYTES_MAX {
        return Err(io::Error::other("a name or a header in it is absurdly long"));
    }
    let mut bytes = Vec::new();
    Whole { bytes_left: entry.size(), inner: entry }.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Up to the zero byte that ends it.
fn c_text(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Why a stream was cut.
#[derive(Debug, Clone, Copy)]
enum Cut {
    TooLarge,
    Cancelled,
}

/// A stream that ends with an error when too much comes, or nobody wants it.
struct Bounded<'a, R> {
    inner: R,
    bytes_left: u64,
    cancelled: &'a AtomicBool,
    cut: &'a Cell<Option<Cut>>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        let left = self.bytes_left.checked_sub(count as u64);
        self.bytes_left = left.unwrap_or(0);
        if left.is_none() {
            self.cut.set(Some(Cut::TooLarge));
        } else if self.cancelled.load(Ordering::Relaxed) {
            self.cut.set(Some(Cut::Cancelled));
        } else {
            return Ok(count);
        }
        Err(io::Error::other("reading was given up"))
    }
}

/// A content that must come whole.
struct Whole<R> {
    inner: R,
    bytes_left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.bytes_left = self.bytes_left.saturating_sub(count as u64);
        if count == 0 && self.bytes_left > 0 && !into.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file in it is cut short"));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
