//! `tinyfaas wipe`: removes every function.
//!
//! Owns the question before it.

use clap::{Arg, ArgAction, ArgMatches, Command};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Server, original, server_flags};
use crate::failure::{Code, Failure};
use crate::progress::Progress;
use crate::terminal::{self, confirm, print, print_json, say, tame};

pub(super) const NAME: &str = "wipe";

const EXAMPLES: &str = "\
Examples:
  tinyfaas wipe                             asks first
  tinyfaas wipe --yes                       does not: for scripts";

/// Of the functions that would go, so many are named in the question.
const NAMES_SHOWN_MAX: usize = 10;

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Remove every function")
        .arg(
            Arg::new("yes")
                .long("yes")
                .short('y')
                .action(ArgAction::SetTrue)
                .help("do not ask; needed where there is no terminal"),
        )
        .args(server_flags())
        .arg(super::json_flag("print {\"deleted\": [...]}"))
        .after_help(EXAMPLES)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = Server::find(matches)?;
    let listed = super::list::listed(&server).await?;
    let functions = listed["functions"].as_array().into_iter().flatten();
    let names: Vec<&str> = functions.filter_map(|function| function["name"].as_str()).collect();
    if names.is_empty() {
        say("there are no functions");
    } else {
        if !matches.get_flag("yes") {
            ask(&server, &names)?;
        }
        let _progress = Progress::start("removing every function");
        if server.v1(server.brief(Method::DELETE, "/v1/functions")).await?.is_none() {
            original::wipe(&server).await?;
        }
    }
    if matches.get_flag(super::JSON) {
        let deleted: Vec<Value> = names.iter().map(|name| json!(name)).collect();
        return print_json(&json!({ "deleted": deleted }));
    }
    print(names.iter().map(|name| format!("deleted {}\n", tame(name))).collect::<String>())
}

fn ask(server: &Server, names: &[&str]) -> Result<(), Failure> {
    let mut shown = tame(&names[..names.len().min(NAMES_SHOWN_MAX)].join(", "));
    if names.len() > NAMES_SHOWN_MAX {
        shown.push_str(", …");
    }
    let what = terminal::count(names.len() as u64, "function", "functions");
    match confirm(&format!("remove {what} of {} ({shown})?", server.address())) {
        Some(true) => Ok(()),
        Some(false) => {
            say("nothing was removed");
            Err(Failure::silent(Code::Failed))
        }
        None => Err(Failure::usage("there is no terminal to ask on; say that you mean it: --yes")),
    }
}
