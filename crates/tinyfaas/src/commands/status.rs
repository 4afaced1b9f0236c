//! `tinyfaas status`: how a server does, or one of its functions.
//!
//! Owns how that is told to a person.

use std::fmt::Write as _;

use clap::{ArgMatches, Command};
use reqwest::Method;
use serde_json::Value;

use super::list::{style_of_state, text};
use crate::client::{Server, original, server_flags};
use crate::failure::Failure;
use crate::progress::Progress;
use crate::terminal::{self, Paint, Style, print, print_json};

pub(super) const NAME: &str = "status";

const EXAMPLES: &str = "\
Examples:
  tinyfaas status                           how the server does
  tinyfaas status echo                      how one function does
  tinyfaas status echo --json | jq .handlers.ready";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Show how the server does, or one of its functions")
        .arg(super::name_argument("which function [default: the server itself]"))
        .args(server_flags())
        .arg(super::json_flag("print all that is known as JSON"))
        .after_help(EXAMPLES)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = Server::find(matches)?;
    let name = matches.get_one::<String>("name");
    let path = match name {
        Some(name) => super::function_path(name, ""),
        None => "/v1/server".to_owned(),
    };
    let known = {
        let _progress = Progress::start(format!("asking {}", server.address()));
        match server.v1(server.brief(Method::GET, &path)).await? {
            Some(response) => server.json(response).await?,
            None => return Err(original::not_offered(&server, "it tells no states")),
        }
    };
    if matches.get_flag(super::JSON) {
        return print_json(&known);
    }
    let paint = Paint::stdout();
    print(if name.is_some() { function(&known, paint) } else { whole(&server, &known, paint) })
}

/// Keys and values, a line each; a value of several lines is indented.
struct Facts {
    title: String,
    facts: Vec<(String, String)>,
}

impl Facts {
    fn new(title: String) -> Self {
        Self { title, facts: Vec::new() }
    }

    /// Nothing where the value is empty.
    fn add(&mut self, key: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.facts.push((key.to_owned(), value));
        }
    }

    fn shown(&self) -> String {
        let width = 2 + self.facts.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
        let mut text = format!("{}\n", self.title);
        for (key, value) in &self.facts {
            let value = value.trim_end().replace('\n', &format!("\n  {:width$}", ""));
            let _ = writeln!(text, "  {key:<width$}{value}");
        }
        text
    }
}

fn whole(server: &Server, known: &Value, paint: Paint) -> String {
    let title = format!("tinyFaaS {} at {}", text(&known["version"]), server.address());
    let mut facts = Facts::new(paint.of(Style::Strong, &title));
    if let Some(up) = known["uptime_seconds"].as_f64() {
        let started = text(&known["started"]);
        facts.add("up", format!("{} (since {started})", terminal::seconds(up)));
    }
    facts.add("backend", text(&known["backend"]));
    for (protocol, port) in known["endpoints"].as_object().into_iter().flatten() {
        let port = port.as_u64().map_or("off".to_owned(), |port| format!("port {port}"));
        facts.add(&terminal::tame(protocol), port);
    }
    for runtime in known["runtimes"].as_array().into_iter().flatten() {
        let found = match runtime["found"].as_str() {
            Some(found) => terminal::tame(found),
            None => {
                paint.of(Style::Warning, &format!("not available: {}", text(&runtime["problem"])))
            }
        };
        facts.add(&text(&runtime["env"]), found);
    }
    load(&mut facts, "", &known["load"]);
    facts.shown()
}

/// How busy the server is; what belongs to one protocol goes by its name.
fn load(facts: &mut Facts, of: &str, load: &Value) {
    for (what, value) in load.as_object().into_iter().flatten() {
        let what = format!("{of}{}", terminal::tame(what).replace('_', " "));
        let shown = |number: u64| {
            if what.ends_with("bytes") { terminal::bytes(number) } else { number.to_string() }
        };
        let (taken, limit) = (value["taken"].as_u64(), value["limit"].as_u64());
        match (taken, limit, value.as_u64()) {
            (Some(taken), Some(limit), _) => {
                facts.add(&what, format!("{} of {}", shown(taken), shown(limit)));
            }
            (_, _, Some(number)) => facts.add(&what, shown(number)),
            _ if of.is_empty() => self::load(facts, &format!("{what} "), value),
            _ => {}
        }
    }
}

