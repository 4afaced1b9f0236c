//! The program: which of its three selves is wanted, and how a start that fails
//! is told.
//!
//! Owns exit codes and the first line of defence against wrong usage. Must not
//! know what serving means; that is `serve.rs`.

#[cfg(not(target_os = "linux"))]
compile_error!("tinyFaaS runs on Linux only: it is made of Linux processes, sockets and limits");

mod cli;
mod config;
mod data_dir;
mod listen;
mod logging;
mod manual;
mod notify;
mod rooms;
mod serve;
mod summary;
mod user;

use std::env;
use std::io;
use std::process::ExitCode;

use clap::ArgMatches;
use tinyfaas_handlers::process::spawner;

use crate::config::Config;
use crate::config::settings::Setting;

/// Could not start, or went down.
const EXIT_FAILURE: u8 = 1;
/// Wrong usage or configuration.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    // The server's helpers are this same program (docs/decisions/0001). They are
    // told apart before anything else: they are started often and must be small.
    match env::args_os().nth(1).as_deref().and_then(|argument| argument.to_str()) {
        Some("spawner") => spawner::main(),
        Some(spawner::KEEPER) => spawner::keeper_main(),
        Some("binary-worker") => tinyfaas_binary_worker::main(),
        _ => commanded(&cli::command().get_matches()),
    }
}

fn commanded(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some((manual::MAN, matches)) => told(manual::man(matches, cli::command())),
        Some((manual::COMPLETIONS, matches)) => told(manual::completions(matches, cli::command())),
        _ => server(matches),
    }
}

/// Tells what kept a command from doing its work.
fn told(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has seen enough (`tinyfaas man | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            logging::complain(&format!("tinyfaas: {error}"));
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn server(matches: &ArgMatches) -> ExitCode {
    let matches = matches.subcommand_matches("serve").unwrap_or(matches);
    let default_file = config::file::default_path(rustix::process::geteuid().is_root(), variable);
    let flag = |setting: &Setting| cli::flag_text(matches, setting);
    let config = match Config::read(flag, variable, default_file.as_deref()) {
        Ok(config) => config,
        Err(mistakes) => {
            let list = mistakes.join("\n  ");
            logging::complain(&format!("tinyfaas: the configuration has mistakes:\n  {list}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match serve::serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match config.text("log-format") {
                "json" => tracing::error!("{error:#}"),
                _ => logging::complain(&format!("tinyfaas: {error:#}")),
            }
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// An environment variable; one that is not UTF-8 reads as one that no setting
/// accepts, so that it is reported and not passed over.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}
