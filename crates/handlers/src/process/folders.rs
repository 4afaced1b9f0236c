//! Copies of a function's folder.
//!
//! Owns how a tree is copied, moved and removed. Blocks: callers run it on a
//! thread for that.

use std::fs::{self, DirEntry, FileType, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

/// What the owner may do with a folder of ours, whatever the archive said: a
/// function may write in its folder, and the server must be able to remove it.
const FOLDER_MODE: u32 = 0o700;
/// The same for files.
const FILE_MODE: u32 = 0o600;

/// Which file could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("copying {}: {source}", path.display())]
struct CopyError {
    path: PathBuf,
    source: io::Error,
}

/// Copies a tree: files with their modes and times of change (so that compiled
/// Python stays valid), links as links. The kernel shares the files' blocks
/// where the file system can. `to` must not exist.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            copy_leaf(&entry, kind, &target).map_err(|source| {
                io::Error::new(source.kind(), CopyError { path: entry.path(), source })
            })?;
        }
    }
    let mode = fs::metadata(from)?.permissions().mode() | FOLDER_MODE;
    fs::set_permissions(to, Permissions::from_mode(mode))
}

fn copy_leaf(entry: &DirEntry, kind: FileType, to: &Path) -> io::Result<()> {
    let from = entry.path();
    if kind.is_symlink() {
        symlink(fs::read_link(&from)?, to)
    } else if kind.is_file() {
        fs::copy(&from, to)?;
        let meta = entry.metadata()?;
        let mode = meta.permissions().mode();
        if mode & FILE_MODE != FILE_MODE {
            fs::set_permissions(to, Permissions::from_mode(mode | FILE_MODE))?;
        }
        let modified = std::os::unix::fs::MetadataExt::mtime(&meta);
        let time = Timespec { tv_sec: modified, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(utimensat(CWD, to, &times, AtFlags::empty())?)
    } else {
        Err(io::Error::other("neither a file nor a folder nor a link"))
    }
}

/// Moves a tree; to another file system by copying it.
pub(super) fn relocate(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            copy(from, to)?;
            remove(from)
        }
        done => done,
    }
}

/// Removes a tree, whatever modes a function has given to its folders. One that
/// is not there is removed already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        done => done,
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, SystemTime};

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_copy_has_modes_links_and_times() {
        let dir = tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub/empty")).unwrap();
        fs::write(from.join("fn.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("fn.sh"), Permissions::from_mode(0o751)).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        fs::write(from.join("sub/.dot"), "x").unwrap();
        fs::File::options()
            .write(true)
            .open(from.join("sub/.dot"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        fs::set_permissions(from.join("sub/.dot"), Permissions::from_mode(0o444)).unwrap();
        symlink("../fn.sh", from.join("sub/link")).unwrap();
        symlink("nowhere", from.join("dangling")).unwrap();
        fs::set_permissions(from.join("sub/empty"), Permissions::from_mode(0o555)).unwrap();

        copy(&from, &to).unwrap();
        let mode = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().mode() & 0o7777;
        assert_eq!(mode("fn.sh"), 0o751);
        assert_eq!(mode("sub/.dot"), 0o644);
        assert_eq!(mode("sub/empty"), 0o755);
        assert_eq!(fs::read_link(to.join("sub/link")).unwrap(), Path::new("../fn.sh"));
        assert_eq!(fs::read_link(to.join("dangling")).unwrap(), Path::new("nowhere"));
        assert_eq!(fs::metadata(to.join("sub/.dot")).unwrap().mtime(), 1_000_000);
        assert_eq!(fs::read_to_string(to.join("sub/.dot")).unwrap(), "x");
    }

    #[test]
    fn a_folder_that_was_closed_is_removed_all_the_same() {
        let dir = tempdir().unwrap();
        let closed = dir.path().join("tree/closed");
        fs::create_dir_all(closed.join("in")).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        remove(&dir.path().join("tree")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove(&dir.path().join("tree")).unwrap();
    }

    #[test]
    fn what_cannot_be_copied_is_named() {
        let dir = tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir(&from).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(from.join("odd")).unwrap();
        let error = copy(&from, &dir.path().join("to")).unwrap_err().to_string();
        assert!(error.contains("odd") && error.contains("neither"), "{error}");
    }
}
