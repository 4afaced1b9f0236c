//! The command line: flags, their help, and what they default to.
//!
//! Owns the reading of arguments. Must not know what is measured with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::bare::Baseline;
use crate::function::Environment;
use crate::peer::Named;
use crate::selection::{self, Selection};

const EXAMPLES: &str = "\
Examples:
  make bench                                   5 rounds of 2 s a load, about 5 minutes
  make bench BENCH=--quick                     3 rounds of 1 s, only what has a target
  make bench BENCH='--json before.json'        keep the figures
  make bench BENCH='--against before.json'     what has changed since
  make bench BENCH='--peer original=localhost:8000/echo'
                                               a running server beside this one
  make bench BENCH='--connections 1,64 --bodies 1k,1M --environments python3'
  make bench BENCH='--connections none --rates 500,2000,8000 --plot open.svg'

The server, the bare baseline and peers are measured in turns, so that a machine
that grows slower meanwhile is slower for all: trust the ratios more than the
rates. docs/benchmarks.md says what each figure means.

Exit codes: 0 measured, met or not; 1 something did not run or replied wrongly;
2 wrong usage; 3 with --strict, a target was missed.";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    /// The server's program; `None` to measure running ones only.
    pub(crate) server: Option<PathBuf>,
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
    /// The environments whose echoes are measured.
    pub(crate) environments: Vec<Environment>,
    /// Which loads.
    pub(crate) selection: Selection,
    /// Other running servers.
    pub(crate) peers: Vec<Named>,
    /// Their function, where their own text names none.
    pub(crate) peer_function: String,
    /// Where the figures go as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Where the figures go as a picture.
    pub(crate) plot: Option<PathBuf>,
    /// Earlier figures to compare with.
    pub(crate) against: Option<PathBuf>,
    /// Whether a missed target is an error.
    pub(crate) strict: bool,
}

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("tinyfaas-bench")
        .about("Measures the tinyFaaS server beside what this machine can do without it")
        .after_help(EXAMPLES)
        .subcommands(Baseline::ALL.map(|one| Command::new(one.subcommand()).hide(true)))
        .disable_help_subcommand(true)
        .args(what_is_measured())
        .args(how_long())
        .args(where_it_goes())
}

fn what_is_measured() -> [Arg; 9] {
    let path = value_parser!(PathBuf);
    [
        flag("server", "FILE", "the server's program [default: what make build leaves]")
            .value_parser(path.clone()),
        switch("no-server", "measure running servers only, those of --peer")
            .conflicts_with("server")
            .requires("peer"),
        flag("functions", "FOLDER", "the folder of the sample functions")
            .value_parser(path)
            .default_value("test/fns"),
        flag("environments", "LIST", "whose echoes: python3,nodejs,binary [default: all]")
            .value_delimiter(',')
            .value_parser(Environment::ALL.map(Environment::name)),
        flag("connections", "LIST", "of the closed loop, or none [default: 1,8,32]")
            .value_parser(selection::connections),
        flag("bodies", "LIST", "sizes such as 0,64,1k,1M [default: 64; at 8 connections more]")
            .value_parser(selection::bodies),
        flag("rates", "LIST", "of the open loop, requests a second, or none [default: 1000]")
            .value_parser(selection::rates),
        flag("peer", "ADDRESS", "a running server, [LABEL=]HOST:PORT[/FUNCTION]; may be repeated")
            .action(ArgAction::Append)
            .value_parser(value_parser!(Named)),
        flag("peer-function", "NAME", "the peers' function where their address names none")
            .default_value("echo"),
    ]
}

fn how_long() -> [Arg; 4] {
    [
        flag("rounds", "N", "how often everything is measured [default: 5, or 3]")
            .value_parser(value_parser!(u64).range(1..=1000)),
        flag("seconds", "N", "how long each load is measured [default: 2, or 1]")
            .value_parser(value_parser!(u64).range(1..=3600)),
        flag("threads", "N", "handlers of each function under load")
            .value_parser(value_parser!(u64).range(1..=64))
            .default_value("2"),
        switch("quick", "3 rounds of 1 s, and only the loads that have a target"),
    ]
}

fn where_it_goes() -> [Arg; 4] {
    let path = value_parser!(PathBuf);
    [
        flag("json", "FILE", "write the figures to this file as JSON").value_parser(path.clone()),
        flag("plot", "FILE", "write a picture of the loads to this file, as SVG")
            .value_parser(path.clone()),
        flag("against", "FILE", "compare with the figures of an earlier --json").value_parser(path),
        switch("strict", "exit with 3 where a target is missed"),
    ]
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
    let named = matches.get_many::<String>("environments").map(Iterator::collect::<Vec<_>>);
    let environments = Environment::ALL.into_iter().filter(|environment| {
        named.as_ref().is_none_or(|named| named.iter().any(|name| *name == environment.name()))
    });
    Options {
        server: (!matches.get_flag("no-server"))
            .then(|| path("server").unwrap_or_else(built_server)),
        samples: path("functions").expect("it has a default"),
        rounds: count("rounds", if quick { 3 } else { 5 }),
        measured: Duration::from_secs(number("seconds").unwrap_or(if quick { 1 } else { 2 })),
        warm_up: Duration::from_millis(300),
        threads: count("threads", 2),
        environments: environments.collect(),
        selection: Selection {
            connections: matches.get_one("connections").cloned(),
            bodies: matches.get_one("bodies").cloned(),
            rates: matches.get_one("rates").cloned(),
            quick,
        },
        peers: matches.get_many("peer").into_iter().flatten().cloned().collect(),
        peer_function: matches.get_one("peer-function").cloned().expect("it has a default"),
        json: path("json"),
        plot: path("plot"),
        against: path("against"),
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
        assert_eq!((plain.strict, plain.server.is_some()), (false, true));
        assert_eq!((plain.environments.len(), plain.selection), (3, Selection::default()));
        let quick = read(&["--quick", "--rounds", "7", "--strict", "--server=x"]);
        assert_eq!((quick.rounds, quick.measured), (7, Duration::from_secs(1)));
        assert_eq!((quick.server, quick.strict), (Some(PathBuf::from("x")), true));
    }

    #[test]
    fn loads_and_peers_are_chosen() {
        let chosen = read(&[
            "--environments=binary,python3",
            "--connections=1,64",
            "--bodies=0,1M",
            "--rates=none",
            "--peer=localhost:8000",
            "--peer",
            "old=localhost:8001/sieve",
            "--no-server",
        ]);
        assert_eq!(chosen.environments, [Environment::Python, Environment::Binary]);
        assert_eq!(chosen.selection.connections, Some(vec![1, 64]));
        assert_eq!(chosen.selection.bodies, Some(vec![0, 1_000_000]));
        assert_eq!(chosen.selection.rates, Some(vec![]));
        assert_eq!((chosen.peers.len(), chosen.peer_function.as_str()), (2, "echo"));
        assert_eq!(chosen.server, None);
    }

    #[test]
    fn wrong_usage_is_refused() {
        let wrong = [
            "--rounds=0",
            "--seconds=soon",
            "--threads=65",
            "--qick",
            "--environments=go",
            "--connections=0",
            "--bodies=1G",
            "--rates=0",
            "--peer=nowhere",
            "--no-server",
        ];
        for wrong in wrong {
            let error = command().try_get_matches_from(["tinyfaas-bench", wrong]);
            assert_eq!(error.expect_err(wrong).exit_code(), 2, "{wrong}");
        }
    }
}
