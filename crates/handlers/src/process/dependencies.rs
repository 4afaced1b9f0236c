//! What a function's folder declares and what lies in it already.
//!
//! Pure but for reading the folder: whether an installer is needed, and what it
//! is told. Must not run one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tinyfaas_model::Runtime;

/// How deep wheels are looked for: beside `requirements.txt`, and in a folder
/// there.
const WHEELS_DEPTH: usize = 2;
/// Of what lies in a folder, so many names are shown.
const NAMES_SHOWN: usize = 8;

/// Which files make a folder a function of its environment: one of these.
const fn needed(runtime: Runtime) -> &'static [&'static str] {
    match runtime {
        Runtime::Python3 => &["fn.py"],
        Runtime::Nodejs => &["package.json", "index.js", "index.mjs"],
        Runtime::Binary => &["fn.sh"],
    }
}

/// Checks that a folder holds a function of this environment; the inner error
/// is a sentence for the user.
pub(super) fn check(folder: &Path, runtime: Runtime) -> io::Result<Result<(), String>> {
    let needed = needed(runtime);
    if needed.iter().any(|name| folder.join(name).is_file()) {
        return Ok(Ok(()));
    }
    let mut names = Vec::new();
    let mut nested = None;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        if is_folder && needed.iter().any(|name| entry.path().join(name).is_file()) {
            nested = Some(entry.file_name().to_string_lossy().into_owned());
        }
        let slash = if is_folder { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    let hidden = names.len().saturating_sub(NAMES_SHOWN);
    names.truncate(NAMES_SHOWN);
    let more = if hidden > 0 { format!(" and {hidden} more") } else { String::new() };
    let there = match names.is_empty() {
        true => "it is empty".to_owned(),
        false => format!("it holds {}{more}", names.join(", ")),
    };
    let hint = nested.map_or(String::new(), |name| {
        format!("; the function lies in {name}/: upload what is in that folder")
    });
    Ok(Err(format!(
        "a {runtime} function needs {} at the top of its folder, but {there}{hint}",
        needed.join(" or ")
    )))
}

/// Whether a `requirements.txt` declares anything.
pub(super) fn declares_requirements(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The folders within a function's that hold wheels or archives of packages.
pub(super) fn wheel_folders(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect_wheel_folders(folder, WHEELS_DEPTH, &mut found);
    found
}

fn collect_wheel_folders(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if paths.iter().any(|path| path.extension().is_some_and(|ending| ending == "whl")) {
        found.push(folder.to_owned());
    }
    if depth > 1 {
        for path in paths.iter().filter(|path| path.is_dir() && !path.is_symlink()) {
            collect_wheel_folders(path, depth - 1, found);
        }
    }
}

/// What of a `package.json` concerns its installation.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Package {
    dependencies: Option<Names>,
    optional_dependencies: Option<Names>,
}

type Names = std::collections::BTreeMap<String, serde_json::Value>;

impl Package {
    /// Reads a `package.json`; the error is a sentence for the user.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        // An editor's byte order mark is no reason to refuse.
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        serde_json::from_slice(json).map_err(|error| {
            if error.is_data() {
                return format!("package.json is not what npm expects: {error}");
            }
            format!("package.json is not JSON, or it is cut off: {error}")
        })
    }

    /// Whether a package is declared that does not lie in `node_modules`.
    pub(super) fn lacks_any(&self, folder: &Path) -> bool {
        let modules = folder.join("node_modules");
        let declared = [&self.dependencies, &self.optional_dependencies];
        let mut names = declared.into_iter().flatten().flat_map(|names| names.keys());
        names.any(|name| !modules.join(name).join("package.json").is_file())
    }
}

/// The arguments for npm.
pub(super) fn npm_args(folder: &Path) -> Vec<OsString> {
    let locked = ["package-lock.json", "npm-shrinkwrap.json"];
    let locked = locked.iter().any(|name| folder.join(name).is_file());
    let what = if locked { "ci" } else { "install" };
    [what, "--omit=dev", "--no-audit", "--no-fund"].map(Into::into).into()
}

