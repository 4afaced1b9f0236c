//! What the server says of itself when it has started.
//!
//! Owns the lines on standard output and `ports.json`. Must not know how any of
//! it came about.

use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};
use tinyfaas_model::RuntimeStatus;
use tinyfaas_tls::{ClientCertificates, Description};

use crate::config::{Endpoint, Transport};
use crate::data_dir::DataDir;
use crate::listen::Bound;
use crate::tls::Secured;
use crate::user::{self, OwnUser};

/// One endpoint and what became of it; `None` where it is off.
pub(crate) type Outcome<'a> = (&'a Endpoint, Option<&'a Bound>);

/// `ports.json`: the port of each endpoint, `null` for one that is off.
pub(crate) fn ports(endpoints: &[Outcome<'_>]) -> Value {
    let mut ports = json!({});
    for (endpoint, bound) in endpoints {
        ports[endpoint.name.replace('-', "_")] = json!(bound.map(|bound| bound.port));
    }
    ports
}

/// What there is to tell of a start.
pub(crate) struct Start<'a> {
    pub(crate) data_dir: &'a DataDir,
    pub(crate) config_file: Option<&'a Path>,
    pub(crate) who: &'a str,
    pub(crate) endpoints: &'a [Outcome<'a>],
    /// How many clients have keys for CoAP over DTLS.
    pub(crate) identities: usize,
    /// Where anything is served over TLS.
    pub(crate) secured: Option<&'a Secured>,
    pub(crate) runtimes: &'a [RuntimeStatus],
}

/// The lines, in the order in which they are printed.
pub(crate) fn lines(start: &Start<'_>) -> Vec<String> {
    let version = env!("CARGO_PKG_VERSION");
    let mut lines = vec![format!("tinyFaaS {version}, server {}", start.data_dir.id())];
    let mut line = |key: &str, text: &str| lines.push(format!("  {key:<15}{text}"));
    let no_file = || "no file of settings".to_owned();
    line("config", &start.config_file.map_or_else(no_file, |path| path.display().to_string()));
    line("data", &start.data_dir.path().display().to_string());
    line("user", start.who);
    for (endpoint, bound) in start.endpoints {
        line(endpoint.name, &reachable(endpoint, *bound, start));
        for skipped in bound.iter().flat_map(|bound| &bound.skipped) {
            line("", &format!("not on {skipped}: this host has no such address"));
        }
    }
    if let Some(secured) = start.secured {
        for (key, text) in certificate(secured.describe()) {
            line(key, &text);
        }
    }
    for status in start.runtimes {
        match &status.found {
            Ok(found) => line(status.runtime.name(), found),
            Err(problem) => line(status.runtime.name(), &format!("not available: {problem}")),
        }
    }
    line(
        "isolation",
        "none yet: functions run with this server's own rights, and so does whoever reaches \
         management, any local user included",
    );
    lines
}

/// As whom the server and its functions run.
pub(crate) fn who(changed_to: Option<&OwnUser>) -> String {
    match changed_to {
        Some(user) => {
            let groups = match user.further_groups() {
                groups if groups.is_empty() => String::new(),
                groups => format!(" with the groups {}", groups.join(", ")),
            };
            let name = &user.name;
            format!("{name}{groups}: server and functions; what starts and ends them stays root's")
        }
        None if rustix::process::geteuid().is_root() => {
            "root: server and functions; set TF_USER to have them run as another".to_owned()
        }
        None => format!("{}: server and functions", user::current()),
    }
}

/// The one line that a service manager shows.
pub(crate) fn status(endpoints: &[Outcome<'_>]) -> String {
    let on = endpoints.iter().filter_map(|(endpoint, bound)| {
        bound.map(|bound| format!("{} on port {}", endpoint.name, bound.port))
    });
    format!("serving: {}", on.collect::<Vec<_>>().join(", "))
}

/// What clients get to see, and what they can hold it against.
fn certificate(described: Option<Description>) -> Vec<(&'static str, String)> {
    let Some(Description { source, names, not_after, pin, .. }) = described else {
        return vec![("certificate", "none yet: it is being fetched".to_owned())];
    };
    vec![
        ("certificate", format!("{source}, for {}, until {not_after:.0}", names.join(", "))),
        ("", format!("its key: curl --pinnedpubkey {pin}")),
    ]
}

fn reachable(endpoint: &Endpoint, bound: Option<&Bound>, start: &Start<'_>) -> String {
    let Some(bound) = bound else { return "off".to_owned() };
    let where_ = if endpoint.addresses.is_empty() {
        "all addresses".to_owned()
    } else {
        let addresses: Vec<String> = endpoint.addresses.iter().map(IpAddr::to_string).collect();
        addresses.join(", ")
    };
    let of = match endpoint.transport {
        Transport::Tcp => "",
        Transport::Udp => "UDP ",
    };
    let clients = start.secured.map(|secured| secured.clients(endpoint.name));
    let for_whom = match (endpoint.name, start.identities, clients) {
        ("coaps", 1, _) => ", for 1 identity",
        ("coaps", identities, _) => &format!(", for {identities} identities"),
        (.., Some(ClientCertificates::Optional(_))) => ", clients may show certificates",
        (.., Some(ClientCertificates::Required(_))) => ", for clients that show a certificate",
        _ => "",
    };
    format!("{of}port {} on {where_}{for_whom}", bound.port)
}

/// The warnings that an open management service is due.
pub(crate) fn open_management(start: &Start<'_>) -> Vec<&'static str> {
    let is_open = |name: &str| {
        let mut open = start.endpoints.iter().filter(|(_, bound)| bound.is_some());
        open.any(|(endpoint, _)| endpoint.name == name && is_open_to_the_network(endpoint))
    };
    let clients = start.secured.map(|secured| secured.clients("management-tls"));
    let mut warnings = Vec::new();
    if is_open("management") {
        warnings.push(match start.secured {
            None => {
                "management is open to the network: whoever reaches it can run any code on this \
                 machine with this server's rights; set MANAGEMENT_ADDRESS=localhost unless you \
                 trust everyone there"
            }
            Some(_) => {
                "management is open to the network without TLS, though there is a certificate: \
                 whoever reaches it, or sits in between, can run any code on this machine with \
                 this server's rights; set MANAGEMENT_ADDRESS=localhost and MANAGEMENT_TLS_PORT"
            }
        });
    }
    if is_open("management-tls") && !matches!(clients, Some(ClientCertificates::Required(_))) {
        warnings.push(
            "management over TLS is open to the network: whoever reaches it can run any code on \
             this machine with this server's rights; set TF_MANAGEMENT_CLIENTS=required, or \
             MANAGEMENT_TLS_ADDRESS=localhost, unless you trust everyone there",
        );
    }
    warnings
}

fn is_open_to_the_network(endpoint: &Endpoint) -> bool {
    let loopback = |ip: &IpAddr| ip.to_canonical().is_loopback();
    endpoint.addresses.is_empty() || !endpoint.addresses.iter().all(loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addresses: &[&str], open: bool) {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let (name, transport) = ("management", Transport::Tcp);
        let endpoint = Endpoint { name, transport, port: Some(0), addresses };
        assert_eq!(is_open_to_the_network(&endpoint), open, "{endpoint:?}");
    }

    #[test]
    fn an_open_management_service_is_recognised() {
        check(&["127.0.0.1", "::1"], false);
        check(&["127.0.0.9"], false);
        check(&["::ffff:127.0.0.1"], false);
        check(&[], true);
        check(&["127.0.0.1", "10.0.0.1"], true);
        check(&["0.0.0.0"], true);
    }
}
