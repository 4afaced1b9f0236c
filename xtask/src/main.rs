//! The project's own checks, run alike by a laptop and CI: `cargo xtask check`.
//!
//! Owns which steps there are and in which order. Must not know the program: it
//! sees only its files.

mod steps;
mod tidy;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask check [STEP...]   run every check, or those named
       cargo xtask tools             install what the checks need into ./.tools";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = root();
    match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("check", wanted)) => steps::run(&root, wanted),
        Some(("tools", [])) => match tools::install(&root) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The repository's top.
fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}