fn function(known: &Value, paint: Paint) -> String {
    let state = text(&known["state"]);
    let title = format!(
        "{}  {}",
        paint.of(Style::Strong, &text(&known["name"])),
        paint.of(style_of_state(&state), &state)
    );
    let mut facts = Facts::new(title);
    facts.add("description", text(&known["description"]));
    facts.add("environment", text(&known["env"]));
    let version = known["version"].as_u64().map_or(String::new(), |n| format!(", version {n}"));
    facts.add("deployed", format!("{}{version}", text(&known["deployed"])));
    let handlers = &known["handlers"];
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    facts.add(
        "handlers",
        format!(
            "{} of {} ready, {}",
            number(&handlers["ready"]),
            number(&handlers["wanted"]),
            terminal::count(number(&handlers["restarts"]), "restart", "restarts")
        ),
    );
    let trouble = &handlers["trouble"];
    if !trouble.is_null() {
        let what = trouble["what"].as_str().map_or_else(|| trouble.to_string(), str::to_owned);
        let told = format!("{} ({})", terminal::tame(&what), text(&trouble["at"]));
        facts.add("last trouble", paint.of(Style::Warning, &told));
    }
    let load = &known["load"];
    facts.add(
        "now",
        format!("{} running, {} waiting", number(&load["running"]), number(&load["waiting"])),
    );
    facts.add("calls", outcomes(&known["calls"]));
    let usage = &known["usage"];
    if let Some(memory) = usage["memory_bytes"].as_u64() {
        let processes = terminal::count(number(&usage["processes"]), "process", "processes");
        let cpu = usage["cpu_seconds"].as_f64().unwrap_or(0.0);
        facts.add("uses", format!("{processes}, {}, {cpu:.1} s of CPU", terminal::bytes(memory)));
    }
    facts.add("variables", names(&known["envs"]));
    for (protocol, url) in known["urls"].as_object().into_iter().flatten() {
        facts.add(&terminal::tame(protocol), text(url));
    }
    let build = &known["build"];
    if let Some(seconds) = build["seconds"].as_f64() {
        let took = terminal::seconds(seconds);
        facts.add(
            "last build",
            match build["succeeded"].as_bool() {
                Some(false) => {
                    let told = format!("failed after {took}: {}", text(&build["problem"]));
                    paint.of(Style::Bad, &told)
                }
                Some(true) | None => took,
            },
        );
        facts.add("", paint.of(Style::Dim, &text(&build["output"])));
    }
    facts.shown()
}

fn outcomes(calls: &Value) -> String {
    let (all, _) = super::list::calls(calls);
    let calls = calls.as_object().into_iter().flatten();
    let parts: Vec<String> = calls
        .filter_map(|(outcome, count)| Some((outcome, count.as_u64().filter(|n| *n > 0)?)))
        .map(|(outcome, count)| format!("{count} {}", terminal::tame(outcome).replace('_', " ")))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { format!("{all}: {}", parts.join(", ")) }
}

fn names(list: &Value) -> String {
    let list = list.as_array().into_iter().flatten();
    list.map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_told_to_a_person() {
        let known = json!({
            "version": "1", "uptime_seconds": 60.0, "started": "T", "backend": "process",
            "endpoints": {"http": 8000, "coap": null},
            "runtimes": [{"env": "nodejs", "problem": "no node"}, {"env": "binary", "found": "/bin/sh"}],
            "load": {
                "coap": {"copies": 2, "sessions": {"taken": 1, "limit": 1024}},
                "held_bytes": {"taken": 1000, "limit": 64_000_000}, "unknown_functions": 3,
            },
        });
        use crate::client::Trust;
        let server =
            Server::at(crate::client::Address::parse("h:1").expect("one"), Trust::default())
                .expect("one");
        let expected = "\
tinyFaaS 1 at http://h:1
  up                 60 s (since T)
  backend            process
  coap               off
  http               port 8000
  nodejs             not available: no node
  binary             /bin/sh
  coap copies        2
  coap sessions      1 of 1024
  held bytes         1.0 kB of 64 MB
  unknown functions  3
";
        assert_eq!(whole(&server, &known, Paint::NEVER), expected);
    }

    #[test]
    fn a_failed_deploy_is_told_beside_what_runs() {
        let build = json!({"seconds": 2.0, "succeeded": false, "problem": "no fn.py"});
        let told =
            function(&json!({"name": "x", "state": "healthy", "build": build}), Paint::NEVER);
        assert!(told.contains("  last build  failed after 2.0 s: no fn.py\n"), "{told}");
    }

    #[test]
    fn a_function_is_told_to_a_person() {
        let known = json!({
            "name": "echo", "env": "python3", "state": "healthy", "deployed": "T", "version": 3,
            "handlers": {"ready": 1, "wanted": 1, "restarts": 1,
                "trouble": {"handler": "x", "what": "it died", "at": "T2"}},
            "load": {"running": 1, "waiting": 0}, "calls": {"succeeded": 2, "failed": 0, "timed_out": 1},
            "usage": {"processes": 1, "memory_bytes": 1_500_000, "cpu_seconds": 0.25},
            "envs": ["A", "B"], "urls": {"http": "http://h/echo"},
            "build": {"seconds": 1.0, "output": "one\ntwo\n"}, "description": null,
        });
        let expected = "\
echo  healthy
  environment   python3
  deployed      T, version 3
  handlers      1 of 1 ready, 1 restart
  last trouble  it died (T2)
  now           1 running, 0 waiting
  calls         3: 2 succeeded, 1 timed out
  uses          1 process, 1.5 MB, 0.2 s of CPU
  variables     A, B
  http          http://h/echo
  last build    1.0 s
                one
                two
";
        assert_eq!(function(&known, Paint::NEVER), expected);
        // Whatever is missing, something is told.
        assert!(function(&json!({}), Paint::NEVER).contains("0 of 0 ready"));
    }
}
