//! Another running server to measure beside: the original tinyFaaS, or any that
//! answers `POST /NAME`.
//!
//! Owns how one is named on the command line, and the check that it echoes.

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

use crate::bare_hyper::PAYLOAD;
use crate::client;

/// A peer as named by `[LABEL=]ADDRESS[/FUNCTION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    label: Option<String>,
    address: String,
    function: Option<String>,
}

/// Why a text names no peer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// Only plain HTTP is measured.
    #[error("only http:// can be measured")]
    Scheme,
    /// Without a port nothing can be asked.
    #[error("give it as [LABEL=]HOST:PORT[/FUNCTION]")]
    Form,
}

impl FromStr for Named {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (label, rest) = match text.split_once('=') {
            Some((label, rest)) => (Some(label), rest),
            None => (None, text),
        };
        let rest = match rest.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(NameError::Scheme),
            None => rest,
        };
        let (address, function) = rest.split_once('/').unwrap_or((rest, ""));
        let port = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        match (label, port) {
            (Some(""), _) | (_, None | Some(("", _) | (_, Err(_)))) => Err(NameError::Form),
            (label, Some((_, Ok(_)))) => Ok(Self {
                label: label.map(str::to_owned),
                address: address.to_owned(),
                function: (!function.is_empty()).then(|| function.to_owned()),
            }),
        }
    }
}

/// A peer that was found and echoes.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What the report calls it.
    pub(crate) label: String,
    /// Its gateway.
    pub(crate) address: SocketAddr,
    /// The path of its function.
    pub(crate) path: String,
}

impl Peer {
    /// Asks it once; `function` is the name where the peer's own text has none.
    ///
    /// # Errors
    /// Where it is not reached, or its function is no echo.
    pub(crate) fn find(named: &Named, function: &str) -> anyhow::Result<Self> {
        let path = format!("/{}", named.function.as_deref().unwrap_or(function));
        let shown = format!("{}{path}", named.address);
        let found = named.address.to_socket_addrs().with_context(|| shown.clone())?;
        // A name often has an address of each family, and a server only one.
        let mut asked = None;
        for address in found {
            let answer = client::ask(address, "POST", &path, PAYLOAD);
            let answered = answer.is_ok();
            asked = Some((address, answer));
            if answered {
                break;
            }
        }
        let (address, answer) =
            asked.with_context(|| format!("the peer {shown}: the host has no address"))?;
        let answer = answer.context("the peer")?;
        let hint = "deploy the sample function `echo` there, or name the function that is one";
        if answer.status != 200 {
            let said = String::from_utf8_lossy(&answer.body).trim().to_owned();
            bail!("the peer {shown} answered with status {} {said}; {hint}", answer.status);
        }
        ensure!(answer.body == PAYLOAD, "the peer {shown} did not reply with its input; {hint}");
        Ok(Self { label: named.label.clone().unwrap_or(shown), address, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, label: Option<&str>, address: &str, function: Option<&str>) {
        let named = Named {
            label: label.map(str::to_owned),
            address: address.to_owned(),
            function: function.map(str::to_owned),
        };
        assert_eq!(text.parse(), Ok(named), "{text}");
    }

    #[test]
    fn peers_are_named_shortly() {
        check("localhost:8000", None, "localhost:8000", None);
        check("http://127.0.0.1:8000/", None, "127.0.0.1:8000", None);
        check("[::1]:80/my-echo", None, "[::1]:80", Some("my-echo"));
        let address = "10.0.0.2:8000";
        check("original=http://10.0.0.2:8000/echo", Some("original"), address, Some("echo"));
        let wrong = |text: &str| text.parse::<Named>().expect_err(text);
        assert_eq!(wrong("https://x:1"), NameError::Scheme);
        for text in ["", "localhost", "localhost:", ":80", "x:99999", "=x:80", "x:port/y"] {
            assert_eq!(wrong(text), NameError::Form, "{text}");
        }
    }

    #[test]
    fn what_is_no_echo_is_said() {
        let answers = |reply: &'static str| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
            let address = listener.local_addr().expect("bound");
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("asked once");
                let mut request = [0; 4096];
                std::io::Read::read(&mut stream, &mut request).expect("asks");
                std::io::Write::write_all(&mut stream, reply.as_bytes()).expect("listens");
            });
            // It listens in one family only, whichever the name has first.
            let named = format!("localhost:{}", address.port());
            let named = Named::from_str(&named).expect("sound");
            let found = Peer::find(&named, "echo");
            server.join().expect("no panic");
            found
        };
        let error = answers("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno");
        let error = format!("{:#}", error.expect_err("404"));
        assert!(error.contains("/echo answered with status 404 no"), "{error}");
        let error = answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
        assert!(format!("{:#}", error.expect_err("no echo")).contains("did not reply with"));
    }
}
