//! What a formatter and a linter do not see: how files open, how long they grow,
//! which crate may know which.
//!
//! Owns the rules. Each is a function from a file's path and text to what is
//! wrong with it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The longest Rust file, in lines without its tests.
const LINES_MAX: usize = 500;
/// Folders that hold nothing written for this project.
const FOREIGN: [&str; 7] =
    [".git", "target", "tmp", ".tools", ".venv", "node_modules", "__pycache__"];
/// Files in which these words may stand are read for them.
const TEXTS: [&str; 8] = ["rs", "py", "js", "sh", "toml", "md", "yml", "proto"];
/// The rooms: each may know the model, none another.
const ROOMS: [&str; 3] = ["management", "gateway", "handlers"];

/// Everything that is not tidy, a line each.
///
/// # Errors
/// Where a file cannot be read.
pub(crate) fn problems(root: &Path) -> io::Result<Vec<String>> {
    let mut problems = Vec::new();
    for file in files(root)? {
        if !file.extension().is_some_and(|end| TEXTS.iter().any(|text| end == *text)) {
            continue;
        }
        let text = fs::read_to_string(root.join(&file))?;
        problems.extend(of_file(&file, &text));
    }
    Ok(problems)
}

/// Every file of the project, by its path from the top, in order.
///
/// # Errors
/// Where a folder cannot be read.
pub(crate) fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && !FOREIGN.iter().any(|name| entry.file_name() == *name) {
                folders.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                found.push(path.strip_prefix(root).unwrap_or(&path).to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file is a shell script: by its name, else by its first line.
pub(crate) fn is_shell(root: &Path, file: &Path) -> bool {
    match file.extension() {
        Some(end) => end == "sh",
        None => fs::read(root.join(file)).is_ok_and(|text| {
            let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            first.starts_with(b"#!") && first.ends_with(b"sh")
        }),
    }
}

fn of_file(file: &Path, text: &str) -> Vec<String> {
    let mut problems = unfinished(text);
    // What is generated is as its generator makes it.
    let generated = file.components().any(|part| part.as_os_str() == "generated");
    if file.extension().is_some_and(|end| end == "rs") && !generated {
        problems.extend(opening(file, text));
        problems.extend(length(file, text));
        problems.extend(unsafe_code(file, text));
    }
    if file.ends_with("Cargo.toml") {
        problems.extend(arrows(file, text));
    }
    problems.extend(name(file));
    let shown = file.display();
    problems.into_iter().map(|problem| format!("{shown}: {problem}")).collect()
}

/// Work that is left over belongs in an issue.
fn unfinished(text: &str) -> Vec<String> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let lines = text.lines().enumerate();
    let found = lines.filter_map(|(index, line)| {
        let mut parts = line.split(|c: char| !c.is_ascii_alphanumeric());
        parts.find(|part| words.contains(part)).map(|word| (index + 1, word))
    });
    found
        .map(|(line, word)| format!("line {line} says {word}; finish it or open an issue"))
        .collect()
}

/// A `tests.rs` belongs to the file that it tests, and that one says what it owns.
fn opening(file: &Path, text: &str) -> Option<String> {
    (!text.starts_with("//!") && !file.ends_with("tests.rs"))
        .then(|| "does not open with `//!`: what it owns and must not know".to_owned())
}

fn length(file: &Path, text: &str) -> Option<String> {
    if file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests") {
        return None;
    }
    let lines = text.find("\n#[cfg(test)]\nmod tests {").map_or(text, |tests| &text[..tests]);
    let lines = lines.lines().count();
    (lines > LINES_MAX)
        .then(|| format!("has {lines} lines without its tests; split it by thought ({LINES_MAX})"))
}

fn unsafe_code(file: &Path, text: &str) -> Option<String> {
    const ALLOWED: &str = "crates/handlers/src/process/sys";
    let found = text.contains(concat!("allow(un", "safe_code"))
        || text.contains(concat!("expect(un", "safe_code"));
    (found && !file.to_string_lossy().starts_with(ALLOWED))
        .then(|| format!("allows unsafe code, which stands in {ALLOWED}.rs only"))
}

fn arrows(file: &Path, text: &str) -> Vec<String> {
    let Some(room) = ROOMS.iter().find(|room| file.starts_with(format!("crates/{room}"))) else {
        return Vec::new();
    };
    let others = ROOMS.iter().filter(|other| *other != room);
    others
        .filter(|other| text.lines().any(|line| line.starts_with(&format!("tinyfaas-{other}"))))
        .map(|other| format!("knows the room {other}; rooms know the model only"))
        .collect()
}

fn name(file: &Path) -> Option<String> {
    const EMPTY: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];
    let stem = file.file_stem()?.to_str()?;
    EMPTY.contains(&stem).then(|| "is named for nothing; name it for what it owns".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, text: &str, expected: &[&str]) {
        let found = of_file(Path::new(file), text);
        assert_eq!(found.len(), expected.len(), "{file}: {found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found:?} does not say {expected:?}");
        }
    }

    #[test]
    fn each_rule_finds_its_breach() {
        check("crates/a/src/lib.rs", "//! A.\n", &[]);
        check("crates/a/src/lib.rs", "// A.\n", &["open with"]);
        check("crates/a/src/generated/a.rs", "// A.\n", &[]);
        check("crates/a/src/utils.rs", "//! A.\n", &["named for nothing"]);
        check("a.py", concat!("x = 1  # TO", "DO: more\n"), &["line 1"]);
        check("a.py", "AUTODOC = 1\n", &[]);
        check("a.rs", concat!("//! A.\n#![allow(un", "safe_code)]\n"), &["unsafe"]);
        check("crates/gateway/Cargo.toml", "tinyfaas-model.workspace = true\n", &[]);
        check("crates/gateway/Cargo.toml", "tinyfaas-handlers = \"1\"\n", &["room handlers"]);
    }

    #[test]
    fn a_file_is_measured_without_its_tests() {
        let code = format!("//! A.\n{}", "fn a() {}\n".repeat(LINES_MAX - 1));
        check("a.rs", &code, &[]);
        check("a.rs", &format!("{code}fn b() {{}}\n"), &["split it"]);
        let tests = "    fn t() {}\n".repeat(LINES_MAX);
        check("a.rs", &format!("{code}\n#[cfg(test)]\nmod tests {{\n{tests}}}\n"), &[]);
    }

    #[test]
    fn this_repository_is_tidy() {
        let problems = problems(&crate::root()).expect("readable");
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }
}
