//! Who is there already: a running server, ports that are taken, Docker.
//!
//! Owns the probing of the network, which is this machine's loopback and the one
//! server that is named.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::Value;

use super::Check;
use crate::client::Server;
use crate::config::Config;
use crate::failure::Failure;
use crate::terminal::tame;
use crate::{keys, listen, tls};

const SERVER: &str = "server";
/// The endpoints whose ports are tried.
const PORTS: [&str; 10] = [
    "management",
    "management-tls",
    "http",
    "https",
    "coap",
    "coap-tcp",
    "coaps-tcp",
    "coaps",
    "grpc",
    "grpc-tls",
];
const DOCKER: &str = "docker";
/// A server that does not answer for so long is none.
const PATIENCE: Duration = Duration::from_secs(3);
/// What of Docker's answer is looked at, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Looks for all of them.
pub(super) async fn checks(
    matches: &ArgMatches,
    config: Result<&Config, &Vec<String>>,
) -> Result<Vec<Check>, Failure> {
    let server = Server::find(matches)?;
    let (running, about) = running(&server).await;
    let mut checks = vec![docker(), running];
    match config {
        Ok(config) => {
            let of_file = config.file().map(|file| file.display().to_string());
            let found = of_file.unwrap_or_else(|| "defaults, no file of settings".to_owned());
            checks.push(Check::ok(SERVER, "configuration", found));
            checks.extend(PORTS.into_iter().filter_map(|name| port(config, name, &server, &about)));
            checks.extend(coap_keys(config));
            checks.extend(certificate(config));
        }
        Err(mistakes) => {
            let cost = "no server can start; correct it";
            checks.push(Check::problem(SERVER, "configuration", mistakes.join("; "), cost));
        }
    }
    Ok(checks)
}

/// Whether the keys of CoAP over DTLS can be read and are good; none where that is
/// off.
fn coap_keys(config: &Config) -> Option<Check> {
    const NAME: &str = "coaps keys";
    config.endpoint("coaps").port?;
    Some(match keys::read(config) {
        Err(mistakes) => {
            let cost = "a server of this user cannot start with it; correct it";
            Check::problem(SERVER, NAME, mistakes.join("; "), cost)
        }
        Ok(keys) if !keys.warnings.is_empty() => {
            let cost = "who guesses or reads a key is taken for its client";
            Check::missing(SERVER, NAME, keys.warnings.join("; "), cost)
        }
        Ok(keys) => Check::ok(SERVER, NAME, format!("of {} identities", keys.keys.len())),
    })
}

/// Whether the files of certificates can be read and are good; none where no endpoint
/// speaks TLS. What a server makes or fetches itself is not asked for.
fn certificate(config: &Config) -> Option<Check> {
    const NAME: &str = "certificate";
    let opened = tls::Opening::begin(config).transpose()?;
    Some(match opened.as_ref().map(tls::Opening::describe) {
        Err(error) => {
            let cost = "a server of this user cannot start with it; correct it";
            Check::problem(SERVER, NAME, format!("{error:#}"), cost)
        }
        Ok(Some(certificate)) => {
            let until = certificate.not_after;
            let names = certificate.names.join(", ");
            Check::ok(
                SERVER,
                NAME,
                format!("of {}, for {names}, until {until}", certificate.source),
            )
        }
        Ok(None) => Check::ok(SERVER, NAME, "the server has it made when it starts"),
    })
}

/// The server that commands would ask, and what it says of itself.
async fn running(server: &Server) -> (Check, Value) {
    let address = server.address();
    let none =
        |why: String, cost: &str| (Check::missing(SERVER, "running", why, cost), Value::Null);
    let start = "deploy, call and the like have no server yet; start one: tinyfaas";
    match tokio::time::timeout(PATIENCE, server.about()).await {
        Err(_) => none(format!("{address} does not answer"), start),
        // Over TLS there may be a server that is not trusted.
        Ok(Err(failure)) if address.is_https() => none(failure.to_string(), &failure.tips()),
        Ok(Err(failure)) => none(failure.to_string(), start),
        Ok(Ok(None)) => {
            let found = format!("an older tinyFaaS, or another program, at {address}");
            (Check::ok(SERVER, "running", found), Value::Null)
        }
        Ok(Ok(Some(about))) => {
            let version = tame(about["version"].as_str().unwrap_or("of unknown version"));
            let found = format!("tinyFaaS {version} at {address}");
            (Check::ok(SERVER, "running", found), about)
        }
    }
}

/// Whether a server that is started here gets its port.
fn port(config: &Config, name: &'static str, server: &Server, about: &Value) -> Option<Check> {
    let endpoint = config.endpoint(name);
    // Off, or any free one.
    let port = endpoint.port.filter(|port| *port != 0)?;
    let title = format!("{name} port");
    let ours = server.address().is_loopback()
        && about["endpoints"][name.replace('-', "_")].as_u64() == Some(u64::from(port));
    Some(match listen::bind(&endpoint, port) {
        Ok(_) => Check::ok(SERVER, &title, format!("{port} is free")),
        Err(_) if ours => Check::ok(SERVER, &title, format!("{port}, of the running server")),
        Err(error) => {
            let variable = format!("{}_PORT", endpoint.variable());
            let cost = format!("a server cannot start with it; stop who has it, or set {variable}");
            Check::problem(SERVER, &title, format!("{error:#}"), cost)
        }
    })
}

fn docker() -> Check {
    let host = crate::variable("DOCKER_HOST").filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned());
    let cost = "nothing: functions run as processes; the Docker backend is not built yet";
    let Some(path) = host.strip_prefix("unix://") else {
        return Check::ok(DOCKER, "engine", format!("DOCKER_HOST={host}, not asked"));
    };
    match version(path) {
        Ok(version) => Check::ok(DOCKER, "engine", format!("{} at {path}", tame(&version))),
        Err(why) => Check::missing(DOCKER, "engine", format!("{path}: {why}"), cost),
    }
}

/// What an engine says of itself; plain HTTP/1.0 is enough for one question.
fn version(path: &str) -> Result<String, String> {
    let ask = || {
        let mut socket = UnixStream::connect(path)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.write_all(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let mut answer = String::new();
        socket.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error: std::io::Error| error.to_string())?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let about: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    let version = about["Version"].as_str().ok_or("what answers is no Docker Engine")?;
    Ok(format!("version {version}"))
}
