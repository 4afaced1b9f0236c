//! `tinyfaas call`: calls a function and prints its reply.
//!
//! Owns the flags, and what is sent over HTTP. Waiting for an asynchronous call is
//! `call/later.rs`, printing a reply and its exit code `call/reply.rs`; all that is
//! CoAP's own stands in `call/coap.rs`, what is gRPC's in `call/grpc.rs`.

mod body;
mod coap;
mod endpoint;
mod grpc;
mod later;
mod reply;

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reqwest::header::{ACCEPT, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, StatusCode};

use crate::client::{self, Address, Server, Trust, server_flags, unreachable};
use crate::failure::{Code, Failure};
use crate::progress::Progress;

use endpoint::{Endpoint, Protocol};

pub(super) const NAME: &str = "call";

const EXAMPLES: &str = "\
Examples:
  tinyfaas call echo -d hello
  tinyfaas call echo --data-file picture.jpg > copy.jpg
  date | tinyfaas call echo --data-file -
  tinyfaas call api --path '/users/7?full=1' -X DELETE -H 'X-Token: abc'
  tinyfaas call sieve --async               prints the call's id, does not wait
  tinyfaas call sieve --async --wait        waits, then prints the result
  tinyfaas call echo -d hello --json        status, headers and body as JSON
  tinyfaas call echo --coap -d hello        the same over CoAP
  tinyfaas call lamp -X PUT -d on --gateway coap://board:5683
  tinyfaas call echo --grpc -d hello        the same over gRPC
  tinyfaas call echo -d hello --gateway grpc://board:9000

The body of the reply goes to standard output as it comes, all else to standard
error. Exit code 0: the status is below 400. 5: the function replied with another,
or died; 4: there is no such function; 6: no room now; 7: the time was over.
The gateway is asked for at the server's host, at the port that the server tells:
over TLS where the server is, with what is trusted there.
Over CoAP a code of 2 is a success; of the headers, Content-Type, Accept, ETag,
If-Match and If-None-Match can be sent; a body has at most 4 MiB. What is lost on
the way is sent again, which takes up to a minute and a half before it is given up;
with --non nothing is, and with --async and without --wait nothing comes back.
With --gateway coap+tcp://HOST:PORT it is CoAP over TCP, where nothing is lost.
Over gRPC a body has as many bytes as the server takes in a message, 16 MiB unless
configured; an original tinyFaaS gets a name, a text and metadata.";

