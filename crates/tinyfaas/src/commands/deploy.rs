//! `tinyfaas deploy`: a folder, or an archive that the server fetches, becomes a
//! function.
//!
//! Owns its flags and what it prints. The deploy itself is `deployment.rs`.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::Value;
use tinyfaas_model::{FunctionName, Runtime};

use crate::client::{Server, server_flags};
use crate::deployment::{self, Deployed, Plan, Source};
use crate::failure::Failure;
use crate::guess;
use crate::terminal::{self, print, print_json, say};

pub(super) const NAME: &str = "deploy";

const EXAMPLES: &str = "\
Examples:
  tinyfaas deploy ./echo                    name and environment are guessed
  tinyfaas deploy ./echo --name echo2 --threads 4
  tinyfaas deploy . --var MODE=fast --var TOKEN
                                            TOKEN's value is taken from here
  tinyfaas deploy --url https://github.com/OpenFogStack/tinyFaas/archive/main.zip \\
      --subfolder tinyFaaS-main/test/fns/sieve-of-eratosthenes --env nodejs
  tinyfaas deploy ./echo --json | jq -r .urls.http

A function of that name is replaced without a gap; if the new one does not build
or start, the old one stays. .git and __pycache__ are left out of the archive.
tinyfaas.toml in the folder is read by the server; flags win over it.";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Deploy a folder as a function, or replace one")
        .arg(
            Arg::new("folder")
                .value_name("FOLDER")
                .value_parser(value_parser!(PathBuf))
                .required_unless_present("url")
                .conflicts_with("url")
                .help("the folder with the function's code"),
        )
        .arg(
            Arg::new("url")
                .long("url")
                .value_name("URL")
                .help("have the server fetch this zip archive instead"),
        )
        .arg(
            Arg::new("subfolder")
                .long("subfolder")
                .value_name("PATH")
                .requires("url")
                .conflicts_with("folder")
                .help("the function's folder in that archive [default: its top]"),
        )
        .args(function_flags())
        .args(server_flags())
        .arg(super::json_flag("print the function as JSON"))
        .after_help(EXAMPLES)
}

/// The flags that say what the folder does not; `dev` has them, too.
pub(super) fn function_flags() -> [Arg; 4] {
    [
        Arg::new("name")
            .long("name")
            .short('n')
            .value_name("NAME")
            .help("by which it is called [default: the folder's name]"),
        Arg::new("env")
            .long("env")
            .short('e')
            .value_name("ENV")
            .value_parser(PossibleValuesParser::new(Runtime::ALL.map(Runtime::name)))
            .help("its environment [default: by tinyfaas.toml, fn.py, package.json or fn.sh]"),
        Arg::new("threads")
            .long("threads")
            .short('t')
            .value_name("N")
            // So that a negative number is told for what it is.
            .allow_hyphen_values(true)
            .value_parser(value_parser!(u64).range(1..))
            .help("how many handlers are kept for it [default: by tinyfaas.toml, or 1]"),
        Arg::new("var")
            .long("var")
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .help("an environment variable for it; KEY alone hands on the value that it has here"),
    ]
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let server = Server::find(matches)?;
    let (plan, why) = plan(matches)?;
    deployment::announce(&plan, &why);
    let deployed = deployment::deploy(&server, &plan).await?;
    say(ready(&plan, &deployed));
    if matches.get_flag(super::JSON) {
        return print_json(&deployed.function);
    }
    let urls = deployed.function["urls"].as_object().into_iter().flatten();
    let urls: String = urls
        .filter_map(|(_, url)| url.as_str())
        .map(|url| format!("{}\n", terminal::tame(url)))
        .collect();
    print(urls)
}

/// What the arguments ask for, and where the environment is from.
fn plan(matches: &ArgMatches) -> Result<(Plan, String), Failure> {
    match matches.get_one::<PathBuf>("folder") {
        Some(folder) => plan_of_folder(matches, folder),
        None => plan_of_url(matches),
    }
}

pub(super) fn plan_of_folder(
    matches: &ArgMatches,
    folder: &Path,
) -> Result<(Plan, String), Failure> {
    let (plan, why) = Plan::of_folder(folder, name(matches)?, runtime(matches))?;
    Ok((filled(plan, matches)?, why))
}

fn plan_of_url(matches: &ArgMatches) -> Result<(Plan, String), Failure> {
    let url = matches.get_one::<String>("url").cloned().unwrap_or_default();
    let subfolder = matches.get_one::<String>("subfolder").cloned();
    let name = match name(matches)? {
        Some(name) => name,
        None => guess::name(&last_part(subfolder.as_deref().unwrap_or_default(), &url))?,
    };
    let runtime = runtime(matches);
    let why = match runtime {
        Some(runtime) => runtime.to_string(),
        None => "as its tinyfaas.toml says".to_owned(),
    };
    let source = Source::Url { url, subfolder };
    let plan = Plan { name, source, runtime, threads: None, variables: Vec::new() };
    Ok((filled(plan, matches)?, why))
}

