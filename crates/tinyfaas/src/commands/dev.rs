//! `tinyfaas dev`: a server for one folder, which deploys every save.
//!
//! Owns the order of things: serve, deploy, watch, follow the log, and leave
//! nothing. The server is `dev/server.rs`, the watching `dev/watch.rs`.

mod server;
mod watch;

use std::path::PathBuf;
use std::pin::pin;

use clap::{Arg, ArgMatches, Command, value_parser};
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use self::server::LocalServer;
use self::watch::Watch;
use super::logs::{self, Wanted};
use super::{deploy, function_path};
use crate::client::{Lines, Server};
use crate::deployment;
use crate::failure::Failure;
use crate::terminal::{self, Paint, Style, print, say};

pub(super) const NAME: &str = "dev";

const EXAMPLES: &str = "\
Examples:
  tinyfaas dev ./hello                      serve, deploy, and deploy again at every save
  tinyfaas dev ./hello --http-port 9999 --var MODE=test
  curl http://localhost:8000/hello          in another terminal

A server of its own runs on free ports of this machine alone, with a temporary
data directory. Ctrl+C ends all of it. A save that does not build or start shows
its error, and what was deployed before goes on serving.";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Serve one folder while you work on it: every save is deployed")
        .arg(
            Arg::new("folder")
                .value_name("FOLDER")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("the folder with the function's code"),
        )
        .args(deploy::function_flags())
        .arg(
            Arg::new("http-port")
                .long("http-port")
                .value_name("PORT")
                .value_parser(value_parser!(u16))
                .help("where to call it [default: 8000, or any free one]"),
        )
        .after_help(EXAMPLES)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let folder = matches.get_one::<PathBuf>("folder").cloned().unwrap_or_default();
    // Wrong arguments are told before anything is started.
    let (plan, why) = deploy::plan_of_folder(matches, &folder)?;
    let mut signals = Signals::listen()?;
    let mut watch = Watch::start(&folder)?;
    deployment::announce(&plan, &why);
    let mut local = tokio::select! {
        local = LocalServer::start(matches.get_one::<u16>("http-port").copied()) => local?,
        () = signals.next() => return Ok(()),
    };
    let server = local.client()?;
    let outcome = {
        let mut work = pin!(work(matches, &folder, &server, &mut watch));
        tokio::select! {
            outcome = &mut work => outcome,
            () = signals.next() => Ok(()),
            how = local.ended() => Err(Failure::failed(format!("the server has ended: {how}"))),
        }
    };
    say("stopping");
    tokio::select! {
        () = local.stop() => {}
        // As for every server: a second signal ends it at once.
        () = signals.next() => local.stop_at_once().await,
    }
    outcome
}

/// Deploys, and again at every change, until the folder is gone.
async fn work(
    matches: &ArgMatches,
    folder: &std::path::Path,
    server: &Server,
    watch: &mut Watch,
) -> Result<(), Failure> {
    let mut log: Option<Follower> = None;
    loop {
        let outcome = match deploy::plan_of_folder(matches, folder) {
            Ok((plan, _)) => match deployment::deploy(server, &plan).await {
                Ok(deployed) => {
                    let paint = Paint::stderr();
                    say(paint.of(Style::Good, &deploy::ready(&plan, &deployed)));
                    if log.as_ref().is_none_or(Follower::has_ended) {
                        tell_where(&deployed.function["urls"])?;
                        log = Some(Follower::start(server, plan.name.as_str())?);
                    }
                    Ok(())
                }
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        if let Err(failure) = outcome {
            say(failure.shown(Paint::stderr()).trim_end());
            say(if log.is_some() {
                "what was deployed before goes on serving; waiting for the next save"
            } else {
                "waiting for the next save"
            });
        }
        watch.changed().await?;
        say("changed: deploying again");
    }
}

fn tell_where(urls: &serde_json::Value) -> Result<(), Failure> {
    let urls = urls.as_object().into_iter().flatten();
    print(
        urls.filter_map(|(_, url)| url.as_str())
            .map(|url| format!("{}\n", terminal::tame(url)))
            .collect::<String>(),
    )
}

/// Copies the function's log to standard output; ends when dropped.
struct Follower(JoinHandle<()>);

impl Follower {
    fn start(server: &Server, name: &str) -> Result<Self, Failure> {
        let wanted = Wanted { follow: true, since: None, tail: None };
        let path = function_path(name, "");
        let path = wanted.path(Some(name)).unwrap_or(path);
        let request = server
            .request(Method::GET, &path)
            .header(ACCEPT, HeaderValue::from_static("text/plain"));
        let server = server.clone();
        Ok(Self(tokio::spawn(async move {
            let copied = async {
                match server.v1(request).await? {
                    Some(response) => {
                        logs::copy(Lines::of(response, server.address()), false).await
                    }
                    None => Ok(()),
                }
            };
            if let Err(failure) = copied.await {
                say(failure.shown(Paint::stderr()).trim_end());
            }
        })))
    }

    fn has_ended(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What ends it: Ctrl+C, SIGTERM, and the terminal's closing.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::failed(format!("cannot watch for signals: {error}")))
        };
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
