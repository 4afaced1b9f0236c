//! Where a gRPC server is.
//!
//! Owns how users write it and how it is shown. Pure.

use std::fmt;

use reqwest::Url;

use super::super::endpoint::Endpoint;

/// The gRPC port of a tinyFaaS unless the server says otherwise.
pub(super) const PORT: u16 = 9000;

const WANTED: &str = "write something like grpc://localhost:9000";

/// A gRPC server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// A name or an address, an IPv6 address in brackets.
    host: String,
    port: u16,
    is_tls: bool,
}

impl Place {
    /// The server at a host as it stands in a URL.
    pub(super) fn new(host: &str, Endpoint { port, is_tls }: Endpoint) -> Self {
        Self { host: host.to_ascii_lowercase(), port, is_tls }
    }

    /// Whether TLS is spoken there.
    pub(super) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether a text is an address of gRPC's, spoken here or not.
    pub(super) fn has_scheme(text: &str) -> bool {
        let scheme = text.trim().split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        scheme.is_some_and(|scheme| scheme.starts_with("grpc"))
    }

    /// Reads `grpc://HOST:PORT`, `grpcs://HOST:PORT` over TLS, or `HOST:PORT` for short.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("grpc://{text}") };
        let url = Url::parse(&whole).map_err(|error| format!("{error}; {WANTED}"))?;
        let is_tls = match url.scheme() {
            "grpc" => false,
            "grpcs" => true,
            scheme => return Err(format!("{scheme} is not gRPC; {WANTED}")),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("it names no host; {WANTED}"))?;
        let rest = (url.path(), url.query(), url.fragment());
        if !matches!(rest, ("" | "/", None, None)) {
            return Err(format!("it must end with the host and port; {WANTED}"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("gRPC knows no user and no password in a URL; {WANTED}"));
        }
        let port = url.port().unwrap_or(PORT);
        Ok(Self::new(host, Endpoint { port, is_tls }))
    }

    /// What a channel connects to.
    pub(super) fn uri(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "grpcs" } else { "grpc" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_understood() {
        let check = |text: &str, shown: &str, uri: &str| {
            let place = Place::parse(text).expect(text);
            assert_eq!((place.to_string().as_str(), place.uri().as_str()), (shown, uri));
        };
        check("grpc://localhost:9", "grpc://localhost:9", "http://localhost:9");
        check(" GRPC://Board/ ", "grpc://board:9000", "http://board:9000");
        check("board", "grpc://board:9000", "http://board:9000");
        check("10.0.0.1:70", "grpc://10.0.0.1:70", "http://10.0.0.1:70");
        check("[::1]:9", "grpc://[::1]:9", "http://[::1]:9");
        check("grpcs://board", "grpcs://board:9000", "https://board:9000");
    }

    #[test]
    fn others_are_refused() {
        for (text, word) in [
            ("", "grpc://localhost:9000"),
            ("grpc://", "host"),
            ("http://x", "http is not gRPC"),
            ("coap://x", "coap is not gRPC"),
            ("grpc://x/fn", "must end"),
            ("grpc://x?y", "must end"),
            ("grpc://ada:secret@x", "password"),
            ("grpc://x:99999", "port"),
        ] {
            let error = Place::parse(text).expect_err(text);
            assert!(error.contains(word) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn schemes_tell_what_is_meant() {
        let check = |text, expected| assert_eq!(Place::has_scheme(text), expected, "{text}");
        check("grpc://x", true);
        check("GRPCS://x", true);
        check("http://grpc", false);
        check("grpc:80", false);
    }
}
