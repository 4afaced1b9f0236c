//! As whom the server and its functions run.
//!
//! Owns reading users' names and what root does before it changes to a user.
//! Must not know how a process changes its user, nor what the user may do.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, setegid, seteuid};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chownat, fstat, openat};
use rustix::process::{parent_process_death_signal, set_parent_process_death_signal};
use tinyfaas_handlers::process::spawner::Identity;

/// A user whom the server changes to.
#[derive(Debug)]
pub(crate) struct OwnUser {
    /// For messages.
    pub(crate) name: String,
    /// The numbers.
    pub(crate) identity: Identity,
    /// `HOME` from then on.
    pub(crate) home: PathBuf,
}

/// The user that the setting names, unless it is who runs this already.
///
/// # Errors
/// There is no such user; only root can become another.
pub(crate) fn wanted(text: &str) -> anyhow::Result<Option<OwnUser>> {
    if text.is_empty() {
        return Ok(None);
    }
    let user = find(text)?;
    let own = Uid::effective();
    if user.identity.uid == own.as_raw() {
        return Ok(None);
    }
    if !own.is_root() {
        bail!(
            "TF_USER={text}: only root can start the server as another user, and this is {}; \
             start it as root, or leave TF_USER empty",
            current()
        );
    }
    Ok(Some(user))
}

/// Who runs this process, for messages: the name, or else the number.
pub(crate) fn current() -> String {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

/// By name, else by number.
fn find(text: &str) -> anyhow::Result<OwnUser> {
    let looking = || format!("TF_USER={text}: the users of this machine cannot be read");
    let by_number = text.parse().ok().map(Uid::from_raw);
    let found = match User::from_name(text).with_context(looking)? {
        Some(user) => Some(user),
        None => by_number.map(User::from_uid).transpose().with_context(looking)?.flatten(),
    };
    match (found, by_number) {
        (Some(user), _) => known(user),
        // A container's user may have no entry.
        (None, Some(uid)) => Ok(OwnUser {
            name: format!("user {uid}"),
            identity: Identity { uid: uid.as_raw(), gid: uid.as_raw(), groups: Vec::new() },
            home: "/".into(),
        }),
        (None, None) => bail!(
            "TF_USER={text}: this machine has no such user; make one by: useradd --system \
             --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin {text}"
        ),
    }
}

fn known(user: User) -> anyhow::Result<OwnUser> {
    let name = std::ffi::CString::new(user.name.as_str()).context("a user's name with a NUL")?;
    let groups = getgrouplist(&name, user.gid)
        .with_context(|| format!("the groups of {} cannot be read", user.name))?;
    Ok(OwnUser {
        identity: Identity {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        },
        name: user.name,
        home: user.dir,
    })
}

impl OwnUser {
    /// Its groups beside its own, for the summary.
    pub(crate) fn further_groups(&self) -> Vec<String> {
        let further = self.identity.groups.iter().filter(|gid| **gid != self.identity.gid);
        further
            .map(|gid| match Group::from_gid(Gid::from_raw(*gid)) {
                Ok(Some(group)) => group.name,
                Ok(None) | Err(_) => gid.to_string(),
            })
            .collect()
    }

    /// Does something with this user's rights to files instead of root's, so that
    /// root follows no link that the user has laid.
    ///
    /// # Errors
    /// The rights cannot be changed.
    pub(crate) fn acting<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        tied_as_before(|| {
            let (uid, gid) = (Uid::effective(), Gid::effective());
            setegid(Gid::from_raw(self.identity.gid))?;
            seteuid(Uid::from_raw(self.identity.uid))?;
            let outcome = act();
            seteuid(uid)?;
            setegid(gid)?;
            Ok(outcome)
        })
    }

    /// Makes a folder that is missing and this user's alone; those above it are
    /// root's and open to all.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn make_dir(&self, path: &Path) -> io::Result<()> {
        if path.exists() {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(above)?;
        }
        DirBuilder::new().mode(0o700).create(path)?;
        chown(path, Some(self.identity.uid), Some(self.identity.gid))
    }

    /// Whether a folder is this user's, root's, or (an error) somebody else's.
    ///
    /// # Errors
    /// Names its owner.
    pub(crate) fn owns(&self, path: &Path) -> anyhow::Result<bool> {
        let owner = fs::metadata(path).with_context(|| path.display().to_string())?.uid();
        if owner == self.identity.uid || owner == 0 {
            return Ok(owner == self.identity.uid);
        }
        let (shown, name) = (path.display(), &self.name);
        bail!(
            "the data directory {shown} belongs to user {owner} and not to {name} (TF_USER); \
             if it is the server's, hand it over: chown -R {name} {shown}"
        )
    }

    /// Makes a whole tree of root's this user's.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn take_over(&self, tree: &Path) -> io::Result<()> {
        let top = openat(CWD, tree, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        self.take_over_at(&top)
    }

    /// Through descriptors and never by paths, so that nothing can be put in an
    /// entry's place between looking at it and handing it over. A file with a
    /// second name is left alone: that may be a file elsewhere.
    fn take_over_at(&self, entry: &OwnedFd) -> io::Result<()> {
        let stat = fstat(entry)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::RegularFile && stat.st_nlink > 1 {
            return Ok(());
        }
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = openat(entry, c".", flags, Mode::empty())?;
            for inner in Dir::read_from(&folder)? {
                let inner = inner?;
                if matches!(inner.file_name().to_bytes(), b"." | b"..") {
                    continue;
                }
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.take_over_at(&openat(&folder, inner.file_name(), flags, Mode::empty())?)?;
            }
        }
        let (uid, gid) = (
            rustix::fs::Uid::from_raw(self.identity.uid),
            rustix::fs::Gid::from_raw(self.identity.gid),
        );
        Ok(chownat(entry.as_fd(), c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
    }

    /// Gives up root for this user, for good. To be called with one thread.
    ///
    /// # Errors
    /// The system's; the process must end then.
    pub(crate) fn become_it(&self) -> anyhow::Result<()> {
        tied_as_before(|| self.identity.assume(&self.home)).with_context(|| {
            format!(
                "cannot change to {} (TF_USER), which root of a container may lack the \
                     capabilities SETUID and SETGID for",
                self.name
            )
        })
    }
}

/// A change of user forgets which signal this process gets when its parent ends;
/// whoever asked for it still wants it.
fn tied_as_before<T>(change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let signal = parent_process_death_signal()?;
    let outcome = change()?;
    set_parent_process_death_signal(signal)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = find("root").expect("every Linux has it");
        assert_eq!((root.identity.uid, root.identity.gid), (0, 0));
        assert_eq!(find("0").expect("by number").name, root.name);
        let stranger = find("3999999999").expect("a number is enough");
        assert_eq!((stranger.identity.uid, stranger.identity.gid), (3_999_999_999, 3_999_999_999));
        let error = find("no-such-user-here").expect_err("none").to_string();
        assert!(error.contains("useradd --system") && error.contains("TF_USER"), "{error}");
    }

    #[test]
    fn whoever_runs_it_need_not_change() {
        assert!(wanted("").expect("empty").is_none());
        assert!(wanted(&Uid::effective().to_string()).expect("oneself").is_none());
    }
}
