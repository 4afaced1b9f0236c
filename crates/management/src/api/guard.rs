//! Who may talk to management: nobody through somebody else's web page.
//!
//! Owns the check of `Host` and `Origin`. A page that a user looks at can make
//! the browser post to any address, and it can let its own name point to this
//! machine (DNS rebinding). Against the first stands the `Origin` that browsers
//! add to every POST, against the second that only names which nobody else can
//! give away are answered to: addresses, `localhost`, this machine's name and
//! those that the operator has listed. Pure but for asking the machine its name.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::request::Parts;

/// The names that this server answers to, in lower case.
#[derive(Debug)]
pub(super) struct Hosts {
    names: Vec<String>,
}

/// Where a request has come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// The port.
    pub(super) port: u16,
    /// Whether TLS is spoken there.
    pub(super) tls: bool,
}

impl Reached {
    /// How the origin of a page begins that was fetched there.
    fn scheme(self) -> &'static str {
        if self.tls { "https://" } else { "http://" }
    }

    /// The port that is meant where none is named.
    fn usual_port(self) -> u16 {
        if self.tls { 443 } else { 80 }
    }
}

/// Why a request is not looked at.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GuardError {
    /// There is no `Host`, more than one, or one that is none.
    #[error("the request needs one Host header, such as localhost:8080")]
    NoHost,
    /// `Host` is a name that could be anybody's.
    #[error(
        "the request is for host {host:?}, which could be anybody's name for this server; use its \
         IP address, localhost or the machine's name, or add the name to the allowed hosts in \
         the server's configuration"
    )]
    ForeignHost {
        /// The name.
        host: String,
    },
    /// A page from elsewhere has sent it.
    #[error(
        "the request was sent by a web page from {origin:?}; pages from elsewhere may not \
             manage functions, programs such as curl may"
    )]
    ForeignOrigin {
        /// Where from.
        origin: String,
    },
}

impl Hosts {
    /// This machine's names and those listed.
    pub(super) fn new(allowed: &[String]) -> Self {
        let node = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let short = node.split('.').next().unwrap_or_default().to_owned();
        let own = ["localhost".to_owned(), node, short];
        let listed = allowed.iter().map(|name| name.to_ascii_lowercase());
        Self { names: own.into_iter().chain(listed).filter(|name| !name.is_empty()).collect() }
    }

    /// The host that the request is for, without its port, if it may be answered.
    pub(super) fn check(&self, head: &Parts, reached: Reached) -> Result<String, GuardError> {
        let mut hosts = head.headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(GuardError::NoHost);
        };
        let text = host.to_str().map_err(|_| GuardError::NoHost)?;
        let (host, host_port) = self.known(text, reached)?;
        if let Some(authority) = head.uri.authority() {
            // An absolute target overrides Host, RFC 9112 section 3.2.2.
            self.known(authority.as_str(), reached)?;
        }
        for origin in head.headers.get_all(ORIGIN) {
            let origin = origin.to_str().unwrap_or("(not ASCII)");
            if !is_own_origin(origin, host, host_port, reached) {
                return Err(GuardError::ForeignOrigin { origin: origin.to_owned() });
            }
        }
        Ok(host.to_owned())
    }

    fn known<'a>(&self, text: &'a str, reached: Reached) -> Result<(&'a str, u16), GuardError> {
        let (host, port) = split_port(text, reached.usual_port()).ok_or(GuardError::NoHost)?;
        if is_address(host) || self.names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
            return Ok((host, port));
        }
        Err(GuardError::ForeignHost { host: host.to_owned() })
    }
}

/// Only a page that this server itself has served is no stranger's: same scheme, same
/// host, same port as the request, and that port is ours.
fn is_own_origin(origin: &str, host: &str, host_port: u16, reached: Reached) -> bool {
    let port = reached.port;
    let own = origin
        .strip_prefix(reached.scheme())
        .and_then(|rest| split_port(rest, reached.usual_port()));
    host_port == port && own.is_some_and(|(name, at)| name.eq_ignore_ascii_case(host) && at == port)
}

