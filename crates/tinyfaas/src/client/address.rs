//! A server's address as users write it.
//!
//! Owns what is understood and how it is shown: without credentials. Pure.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

/// Where a service is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address(Url);

impl Address {
    /// Reads `http://HOST:PORT`, or `HOST:PORT` for short.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const WANTED: &str = "write something like http://localhost:8080";
        let text = text.trim();
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let mut url = Url::parse(&whole).map_err(|error| format!("{error}; {WANTED}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{} is not spoken here; {WANTED}", url.scheme()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("it must end with the host and port; {WANTED}"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }

    /// The URL of a path, which may have a query, on this server.
    pub(crate) fn join(&self, path: &str) -> Url {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let mut url = self.0.clone();
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    /// The gateway's address on the same host.
    pub(crate) fn gateway(&self, port: u16, is_tls: bool) -> Self {
        let host = self.host();
        let scheme = if is_tls { "https" } else { "http" };
        let url = format!("{scheme}://{host}:{port}");
        Self(Url::parse(&url).expect("a host of a URL is one in another, too"))
    }

    /// The host, an IPv6 address in brackets.
    pub(crate) fn host(&self) -> &str {
        self.0.host_str().unwrap_or("localhost")
    }

    /// Whether it speaks TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it is this machine itself.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}", self.0.scheme())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path().trim_end_matches('/'))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: &str) {
        assert_eq!(Address::parse(text).expect(text).to_string(), shown);
    }

    #[test]
    fn addresses_are_understood() {
        check("http://localhost:8080", "http://localhost:8080");
        check(" http://localhost:8080/ ", "http://localhost:8080");
        check("board:9", "http://board:9");
        check("10.0.0.1", "http://10.0.0.1");
        check("[::1]:80", "http://[::1]");
        check("https://ada:secret@board/tf/", "https://board/tf");
    }

    #[test]
    fn others_are_refused() {
        for text in ["", "ftp://x", "http://", "http://x?y", "http://x#y", "http://x:99999"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_joined() {
        let at = |text| Address::parse(text).expect("an address");
        assert_eq!(at("http://h:1").join("/v1/logs?tail=3").as_str(), "http://h:1/v1/logs?tail=3");
        assert_eq!(at("http://h:1/tf/").join("/v1").as_str(), "http://h:1/tf/v1");
        assert_eq!(at("https://h/tf").gateway(5, true).to_string(), "https://h:5");
        assert_eq!(at("http://[::1]:1").gateway(8000, false).to_string(), "http://[::1]:8000");
    }

    #[test]
    fn this_machine_is_known() {
        let loopback = |text| Address::parse(text).expect("an address").is_loopback();
        assert!(loopback("localhost:1") && loopback("127.0.0.9") && loopback("[::1]:1"));
        assert!(!loopback("localhost.example") && !loopback("10.0.0.1"));
    }
}
