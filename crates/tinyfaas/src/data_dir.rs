//! The one directory of a server: its lock, its id, its ports.
//!
//! Owns the layout's first level and what is removed at start and stop. Must not
//! know what the rooms keep in their folders.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

use crate::user::OwnUser;

/// The folders that hold nothing worth keeping between two runs.
const PASSING: [&str; 4] = ["functions", "logs", "runtimes", "spool"];

/// The server's directory, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    id: String,
    // Held, not read: closing it gives up the lock.
    _lock: File,
}

impl DataDir {
    /// Makes the directory where it is missing, locks it, and empties it of what
    /// an earlier run left. Where the server will change to a user, the directory
    /// is that user's afterwards.
    ///
    /// # Errors
    /// Where it cannot be written, is another user's, or another server holds it.
    pub(crate) fn open(path: &Path, user: Option<&OwnUser>) -> anyhow::Result<Self> {
        match user {
            None => DirBuilder::new().recursive(true).mode(0o700).create(path),
            Some(user) => user.make_dir(path),
        }
        .with_context(|| {
            format!("cannot make the data directory {}; set TF_DATA_DIR", path.display())
        })?;
        let Some(user) = user else { return Self::open_there(path) };
        if user.owns(path)? {
            return user
                .acting(|| Self::open_there(path))?
                .with_context(|| format!("as {} (TF_USER)", user.name));
        }
        Self::refuse_foreign(path)?;
        let dir = Self::open_there(path)?;
        user.take_over(&dir.path).with_context(|| {
            format!("cannot make {} the directory of {}", path.display(), user.name)
        })?;
        Ok(dir)
    }

    /// A folder of root's is handed over only where it is certain that it is a
    /// server's: TF_DATA_DIR=/etc must not cost the machine.
    fn refuse_foreign(path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        let mut entries = path.read_dir().with_context(|| format!("data directory {shown}"))?;
        if entries.next().is_some() && !path.join("id").is_file() {
            bail!(
                "the data directory {shown} is root's and holds something else than a server's \
                 files; set TF_DATA_DIR to an empty or a new one"
            );
        }
        Ok(())
    }

    fn open_there(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot reach the data directory {shown}"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .with_context(|| format!("cannot write to the data directory {shown}"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => bail!(
                "the data directory {shown} is in use by another tinyfaas; stop that one, or set \
                 TF_DATA_DIR to another directory for this one"
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot lock {shown}/lock"));
            }
        }
        let id = read_or_make_id(&path.join("id"))
            .with_context(|| format!("cannot keep the server's id in {shown}/id"))?;
        let dir = Self { path, id, _lock: lock };
        dir.sweep().with_context(|| format!("cannot remove an earlier run's files in {shown}"))?;
        Ok(dir)
    }

    /// The directory, absolute and without links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The id made once for this directory.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Removes what is of no use without a running server.
    ///
    /// # Errors
    /// The first folder that cannot be removed.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for name in PASSING {
            ignore_missing(fs::remove_dir_all(self.path.join(name)))?;
        }
        ignore_missing(fs::remove_file(self.path.join("ports.json")))
    }

    /// Says in `ports.json` which ports are really bound; whoever reads the file
    /// never sees half of it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn write_ports(&self, ports: &serde_json::Value) -> io::Result<()> {
        let passing = self.path.join("ports.json.new");
        let mut file = File::create(&passing)?;
        writeln!(file, "{ports:#}")?;
        fs::rename(passing, self.path.join("ports.json"))
    }
}

/// What an operator can do about an error of the system's, to stand behind it.
pub(crate) fn advice(error: &anyhow::Error) -> &'static str {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            "; free some space there, or set TF_DATA_DIR to a directory on another disk"
        }
        Some(io::ErrorKind::ReadOnlyFilesystem) => {
            "; let it be written (mount -o remount,rw), or set TF_DATA_DIR to a directory that can be"
        }
        _ => "",
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The id is 16 hexadecimal digits. A file cut short by a power failure is
/// replaced: whatever carried the lost id ended with that power failure.
fn read_or_make_id(path: &Path) -> io::Result<String> {
    let mut id = String::new();
    if let Ok(file) = File::open(path) {
        file.take(64).read_to_string(&mut id)?;
    }
    let id = id.trim();
    if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(id.to_owned());
    }
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let id = format!("{:016x}", u64::from_ne_bytes(bytes));
    let passing = path.with_extension("new");
    let mut file = File::create(&passing)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(passing, path)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_lock_excludes() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new/data");
        let first = DataDir::open(&path, None).expect("opens");
        let id = first.id().to_owned();
        let second = DataDir::open(&path, None).expect_err("locked");
        assert!(second.to_string().contains("in use by another tinyfaas"), "{second}");
        drop(first);
        assert_eq!(DataDir::open(&path, None).expect("free again").id(), id);
        fs::write(path.join("id"), "cut sho").expect("writable");
        assert_eq!(DataDir::open(&path, None).expect("mended").id().len(), 16);
    }

    #[test]
    fn what_can_be_done_is_said() {
        let told = |code| {
            let error = Err::<(), _>(io::Error::from_raw_os_error(code)).context("cannot write");
            advice(&error.expect_err("one")).to_owned()
        };
        assert!(told(28).contains("free some space there"));
        assert!(told(30).contains("mount -o remount,rw"));
        assert_eq!(told(13), "");
    }

    #[test]
    fn what_a_killed_server_left_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("functions/a/b")).expect("writable");
        fs::write(dir.path().join("ports.json"), "{}").expect("writable");
        fs::create_dir(dir.path().join("cache")).expect("writable");
        let _open = DataDir::open(dir.path(), None).expect("opens");
        assert!(!dir.path().join("functions").exists());
        assert!(!dir.path().join("ports.json").exists());
        assert!(dir.path().join("cache").exists());
    }
}
