//! What a folder says of its function: its name, its environment.
//!
//! Owns the guessing, which is always said aloud. What `tinyfaas.toml` says is the
//! server's to judge: here it only keeps the command line from guessing.

use std::fs;
use std::path::Path;

use tinyfaas_model::{FunctionName, NAME_CHARS_MAX, Runtime};

use crate::failure::Failure;

/// The file of settings in a function's folder.
pub(crate) const SETTINGS: &str = "tinyfaas.toml";
/// More of that file is not looked at, in bytes: the server takes no longer one.
const SETTINGS_BYTES_MAX: u64 = 64 << 10;
/// Which file makes which environment.
const MARKS: [(&str, Runtime); 3] =
    [("fn.py", Runtime::Python3), ("package.json", Runtime::Nodejs), ("fn.sh", Runtime::Binary)];

/// What was found out of the environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    /// `tinyfaas.toml` says it: this text, which the server will judge.
    Said(String),
    /// This file is there.
    Found(Runtime, &'static str),
}

/// A name made of a folder's or a file's.
///
/// # Errors
/// Where nothing is left of it.
pub(crate) fn name(from: &str) -> Result<FunctionName, Failure> {
    if let Ok(name) = FunctionName::parse(from) {
        return Ok(name);
    }
    let fitting = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    let text: String = from.chars().map(fitting).collect();
    let text = text.trim_matches(['-', '_']);
    let text = &text[..text.len().min(NAME_CHARS_MAX)];
    FunctionName::parse(text).map_err(|_| {
        Failure::usage(format!("no function's name can be made of {from:?}"))
            .tip("say one: --name NAME")
    })
}

/// The name that a folder gives its function.
///
/// # Errors
/// Where it is no folder, or no name can be made of its own.
pub(crate) fn name_of_folder(folder: &Path) -> Result<FunctionName, Failure> {
    // So that `.` and `..` have a name, too.
    let real = folder
        .canonicalize()
        .map_err(|error| Failure::failed(format!("{}: {error}", folder.display())))?;
    let last = real.file_name().map(|name| name.to_string_lossy().into_owned());
    name(&last.unwrap_or_default())
}

/// The environment of a folder.
///
/// # Errors
/// Where nothing tells it, or more than one thing does.
pub(crate) fn environment(folder: &Path) -> Result<Environment, Failure> {
    if let Some(said) = settings(folder).environment {
        return Ok(Environment::Said(said));
    }
    let found: Vec<_> = MARKS.into_iter().filter(|(file, _)| folder.join(file).is_file()).collect();
    match found.as_slice() {
        [(file, runtime)] => Ok(Environment::Found(*runtime, file)),
        [] => Err(Failure::usage(format!(
            "{} does not look like a function: there is no fn.py (python3), package.json (nodejs) \
             or fn.sh (binary)",
            folder.display()
        ))
        .tip("make one that works: tinyfaas new python3 NAME")),
        more => {
            let files: Vec<&str> = more.iter().map(|(file, _)| *file).collect();
            let files = files.join(" and ");
            Err(Failure::usage(format!("{}: there are {files}", folder.display()))
                .tip("say which environment is meant: --env ENV, or environment in tinyfaas.toml"))
        }
    }
}

/// What of a folder's settings is of use here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) environment: Option<String>,
    pub(crate) threads: Option<i64>,
}

/// Reads them as far as they can be read.
pub(crate) fn settings(folder: &Path) -> Settings {
    let path = folder.join(SETTINGS);
    let short = fs::metadata(&path).is_ok_and(|meta| meta.len() <= SETTINGS_BYTES_MAX);
    let text = if short { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let table: toml::Table = toml::from_str(&text).unwrap_or_default();
    Settings {
        environment: table.get("environment").and_then(|value| value.as_str()).map(str::to_owned),
        threads: table.get("threads").and_then(toml::Value::as_integer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit() {
        for (from, expected) in [
            ("echo", "echo"),
            ("my function", "my-function"),
            (".hidden", "hidden"),
            ("grüße.v2", "gr--e-v2"),
            ("__init__", "init"),
        ] {
            assert_eq!(name(from).expect(from).as_str(), expected);
        }
        assert_eq!(name(&"x".repeat(99)).expect("cut").as_str().len(), NAME_CHARS_MAX);
        for from in ["", "ä", "--"] {
            assert_eq!(name(from).expect_err(from).code(), 2);
        }
        assert_eq!(name_of_folder(Path::new("/")).expect_err("no name").code(), 2);
        assert_eq!(name_of_folder(Path::new("/no/such")).expect_err("missing").code(), 1);
    }

    fn check(files: &[(&str, &str)], expected: Result<&Environment, &str>) {
        let dir = tempfile::tempdir().expect("a directory");
        for (file, text) in files {
            fs::write(dir.path().join(file), text).expect("writable");
        }
        match (environment(dir.path()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(&found, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn the_environment_is_known_by_its_file() {
        check(&[("fn.py", "")], Ok(&Environment::Found(Runtime::Python3, "fn.py")));
        check(&[("package.json", "")], Ok(&Environment::Found(Runtime::Nodejs, "package.json")));
        check(&[("fn.sh", "")], Ok(&Environment::Found(Runtime::Binary, "fn.sh")));
        check(&[("readme", "")], Err("does not look like a function"));
        check(&[("fn.sh", ""), ("fn.py", "")], Err("fn.py and fn.sh"));
    }

    #[test]
    fn settings_are_followed_as_far_as_they_can_be_read() {
        let said = |text: &str| Environment::Said(text.to_owned());
        check(&[("tinyfaas.toml", "environment = 'nodejs'"), ("fn.py", "")], Ok(&said("nodejs")));
        check(&[("tinyfaas.toml", "environment = 'cobol'")], Ok(&said("cobol")));
        let found = Environment::Found(Runtime::Python3, "fn.py");
        check(&[("tinyfaas.toml", "threads = 2"), ("fn.py", "")], Ok(&found));
        check(&[("tinyfaas.toml", "= broken"), ("fn.py", "")], Ok(&found));
    }
}
