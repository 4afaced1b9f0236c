//! Which of a server's endpoints a call goes to: the one in plain text, or over TLS.
//!
//! Owns the rule that who asks the server over TLS calls over TLS as well: what is
//! protected on the way to the one must not go about openly on the way to the other.

use clap::{Arg, ArgAction, ArgMatches};
use serde_json::Value;

use crate::client::Server;
use crate::failure::Failure;

const TLS: &str = "tls";

/// A protocol that has an endpoint in plain text and one over TLS.
#[derive(Debug, Clone, Copy)]
pub(super) struct Protocol {
    /// Its name, for people.
    pub(super) name: &'static str,
    /// Both endpoints as the server names them: in plain text, over TLS.
    pub(super) endpoints: [&'static str; 2],
    /// The variables of their ports.
    pub(super) variables: [&'static str; 2],
    /// The scheme that asks for plain text.
    pub(super) scheme: &'static str,
    /// The usual port in plain text, which an original tinyFaaS has.
    pub(super) port: u16,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) port: u16,
    pub(super) is_tls: bool,
}

/// The flag that asks for TLS.
pub(super) fn flag() -> Arg {
    Arg::new(TLS)
        .long(TLS)
        .action(ArgAction::SetTrue)
        .conflicts_with_all(["coap", "gateway"])
        .help("over TLS [default: if the server is asked over TLS, or offers nothing else]")
}

/// The endpoint of a server that says `about` of itself; none: it is an original.
///
/// # Errors
/// Where there is none that may be called.
pub(super) fn choose(
    matches: &ArgMatches,
    server: &Server,
    about: Option<&Value>,
    protocol: Protocol,
) -> Result<Endpoint, Failure> {
    let wants_tls = matches.get_flag(TLS) || server.address().is_https();
    let [plain, secure] = match about {
        None => [Some(protocol.port), None],
        Some(about) => protocol.endpoints.map(|name| {
            let port = about["endpoints"][name].as_u64();
            port.and_then(|port| u16::try_from(port).ok())
        }),
    };
    match (plain, secure) {
        (_, Some(port)) if wants_tls => Ok(Endpoint { port, is_tls: true }),
        (plain, None) if wants_tls => Err(no_tls(server, about.is_some(), plain, protocol)),
        (Some(port), _) => Ok(Endpoint { port, is_tls: false }),
        (None, Some(port)) => Ok(Endpoint { port, is_tls: true }),
        (None, None) => {
            let (name, address, [variable, _]) =
                (protocol.name, server.address(), protocol.variables);
            Err(Failure::failed(format!("the {name} endpoint of the server at {address} is off"))
                .tip(format!("start it with another {variable} than a negative one")))
        }
    }
}

fn no_tls(server: &Server, is_ours: bool, plain: Option<u16>, protocol: Protocol) -> Failure {
    let Protocol { name, variables: [_, variable], scheme, .. } = protocol;
    let address = server.address();
    let message = format!("the server at {address} offers no {name} over TLS");
    let mut failure = Failure::failed(message);
    if is_ours {
        failure = failure.tip(format!("start it with {variable}"));
    }
    match plain {
        Some(port) => failure.tip(format!(
            "or call in plain text, if the network may read it: --gateway {scheme}://{}:{port}",
            address.host()
        )),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{HTTP, command};
    use super::*;
    use crate::client::{Address, Trust};

    fn check(
        server: &str,
        arguments: &[&str],
        endpoints: &Value,
        expected: Result<(u16, bool), &str>,
    ) {
        let address = Address::parse(server).expect("an address");
        // Some machines have no authorities to trust by themselves.
        let trust = Trust::default();
        let Ok(server) = Server::at(address, trust) else { return };
        let all = ["call", "x"].iter().chain(arguments).copied();
        let matches = command().try_get_matches_from(all).expect("sound");
        let about = json!({"endpoints": endpoints});
        let about = Some(&about).filter(|_| !endpoints.is_null());
        match (choose(&matches, &server, about, HTTP), expected) {
            (Ok(Endpoint { port, is_tls }), Ok(expected)) => assert_eq!((port, is_tls), expected),
            (Err(failure), Err(words)) => {
                let shown = failure.shown(crate::terminal::Paint::NEVER);
                assert!(shown.contains(words), "{shown}");
            }
            (got, expected) => panic!("{got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn who_asks_over_tls_calls_over_tls() {
        let both = json!({"http": 1, "https": 2});
        check("http://h", &[], &both, Ok((1, false)));
        check("http://h", &["--tls"], &both, Ok((2, true)));
        check("https://h", &[], &both, Ok((2, true)));
        check("https://h", &[], &json!({"http": 1}), Err("--gateway http://h:1"));
        check("http://h", &["--tls"], &json!({"http": 1, "https": null}), Err("HTTPS_PORT"));
        check("http://h", &[], &json!({"https": 2}), Ok((2, true)));
        check("http://h", &[], &json!({}), Err("another HTTP_PORT"));
    }

    #[test]
    fn an_original_has_its_usual_port() {
        check("http://h", &[], &Value::Null, Ok((8000, false)));
        check("https://h", &[], &Value::Null, Err("--gateway http://h:8000"));
    }
}
