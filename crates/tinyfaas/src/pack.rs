//! A function's folder becomes a zip in a temporary file.
//!
//! Owns the archive: dot files, executable bits and links are kept. Must not know
//! who takes it; what a server refuses (a link out of the folder), it says itself.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::folder::{self, Entry, Kind};
use crate::terminal;

/// From here on an entry needs the 64-bit form.
const LARGE_BYTES: u64 = u32::MAX as u64;

/// Why a folder was not packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// Something in it cannot be read.
    #[error("{0}")]
    Read(io::Error),
    /// There is nothing in it.
    #[error("the folder {0} is empty; put the function's code into it")]
    Empty(String),
    /// A name that zip archives cannot hold.
    #[error("{0:?}: the name is not UTF-8; rename it")]
    Name(std::path::PathBuf),
    /// More than the server takes.
    #[error(
        "the folder is larger than the {} that the server takes (packed); leave out what the \
         function does not need, or raise TF_ZIP_PACKED_MAX of the server",
        terminal::bytes(*.0)
    )]
    TooLarge(u64),
    /// The temporary file cannot be written.
    #[error("cannot write the archive to the temporary folder: {0}")]
    Write(io::Error),
}

/// A packed folder.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The zip; it has no name, so nobody must remove it.
    pub(crate) file: File,
    /// Its length.
    pub(crate) bytes: u64,
    /// How many files and links it holds.
    pub(crate) files: u64,
    /// What was not taken along: names, or what kind of file.
    pub(crate) left_out: Vec<String>,
}

/// Packs a folder. Blocks.
///
/// # Errors
/// Where it cannot be read, or is larger than `bytes_max`.
pub(crate) fn pack(folder: &Path, bytes_max: u64) -> Result<Packed, PackError> {
    let contents = folder::read(folder).map_err(PackError::Read)?;
    if contents.entries.is_empty() {
        return Err(PackError::Empty(folder.display().to_string()));
    }
    let file = tempfile::tempfile().map_err(PackError::Write)?;
    let trouble = Rc::new(Cell::new(None));
    let bounded = Bounded { file, at: 0, bytes_max, trouble: Rc::clone(&trouble) };
    let mut zip = ZipWriter::new(BufWriter::new(bounded));
    let mut left_out: Vec<String> = contents.left_out.iter().map(|&name| name.to_owned()).collect();
    let mut files = 0;
    for entry in &contents.entries {
        if entry.kind == Kind::Other {
            left_out.push(format!("{} (no ordinary file)", entry.path.display()));
            continue;
        }
        add(&mut zip, folder, entry, &trouble)?;
        files += u64::from(entry.kind != Kind::Folder);
    }
    let written = zip.finish().map_err(zip_error)?;
    let bounded = written.into_inner().map_err(|error| PackError::Write(error.into_error()))?;
    if let Some(trouble) = trouble.take() {
        return Err(trouble);
    }
    let mut file = bounded.file;
    let bytes = file.seek(io::SeekFrom::End(0)).map_err(PackError::Write)?;
    file.rewind().map_err(PackError::Write)?;
    Ok(Packed { file, bytes, files, left_out })
}

fn add(
    zip: &mut ZipWriter<BufWriter<Bounded>>,
    folder: &Path,
    entry: &Entry,
    trouble: &Cell<Option<PackError>>,
) -> Result<(), PackError> {
    let name = entry.path.to_str().ok_or_else(|| PackError::Name(entry.path.clone()))?;
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(entry.meta.permissions().mode() & 0o777)
        .large_file(entry.meta.len() >= LARGE_BYTES);
    let path = folder.join(&entry.path);
    let read_error = |error: io::Error| {
        PackError::Read(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    match entry.kind {
        Kind::Folder => zip.add_directory(name, options).map_err(zip_error)?,
        Kind::Link => {
            let target = fs::read_link(&path).map_err(read_error)?;
            let target = target.to_str().ok_or_else(|| PackError::Name(target.clone()))?;
            zip.add_symlink(name, target, options).map_err(zip_error)?;
        }
        Kind::File => {
            let mut file = File::open(&path).map_err(read_error)?;
            zip.start_file(name, options).map_err(zip_error)?;
            let mut buffer = [0; 16 << 10];
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => zip.write_all(&buffer[..read]).map_err(PackError::Write)?,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(read_error(error)),
                }
                if let Some(trouble) = trouble.take() {
                    return Err(trouble);
                }
            }
        }
        Kind::Other => {}
    }
    trouble.take().map_or(Ok(()), Err)
}

