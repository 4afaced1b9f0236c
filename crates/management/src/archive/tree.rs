//! The folder that an archive becomes, entry by entry.
//!
//! Owns writing: every file is a new one, folders are made as they are needed,
//! links are kept back until the end. The file system itself tells when two
//! entries want the same name, so no list of names is held in memory.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::ArchiveLimits;

use super::links::{self, Link};
use super::{UnpackError, io_error, refused, too_large, too_many_entries};

/// How much is read at a time, and between two looks at the stop sign.
const CHUNK_BYTES: usize = 64 << 10;
/// The longest target of a link that Linux takes, in bytes.
const TARGET_BYTES_MAX: u64 = 4095;

pub(super) struct Tree<'a> {
    root: &'a Path,
    limits: &'a ArchiveLimits,
    unpacked_bytes_max: u64,
    unpacked_bytes: u64,
    /// Folders made, files and links.
    entries: usize,
    links: Vec<Link>,
    /// The folder of the last entry: the next is mostly in it too.
    last_parent: Vec<String>,
    chunk: Vec<u8>,
}

/// Why an entry could not be taken over.
pub(super) enum EntryError {
    Refused(String),
    /// What it holds cannot be read.
    Unreadable(io::Error),
    Whole(UnpackError),
}

impl EntryError {
    /// The error of the whole archive; what reading says depends on its kind.
    pub(super) fn of_entry(
        self,
        name: &[u8],
        unreadable: impl FnOnce(io::Error) -> UnpackError,
    ) -> UnpackError {
        match self {
            Self::Refused(why) => refused(name, why),
            Self::Unreadable(error) => unreadable(error),
            Self::Whole(error) => error,
        }
    }
}

impl From<UnpackError> for EntryError {
    fn from(error: UnpackError) -> Self {
        Self::Whole(error)
    }
}

impl<'a> Tree<'a> {
    /// Makes the folder, which must not exist yet.
    pub(super) fn create(
        root: &'a Path,
        limits: &'a ArchiveLimits,
        unpacked_bytes_max: u64,
    ) -> Result<Self, UnpackError> {
        DirBuilder::new()
            .mode(0o755)
            .create(root)
            .map_err(io_error(&format!("making the folder {}", root.display())))?;
        Ok(Self {
            root,
            limits,
            unpacked_bytes_max,
            unpacked_bytes: 0,
            entries: 0,
            links: Vec::new(),
            last_parent: Vec::new(),
            chunk: vec![0; CHUNK_BYTES],
        })
    }

    /// A folder that the archive names itself.
    pub(super) fn folder(&mut self, parts: &[&str], mode: Option<u32>) -> Result<(), EntryError> {
        self.make_folders(parts)?;
        if let Some(mode) = mode
            && !parts.is_empty()
        {
            let path = self.path(parts);
            let permissions = Permissions::from_mode(mode & 0o777 | 0o700);
            fs::set_permissions(&path, permissions).map_err(|e| write_error(&path, e))?;
        }
        Ok(())
    }

