//! Waiting for a save.
//!
//! Owns what counts as one: not an editor's own files, nor what programs make of
//! the code. Several changes in a row are one.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::notify::event::{EventKind, ModifyKind};
use ::notify::{Event, RecommendedWatcher, RecursiveMode, Watcher, recommended_watcher};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::folder::{self, Contents, Kind, LEFT_OUT};

/// A change is over when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(150);
/// Whoever writes without a pause is not waited for longer.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(3);

/// A folder that is watched.
pub(super) struct Watch {
    folder: PathBuf,
    watcher: RecommendedWatcher,
    watched: HashSet<PathBuf>,
    /// Full as long as a change has not been looked at.
    changes: mpsc::Receiver<()>,
    /// Of what was deployed last.
    fingerprint: u64,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Where the folder cannot be read, or the system watches no more.
    pub(super) fn start(folder: &Path) -> Result<Self, Failure> {
        let folder = folder.canonicalize();
        let folder = folder.map_err(|error| Failure::failed(format!("cannot watch: {error}")))?;
        let (changed, changes) = mpsc::channel(1);
        let root = folder.clone();
        let watcher = recommended_watcher(move |event: ::notify::Result<Event>| {
            // One is waiting already, or nobody is: both are fine.
            if event.map_or(true, |event| matters(&event, &root)) {
                let _ = changed.try_send(());
            }
        });
        let watcher = watcher.map_err(|error| cannot_watch(&error))?;
        let watched = HashSet::new();
        let mut watch = Self { folder, watcher, watched, changes, fingerprint: 0 };
        let contents = watch.look()?;
        watch.fingerprint = folder::fingerprint(&contents);
        Ok(watch)
    }

    /// Waits until the folder differs from what it was the last time.
    ///
    /// # Errors
    /// Where the folder is gone, or can be watched no more.
    pub(super) async fn changed(&mut self) -> Result<(), Failure> {
        loop {
            self.changes.recv().await;
            let since = Instant::now();
            while since.elapsed() < QUIET_WAIT_MAX
                && let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await
            {
            }
            let contents = self.look()?;
            let fingerprint = folder::fingerprint(&contents);
            if fingerprint != self.fingerprint {
                self.fingerprint = fingerprint;
                return Ok(());
            }
        }
    }

    /// Reads the folder, and watches what is new in it.
    fn look(&mut self) -> Result<Contents, Failure> {
        let gone = |error| Failure::failed(format!("the folder cannot be read any more: {error}"));
        let mut contents = folder::read(&self.folder).map_err(gone)?;
        contents.entries.retain(|entry| !is_ignored(&entry.path));
        let folders = contents.entries.iter().filter(|entry| entry.kind == Kind::Folder);
        let folders: HashSet<PathBuf> = folders
            .map(|entry| self.folder.join(&entry.path))
            .chain([self.folder.clone()])
            .collect();
        // One that was removed and made again is another one to the system.
        self.watched.retain(|path| folders.contains(path));
        for path in folders {
            if self.watched.contains(&path) {
                continue;
            }
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(path)),
                // Removed a moment ago; its parent tells.
                Err(_) if !path.exists() => {}
                Err(error) => return Err(cannot_watch(&error)),
            }
        }
        Ok(contents)
    }
}

fn cannot_watch(error: &::notify::Error) -> Failure {
    Failure::failed(format!("cannot watch the folder: {error}"))
        .tip("are too many files watched? raise fs.inotify.max_user_watches (sysctl)")
}

/// Whether an event can be a save.
fn matters(event: &Event, root: &Path) -> bool {
    match event.kind {
        // Reading is none; opening and closing come with what was written.
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Metadata(_))
            if event.paths.iter().any(|path| path == root) =>
        {
            false
        }
        _ => {
            let below = |path: &PathBuf| path.strip_prefix(root).map(Path::to_owned);
            event.paths.is_empty()
                || event.paths.iter().any(|path| below(path).is_ok_and(|path| !is_ignored(&path)))
        }
    }
}

/// Whether a path below the folder is of no interest.
fn is_ignored(path: &Path) -> bool {
    path.iter().any(is_ignored_name)
}

/// Folders of history, of caches and of packages; editors' swap, lock and backup
/// files, and the file by which vim tries whether it may write.
fn is_ignored_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    LEFT_OUT.contains(&&*name)
        || matches!(&*name, "node_modules" | "4913" | ".DS_Store")
        || name.ends_with('~')
        || name.starts_with(".#")
        || (name.starts_with('#') && name.ends_with('#'))
        || (name.starts_with('.') && is_swap(&name))
        || name.ends_with(".pyc")
        || name.contains("___jb_")
}

/// `.fn.py.swp`, `.fn.py.swx`, `.fn.py.swo`: vim's.
fn is_swap(name: &str) -> bool {
    let end = name.rsplit_once('.').map(|(_, end)| end);
    end.is_some_and(|end| end.len() == 3 && end.starts_with("sw"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn editors_own_files_are_no_saves() {
        for ignored in [
            ".fn.py.swp",
            ".fn.py.swx",
            "4913",
            "fn.py~",
            ".#fn.py",
            "#fn.py#",
            "x.pyc",
            ".git/HEAD",
            "a/__pycache__/x",
            "node_modules/x/y.js",
            "fn.py___jb_tmp___",
        ] {
            assert!(is_ignored(Path::new(ignored)), "{ignored}");
        }
        for kept in ["fn.py", ".env", "a/b.swp.py", "index.js", "notes.sw", "git/x", ".swift"] {
            assert!(!is_ignored(Path::new(kept)), "{kept}");
        }
    }

    #[tokio::test]
    async fn a_save_is_noticed_wherever_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("fn.py"), "1").expect("writable");
        let mut watch = Watch::start(dir.path()).expect("watches");
        let long = Duration::from_secs(10);
        fs::write(dir.path().join("fn.py"), "12").expect("writable");
        tokio::time::timeout(long, watch.changed()).await.expect("noticed").expect("readable");
        fs::create_dir(dir.path().join("lib")).expect("writable");
        tokio::time::timeout(long, watch.changed()).await.expect("noticed").expect("readable");
        // In a folder that is new.
        fs::write(dir.path().join("lib/x.py"), "1").expect("writable");
        tokio::time::timeout(long, watch.changed()).await.expect("noticed").expect("readable");
        // As editors do: a new file takes the place.
        fs::write(dir.path().join("fn.py~"), "123").expect("writable");
        fs::rename(dir.path().join("fn.py~"), dir.path().join("fn.py")).expect("writable");
        tokio::time::timeout(long, watch.changed()).await.expect("noticed").expect("readable");
        fs::write(dir.path().join(".fn.py.swp"), "x").expect("writable");
        fs::create_dir(dir.path().join("__pycache__")).expect("writable");
        assert!(watch.changes.try_recv().is_err());
        fs::remove_dir_all(dir.path()).expect("ours");
        let gone = tokio::time::timeout(long, watch.changed()).await.expect("noticed");
        assert!(gone.is_err());
    }
}
