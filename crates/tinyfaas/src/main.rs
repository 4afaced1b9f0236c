//! The program: which of its three selves is wanted, and how a start that fails
//! is told.
//!
//! Owns exit codes and the first line of defence against wrong usage. Must not
//! know what serving means; that is `serve.rs`.

#[cfg(not(target_os = "linux"))]
compile_error!("tinyFaaS runs on Linux only: it is made of Linux processes, sockets and limits");

mod cli;
mod client;
mod commands;
mod config;
mod data_dir;
mod deployment;
mod failure;
mod folder;
mod guess;
mod keys;
mod listen;
mod logging;
mod manual;
mod notify;
mod open_files;
mod pack;
mod progress;
mod rooms;
mod serve;
mod summary;
mod terminal;
mod tls;
mod user;

use std::env;
use std::io;
use std::process::ExitCode;

use clap::ArgMatches;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
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
        _ => commands::run(matches).unwrap_or_else(|| server(matches)),
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
    if let Some(parent) = cli::end_with(matches)
        && let Err(error) = end_with(parent)
    {
        logging::complain(&format!("tinyfaas: cannot watch process {parent}: {error}"));
        return ExitCode::from(EXIT_FAILURE);
    }
    let default_file = config::file::default_path(rustix::process::geteuid().is_root(), variable);
    let flag = |setting: &Setting| cli::flag_text(matches, setting);
    let read = Config::read(flag, variable, default_file.as_deref())
        .and_then(|config| keys::read(&config).map(|keys| (config, keys)));
    let (config, keys) = match read {
        Ok(read) => read,
        Err(mistakes) => {
            let list = mistakes.join("\n  ");
            logging::complain(&format!("tinyfaas: the configuration has mistakes:\n  {list}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match serve::serve(&config, keys) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = format!("{error:#}{}", data_dir::advice(&error));
            match config.text("log-format") {
                "json" => tracing::error!("{told}"),
                _ => logging::complain(&format!("tinyfaas: {told}")),
            }
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// Has the kernel stop this process when the one that started it ends, however
/// that does.
fn end_with(parent: i32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // It may have ended before.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) == Some(parent) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "it is not the one that started this one"))
}

/// An environment variable; one that is not UTF-8 reads as one that no setting
/// accepts, so that it is reported and not passed over.
fn variable(name: &str) -> Option<String> {
    env::var_os(name).map(|text| text.to_string_lossy().into_owned())
}
