//! Where a CoAP server is.
//!
//! Owns how users write it and how it is shown. Pure.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// The port of CoAP (RFC 7252 section 6.1).
pub(super) const PORT: u16 = 5683;

const WANTED: &str = "write something like coap://localhost:5683";

/// How datagrams or bytes get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// RFC 7252.
    Udp,
    /// RFC 8323.
    Tcp,
}

/// A CoAP server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// A name or an address, the latter without brackets.
    host: String,
    port: u16,
    transport: Transport,
}

impl Place {
    /// The server on UDP at a host, an IPv6 address with or without brackets.
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Self { host, port, transport: Transport::Udp }
    }

    /// Whether a text is an address of CoAP's, spoken here or not.
    pub(super) fn has_scheme(text: &str) -> bool {
        let scheme = text.trim().split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme.is_some_and(|scheme| scheme.starts_with("coap"))
    }

    /// Reads `coap://HOST:PORT`, or `HOST:PORT` for short.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("coap://{text}") };
        let url = Url::parse(&whole).map_err(|error| format!("{error}; {WANTED}"))?;
        let transport = match url.scheme() {
            "coap" => Transport::Udp,
            "coap+tcp" => Transport::Tcp,
            scheme @ ("coaps" | "coaps+tcp") => {
                // Datagrams are secured by keys, connections by a certificate.
                let trust = if scheme == "coaps" { "-u IDENTITY -k KEY" } else { "-R CA_FILE" };
                return Err(format!(
                    "{scheme} is not spoken by this command; libcoap's client speaks it: \
                     coap-client-gnutls {trust} {scheme}://HOST/NAME"
                ));
            }
            scheme => return Err(format!("{scheme} is not CoAP; {WANTED}")),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("it names no host; {WANTED}"))?;
        let rest = (url.path(), url.query(), url.fragment());
        if !matches!(rest, ("" | "/", None, None)) {
            return Err(format!("it must end with the host and port; {WANTED}"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("CoAP knows no user and no password in a URL; {WANTED}"));
        }
        Ok(Self { transport, ..Self::new(host, url.port().unwrap_or(PORT)) })
    }

    /// How it is spoken to.
    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// Name or address of the host, and its port.
    pub(super) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The host's name; none where it is an address, which need not be sent
    /// (RFC 7252 section 6.4).
    pub(super) fn host_name(&self) -> Option<&str> {
        Some(&*self.host).filter(|host| host.parse::<IpAddr>().is_err())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Udp => "coap",
            Transport::Tcp => "coap+tcp",
        };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood() {
        let check = |text: &str, shown: &str, name: Option<&str>| {
            let place = Place::parse(text).expect(text);
            assert_eq!((place.to_string().as_str(), place.host_name()), (shown, name));
        };
        check("coap://localhost:9", "coap://localhost:9", Some("localhost"));
        check(" COAP://Board/ ", "coap://board:5683", Some("board"));
        check("board", "coap://board:5683", Some("board"));
        check("board:70", "coap://board:70", Some("board"));
        check("coap://10.0.0.1", "coap://10.0.0.1:5683", None);
        check("[::1]:9", "coap://[::1]:9", None);
        check("coap+tcp://[::1]", "coap+tcp://[::1]:5683", None);
        assert_eq!(Place::new("[::1]", 5).to_string(), "coap://[::1]:5");
    }

    #[test]
    fn others_are_refused() {
        for (text, word) in [
            ("", "coap://localhost:5683"),
            ("coap://", "host"),
            ("http://x", "http is not CoAP"),
            ("coaps://x", "coaps://"),
            ("coaps+tcp://x", "coaps+tcp://"),
            ("coap://x/fn", "must end"),
            ("coap://x?y", "must end"),
            ("coap://ada:secret@x", "password"),
            ("coap://x:99999", "port"),
        ] {
            let error = Place::parse(text).expect_err(text);
            assert!(error.contains(word) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn schemes_tell_what_is_meant() {
        let check = |text, expected| assert_eq!(Place::has_scheme(text), expected, "{text}");
        check("coap://x", true);
        check("COAPS://x", true);
        check("coap+tcp://x", true);
        check("http://coap", false);
        check("coap:80", false);
    }
}
