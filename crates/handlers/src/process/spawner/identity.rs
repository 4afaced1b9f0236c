//! As whom programs run: a user's numbers, and becoming that user for good.
//!
//! Owns the order in which root gives up what it has. Must not know who becomes
//! whom, nor users' names.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, set_capabilities, set_no_new_privs,
};

use super::super::sys::{self, SingleThreaded};

/// A user without root's rights, by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The user's own group.
    pub gid: u32,
    /// Every group that the user is in. Groups are how an operator gives
    /// functions a device.
    pub groups: Vec<u32>,
}

/// A text that is no identity.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no identity; it must be a user, a group and groups, as in 998:998:998,20")]
pub struct NoIdentity(String);

impl Identity {
    /// Makes this process, which is root's, this user's for good. Nothing of root
    /// stays: no capability, no group, no way back, and no program executed later
    /// can give any of it back. Other processes of the same user may not look
    /// into this one. `HOME` becomes `home`: root's own is closed to the user.
    ///
    /// # Errors
    /// The system's; and if this process has more than one thread, as the others
    /// would stay root. What failed may be half done: end the process then.
    pub fn assume(&self, home: &Path) -> io::Result<()> {
        let alone = SingleThreaded::prove()?;
        self.become_it()?;
        sys::set_variable(&alone, "HOME", home.as_os_str());
        // A new program would be open to its user again; this one stays closed.
        Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
    }

    /// [`Identity::assume`] for a process that is about to execute a program.
    pub(super) fn become_it(&self) -> io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        // Groups first: only root may change them.
        setgroups(&groups)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        // The kernel has taken them already, unless root was told to keep them.
        let none = CapabilitySet::empty();
        set_capabilities(
            None,
            CapabilitySets { effective: none, permitted: none, inheritable: none },
        )?;
        clear_ambient_capability_set()?;
        Ok(set_no_new_privs(true)?)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        write!(f, "{}:{}:{}", self.uid, self.gid, groups.join(","))
    }
}

impl FromStr for Identity {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        let parse = || {
            let (uid, rest) = text.split_once(':')?;
            let (gid, groups) = rest.split_once(':')?;
            let groups = groups.split(',').filter(|group| !group.is_empty());
            Some(Self {
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                groups: groups.map(|group| group.parse().ok()).collect::<Option<_>>()?,
            })
        };
        parse().ok_or_else(|| NoIdentity(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_as_text() {
        for groups in [vec![], vec![998], vec![998, 20, 44]] {
            let identity = Identity { uid: 998, gid: 997, groups };
            assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        }
        for wrong in ["", "1", "1:2", "a:1:", "1:2:x", "-1:1:", "1:2:3,4294967296"] {
            assert!(wrong.parse::<Identity>().is_err(), "{wrong}");
        }
    }
}
