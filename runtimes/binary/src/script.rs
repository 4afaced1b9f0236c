//! What `fn.sh` is and how it is executed.
//!
//! Owns reading its first line as the kernel would: by hand, since the file need
//! not be executable. Must not know calls.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The script's file in its folder.
pub(crate) const FILE: &str = "fn.sh";

/// What a handler is replaced for whose script cannot be executed any more.
pub(crate) const GONE: &str = "lost its fn.sh, which a call has deleted or moved, or made unreadable, in the handler's folder";

/// As much of a file's start as the kernel looks at for a first line.
const FIRST_LINE_BYTES: u64 = 256;

const DEFAULT_INTERPRETER: &str = "/bin/sh";

/// A script, ready to be executed any number of times.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// What is executed.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Its file.
    file: PathBuf,
}

impl Script {
    /// Finds out how the script in this folder is executed.
    ///
    /// # Errors
    /// A sentence for whoever deploys it.
    pub(crate) fn find(folder: &Path) -> Result<Self, String> {
        let path = folder.join(FILE);
        let start = read_start(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "the function's folder has no {FILE}; put the script that runs for each call there"
            ),
            io::ErrorKind::IsADirectory => format!("{FILE} is a folder; it must be a script"),
            _ => format!("{FILE} cannot be read: {error}"),
        })?;
        if start.starts_with(b"\x7fELF") {
            make_executable(&path)
                .map_err(|error| format!("{FILE} cannot be made executable: {error}"))?;
            return Ok(Self { program: path.clone(), args: Vec::new(), file: path });
        }
        let Some(shebang) = Shebang::parse(&start)? else {
            let args = vec![path.clone().into()];
            return Ok(Self { program: DEFAULT_INTERPRETER.into(), args, file: path });
        };
        shebang.check()?;
        let args = shebang.argument.into_iter().chain([path.clone().into()]).collect();
        Ok(Self { program: shebang.interpreter, args, file: path })
    }

    /// Whether its file can still be executed: a script may delete its own folder.
    pub(crate) fn is_there(&self) -> bool {
        access(&self.file, Access::READ_OK).is_ok()
    }
}

fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(FIRST_LINE_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

/// The folder is this handler's own copy, so this changes nobody else's file.
fn make_executable(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o100 != 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode | 0o111))
}

/// A first line `#! INTERPRETER [ARGUMENT]`. All that follows the interpreter is
/// one argument, as for the kernel.
#[derive(Debug, PartialEq, Eq)]
struct Shebang {
    interpreter: PathBuf,
    argument: Option<OsString>,
}

impl Shebang {
    fn parse(start: &[u8]) -> Result<Option<Self>, String> {
        let Some(line) = start.strip_prefix(b"#!") else { return Ok(None) };
        let end = line.iter().position(|byte| *byte == b'\n');
        if end.is_none() && start.len() as u64 == FIRST_LINE_BYTES {
            return Err(format!(
                "the first line of {FILE} is longer than the {FIRST_LINE_BYTES} bytes that the \
                 system reads; shorten it"
            ));
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let line = &line[..end.unwrap_or(line.len())];
        let line = &line[line.iter().take_while(|byte| is_blank(byte)).count()..];
        let line =
            &line[..line.len() - line.iter().rev().take_while(|byte| is_blank(byte)).count()];
        if line.is_empty() {
            return Ok(None);
        }
        let length = line.iter().position(is_blank).unwrap_or(line.len());
        let (interpreter, rest) = line.split_at(length);
        let rest = &rest[rest.iter().take_while(|byte| is_blank(byte)).count()..];
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Ok(Some(Self {
            interpreter: text(interpreter).into(),
            argument: (!rest.is_empty()).then(|| text(rest)),
        }))
    }

    /// Sees that what the line names is there.
    fn check(&self) -> Result<(), String> {
        let line_end = self.argument.as_deref().unwrap_or(self.interpreter.as_os_str());
        if line_end.as_bytes().ends_with(b"\r") {
            return Err(format!(
                "the first line of {FILE} ends in a Windows line break, which is taken as a part \
                 of its interpreter's name; save the file with Unix line breaks"
            ));
        }
        is_executable(&self.interpreter)
            .map_err(|problem| missing(self.interpreter.as_os_str(), &problem))?;
        match self.looked_up() {
            Some(program) if find_in_path(program).is_none() => {
                Err(missing(program, "it is in none of the folders of PATH"))
            }
            _ => Ok(()),
        }
    }

    /// The program that `#!/usr/bin/env PROGRAM` looks up, if the line is that
    /// simple.
    fn looked_up(&self) -> Option<&OsStr> {
        let program = self.argument.as_deref()?;
        let plain = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'=' | b'/');
        let is_plain =
            program.as_bytes().iter().all(plain) && !program.as_bytes().starts_with(b"-");
        (self.interpreter.file_name() == Some(OsStr::new("env")) && is_plain).then_some(program)
    }
}

