//! The names of an archive's entries, and of a folder inside it.
//!
//! Owns which names are safe. Pure.

use std::fmt;

use crate::config::ArchiveLimits;
use crate::shown::shown;

/// The longest part of a path that Linux file systems take, in bytes.
const PART_BYTES_MAX: usize = 255;

/// An entry's name, taken apart: its parts are plain names, none of them `..`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntryName<'a> {
    /// The folders down to it, and it; empty for the archive's top itself.
    pub(super) parts: Vec<&'a str>,
    /// Whether it is written like a folder, with a slash at its end.
    pub(super) folder: bool,
}

impl<'a> EntryName<'a> {
    /// Takes a name apart, or says why it is refused.
    pub(super) fn parse(raw: &'a [u8], limits: &ArchiveLimits) -> Result<Self, String> {
        if raw.len() > limits.name_bytes_max {
            return Err(format!(
                "its name has {} bytes; at most {} are allowed",
                raw.len(),
                limits.name_bytes_max
            ));
        }
        let text = std::str::from_utf8(raw)
            .map_err(|_| "its name is not UTF-8; make the archive with UTF-8 names".to_owned())?;
        if text.contains('\0') {
            return Err("its name holds a zero byte".to_owned());
        }
        if text.contains('\\') {
            return Err("its name holds a backslash; zip with '/' between folders".to_owned());
        }
        if text.starts_with('/') {
            return Err("its name starts at the root; zip with names relative to the folder".into());
        }
        let parts = split(text)?;
        if parts.len() > limits.depth_max {
            return Err(format!(
                "it lies {} folders deep; at most {} are allowed",
                parts.len(),
                limits.depth_max
            ));
        }
        Ok(Self { parts, folder: text.ends_with('/') || text.ends_with("/.") || text == "." })
    }
}

fn split(text: &str) -> Result<Vec<&str>, String> {
    let parts: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("its name leads out of the folder by '..'".to_owned());
    }
    if parts.iter().any(|part| part.len() > PART_BYTES_MAX) {
        return Err(format!("a part of its name has more than {PART_BYTES_MAX} bytes"));
    }
    Ok(parts)
}

/// A folder inside an archive; empty is its top.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subfolder(Vec<String>);

/// Why a text is no folder inside an archive.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "subfolder_path {shown} is no folder inside an archive: it may not hold '..', a \
         backslash, a zero byte or a part of more than {PART_BYTES_MAX} bytes"
)]
pub(crate) struct SubfolderError {
    /// The text, fit to be shown.
    shown: String,
}

impl Subfolder {
    /// Parses a path: slashes at its ends do not matter.
    ///
    /// # Errors
    /// Refuses a path that leads out of the archive.
    pub(crate) fn parse(text: &str) -> Result<Self, SubfolderError> {
        let parts = split(text).ok().filter(|_| !text.contains(['\\', '\0']));
        let parts = parts.ok_or_else(|| SubfolderError { shown: shown(text.as_bytes()) })?;
        Ok(Self(parts.into_iter().map(str::to_owned).collect()))
    }

    pub(super) fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// What is left of a name inside this folder; none if it lies elsewhere.
    pub(super) fn strip<'a, 'n>(&self, parts: &'a [&'n str]) -> Option<&'a [&'n str]> {
        let (start, below) = parts.split_at_checked(self.0.len())?;
        (start.iter().zip(&self.0).all(|(a, b)| a == b)).then_some(below)
    }
}

impl fmt::Display for Subfolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &[u8], expected: Result<(&[&str], bool), &str>) {
        let limits = ArchiveLimits { name_bytes_max: 600, depth_max: 3, ..Default::default() };
        match (EntryName::parse(raw, &limits), expected) {
            (Ok(name), Ok((parts, folder))) => {
                assert_eq!((name.parts.as_slice(), name.folder), (parts, folder), "{raw:?}");
            }
            (Err(why), Err(part)) => assert!(why.contains(part), "{raw:?}: {why}"),
            (found, expected) => panic!("{raw:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn names_are_taken_apart_or_refused() {
        check(b"fn.py", Ok((&["fn.py"], false)));
        check(b"./a//b/./c", Ok((&["a", "b", "c"], false)));
        check(b"a/b/", Ok((&["a", "b"], true)));
        check(b"./", Ok((&[], true)));
        check(b"..a/...", Ok((&["..a", "..."], false)));
        check(b"../fn.py", Err("'..'"));
        check(b"a/../../fn.py", Err("'..'"));
        check(b"a/..", Err("'..'"));
        check(b"/etc/passwd", Err("root"));
        check(b"..\\fn.py", Err("backslash"));
        check(b"fn.py\0.txt", Err("zero byte"));
        check(b"f\xfcr.py", Err("UTF-8"));
        check(&[b'a'; 601], Err("601 bytes"));
        check(&[b'a'; 256], Err("255"));
        check(b"a/b/c/d", Err("4 folders deep"));
    }

    #[test]
    fn a_subfolder_cannot_leave_the_archive() {
        for top in ["", "/", "//", ".", "./"] {
            assert!(Subfolder::parse(top).unwrap().is_top(), "{top:?}");
        }
        let sub = Subfolder::parse("/a/b/").unwrap();
        assert_eq!(sub.strip(&["a", "b", "c"]), Some(&["c"][..]));
        assert_eq!(sub.strip(&["a", "b"]), Some(&[][..]));
        assert_eq!(sub.strip(&["a", "bb", "c"]), None);
        assert_eq!(sub.strip(&["a"]), None);
        for bad in ["..", "a/../..", "a\\b", "/../x", "a\0b"] {
            assert!(Subfolder::parse(bad).is_err(), "{bad:?}");
        }
    }
}
