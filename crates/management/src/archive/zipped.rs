//! Reading a zip, entry by entry.
//!
//! Owns the two passes over it: nothing is written before its directory has been
//! looked through. Must not know where files are written.

use std::fs::File;
use std::io::{self, BufReader};

use zip::read::{ArchiveOffset, Config, ZipFileEntry};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, ZipReadOptions};

use crate::config::ArchiveLimits;

use super::name::EntryName;
use super::tree::Tree;
use super::{
    Contents, Job, Kind, READING, UnpackError, no_archive, refused, too_large, too_many_entries,
};

/// A zip whose directory has been looked through.
pub(super) struct Inspected(Zip);

type Zip = ZipIterable<BufReader<File>>;

/// Refuses what can be refused by the directory alone, before anything is
/// written.
pub(super) fn inspect(archive: File, head: &[u8], job: &Job<'_>) -> Result<Inspected, UnpackError> {
    // The offset is fixed: searching the whole file for the start of its
    // directory would need memory for whatever looks like one.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut zip = ZipIterable::try_new(BufReader::new(archive), config)
        .map_err(|error| no_zip(head, error, job))?;
    if zip.len() > job.limits.entries_max {
        return Err(too_many_entries(job.limits));
    }
    let mut declared: u64 = 0;
    let mut contents = Contents::default();
    for entry in zip.files().map_err(zip_error)? {
        let entry = entry.map_err(zip_error)?;
        job.check_cancelled()?;
        let name = parse_name(&entry, job.limits)?;
        let kind = kind_of(&entry, &name)?;
        check_readable(&entry)?;
        if contents.note(&name, kind, job.subfolder).is_some() {
            declared = declared.saturating_add(entry.size());
        }
    }
    contents.check(job.subfolder)?;
    if declared > job.unpacked_bytes_max() {
        return Err(too_large(job.limits, job.unpacked_bytes_max()));
    }
    Ok(Inspected(zip))
}

/// Writes it all.
pub(super) fn extract(
    Inspected(mut zip): Inspected,
    job: &Job<'_>,
    tree: &mut Tree<'_>,
) -> Result<(), UnpackError> {
    let files = zip.files().map_err(zip_error)?;
    while let Some(entry) = files.next() {
        let entry = entry.map_err(zip_error)?;
        job.check_cancelled()?;
        let raw_name = entry.name_raw().to_vec();
        let name = parse_name(&entry, job.limits)?;
        let kind = kind_of(&entry, &name)?;
        let Some(below) = job.subfolder.strip(&name.parts) else { continue };
        // The name borrows from the entry, which is used up below.
        let below: Vec<String> = below.iter().map(|part| (*part).to_owned()).collect();
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        let mode = entry.unix_mode();
        let outcome = match kind {
            Kind::Folder => tree.folder(&below, mode),
            Kind::File | Kind::Link if below.is_empty() => continue,
            Kind::File => {
                let mut reader = open(entry, files.reader_mut())?;
                tree.file(&below, mode, &mut reader, job.cancelled)
            }
            Kind::Link => {
                let mut reader = open(entry, files.reader_mut())?;
                tree.link(&below, &mut reader)
            }
        };
        outcome.map_err(|error| error.of_entry(&raw_name, read_error))?;
    }
    Ok(())
}

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

/// What is wrong with something that has no directory as zips have it, by how it
/// begins.
fn no_zip(head: &[u8], error: ZipError, job: &Job<'_>) -> UnpackError {
    let error = zip_error(error);
    if !matches!(error, UnpackError::NoArchive(_)) {
        return error;
    }
    if head.starts_with(b"PK") {
        return UnpackError::NoArchive(
            "the zip archive is cut off or damaged: the directory at its end cannot be read"
                .to_owned(),
        );
    }
    no_archive(head, job.formats)
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
        UnpackError::Io { what: READING.to_owned(), source }
    } else {
        damaged(&source)
    }
}

fn damaged(why: &dyn std::fmt::Display) -> UnpackError {
    UnpackError::NoArchive(format!("the zip archive is damaged: {why}"))
}
