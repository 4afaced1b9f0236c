//! `tinyfaas logs`: what functions print, and what becomes of their handlers.
//!
//! Owns the flags and the copying to standard output.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};

use crate::client::{Lines, Server, original, server_flags};
use crate::failure::Failure;
use crate::terminal::{Paint, Style, print, say, tame};

pub(super) const NAME: &str = "logs";

const EXAMPLES: &str = "\
Examples:
  tinyfaas logs                             of all functions
  tinyfaas logs echo --tail 20              the last 20 lines of one
  tinyfaas logs echo -f --since 10min       the last ten minutes, then what comes
  tinyfaas logs --since 2026-11-22T10:00:00Z
  tinyfaas logs echo --json | jq -r .text   an object a line: function, handler, time, text";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Show what functions print, and what becomes of their handlers")
        .arg(super::name_argument("whose [default: all functions']"))
        .arg(
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("go on with what comes, until Ctrl+C or the function's end"),
        )
        .arg(
            Arg::new("since")
                .long("since")
                .value_name("TIME")
                .help("only from then on: 10min, 1h, or 2026-11-22T10:00:00Z"),
        )
        .arg(
            Arg::new("tail")
                .long("tail")
                .short('n')
                .value_name("N")
                // So that a negative number is told for what it is.
                .allow_hyphen_values(true)
                .value_parser(value_parser!(u64))
                .help("only the last N lines"),
        )
        .args(server_flags())
        .arg(super::json_flag("print a JSON object a line"))
        .after_help(EXAMPLES)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = Server::find(matches)?;
    let name = matches.get_one::<String>("name").map(String::as_str);
    let wanted = Wanted {
        follow: matches.get_flag("follow"),
        since: matches.get_one::<String>("since").cloned(),
        tail: matches.get_one::<u64>("tail").copied(),
    };
    let json = matches.get_flag(super::JSON);
    let accept = if json { "application/x-ndjson" } else { "text/plain" };
    let mut request = server.request(Method::GET, &wanted.path(name)?);
    request = request.header(ACCEPT, HeaderValue::from_static(accept));
    let response = match server.v1(request).await? {
        Some(response) => response,
        None if json || wanted.is_special() => {
            let what = "it does not offer --follow, --since, --tail and --json";
            return Err(original::not_offered(&server, what));
        }
        None => original::logs(&server, name).await?,
    };
    copy(Lines::of(response, server.address()), json).await
}

/// Which part of a log.
pub(super) struct Wanted {
    pub(super) follow: bool,
    pub(super) since: Option<String>,
    pub(super) tail: Option<u64>,
}

impl Wanted {
    fn is_special(&self) -> bool {
        self.follow || self.since.is_some() || self.tail.is_some()
    }

    /// What is asked for.
    pub(super) fn path(&self, name: Option<&str>) -> Result<String, Failure> {
        let mut url = reqwest::Url::parse("http://localhost/").map_err(Failure::failed)?;
        if self.is_special() {
            let mut query = url.query_pairs_mut();
            if self.follow {
                query.append_pair("follow", "true");
            }
            if let Some(since) = &self.since {
                query.append_pair("since", since);
            }
            if let Some(tail) = self.tail {
                query.append_pair("tail", &tail.to_string());
            }
        }
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(match name {
            Some(name) => super::function_path(name, &format!("/logs{query}")),
            None => format!("/v1/logs{query}"),
        })
    }
}

/// Copies lines to standard output until they end.
pub(super) async fn copy(mut lines: Lines, json: bool) -> Result<(), Failure> {
    let paint = Paint::stdout();
    let mut some = false;
    while let Some(line) = lines.next().await? {
        some = true;
        let line = if json { line } else { shown(&line, paint) };
        print(format!("{line}\n"))?;
    }
    if !some && !json {
        say("nothing has been logged");
    }
    Ok(())
}

/// A line; on a terminal its head is set apart and nothing in it steers.
pub(super) fn shown(line: &str, paint: Paint) -> String {
    if paint == Paint::NEVER {
        return line.to_owned();
    }
    // function=NAME handler=ID TIME text
    match line.splitn(4, ' ').collect::<Vec<_>>().as_slice() {
        [function, handler, time, text] if function.starts_with("function=") => {
            let head = format!("{function} {handler} {time}");
            format!("{} {}", paint.of(Style::Dim, &tame(&head)), tame(text))
        }
        _ => tame(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_says_what_is_wanted() {
        let wanted = |follow, since: Option<&str>, tail| Wanted {
            follow,
            since: since.map(str::to_owned),
            tail,
        };
        let path = |wanted: &Wanted, name| wanted.path(name).expect("a path");
        assert_eq!(path(&wanted(false, None, None), None), "/v1/logs");
        assert_eq!(path(&wanted(false, None, None), Some("a b")), "/v1/functions/a%20b/logs");
        assert_eq!(
            path(&wanted(true, Some("2026-01-01T00:00:00+01:00"), Some(3)), Some("a")),
            "/v1/functions/a/logs?follow=true&since=2026-01-01T00%3A00%3A00%2B01%3A00&tail=3"
        );
    }
}
