//! A function's folder as it lies on disk, less what is no part of a function.
//!
//! Owns which entries are left out, and the order of the rest. Must not know what
//! is done with them.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Folders that are never part of a function: a repository's history, and what
/// Python makes of the code by itself.
pub(crate) const LEFT_OUT: [&str; 2] = [".git", "__pycache__"];
/// Files, links and folders that are looked at; a folder with more was hardly
/// meant.
pub(crate) const ENTRIES_MAX: usize = 1_000_000;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    /// A socket, a pipe, a device: nothing that can travel.
    Other,
}

/// One entry of a folder.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its path below the folder.
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) meta: Metadata,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The entries, each folder before what it holds.
    pub(crate) entries: Vec<Entry>,
    /// Which of [`LEFT_OUT`] were met.
    pub(crate) left_out: Vec<&'static str>,
}

/// Looks through a folder.
///
/// # Errors
/// Names what cannot be read, or that there is too much.
pub(crate) fn read(folder: &Path) -> io::Result<Contents> {
    let mut contents = Contents::default();
    read_below(folder, Path::new(""), &mut contents)?;
    Ok(contents)
}

fn read_below(folder: &Path, below: &Path, contents: &mut Contents) -> io::Result<()> {
    // Joined with nothing, it would end with a slash.
    let top = below.as_os_str().is_empty();
    let here = if top { folder.to_owned() } else { folder.join(below) };
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", here.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(&here).map_err(named)? {
        names.push(entry.map_err(named)?.file_name());
    }
    names.sort();
    for name in names {
        let path = below.join(&name);
        let meta = match fs::symlink_metadata(folder.join(&path)) {
            Ok(meta) => meta,
            // Removed since: an editor at work.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(named(error)),
        };
        if meta.is_dir()
            && let Some(known) = LEFT_OUT.into_iter().find(|known| name == *known)
        {
            if !contents.left_out.contains(&known) {
                contents.left_out.push(known);
            }
            continue;
        }
        if contents.entries.len() == ENTRIES_MAX {
            let message = format!(
                "{} holds more than {ENTRIES_MAX} files; is it a function's folder?",
                folder.display()
            );
            return Err(io::Error::other(message));
        }
        let kind = kind(&meta);
        contents.entries.push(Entry { path: path.clone(), kind, meta });
        if kind == Kind::Folder {
            read_below(folder, &path, contents)?;
        }
    }
    Ok(())
}

fn kind(meta: &Metadata) -> Kind {
    let kind = meta.file_type();
    if kind.is_dir() {
        Kind::Folder
    } else if kind.is_file() {
        Kind::File
    } else if kind.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}

/// A number that another state of the folder does not have: it is made of names,
/// sizes, modes and times, not of what the files say.
pub(crate) fn fingerprint(contents: &Contents) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    for Entry { path, kind, meta } in &contents.entries {
        path.as_os_str().as_bytes().hash(&mut hasher);
        meta.mode().hash(&mut hasher);
        // A folder's time changes with every temporary file of an editor.
        if *kind != Kind::Folder {
            meta.len().hash(&mut hasher);
            let time = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            time.hash(&mut hasher);
            meta.ino().hash(&mut hasher);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[&str], found: &[&str], left_out: &[&str]) {
        let dir = tempfile::tempdir().expect("a directory");
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().expect("a parent")).expect("writable");
            fs::write(path, "").expect("writable");
        }
        let contents = read(dir.path()).expect("readable");
        let paths: Vec<_> = contents.entries.iter().map(|entry| entry.path.to_str()).collect();
        assert_eq!(paths, found.iter().map(|path| Some(*path)).collect::<Vec<_>>());
        assert_eq!(contents.left_out, left_out);
    }

    #[test]
    fn a_folder_is_read_in_order_with_its_dot_files() {
        check(&["fn.py", "b/x", ".env"], &[".env", "b", "b/x", "fn.py"], &[]);
        check(&[], &[], &[]);
        check(
            &["fn.py", ".git/config", "lib/__pycache__/x.pyc", "__pycache__/y", ".gitignore"],
            &[".gitignore", "fn.py", "lib"],
            &[".git", "__pycache__"],
        );
    }

    #[test]
    fn a_change_changes_the_fingerprint() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut seen = vec![fingerprint(&read(dir.path()).expect("readable"))];
        let mut changed = |what: &str| {
            let now = fingerprint(&read(dir.path()).expect("readable"));
            assert!(!seen.contains(&now), "{what}");
            assert_eq!(now, fingerprint(&read(dir.path()).expect("readable")));
            seen.push(now);
        };
        fs::write(dir.path().join("fn.py"), "x").expect("writable");
        changed("a new file");
        fs::write(dir.path().join("fn.py"), "xy").expect("writable");
        changed("a longer file");
        fs::create_dir(dir.path().join("lib")).expect("writable");
        changed("a new folder");
        fs::rename(dir.path().join("fn.py"), dir.path().join("lib/fn.py")).expect("writable");
        changed("a file elsewhere");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = read(Path::new("/no/such/folder")).expect_err("missing");
        assert!(error.to_string().starts_with("/no/such/folder: "), "{error}");
    }
}
