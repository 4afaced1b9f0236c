//! The tools that the checks need and a Rust toolchain does not have, installed
//! into `./.tools` at fixed versions.
//!
//! Owns which and where. Must not know what they are asked to do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// A tool, at the one version with which the checks are known to work.
pub(crate) struct Tool {
    /// Its name.
    pub(crate) name: &'static str,
    version: &'static str,
    from: Source,
}

enum Source {
    /// crates.io, built here without these features of its own.
    Cargo,
    /// The Python package index.
    Pip,
}

pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", from: Source::Cargo };
pub(crate) const CARGO_MACHETE: Tool =
    Tool { name: "cargo-machete", version: "0.9.2", from: Source::Cargo };
/// Builds and runs the fuzz targets (`make fuzz`).
const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", from: Source::Cargo };
pub(crate) const TYPOS: Tool = Tool { name: "typos", version: "1.52.0", from: Source::Pip };

impl Tool {
    /// Where it is, once it is installed.
    pub(crate) fn path(&self, root: &Path) -> PathBuf {
        let folder = match self.from {
            Source::Cargo => ".tools/bin",
            Source::Pip => ".tools/python/bin",
        };
        root.join(folder).join(self.name)
    }

    fn is_installed(&self, root: &Path) -> bool {
        let answer = Command::new(self.path(root)).arg("--version").output();
        answer.is_ok_and(|answer| {
            let text = String::from_utf8_lossy(&answer.stdout);
            text.split_whitespace().any(|word| word == self.version)
        })
    }
}

/// Installs what is missing or of another version.
///
/// # Errors
/// The first command that fails.
pub(crate) fn install(root: &Path) -> anyhow::Result<()> {
    for tool in [CARGO_DENY, CARGO_MACHETE, CARGO_FUZZ, TYPOS] {
        if tool.is_installed(root) {
            println!("{} {} is there", tool.name, tool.version);
            continue;
        }
        println!("installing {} {}", tool.name, tool.version);
        match tool.from {
            Source::Cargo => install_by_cargo(root, &tool)?,
            Source::Pip => install_by_pip(root, &tool)?,
        }
        ensure!(
            tool.is_installed(root),
            "{} was installed but does not say that it is {}",
            tool.name,
            tool.version
        );
    }
    Ok(())
}

/// Unoptimised: it takes a third of the time to build, and a second to run.
fn install_by_cargo(root: &Path, tool: &Tool) -> anyhow::Result<()> {
    let package = format!("{}@{}", tool.name, tool.version);
    // One folder for all, apart from the project's own: what they share is built
    // once, and the workspace's builds stay as they are.
    let target = root.join("target/tools");
    let mut command = Command::new("cargo");
    command.args(["install", "--locked", "--debug", "--quiet", "--no-default-features"]);
    command.arg("--root").arg(root.join(".tools")).arg("--target-dir").arg(target).arg(package);
    // Names of lines are of no use here, and half of the disk and the time.
    command.env("CARGO_PROFILE_DEV_DEBUG", "false");
    run(&mut command)
}

fn install_by_pip(root: &Path, tool: &Tool) -> anyhow::Result<()> {
    let folder = root.join(".tools/python");
    if !folder.join("bin/python3").exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let package = format!("{}=={}", tool.name, tool.version);
    let mut command = Command::new(folder.join("bin/python3"));
    run(command.args(["-m", "pip", "install", "--quiet", &package]))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdin(Stdio::null()).status().with_context(|| shown.clone())?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}
