//! How a command ends that has not done what it was asked for.
//!
//! Owns the exit codes that scripts rely on, and how a failure is shown to a
//! person. Must not know which command failed.

use std::fmt;
use std::io;

use crate::terminal::{Paint, Style};

/// What an exit code other than 0 means. The numbers are part of the interface:
/// `tinyfaas --help` and the README list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Anything that has no code of its own.
    Failed = 1,
    /// Wrong arguments, or a folder that leaves open what is meant.
    Usage = 2,
    /// No server answers at that address, or none that is trusted, or the connection
    /// broke.
    Unreachable = 3,
    /// There is no such function or call.
    NotFound = 4,
    /// The function replied with an error, or died.
    FunctionFailed = 5,
    /// Function or server have no room now; the same may work later.
    Busy = 6,
    /// The call did not end within its time.
    TimedOut = 7,
}

/// The table of exit codes, for the help texts.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, or stopped as asked
  1  failed: the message says why
  2  wrong usage or configuration
  3  no server answers there, over TLS none that is trusted, or the connection broke
  4  there is no such function or call
  5  the function replied with an error, or died
  6  the function or the server has no room now: try again later
  7  the call did not end within its time";

/// Why a command ends early, for its user.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// What went wrong; empty where all has been said.
    message: String,
    /// What to do, a line each.
    tips: Vec<String>,
}

impl Failure {
    /// A failure with this message.
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code: code as u8, message: message.to_string(), tips: Vec::new() }
    }

    /// The machine's trouble: a file, a full disk.
    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Code::Failed, message)
    }

    /// The user's own.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, message)
    }

    /// All has been said already; only the exit code is left.
    pub(crate) fn silent(code: Code) -> Self {
        Self::new(code, "")
    }

    /// Standard output cannot be written. Whoever closed a pipe has seen enough:
    /// that is no failure.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { code: 0, message: String::new(), tips: Vec::new() };
        }
        Self::failed(format!("cannot write to standard output: {error}"))
    }

    /// The same, with a line that says what to do.
    pub(crate) fn tip(mut self, tip: impl fmt::Display) -> Self {
        self.tips.push(tip.to_string());
        self
    }

    /// The same, with another exit code.
    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.code = code as u8;
        self
    }

    /// The same, with the exit code of an earlier one.
    pub(crate) fn with_code_of(mut self, earlier: &Self) -> Self {
        self.code = earlier.code;
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// What to do, in one line.
    pub(crate) fn tips(&self) -> String {
        self.tips.join("; ")
    }

    /// The message with its tips, for standard error; nothing where all has been
    /// said.
    pub(crate) fn shown(&self, paint: Paint) -> String {
        if self.message.is_empty() {
            return String::new();
        }
        let mut text = format!("{} {}\n", paint.of(Style::Bad, "tinyfaas:"), self.message);
        for tip in &self.tips {
            text.push_str(&format!("  {} {tip}\n", paint.of(Style::Dim, "tip:")));
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code() {
        let all = [
            Code::Failed,
            Code::Usage,
            Code::Unreachable,
            Code::NotFound,
            Code::FunctionFailed,
            Code::Busy,
            Code::TimedOut,
        ];
        for (at, code) in all.into_iter().enumerate() {
            assert_eq!(code as usize, at + 1);
            assert!(EXIT_CODES.contains(&format!("\n  {}  ", code as u8)), "{code:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let closed = Failure::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!((closed.code(), closed.shown(Paint::NEVER)), (0, String::new()));
        let full = Failure::output(&io::ErrorKind::StorageFull.into());
        assert_eq!(full.code(), 1);
    }

    #[test]
    fn tips_follow_the_message() {
        let failure = Failure::usage("no").tip("do this").tip("or that");
        assert_eq!(failure.shown(Paint::NEVER), "tinyfaas: no\n  tip: do this\n  tip: or that\n");
    }
}