fn zip_error(error: ZipError) -> PackError {
    PackError::Write(error.into())
}

/// A file that takes so much and no more. What is too much, or cannot be written,
/// is noted and passed over: a zip writer that meets an error has more to say of it
/// on standard error when it goes.
struct Bounded {
    file: File,
    /// Where the next byte goes.
    at: u64,
    bytes_max: u64,
    trouble: Rc<Cell<Option<PackError>>>,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.at += bytes.len() as u64;
        if self.at > self.bytes_max {
            self.trouble.set(Some(PackError::TooLarge(self.bytes_max)));
        } else if let Err(error) = self.file.write_all(bytes) {
            self.trouble.set(Some(PackError::Write(error)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("sub/empty")).expect("writable");
        fs::create_dir_all(at(".git")).expect("writable");
        fs::write(at(".git/config"), "secret").expect("writable");
        fs::write(at(".dot"), "dot").expect("writable");
        fs::write(at("fn.sh"), "#!/bin/sh\n").expect("writable");
        fs::set_permissions(at("fn.sh"), fs::Permissions::from_mode(0o755)).expect("ours");
        symlink("../fn.sh", at("sub/link")).expect("writable");
        drop(std::os::unix::net::UnixListener::bind(at("socket")).expect("writable"));
        dir
    }

    #[test]
    fn all_of_a_function_travels() {
        let dir = folder();
        let packed = pack(dir.path(), 1 << 20).expect("packs");
        assert_eq!(packed.files, 3);
        assert_eq!(packed.left_out, [".git", "socket (no ordinary file)"]);
        assert_eq!(packed.file.metadata().expect("there").len(), packed.bytes);
        let mut zip = zip::ZipArchive::new(packed.file).expect("a zip");
        let mut found = Vec::new();
        for at in 0..zip.len() {
            let mut entry = zip.by_index(at).expect("an entry");
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("text");
            found.push((
                entry.name().expect("UTF-8").into_owned(),
                entry.unix_mode().unwrap_or(0),
                text,
            ));
        }
        let (dir_mode, file_mode) = (found[2].1, found[0].1);
        assert_eq!((dir_mode & 0o170_000, file_mode & 0o170_000), (0o040_000, 0o100_000));
        let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, [".dot", "fn.sh", "sub/", "sub/empty/", "sub/link"]);
        assert_eq!((found[1].1, found[1].2.as_str()), (0o100_755, "#!/bin/sh\n"));
        assert_eq!((found[4].1 & 0o170_000, found[4].2.as_str()), (0o120_000, "../fn.sh"));
    }

    #[test]
    fn a_large_folder_is_refused_before_it_is_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut noise = vec![0; 100_000];
        getrandom::fill(&mut noise).expect("randomness");
        fs::write(dir.path().join("blob"), &noise).expect("writable");
        assert!(matches!(pack(dir.path(), 50_000), Err(PackError::TooLarge(50_000))));
        assert!(pack(dir.path(), 110_000).is_ok());
        assert!(matches!(pack(dir.path(), 0), Err(PackError::TooLarge(0))));
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = pack(dir.path(), 1).expect_err("empty");
        assert!(error.to_string().contains("is empty"), "{error}");
        let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"od\xff");
        fs::write(dir.path().join(odd), "").expect("writable");
        let error = pack(dir.path(), 1000).expect_err("not UTF-8");
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }
}
