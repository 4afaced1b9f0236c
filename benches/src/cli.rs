//! The command line: flags, their help, and what they default to.
//!
//! Owns the reading of arguments. Must not know what is measured with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::bare_hyper;

const EXAMPLES: &str = "\
Examples:
  make bench                            5 rounds of 2 s each, about 90 seconds
  make bench BENCH=--quick              3 rounds of 1 s each, about 30 seconds
  tinyfaas-bench --json figures.json    the table, and the same for machines
  tinyfaas-bench --server ./tinyfaas-linux-arm64 --rounds 9 --seconds 5

The server and the bare baseline are measured in turns, so that a machine that
grows slower meanwhile is slower for both: trust the ratios more than the rates.

Exit codes: 0 measured, met or not; 1 something did not run or replied wrongly;
2 wrong usage; 3 with --strict, a target was missed.";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// The server's program.
    pub(crate) server: PathBuf,
    /// The folder of the sample functions.
    pub(crate) samples: PathBuf,
    /// How often everything is measured.
    pub(crate) rounds: usize,
    /// How long a round measures each load.
    pub(crate) measured: Duration,
    /// How long each load runs before it is measured.
    pub(crate) warm_up: Duration,
    /// Handlers of the functions under load.
    pub(crate) threads: usize,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Whether a missed target is an error.
    pub(crate) strict: bool,
}

/// The whole command line.
pub(crate) fn command() -> Command {
    let path = value_parser!(PathBuf);
    Command::new("tinyfaas-bench")
        .about("Measures the tinyFaaS server beside what this machine can do without it")
        .after_help(EXAMPLES)
        .subcommand(Command::new(bare_hyper::SUBCOMMAND).hide(true))
        .disable_help_subcommand(true)
        .arg(
            flag("server", "FILE", "the server's program [default: what make build leaves]")
                .value_parser(path.clone()),
        )
        .arg(
            flag("functions", "FOLDER", "the folder of the sample functions")
                .value_parser(path.clone())
                .default_value("test/fns"),
        )
        .arg(
            flag("rounds", "N", "how often everything is measured [default: 5, or 3]")
                .value_parser(value_parser!(u64).range(1..=1000)),
        )
        .arg(
            flag("seconds", "N", "how long each load is measured [default: 2, or 1]")
                .value_parser(value_parser!(u64).range(1..=3600)),
        )
        .arg(
            flag("threads", "N", "handlers of each function under load")
                .value_parser(value_parser!(u64).range(1..=64))
                .default_value("2"),
        )
        .arg(flag("json", "FILE", "write the figures to this file as JSON").value_parser(path))
        .arg(switch("quick", "3 rounds of 1 s"))
        .arg(switch("strict", "exit with 3 where a target is missed"))
}

fn flag(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Reads the arguments, whose kinds clap has checked.
pub(crate) fn options(matches: &ArgMatches) -> Options {
    let quick = matches.get_flag("quick");
    let number = |name: &str| matches.get_one::<u64>(name).copied();
    let count = |name: &str, default| {
        number(name).map_or(default, |number| {
            usize::try_from(number).expect("clap bounds every number far below")
        })
    };
    let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
    Options {
        server: path("server").unwrap_or_else(built_server),
        samples: path("functions").expect("it has a default"),
        rounds: count("rounds", if quick { 3 } else { 5 }),
        measured: Duration::from_secs(number("seconds").unwrap_or(if quick { 1 } else { 2 })),
        warm_up: Duration::from_millis(300),
        threads: count("threads", 2),
        json: path("json"),
        strict: matches.get_flag("strict"),
    }
}

/// What `make build` leaves, or else what cargo does.
fn built_server() -> PathBuf {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let made = PathBuf::from(format!("./tinyfaas-linux-{architecture}"));
    if made.exists() { made } else { PathBuf::from("./target/release/tinyfaas") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Options {
        let all = std::iter::once(&"tinyfaas-bench").chain(arguments);
        options(&command().try_get_matches_from(all).expect("sound"))
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        let plain = read(&[]);
        assert_eq!((plain.rounds, plain.measured), (5, Duration::from_secs(2)));
        assert!(!plain.strict);
        let quick = read(&["--quick", "--rounds", "7", "--strict", "--server=x"]);
        assert_eq!((quick.rounds, quick.measured), (7, Duration::from_secs(1)));
        assert_eq!((quick.server, quick.strict), (PathBuf::from("x"), true));
        for wrong in ["--rounds=0", "--seconds=soon", "--threads=65", "--qick"] {
            let error = command().try_get_matches_from(["tinyfaas-bench", wrong]);
            assert_eq!(error.expect_err(wrong).exit_code(), 2, "{wrong}");
        }
    }
}