    /// A file, with what `content` still has to say.
    pub(super) fn file(
        &mut self,
        parts: &[&str],
        mode: Option<u32>,
        content: &mut dyn Read,
        cancelled: &AtomicBool,
    ) -> Result<(), EntryError> {
        let path = self.make_room(parts)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| write_error(&path, e))?;
        self.copy(content, &mut file, &path, cancelled)?;
        let mode = mode.map_or(0o644, |mode| mode & 0o777 | 0o600);
        file.set_permissions(Permissions::from_mode(mode)).map_err(|e| write_error(&path, e))
    }

    /// A file that has been written before, for another name of it.
    pub(super) fn written(&self, parts: &[&str]) -> Result<File, EntryError> {
        let path = self.path(parts);
        // No link has been made yet that could lead elsewhere.
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => {}
            _ => {
                let why = "it is a hard link to no file that comes before it in the archive";
                return Err(EntryError::Refused(why.to_owned()));
            }
        }
        File::open(&path).map_err(|e| write_error(&path, e))
    }

    /// A link; it is made by [`Tree::finish`].
    pub(super) fn link(
        &mut self,
        parts: &[&str],
        content: &mut dyn Read,
    ) -> Result<(), EntryError> {
        self.make_room(parts)?;
        if self.links.len() >= self.limits.links_max {
            let most = self.limits.links_max;
            return Err(EntryError::Refused(format!("it is one of more than {most} links")));
        }
        let mut target = Vec::new();
        let mut bounded = content.take(TARGET_BYTES_MAX + 1);
        bounded.read_to_end(&mut target).map_err(EntryError::Unreadable)?;
        if target.len() as u64 > TARGET_BYTES_MAX {
            return Err(EntryError::Refused("its target is longer than any path may be".into()));
        }
        let target = String::from_utf8(target)
            .map_err(|_| EntryError::Refused("it is a link whose target is not UTF-8".into()))?;
        let at = parts.iter().map(|part| (*part).to_owned()).collect();
        self.links.push(Link { at, target });
        Ok(())
    }

    /// Makes the links, if none of them leaves the folder.
    pub(super) fn finish(self) -> Result<(), UnpackError> {
        links::check(&self.links)?;
        for link in &self.links {
            let parts: Vec<&str> = link.at.iter().map(String::as_str).collect();
            let path = self.path(&parts);
            let name = link.at.join("/");
            std::os::unix::fs::symlink(&link.target, &path).map_err(|e| {
                write_error(&path, e).of_entry(name.as_bytes(), io_error("making a link"))
            })?;
        }
        Ok(())
    }

    fn path(&self, parts: &[&str]) -> PathBuf {
        let mut path = self.root.to_owned();
        path.extend(parts);
        path
    }

    /// Counts an entry and makes the folders above it.
    fn make_room(&mut self, parts: &[&str]) -> Result<PathBuf, EntryError> {
        self.count_entry()?;
        let above = &parts[..parts.len().saturating_sub(1)];
        if !above.iter().eq(self.last_parent.iter()) {
            self.make_folders(above)?;
            self.last_parent = above.iter().map(|part| (*part).to_owned()).collect();
        }
        Ok(self.path(parts))
    }

    fn make_folders(&mut self, parts: &[&str]) -> Result<(), EntryError> {
        let mut path = self.root.to_owned();
        for part in parts {
            path.push(part);
            match DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => self.count_entry()?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let found = fs::symlink_metadata(&path).map_err(|e| write_error(&path, e))?;
                    if !found.is_dir() {
                        return Err(twice());
                    }
                }
                Err(error) => return Err(write_error(&path, error)),
            }
        }
        Ok(())
    }

    fn count_entry(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > self.limits.entries_max {
            return Err(too_many_entries(self.limits));
        }
        Ok(())
    }

    fn copy(
        &mut self,
        content: &mut dyn Read,
        file: &mut File,
        path: &Path,
        cancelled: &AtomicBool,
    ) -> Result<(), EntryError> {
        loop {
            let count = match content.read(&mut self.chunk) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(EntryError::Unreadable(error)),
            };
            if cancelled.load(Ordering::Relaxed) {
                return Err(UnpackError::Cancelled.into());
            }
            self.unpacked_bytes += count as u64;
            if self.unpacked_bytes > self.unpacked_bytes_max {
                return Err(too_large(self.limits, self.unpacked_bytes_max).into());
            }
            file.write_all(&self.chunk[..count]).map_err(|e| write_error(path, e))?;
        }
    }
}

fn twice() -> EntryError {
    EntryError::Refused(
        "the archive holds this name twice, or as a file and as a folder".to_owned(),
    )
}

fn write_error(path: &Path, source: io::Error) -> EntryError {
    match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => twice(),
        io::ErrorKind::InvalidFilename => {
            EntryError::Refused("its name is too long for this machine's file system".to_owned())
        }
        _ => UnpackError::Io { what: format!("writing {}", path.display()), source }.into(),
    }
}
