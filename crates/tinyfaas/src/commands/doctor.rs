//! `tinyfaas doctor`: what this machine offers, and what each missing thing costs.
//!
//! Owns the list of checks and how it is told. Each check stands in the file of
//! its matter; none changes anything on the machine.

mod environments;
mod isolation;
mod limits;
mod network;

use std::env::consts::ARCH;
use std::fmt::Write as _;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use tokio::runtime;

use crate::client::server_flags;
use crate::config::{self, Config};
use crate::failure::{Code, Failure};
use crate::progress::Progress;
use crate::terminal::{Paint, Style, print, print_json};

pub(super) const NAME: &str = "doctor";

const EXAMPLES: &str = "\
Examples:
  tinyfaas doctor                           what this machine offers
  tinyfaas doctor --json | jq '.checks[] | select(.state != \"ok\")'
  tinyfaas doctor --server http://board:8080
                                            whether that server answers, too

Exit code 0: a server can start here and run functions of one environment at
least; 1: it cannot, and the lines marked with an x say why.";

/// The hidden flag by which a child of its own tries what this process must not.
const PROBE: &str = "probe";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Show what this machine offers, and what each missing thing costs")
        .arg(Arg::new(PROBE).long(PROBE).value_name("WHAT").hide(true))
        .args(server_flags())
        .arg(super::json_flag("print the checks as JSON"))
        .after_help(EXAMPLES)
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// Something is not there that can be done without, at a cost.
    Missing,
    /// No server can work like this.
    Problem,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Check {
    group: &'static str,
    name: String,
    state: State,
    /// What was found.
    found: String,
    /// What it costs that it is not there, and what to do.
    cost: Option<String>,
}

impl Check {
    fn ok(group: &'static str, name: &str, found: impl Into<String>) -> Self {
        Self { group, name: name.into(), state: State::Ok, found: found.into(), cost: None }
    }

    fn missing(
        group: &'static str,
        name: &str,
        found: impl Into<String>,
        cost: impl Into<String>,
    ) -> Self {
        let (state, cost) = (State::Missing, Some(cost.into()));
        Self { group, name: name.into(), state, found: found.into(), cost }
    }

    fn problem(
        group: &'static str,
        name: &str,
        found: impl Into<String>,
        cost: impl Into<String>,
    ) -> Self {
        Self { state: State::Problem, ..Self::missing(group, name, found, cost) }
    }

    fn json(&self) -> Value {
        json!({
            "group": self.group,
            "name": self.name,
            "state": self.state.name(),
            "found": self.found,
            "cost": self.cost,
        })
    }
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if let Some(what) = matches.get_one::<String>(PROBE) {
        return isolation::probe(what);
    }
    let is_root = rustix::process::geteuid().is_root();
    let variable = crate::variable;
    let file = config::file::default_path(is_root, variable);
    let config = Config::read(|_| None, variable, file.as_deref());
    // Before any thread exists: the spawner demands it.
    let spawner = environments::Spawning::start()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let checks = runtime.block_on(async {
        let progress = Progress::start("looking for interpreters and installers");
        let mut checks = environments::checks(spawner).await?;
        progress.now("trying what isolates functions");
        checks.extend(isolation::checks());
        checks.extend(limits::checks(config.as_ref().ok()));
        progress.now("looking for servers");
        checks.extend(network::checks(matches, config.as_ref()).await?);
        Ok::<_, Failure>(checks)
    })?;
    runtime.shutdown_background();
    let well = checks.iter().all(|check| check.state != State::Problem);
    if matches.get_flag(super::JSON) {
        let all: Vec<Value> = checks.iter().map(Check::json).collect();
        print_json(&json!({"ok": well, "version": env!("CARGO_PKG_VERSION"), "checks": all}))?;
    } else {
        print(shown(&checks, well, Paint::stdout()))?;
    }
    if well { Ok(()) } else { Err(Failure::silent(Code::Failed)) }
}

fn shown(checks: &[Check], well: bool, paint: Paint) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("tinyfaas {version} on {ARCH}\n");
    let mut group = "";
    for check in checks {
        if check.group != group {
            group = check.group;
            let _ = writeln!(text, "\n{}", paint.of(Style::Strong, group));
        }
        let mark = match check.state {
            State::Ok => paint.of(Style::Good, "✓"),
            State::Missing => paint.of(Style::Warning, "-"),
            State::Problem => paint.of(Style::Bad, "x"),
        };
        let _ = writeln!(text, "  {mark} {:<18}{}", check.name, check.found);
        if let Some(cost) = &check.cost {
            let _ = writeln!(text, "    {:<18}{}", "", paint.of(Style::Dim, cost));
        }
    }
    let end = if well {
        paint.of(Style::Good, "a server can run functions here")
    } else {
        paint.of(Style::Bad, "a server cannot work here: see the lines marked x")
    };
    let _ = writeln!(text, "\n{end}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_grouped_and_tells_costs() {
        let checks = [
            Check::ok("one", "a", "fine"),
            Check::missing("one", "b", "not there", "this is lost"),
            Check::problem("two", "c", "taken", "nothing works"),
        ];
        let text = shown(&checks, false, Paint::NEVER);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "",
                "one",
                "  ✓ a                 fine",
                "  - b                 not there",
                "                      this is lost",
                "",
                "two",
                "  x c                 taken",
                "                      nothing works",
                "",
                "a server cannot work here: see the lines marked x",
            ]
        );
    }
}