pub(super) fn command() -> Command {
    Command::new(NAME)
        .about("Call a function and print its reply")
        .arg(super::name_argument("which function").required(true))
        .args(what_is_sent())
        .arg(
            Arg::new("async")
                .long("async")
                .action(ArgAction::SetTrue)
                .help("do not wait: print the call's id"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .action(ArgAction::SetTrue)
                .requires("async")
                .help("wait for the asynchronous call's end and print its result"),
        )
        .arg(
            Arg::new("coap")
                .long("coap")
                .action(ArgAction::SetTrue)
                .help("over CoAP instead of HTTP"),
        )
        .arg(endpoint::flag())
        .arg(
            Arg::new("grpc")
                .long("grpc")
                .action(ArgAction::SetTrue)
                .conflicts_with("coap")
                .help("over gRPC instead of HTTP"),
        )
        .arg(
            Arg::new("non")
                .long("non")
                .action(ArgAction::SetTrue)
                .help("over CoAP: send once, non-confirmably"),
        )
        .arg(Arg::new("gateway").long("gateway").value_name("URL").help(
            "the endpoint, http://, https://, grpc://, grpcs://, coap:// or coap+tcp:// [default: asked of \
             the server]",
        ))
        .args(server_flags())
        .arg(super::json_flag("print status, headers and body as JSON"))
        .after_help(EXAMPLES)
}

/// The flags for what a function gets.
fn what_is_sent() -> [Arg; 5] {
    [
        Arg::new("data")
            .long("data")
            .short('d')
            .value_name("DATA")
            .allow_hyphen_values(true)
            .conflicts_with("data-file")
            .help("the body [default: none]"),
        Arg::new("data-file")
            .long("data-file")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("a file with the body; -: standard input"),
        Arg::new("header")
            .long("header")
            .short('H')
            .value_name("KEY: VALUE")
            .action(ArgAction::Append)
            .help("a header to send"),
        Arg::new("method")
            .long("method")
            .short('X')
            .value_name("METHOD")
            .help("[default: POST with a body, GET without]"),
        Arg::new("path")
            .long("path")
            .value_name("PATH")
            .help("what follows the function's name: /sub/path?query"),
    ]
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if grpc::is_asked_for(matches) {
        return grpc::run(matches).await;
    }
    if coap::is_asked_for(matches) {
        return coap::run(matches).await;
    }
    if matches.get_flag("non") {
        return Err(Failure::usage("--non is CoAP's: add --coap"));
    }
    let name = matches.get_one::<String>("name").map(String::as_str).unwrap_or_default();
    let path = path(name, matches.get_one::<String>("path").map(String::as_str))?;
    let (method, headers) = (method(matches)?, headers(matches)?);
    let body = body::stream(matches)?;
    let json = matches.get_flag(super::JSON);
    let gateway = Gateway::find(matches).await?;
    let progress = Progress::start(format!("calling {name}"));
    let mut request = gateway.request(method, &path, headers);
    if let Some(body) = body {
        request = request.body(body);
    }
    let is_async = matches.get_flag("async");
    if is_async {
        request = request.header("x-tinyfaas-async", "true");
    }
    let response = gateway.send(request).await?;
    if response.status() == StatusCode::NOT_FOUND
        && !json
        && reply::is_gateways(&response)
        && let Some(failure) = gateway.unknown(name).await
    {
        return Err(failure);
    }
    if !is_async {
        drop(progress);
        return reply::finish(&gateway, response, json).await;
    }
    let accepted = later::accepted(response).await?;
    if !matches.get_flag("wait") {
        drop(progress);
        return accepted.tell(json);
    }
    progress.now(format!("waiting for call {}", accepted.id()));
    let response = accepted.result(&gateway).await?;
    drop(progress);
    reply::finish(&gateway, response, json).await
}

/// HTTP, which is called unless another protocol is asked for.
const HTTP: Protocol = Protocol {
    name: "HTTP",
    endpoints: ["http", "https"],
    variables: ["HTTP_PORT", "HTTPS_PORT"],
    scheme: "http",
    port: 8000,
};

/// Where functions are called.
struct Gateway {
    address: Address,
    http: Client,
    /// Who told where it is; it also knows names near a wrong one.
    server: Option<Server>,
}

impl Gateway {
    async fn find(matches: &ArgMatches) -> Result<Self, Failure> {
        if let Some(text) = gateway_flag(matches) {
            let address = Address::parse(text)
                .map_err(|why| Failure::usage(format!("--gateway={text:?}: {why}")))?;
            let http =
                client::client(&address, &Trust::of(matches, address.is_https(), &address)?)?;
            return Ok(Self { address, http, server: None });
        }
        let server = Server::find(matches)?;
        let about = server.about().await?;
        let Endpoint { port, is_tls } = endpoint::choose(matches, &server, about.as_ref(), HTTP)?;
        let address = server.address().gateway(port, is_tls);
        let http = client::client(&address, server.trust())?;
        Ok(Self { address, http, server: Some(server) })
    }

    /// What the server says of a name that the gateway does not know.
    async fn unknown(&self, name: &str) -> Option<Failure> {
        match known(self.server.as_ref()?, name).await {
            Known::No(failure) => Some(failure),
            Known::Yes | Known::CannotTell => None,
        }
    }

    /// A request that also asks the gateway to tell its own errors as problem
    /// details: so they are known from the function's.
    fn request(&self, method: Method, path: &str, mut headers: HeaderMap) -> RequestBuilder {
        let accept = if headers.contains_key(ACCEPT) {
            "application/problem+json;q=0.1"
        } else {
            "*/*, application/problem+json;q=0.1"
        };
        headers.append(ACCEPT, HeaderValue::from_static(accept));
        self.http.request(method, self.address.join(path)).headers(headers)
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response, Failure> {
        request.send().await.map_err(|error| unreachable(&self.address, &error))
    }
}

/// Whether a function's name is one.
enum Known {
    Yes,
    /// It says so, with names near it.
    No(Failure),
    /// The server may be an original one.
    CannotTell,
}

/// Asks the server for a name that the gateway does not know: the function may have
/// said so itself, or have been deployed since.
async fn known(server: &Server, name: &str) -> Known {
    let request = server.brief(Method::GET, &super::function_path(name, ""));
    match server.v1(request).await {
        Ok(Some(_)) => Known::Yes,
        Err(failure) if failure.code() == Code::NotFound as u8 => Known::No(failure),
        Ok(None) | Err(_) => Known::CannotTell,
    }
}

fn gateway_flag(matches: &ArgMatches) -> Option<&str> {
    matches.get_one::<String>("gateway").map(String::as_str)
}

/// The path of a call: `/NAME`, and what follows it.
fn path(name: &str, below: Option<&str>) -> Result<String, Failure> {
    let name = tinyfaas_model::FunctionName::parse(name).map_err(Failure::usage)?;
    let below = below.unwrap_or_default();
    let slash = if matches!(below.chars().next(), None | Some('/' | '?')) { "" } else { "/" };
    Ok(format!("/{name}{slash}{below}"))
}

fn method(matches: &ArgMatches) -> Result<Method, Failure> {
    match matches.get_one::<String>("method") {
        None => Ok(if body::is_given(matches) { Method::POST } else { Method::GET }),
        Some(method) => Method::from_bytes(method.as_bytes())
            .map_err(|_| Failure::usage(format!("-X {method:?}: that is no method's name"))),
    }
}

fn headers(matches: &ArgMatches) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for text in matches.get_many::<String>("header").into_iter().flatten() {
        let (key, value) = header(text)?;
        let name = HeaderName::from_bytes(key.as_bytes())
            .map_err(|_| Failure::usage(format!("-H: {key:?} is no header's name")))?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| {
            Failure::usage(format!("-H {name}: the value holds what no header may hold"))
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Key and value of a header as curl has it. A value may be a secret: no message
/// repeats it.
fn header(text: &str) -> Result<(&str, &str), Failure> {
    let (key, value) = text.split_once(':').ok_or_else(|| {
        Failure::usage("-H: there is no colon; write it like 'Content-Type: text/plain'")
    })?;
    Ok((key.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_name_is_kept() {
        let check = |below: Option<&str>, expected: &str| {
            assert_eq!(path("echo", below).expect("a path"), expected);
        };
        check(None, "/echo");
        check(Some("/a/b?c=d"), "/echo/a/b?c=d");
        check(Some("a"), "/echo/a");
        check(Some("?x"), "/echo?x");
        for name in ["", ".tinyfaas", "a/b", "ä"] {
            assert_eq!(path(name, None).expect_err(name).code(), 2);
        }
    }

    #[test]
    fn headers_are_read_as_curl_has_them() {
        let parse = |arguments: &[&str]| {
            let all = ["call", "x"].iter().chain(arguments).copied();
            headers(&command().try_get_matches_from(all).expect("sound"))
        };
        let read = parse(&["-H", "A: b:c", "-H", "a:d", "-H", "Empty:"]).expect("headers");
        let all: Vec<_> = read.get_all("a").iter().map(|value| value.to_str().ok()).collect();
        assert_eq!((all, read["empty"].len()), (vec![Some("b:c"), Some("d")], 0));
        for wrong in ["x", ": y", "a b: c", "a: b\u{1}c"] {
            let error = parse(&["-H", wrong]).expect_err(wrong);
            assert_eq!(error.code(), 2);
        }
    }
}
