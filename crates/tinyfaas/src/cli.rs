//! The command line: what users type, and the help that teaches it.
//!
//! Owns commands and flags; the flags are made from the table of settings. Must
//! not know what a command does.

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::commands;
use crate::config::settings::{SETTINGS, Setting};
use crate::failure::EXIT_CODES;
use crate::manual;

/// The hidden flag of `serve` for a server that ends with who started it.
pub(crate) const END_WITH: &str = "--end-with";

const EXAMPLES: &str = "\
Examples:
  tinyfaas                                  start the server on the usual ports
  tinyfaas new python3 hello                a function to begin with, in ./hello
  tinyfaas dev hello                        try it: every save is deployed
  tinyfaas deploy hello                     deploy it to the server
  tinyfaas call hello -d you                call it
  HTTP_PORT=80 COAP_PORT=-1 tinyfaas        another port for HTTP, no CoAP
  tinyfaas serve --data-dir ./data --http-port 0 --management-port 0
                                            a second server, on any free ports
  tinyfaas list --server http://board:8080  ask a server elsewhere

Every flag is an environment variable as well (shown in brackets) and, without its
dashes, a key of the configuration file; a flag wins, then a variable.
Commands find their server by --server, or TINYFAAS_SERVER.";

const SERVE_EXAMPLES: &str = "\
Examples:
  tinyfaas serve                            on the usual ports
  tinyfaas serve --http-port 80 --coap-port=-1
  tinyfaas serve --config /etc/tinyfaas/config.toml --log-level debug

Every flag is an environment variable as well (shown in brackets) and, without its
dashes, a key of the configuration file; a flag wins, then a variable.
Exit codes: 0 stopped as asked, 1 could not start or went down, 2 wrong usage.";

/// The whole command line.
pub(crate) fn command() -> Command {
    let serve = Command::new("serve")
        .about("Start the server: management, gateway and handlers (as without a command)")
        .after_help(SERVE_EXAMPLES)
        .arg(
            Arg::new(&END_WITH[2..])
                .long(&END_WITH[2..])
                .value_name("PID")
                .value_parser(value_parser!(i32))
                .hide(true),
        );
    Command::new("tinyfaas")
        .about(
            "Functions as a service for the edge: upload a folder with a Python, Node or shell \
             function, call it within the second",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(format!("{EXAMPLES}\n\n{EXIT_CODES}"))
        .subcommands(commands::all())
        .subcommand(with_settings(serve))
        .subcommands([manual::completions_command(), manual::man_command()])
        .args_conflicts_with_subcommands(true)
        .args(flags())
}

fn with_settings(command: Command) -> Command {
    command.args(flags())
}

fn flags() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().filter(|setting| setting.has_flag()).map(flag)
}

fn flag(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        text => format!("default {text}, "),
    };
    Arg::new(setting.name)
        .long(setting.name)
        .value_name("VALUE")
        .allow_hyphen_values(true)
        .help_heading(setting.heading)
        .help(format!("{} [{default}env {}]", setting.help, setting.variable))
}

/// The process with which a server is to end.
pub(crate) fn end_with(matches: &ArgMatches) -> Option<i32> {
    // The flag is one of `serve` alone.
    matches.try_get_one::<i32>(&END_WITH[2..]).ok().flatten().copied()
}

/// The text given by a setting's flag.
pub(crate) fn flag_text(matches: &ArgMatches, setting: &Setting) -> Option<String> {
    // Not every setting has one.
    matches.try_get_one::<String>(setting.name).ok().flatten().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        let matches = command().get_matches_from(["tinyfaas", "--http-port", "-1"]);
        let http = SETTINGS.iter().find(|setting| setting.name == "http-port").expect("there");
        assert_eq!(flag_text(&matches, http).as_deref(), Some("-1"));
        let matches = command().get_matches_from(["tinyfaas", "serve", "--http-port=5"]);
        let (name, matches) = matches.subcommand().expect("serve");
        assert_eq!((name, flag_text(matches, http).as_deref()), ("serve", Some("5")));
    }
}