/// The last part of the subfolder, else of the URL's path, without `.zip`.
fn last_part(subfolder: &str, url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let last = |path: &str| path.trim_end_matches('/').rsplit('/').next().map(str::to_owned);
    let subfolder = last(subfolder).filter(|part| !matches!(part.as_str(), "" | "." | ".."));
    let name = subfolder.or_else(|| last(path)).unwrap_or_default();
    name.strip_suffix(".zip").map_or(name.clone(), str::to_owned)
}

fn filled(mut plan: Plan, matches: &ArgMatches) -> Result<Plan, Failure> {
    plan.threads = matches.get_one::<u64>("threads").copied();
    let variables = matches.get_many::<String>("var").into_iter().flatten();
    plan.variables = variables.map(|text| variable(text)).collect::<Result<_, _>>()?;
    Ok(plan)
}

/// `KEY=VALUE` of what was given; a value is not shown, whatever is wrong.
fn variable(text: &str) -> Result<String, Failure> {
    match text.split_once('=') {
        Some(("", _)) => Err(Failure::usage("--var: there is no name before the \"=\"")),
        Some(_) => Ok(text.to_owned()),
        None => match std::env::var(text) {
            Ok(value) => Ok(format!("{text}={value}")),
            Err(_) => Err(Failure::usage(format!(
                "--var {text}: it has no value here; say it: --var {text}=VALUE"
            ))),
        },
    }
}

fn name(matches: &ArgMatches) -> Result<Option<FunctionName>, Failure> {
    let name = matches.get_one::<String>("name").map(|name| FunctionName::parse(name));
    name.transpose().map_err(Failure::usage)
}

fn runtime(matches: &ArgMatches) -> Option<Runtime> {
    matches.get_one::<String>("env").and_then(|env| Runtime::from_name(env))
}

/// The line that says that it worked.
pub(super) fn ready(plan: &Plan, deployed: &Deployed) -> String {
    let took = terminal::seconds(deployed.took.as_secs_f64());
    let what = match (deployed.replaced, deployed.function["version"].as_u64()) {
        (Some(true), Some(version)) => format!("replaced, version {version}, "),
        (Some(true), None) => "replaced, ".to_owned(),
        (Some(false) | None, _) => String::new(),
    };
    let handlers = match &deployed.function["threads"] {
        Value::Number(threads) => {
            let threads = threads.as_u64().unwrap_or(0);
            format!(", {}", terminal::count(threads, "handler", "handlers"))
        }
        _ => String::new(),
    };
    format!("{} is ready ({what}{took}{handlers})", plan.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<(Plan, String), Failure> {
        let all = ["deploy"].iter().chain(arguments).copied();
        plan(&command().try_get_matches_from(all).map_err(Failure::usage)?)
    }

    #[test]
    fn a_url_gives_a_name() {
        let check = |arguments: &[&str], expected: &str| {
            assert_eq!(parse(arguments).expect("a plan").0.name.as_str(), expected);
        };
        check(&["--url", "https://x.example/a/echo.zip?token=secret"], "echo");
        check(&["--url", "https://x.example/a.zip", "--subfolder", "top/fns/sieve/"], "sieve");
        check(&["--url", "https://x.example/a.zip", "--subfolder", "/"], "a");
        check(&["--url", "https://x.example/a.zip", "--name", "b"], "b");
        assert_eq!(
            parse(&["--url", "https://x.example/"]).err().map(|error| error.code()),
            Some(2)
        );
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for arguments in [
            &[][..],
            &["x", "--url", "http://x/y"],
            &["x", "--subfolder", "y"],
            &["x", "--threads", "0"],
            &["x", "--threads", "-1"],
            &["x", "--threads", "2x"],
            &["x", "--env", "cobol"],
            &["/", "--name", "no name"],
            &["/", "--name", "x", "--env", "binary", "--var", "=value"],
            &["/", "--name", "x", "--env", "binary", "--var", "TINYFAAS_NOT_SET_ANYWHERE"],
        ] {
            assert_eq!(parse(arguments).err().map(|error| error.code()), Some(2), "{arguments:?}");
        }
    }

    #[test]
    fn a_value_is_never_shown() {
        let error = variable("=hunter2").expect_err("no name");
        assert!(!error.to_string().contains("hunter2"));
        assert_eq!(variable("A=b=c").expect("a pair"), "A=b=c");
        let path = std::env::var("PATH").expect("every test has one");
        assert_eq!(variable("PATH").expect("set"), format!("PATH={path}"));
    }
}
