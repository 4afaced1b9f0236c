//! `tinyfaas list`: which functions there are, and how they do.
//!
//! Owns the table.

use clap::{ArgMatches, Command};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Server, original, server_flags};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::terminal::{Cell, Paint, Style, print, print_json, say, table, tame};

pub(super) const NAME: &str = "list";

const EXAMPLES: &str = "\
Examples:
  tinyfaas list                             a table, for people
  tinyfaas list --quiet                     the names alone, one a line
  tinyfaas list --json | jq -r '.functions[] | select(.state != \"healthy\").name'
  tinyfaas list --server http://board:8080  what another server has";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("List the functions and how they do")
        .arg(
            clap::Arg::new("quiet")
                .long("quiet")
                .short('q')
                .action(clap::ArgAction::SetTrue)
                .conflicts_with(super::JSON)
                .help("print the names alone, one a line"),
        )
        .args(server_flags())
        .arg(super::json_flag("print {\"functions\": [...]}, all that is known of each"))
        .after_help(EXAMPLES)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = Server::find(matches)?;
    let listed = {
        let _progress = Progress::start(format!("asking {}", server.address()));
        listed(&server).await?
    };
    if matches.get_flag(super::JSON) {
        return print_json(&listed);
    }
    let functions: Vec<&Value> = listed["functions"].as_array().into_iter().flatten().collect();
    if matches.get_flag("quiet") {
        let names = functions.iter().filter_map(|function| function["name"].as_str());
        return print(names.map(|name| format!("{}\n", tame(name))).collect::<String>());
    }
    if functions.is_empty() {
        say("there are no functions yet; deploy one: tinyfaas deploy FOLDER");
        return Ok(());
    }
    print(shown(&functions, Paint::stdout()))
}

/// What `/v1/functions` answers; of an original tinyFaaS just the names.
pub(super) async fn listed(server: &Server) -> Result<Value, Failure> {
    match server.v1(server.brief(Method::GET, "/v1/functions")).await? {
        Some(response) => server.json(response).await,
        None => {
            let names = original::list(server).await?;
            let functions: Vec<Value> =
                names.into_iter().map(|name| json!({ "name": name })).collect();
            Ok(json!({ "functions": functions }))
        }
    }
}

fn shown(functions: &[&Value], paint: Paint) -> String {
    if functions.iter().all(|function| function["state"].is_null()) {
        // An original tinyFaaS tells no more.
        let rows: Vec<_> =
            functions.iter().map(|function| vec![Cell::new(text(&function["name"]))]).collect();
        return table(&["NAME"], &rows, paint);
    }
    let rows: Vec<Vec<Cell>> = functions.iter().map(|function| row(function)).collect();
    table(
        &["NAME", "ENVIRONMENT", "HANDLERS", "STATE", "CALLS", "FAILED", "DEPLOYED"],
        &rows,
        paint,
    )
}

fn row(function: &Value) -> Vec<Cell> {
    let handlers = &function["handlers"];
    let ready = handlers["ready"].as_u64().unwrap_or(0);
    let wanted = handlers["wanted"].as_u64().or_else(|| function["threads"].as_u64()).unwrap_or(0);
    let (calls, failed) = calls(&function["calls"]);
    let state = text(&function["state"]);
    vec![
        Cell::styled(text(&function["name"]), Style::Strong),
        Cell::new(text(&function["env"])),
        Cell::new(format!("{ready}/{wanted}")),
        Cell::styled(state.clone(), style_of_state(&state)),
        Cell::new(calls.to_string()),
        if failed > 0 { Cell::styled(failed.to_string(), Style::Warning) } else { Cell::new("0") },
        Cell::new(text(&function["deployed"])),
    ]
}

/// All calls, and those that did not succeed.
pub(super) fn calls(outcomes: &Value) -> (u64, u64) {
    let outcomes = outcomes.as_object().into_iter().flatten();
    outcomes.fold((0, 0), |(all, failed), (outcome, count)| {
        let count = count.as_u64().unwrap_or(0);
        (all + count, failed + if outcome == "succeeded" { 0 } else { count })
    })
}

pub(super) fn style_of_state(state: &str) -> Style {
    match state {
        "healthy" => Style::Good,
        "degraded" => Style::Warning,
        _ => Style::Bad,
    }
}

/// A text of the server's, tamed.
pub(super) fn text(value: &Value) -> String {
    tame(value.as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_become_a_table() {
        let echo = json!({
            "name": "echo", "env": "python3", "threads": 2, "state": "degraded",
            "handlers": {"ready": 1, "wanted": 2}, "deployed": "2026-01-02T03:04:05Z",
            "calls": {"succeeded": 5, "failed": 2, "busy": 1}, "new": {"x": 1},
        });
        let bare = json!({"name": "x", "state": "healthy"});
        assert_eq!(
            shown(&[&echo, &bare], Paint::NEVER),
            "NAME  ENVIRONMENT  HANDLERS  STATE     CALLS  FAILED  DEPLOYED\n\
             echo  python3      1/2       degraded  8      3       2026-01-02T03:04:05Z\n\
             x                  0/0       healthy   0      0\n"
        );
        assert_eq!(shown(&[&json!({"name": "x"})], Paint::NEVER), "NAME\nx\n");
    }
}
