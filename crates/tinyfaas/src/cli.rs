//! The command line: what users type, and the help that teaches it.
//!
//! Owns commands and flags; the flags are made from the table of settings. Must
//! not know what a command does.

use clap::{Arg, ArgMatches, Command};

use crate::config::settings::{SETTINGS, Setting};
use crate::manual;

const EXAMPLES: &str = "\
Examples:
  tinyfaas                                  start the server on the usual ports
  HTTP_PORT=80 COAP_PORT=-1 tinyfaas        another port for HTTP, no CoAP
  tinyfaas serve --data-dir ./data --http-port 0 --management-port 0
                                            a second server, on any free ports
  scripts/upload.sh test/fns/echo echo python3 1
  curl --data hello http://localhost:8000/echo
                                            upload a function and call it

Every flag is an environment variable as well (shown in brackets) and, without its
dashes, a key of the configuration file; a flag wins, then a variable.
Exit codes: 0 stopped as asked, 1 could not start or went down, 2 wrong usage.";

/// The whole command line.
pub(crate) fn command() -> Command {
    let serve = Command::new("serve")
        .about("Start the server: management, gateway and handlers (as without a command)")
        .after_help(EXAMPLES);
    Command::new("tinyfaas")
        .about(
            "Functions as a service for the edge: upload a folder with a Python, Node or shell \
             function, call it within the second",
        )
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(EXAMPLES)
        .subcommand(with_settings(serve))
        .subcommands([manual::completions_command(), manual::man_command()])
        .args_conflicts_with_subcommands(true)
        .args(SETTINGS.iter().map(flag))
}

fn with_settings(command: Command) -> Command {
    command.args(SETTINGS.iter().map(flag))
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

/// The text given by a setting's flag.
pub(crate) fn flag_text(matches: &ArgMatches, setting: &Setting) -> Option<String> {
    matches.get_one::<String>(setting.name).cloned()
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
