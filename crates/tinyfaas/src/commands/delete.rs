//! `tinyfaas delete`: removes functions.
//!
//! Owns that each name is tried, whatever becomes of the others.

use clap::{Arg, ArgAction, ArgMatches, Command};
use reqwest::Method;
use serde_json::json;

use crate::client::{Server, original, server_flags};
use crate::failure::{Code, Failure};
use crate::progress::Progress;
use crate::terminal::{Paint, print, print_json, say};

pub(super) const NAME: &str = "delete";

const EXAMPLES: &str = "\
Examples:
  tinyfaas delete echo
  tinyfaas delete echo sieve                several at once
  tinyfaas delete echo --if-exists          fine where it is gone already

Running calls have time to end. Every name is tried; if one fails, the exit code
is that of the first that did.";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Remove functions")
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .action(ArgAction::Append)
                .num_args(1..)
                .help("which"),
        )
        .arg(
            Arg::new("if-exists")
                .long("if-exists")
                .action(ArgAction::SetTrue)
                .help("no error where there is no such function"),
        )
        .args(server_flags())
        .arg(super::json_flag("print {\"deleted\": [...], \"failed\": [...]}"))
        .after_help(EXAMPLES)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = Server::find(matches)?;
    let names = matches.get_many::<String>("name").into_iter().flatten();
    let (lenient, json) = (matches.get_flag("if-exists"), matches.get_flag(super::JSON));
    let (mut deleted, mut failed, mut first) = (Vec::new(), Vec::new(), None);
    for name in names {
        let outcome = {
            let _progress = Progress::start(format!("deleting {name}"));
            delete(&server, name).await
        };
        match outcome {
            Ok(()) => {
                if !json {
                    print(format!("deleted {name}\n"))?;
                }
                deleted.push(name);
            }
            Err(failure) if lenient && failure.code() == Code::NotFound as u8 => {
                say(format!("there is no {name}"));
            }
            // The others would fail in the same way.
            Err(failure) if failure.code() == Code::Unreachable as u8 => return Err(failure),
            Err(failure) => {
                failed.push(json!({"name": name, "detail": failure.to_string()}));
                if let Some(earlier) = first.replace(failure) {
                    // Its message must not be lost; the last one is told by the caller.
                    say(earlier.shown(Paint::stderr()).trim_end());
                    first = first.map(|later| later.with_code_of(&earlier));
                }
            }
        }
    }
    if json {
        print_json(&json!({"deleted": deleted, "failed": failed}))?;
    }
    first.map_or(Ok(()), Err)
}

async fn delete(server: &Server, name: &str) -> Result<(), Failure> {
    let request = server.brief(Method::DELETE, &super::function_path(name, ""));
    match server.v1(request).await? {
        Some(_) => Ok(()),
        None => original::delete(server, name).await,
    }
}