/// Takes `HOST[:PORT]` apart; without a port it is the scheme's usual one.
fn split_port(text: &str, usual: u16) -> Option<(&str, u16)> {
    let (host, port) = match text.find(']') {
        Some(end) if text.starts_with('[') => text.split_at(end + 1),
        Some(_) => return None,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port {
        "" | ":" => usual,
        _ => port.strip_prefix(':')?.parse().ok()?,
    };
    (!host.is_empty()).then_some((host, port))
}

fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const PLAIN: Reached = Reached { port: 8080, tls: false };

    fn check(target: &str, headers: &[(&str, &str)], expected: Result<&str, &str>) {
        check_at(PLAIN, target, headers, expected);
    }

    fn check_at(
        reached: Reached,
        target: &str,
        headers: &[(&str, &str)],
        expected: Result<&str, &str>,
    ) {
        let hosts = Hosts { names: vec!["localhost".into(), "pi".into(), "gw.example".into()] };
        let mut request = Request::post(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        match (hosts.check(&head, reached), expected) {
            (Ok(host), Ok(expected)) => assert_eq!(host, expected, "{headers:?}"),
            (Err(error), Err(part)) => {
                assert!(error.to_string().contains(part), "{headers:?}: {error}");
            }
            (found, expected) => panic!("{headers:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn known_hosts_pass() {
        for (host, name) in [
            ("localhost:8080", "localhost"),
            ("LOCALHOST", "LOCALHOST"),
            ("pi:1", "pi"),
            ("gw.example", "gw.example"),
            ("10.0.0.7:8080", "10.0.0.7"),
            ("[::1]:8080", "[::1]"),
            ("[fe80::1]", "[fe80::1]"),
        ] {
            check("/upload", &[("host", host)], Ok(name));
        }
    }

    #[test]
    fn unknown_hosts_do_not() {
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example"] {
            check("/upload", &[("host", host)], Err("anybody's name"));
        }
        for host in ["", ":8080", "localhost:x", "[::1", "a]b", "[::1]x", "::1"] {
            check("/upload", &[("host", host)], Err("one Host header"));
        }
        check("/upload", &[], Err("one Host header"));
        check("/upload", &[("host", "pi"), ("host", "pi")], Err("one Host header"));
        check("/upload", &[("host", "user@localhost")], Err("anybody's name"));
        check("http://evil.example/", &[("host", "localhost")], Err("anybody's name"));
    }

    #[test]
    fn only_own_origins_pass() {
        let origin = |host, origin| [("host", host), ("origin", origin)];
        let ok = |host: &'static str, from| check("/", &origin(host, from), Ok("localhost"));
        ok("localhost:8080", "http://localhost:8080");
        ok("localhost:8080", "http://LOCALHOST:8080");
        let foreign = |host, from| check("/", &origin(host, from), Err("web page from"));
        foreign("localhost:8080", "null");
        foreign("localhost:8080", "http://localhost:1234");
        foreign("localhost:8080", "http://localhost");
        foreign("localhost:8080", "https://localhost:8080");
        foreign("localhost:8080", "http://evil.example");
        foreign("localhost:8080", "http://6.6.6.6:8080");
        foreign("localhost:8080", "http://127.0.0.1:8080");
        foreign("localhost:8080", "http://localhost:8080.evil.example");
        foreign("localhost:1234", "http://localhost:1234");
        foreign("localhost", "http://localhost");
        // Its name was rebound to us: that both agree proves nothing.
        check("/", &origin("evil.example:8080", "http://evil.example:8080"), Err("anybody's name"));
        let two = [("host", "pi:8080"), ("origin", "http://pi:8080"), ("origin", "null")];
        check("/", &two, Err("web page from"));
    }

    #[test]
    fn over_tls_own_origins_are_those_of_https() {
        let origin = |host, origin| [("host", host), ("origin", origin)];
        let secured = |port| Reached { port, tls: true };
        let ok = |at, host, from| check_at(secured(at), "/", &origin(host, from), Ok("pi"));
        ok(8443, "pi:8443", "https://pi:8443");
        ok(443, "pi", "https://pi");
        ok(443, "pi:443", "https://PI");
        let foreign = |at, host, from| {
            check_at(secured(at), "/", &origin(host, from), Err("web page from"));
        };
        foreign(8443, "pi:8443", "http://pi:8443");
        foreign(8443, "pi:8443", "https://pi");
        foreign(8443, "pi", "https://pi");
        foreign(443, "pi", "https://pi:80");
        foreign(443, "pi:80", "https://pi");
        foreign(443, "pi", "http://pi");
    }
}
