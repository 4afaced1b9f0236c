//! The commands besides serving.
//!
//! Owns which there are, and how each one's end becomes an exit code. What a
//! command does stands in the file of its name.

mod call;
mod delete;
mod deploy;
mod dev;
mod doctor;
mod list;
mod logs;
mod new;
mod status;
mod wipe;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use tokio::runtime;

use crate::failure::Failure;
use crate::terminal::Paint;

/// The flag for output that a script reads.
const JSON: &str = "json";

/// All of them, in the order of the help.
pub(crate) fn all() -> Vec<Command> {
    vec![
        new::command(),
        dev::command(),
        deploy::command(),
        call::command(),
        list::command(),
        status::command(),
        logs::command(),
        delete::command(),
        wipe::command(),
        doctor::command(),
    ]
}

/// Runs the command that was asked for, if it is one of these.
pub(crate) fn run(matches: &ArgMatches) -> Option<ExitCode> {
    let (name, matches) = matches.subcommand()?;
    let outcome = match name {
        new::NAME => new::run(matches),
        dev::NAME => wait(dev::run(matches)),
        deploy::NAME => wait(deploy::run(matches)),
        call::NAME => wait(call::run(matches)),
        list::NAME => wait(list::run(matches)),
        status::NAME => wait(status::run(matches)),
        logs::NAME => wait(logs::run(matches)),
        delete::NAME => wait(delete::run(matches)),
        wipe::NAME => wait(wipe::run(matches)),
        doctor::NAME => doctor::run(matches),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody need read it.
            drop(write!(std::io::stderr(), "{}", failure.shown(Paint::stderr())));
            ExitCode::from(failure.code())
        }
    })
}

/// One thread is enough for a client.
fn wait(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(command);
    // A thread that still reads standard input would be waited for.
    runtime.shutdown_background();
    outcome
}

/// `--json`.
fn json_flag(help: &'static str) -> Arg {
    Arg::new(JSON).long(JSON).action(ArgAction::SetTrue).help(help)
}

/// A positional name of a function.
fn name_argument(help: &'static str) -> Arg {
    Arg::new("name").value_name("NAME").help(help)
}

/// A path of `/v1` that names a function, whatever the name holds.
fn function_path(name: &str, rest: &str) -> String {
    let mut path = String::from("/v1/functions/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(function_path("echo-1_x", ""), "/v1/functions/echo-1_x");
        assert_eq!(function_path("a/b?c ü", "/logs"), "/v1/functions/a%2Fb%3Fc%20%C3%BC/logs");
        // The URL parser takes an encoded dot for a dot: no such name is asked for.
        assert_eq!(function_path("..", ""), "/v1/functions/%2E%2E");
    }

    #[test]
    fn every_command_teaches_by_examples() {
        for command in all() {
            let name = command.get_name().to_owned();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Examples:\n  tinyfaas"), "{name}");
            assert!(command.get_about().is_some(), "{name}");
        }
    }
}