fn missing(program: &OsStr, problem: &str) -> String {
    format!(
        "the first line of {FILE} asks for {}, which this machine cannot execute: {problem}; \
         install it or change the line",
        program.display()
    )
}

fn is_executable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Err(error) => Err(error.to_string()),
        Ok(metadata) if !metadata.is_file() => Err("it is no file".into()),
        Ok(_) => access(path, Access::EXEC_OK).map_err(|error| error.to_string()),
    }
}

fn find_in_path(program: &OsStr) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| is_executable(path).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: &str, expected: Option<(&str, Option<&str>)>) {
        let expected = expected.map(|(interpreter, argument)| Shebang {
            interpreter: interpreter.into(),
            argument: argument.map(Into::into),
        });
        assert_eq!(Shebang::parse(start.as_bytes()), Ok(expected), "{start:?}");
    }

    #[test]
    fn the_first_line_is_read_as_the_kernel_does() {
        check("#!/bin/sh\necho", Some(("/bin/sh", None)));
        check("#! \t/bin/sh  \necho", Some(("/bin/sh", None)));
        check("#!/bin/sh", Some(("/bin/sh", None)));
        check("#!/usr/bin/env python3\n", Some(("/usr/bin/env", Some("python3"))));
        check("#!/bin/sh -e -u \n", Some(("/bin/sh", Some("-e -u"))));
        check("#!/bin/sh\t-e\t-u\n", Some(("/bin/sh", Some("-e\t-u"))));
        check("#!\necho", None);
        check("echo\n#!/bin/sh", None);
        check("", None);
        check(" #!/bin/sh\n", None);
        let long = format!("#!/{}", "x".repeat(300));
        assert!(Shebang::parse(&long.as_bytes()[..256]).is_err());
    }

    fn check_find(content: Option<&str>, expected: Result<(&str, usize), &str>) {
        let folder = tempfile::tempdir().unwrap();
        if let Some(content) = content {
            fs::write(folder.path().join(FILE), content).unwrap();
        }
        let path = folder.path().join(FILE).into_os_string();
        match (Script::find(folder.path()), expected) {
            (Ok(found), Ok((program, args))) => {
                assert_eq!(
                    (found.program, found.args.len()),
                    (program.into(), args),
                    "{content:?}"
                );
                assert_eq!(found.args.last(), Some(&path));
            }
            (Err(problem), Err(part)) => assert!(problem.contains(part), "{problem}"),
            (found, expected) => panic!("{content:?}: {found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn a_script_that_cannot_run_is_refused_with_a_reason() {
        check_find(Some("echo hi"), Ok(("/bin/sh", 1)));
        check_find(Some(""), Ok(("/bin/sh", 1)));
        check_find(Some("#!/usr/bin/env sh\n"), Ok(("/usr/bin/env", 2)));
        check_find(None, Err("has no fn.sh"));
        check_find(Some("#!/no/such/thing\n"), Err("asks for /no/such/thing"));
        check_find(Some("#!/usr/bin/env no-such-thing\n"), Err("asks for no-such-thing"));
        check_find(Some("#!/bin/sh\r\necho"), Err("Windows line break"));
        check_find(Some("#!/etc/passwd\n"), Err("asks for /etc/passwd"));
        check_find(Some("#!/bin\n"), Err("it is no file"));
    }
}
