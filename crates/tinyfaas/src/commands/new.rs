//! `tinyfaas new`: a folder with a function that works.
//!
//! Owns the templates, which are part of the program.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;
use tinyfaas_model::{FunctionName, Runtime};

use crate::failure::Failure;
use crate::terminal::{print, print_json};

pub(super) const NAME: &str = "new";

const EXAMPLES: &str = "\
Examples:
  tinyfaas new python3 hello                makes ./hello
  tinyfaas new nodejs functions/hello       the folder may lie elsewhere
  tinyfaas dev hello                        then try it, with every save deployed";

/// A file of a template.
struct File {
    name: &'static str,
    text: &'static str,
    mode: u32,
}

const fn file(name: &'static str, text: &'static str) -> File {
    File { name, text, mode: 0o666 }
}

const SETTINGS: File = file("tinyfaas.toml", include_str!("../../../../templates/tinyfaas.toml"));
const PYTHON: [File; 3] = [
    file("fn.py", include_str!("../../../../templates/python3/fn.py")),
    file("requirements.txt", include_str!("../../../../templates/python3/requirements.txt")),
    SETTINGS,
];
const NODE: [File; 3] = [
    file("index.js", include_str!("../../../../templates/nodejs/index.js")),
    file("package.json", include_str!("../../../../templates/nodejs/package.json")),
    SETTINGS,
];
const BINARY: [File; 2] = [
    File { name: "fn.sh", text: include_str!("../../../../templates/binary/fn.sh"), mode: 0o777 },
    SETTINGS,
];

fn files(runtime: Runtime) -> &'static [File] {
    match runtime {
        Runtime::Python3 => &PYTHON,
        Runtime::Nodejs => &NODE,
        Runtime::Binary => &BINARY,
    }
}

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Make a folder with a function that works, to begin with")
        .arg(
            Arg::new("env")
                .value_name("ENV")
                .required(true)
                .value_parser(PossibleValuesParser::new(Runtime::ALL.map(Runtime::name)))
                .help("the environment"),
        )
        .arg(
            Arg::new("folder")
                .value_name("NAME")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("the function's name, and that of the new folder; a path makes it elsewhere"),
        )
        .arg(super::json_flag("print the folder and its files as JSON"))
        .after_help(EXAMPLES)
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let runtime = matches.get_one::<String>("env").and_then(|env| Runtime::from_name(env));
    let runtime = runtime.ok_or_else(|| Failure::usage("there is no such environment"))?;
    let folder = matches.get_one::<PathBuf>("folder").cloned().unwrap_or_default();
    let last = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = FunctionName::parse(&last.unwrap_or_default()).map_err(Failure::usage)?;
    create(&folder, &name, runtime)?;
    if matches.get_flag(super::JSON) {
        let files: Vec<&str> = files(runtime).iter().map(|file| file.name).collect();
        return print_json(&json!({
            "folder": folder.to_string_lossy(),
            "name": name.as_str(),
            "env": runtime.name(),
            "files": files,
        }));
    }
    let shown = folder.display();
    let mut text = format!("made {shown}\n");
    for file in files(runtime) {
        text.push_str(&format!("  {}\n", file.name));
    }
    text.push_str(&format!(
        "try it, with every save deployed:  tinyfaas dev {shown}\n\
         deploy it:                         tinyfaas deploy {shown}\n"
    ));
    print(text)
}

fn create(folder: &Path, name: &FunctionName, runtime: Runtime) -> Result<(), Failure> {
    let shown = folder.display();
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)
            .map_err(|error| Failure::failed(format!("{}: {error}", parent.display())))?;
    }
    fs::create_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::failed(format!("{shown} is there already; choose another name"))
        }
        _ => Failure::failed(format!("{shown}: {error}")),
    })?;
    let written = files(runtime).iter().try_for_each(|file| {
        let text = file.text.replace("NAME", name.as_str()).replace("ENVIRONMENT", runtime.name());
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(folder.join(file.name))
            .and_then(|mut new| new.write_all(text.as_bytes()))
    });
    written.map_err(|error| {
        // The folder is ours: half of one would be in the way of the next try.
        drop(fs::remove_dir_all(folder));
        Failure::failed(format!("{shown}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guess;

    #[test]
    fn a_template_is_known_for_what_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        for runtime in Runtime::ALL {
            let folder = dir.path().join("deep").join(runtime.name());
            let name = FunctionName::parse("hello-1").expect("a name");
            create(&folder, &name, runtime).expect("writable");
            let said = guess::Environment::Said(runtime.name().to_owned());
            assert_eq!(guess::environment(&folder).expect("known"), said);
            fs::remove_file(folder.join(guess::SETTINGS)).expect("there");
            let found = guess::environment(&folder).expect("known");
            assert!(matches!(found, guess::Environment::Found(found, _) if found == runtime));
            let again = create(&folder, &name, runtime).expect_err("there already");
            assert!(again.to_string().contains("is there already"), "{again}");
            for file in files(runtime) {
                let path = folder.join(file.name);
                if path.exists() {
                    let text = fs::read_to_string(path).expect("text");
                    assert!(!text.contains("NAME") && !text.contains("ENVIRONMENT"), "{text}");
                }
            }
        }
    }
}