/// The arguments for Python that run pip; with `index`, packages that do not lie
/// in one of the folders of wheels come from there.
pub(super) fn pip_args(
    target: &Path,
    cache: &Path,
    wheels: &[PathBuf],
    index: bool,
) -> Vec<OsString> {
    // Isolated: a `json.py` of the function must not become pip's.
    let pip = ["-I", "-m", "pip", "install", "--no-input"];
    let mut args: Vec<OsString> = pip.map(Into::into).into();
    args.extend(["--disable-pip-version-check", "--no-warn-script-location"].map(Into::into));
    args.extend(["--cache-dir".into(), cache.into(), "--target".into(), target.into()]);
    if !index {
        args.push("--no-index".into());
    }
    for folder in wheels {
        args.extend(["--find-links".into(), folder.into()]);
    }
    args.extend(["-r".into(), "requirements.txt".into()]);
    args
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    fn check_folder(files: &[&str], runtime: Runtime, expected: Result<(), &str>) {
        let dir = folder(files);
        let said = check(dir.path(), runtime).unwrap();
        assert_eq!(said, expected.map_err(str::to_owned), "{files:?}");
    }

    #[test]
    fn a_folder_that_is_no_function_is_told_what_it_lacks() {
        check_folder(&["fn.py"], Runtime::Python3, Ok(()));
        check_folder(&["index.js"], Runtime::Nodejs, Ok(()));
        check_folder(&["index.mjs"], Runtime::Nodejs, Ok(()));
        check_folder(&["package.json", "x.js"], Runtime::Nodejs, Ok(()));
        check_folder(&["fn.sh"], Runtime::Binary, Ok(()));
        check_folder(
            &[],
            Runtime::Binary,
            Err("a binary function needs fn.sh at the top of its folder, but it is empty"),
        );
        check_folder(
            &["main.py", "lib/x.py"],
            Runtime::Python3,
            Err("a python3 function needs fn.py at the top of its folder, \
                 but it holds lib/, main.py"),
        );
        check_folder(
            &["echo/fn.py"],
            Runtime::Python3,
            Err("a python3 function needs fn.py at the top of its folder, \
                 but it holds echo/; the function lies in echo/: upload what is in that folder"),
        );
        check_folder(
            &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
            Runtime::Nodejs,
            Err("a nodejs function needs package.json or index.js or index.mjs at the top of \
                 its folder, but it holds 0, 1, 2, 3, 4, 5, 6, 7 and 2 more"),
        );
    }

    #[test]
    fn comments_and_blank_lines_declare_nothing() {
        assert!(!declares_requirements(""));
        assert!(!declares_requirements("\n  \n# requests\n   # flask\r\n"));
        assert!(declares_requirements("# all:\nrequests==2\n"));
        assert!(declares_requirements("-r other.txt"));
    }

    fn check_package(json: &str, there: &[&str], expected: Result<bool, ()>) {
        let dir = folder(there);
        let lacks = Package::parse(json.as_bytes()).map(|package| package.lacks_any(dir.path()));
        assert_eq!(lacks.map_err(drop), expected, "{json}");
    }

    #[test]
    fn npm_is_needed_for_what_is_declared_and_not_there() {
        check_package("{}", &[], Ok(false));
        check_package("\u{feff}{\"name\": \"fn\"}", &[], Ok(false));
        check_package(r#"{"dependencies": {}, "devDependencies": {"x": "1"}}"#, &[], Ok(false));
        check_package(r#"{"dependencies": null}"#, &[], Ok(false));
        let two = r#"{"dependencies": {"a": "1"}, "optionalDependencies": {"@s/b": "2"}}"#;
        check_package(two, &[], Ok(true));
        check_package(two, &["node_modules/a/package.json"], Ok(true));
        let there = ["node_modules/a/package.json", "node_modules/@s/b/package.json"];
        check_package(two, &there, Ok(false));
        check_package("{", &[], Err(()));
        check_package(r#"{"dependencies": ["a"]}"#, &[], Err(()));
    }

    #[test]
    fn wheels_are_found_beside_and_one_folder_below() {
        let dir = folder(&["fn.py", "a.whl", "wheels/b.whl", "deep/er/c.whl"]);
        let mut found = wheel_folders(dir.path());
        found.sort();
        assert_eq!(found, [dir.path().to_owned(), dir.path().join("wheels")]);
    }

    #[test]
    fn a_lock_file_decides_how_npm_installs() {
        assert_eq!(npm_args(folder(&[]).path())[0], "install");
        assert_eq!(npm_args(folder(&["package-lock.json"]).path())[0], "ci");
    }
}
