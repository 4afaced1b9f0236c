//! What a function is: its name, its environment and its limits.
//!
//! Owns the rules for names and the list of environments. Must not know where a
//! function's code lies or who runs it.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The longest name of a function, in characters.
pub const NAME_CHARS_MAX: usize = 63;

/// A function's name: ASCII letters, digits, `-` and `_`, at most
/// [`NAME_CHARS_MAX`], the first a letter or digit. Case matters.
///
/// Whoever holds one need not check it again: it is a safe path segment, file
/// name and label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionName(Arc<str>);

/// Why a text is no function name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no character at all.
    #[error("the function's name is empty; give it one of letters, digits, '-' and '_'")]
    Empty,
    /// The name is longer than [`NAME_CHARS_MAX`].
    #[error("the function's name has {chars} characters; at most {NAME_CHARS_MAX} are allowed")]
    TooLong {
        /// How many characters it has.
        chars: usize,
    },
    /// The name starts with `-` or `_`.
    #[error("the function's name starts with '{0}'; start it with a letter or a digit")]
    BadStart(char),
    /// The name holds a character that no name may hold.
    #[error("the function's name holds {0:?}; use only ASCII letters, digits, '-' and '_'")]
    BadCharacter(char),
}

impl FunctionName {
    /// Parses a name.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::BadCharacter(bad));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::BadStart(first));
        }
        if text.len() > NAME_CHARS_MAX {
            return Err(NameError::TooLong { chars: text.len() });
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A function's environment: what language its folder is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runtime {
    /// `fn.py` with a function `fn`.
    Python3,
    /// A Node module that exports one function.
    Nodejs,
    /// A script `fn.sh`, run for every call.
    Binary,
}

impl Runtime {
    /// All environments, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Python3, Self::Nodejs, Self::Binary];

    /// The environment that users call by this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.name() == name)
    }

    /// The name by which users know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Python3 => "python3",
            Self::Nodejs => "nodejs",
            Self::Binary => "binary",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One environment variable of a function. Its value is never shown or logged.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvVar {
    /// The variable's name: not empty, without `=` and NUL.
    pub key: String,
    /// Its value, without NUL.
    pub value: String,
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=(not shown)", self.key)
    }
}

/// The bounds within which a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From a call's arrival to its last byte.
    pub call_deadline: Duration,
    /// From a handler's start to its readiness.
    pub start_timeout: Duration,
    /// Calls at a time in one handler.
    pub calls_per_handler: usize,
    /// Calls that may wait for a place in one of the function's handlers.
    pub waiting_max: usize,
    /// How long the installer of its dependencies may take.
    pub build_timeout: Duration,
}

/// Everything that a deploy request and the function's folder say about it,
/// checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSpec {
    /// Its name, by which it is called.
    pub name: FunctionName,
    /// What it is for, in its owner's words: one line.
    pub description: Option<String>,
    /// Its environment.
    pub runtime: Runtime,
    /// How many handlers are kept for it; at least 1.
    pub threads: usize,
    /// Its environment variables; a later one of the same name wins.
    pub envs: Vec<EnvVar>,
    /// Its bounds.
    pub limits: Limits,
    /// Whether its output begins with CGI's header lines (RFC 3875 section 6);
    /// [`Runtime::Binary`] only.
    pub cgi: bool,
    /// What it is over CoAP.
    pub coap: CoapAttributes,
}

/// What a function is over CoAP, and what `/.well-known/core` tells of it beside
/// its path (RFC 6690). Links can carry all of it: no text holds a control
/// character.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoapAttributes {
    /// Whether it may be observed (RFC 7641): it is a resource whose state changes
    /// with time, and a GET tells it.
    pub observable: bool,
    /// Its resource types (`rt`), a space between each two; ASCII, nothing to be
    /// escaped in quotes.
    pub rt: Option<String>,
    /// Its interface descriptions (`if`), likewise.
    pub interface: Option<String>,
    /// The content formats in which it answers (`ct`, RFC 7252 section 7.2.1).
    pub ct: Vec<u16>,
    /// About how many bytes its replies have (`sz`).
    pub sz: Option<u32>,
    /// What it is, for people (`title`); may hold quotes and backslashes.
    pub title: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, NameError>) {
        let parsed = FunctionName::parse(text);
        assert_eq!(
            parsed.as_ref().map(FunctionName::as_str),
            expected.as_ref().copied(),
            "{text:?}"
        );
    }

    #[test]
    fn names_follow_the_rules() {
        check("echo", Ok("echo"));
        check("9-lives_X", Ok("9-lives_X"));
        check(&"a".repeat(63), Ok(&"a".repeat(63)));
        check(&"a".repeat(64), Err(NameError::TooLong { chars: 64 }));
        check("", Err(NameError::Empty));
        check("-a", Err(NameError::BadStart('-')));
        check("_a", Err(NameError::BadStart('_')));
        check(".tinyfaas", Err(NameError::BadCharacter('.')));
        check("a/b", Err(NameError::BadCharacter('/')));
        check("é", Err(NameError::BadCharacter('é')));
    }

    #[test]
    fn a_value_is_never_shown() {
        let var = EnvVar { key: "TOKEN".into(), value: "secret".into() };
        assert!(!format!("{var:?}").contains("secret"));
    }
}
