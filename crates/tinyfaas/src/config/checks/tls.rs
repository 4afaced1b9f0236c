//! Which settings of TLS go together: one certificate, and who must show another.
//!
//! Owns that alone. What is in the files is found out by who reads them.

use super::{Given, variable};
use crate::config::settings::{
    ACME_DOMAINS, HTTP_01, NOBODY, TLS_CERTIFICATE, TLS_KEY, TLS_PORTS, TLS_SELF_SIGNED,
};
use crate::config::values::Value;

impl Given<'_> {
    /// Whether a text is given, were it a wrong one.
    fn has(self, name: &str) -> bool {
        !matches!(self.values.get(name), Some(Value::Text(text)) if text.is_empty())
    }

    /// Whether a text is given, and right by itself.
    fn names(self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Text(text)) if !text.is_empty())
    }

    /// Whether a text is one of its words, and which.
    fn is(self, name: &str, word: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Text(text)) if text == word)
    }

    /// Whether a truth is denied.
    fn is_no(self, name: &str) -> bool {
        self.values.get(name) == Some(&Value::Truth(false))
    }

    /// How those of these settings were given of which `wanted` is true.
    fn list(self, names: &[&'static str], wanted: impl Fn(&str) -> bool) -> String {
        let shown = names.iter().filter(|name| wanted(name)).map(|name| self.shown(name));
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// All mistakes, a line each.
pub(super) fn mistakes(given: Given<'_>) -> Vec<String> {
    let found = [
        source(given),
        half_a_pair(given, TLS_CERTIFICATE, TLS_KEY, "its private key is"),
        half_a_pair(given, TLS_KEY, TLS_CERTIFICATE, "the certificate is"),
        terms(given),
        challenge(given),
        callers(given),
        managers(given),
    ];
    let mut mistakes: Vec<String> = found.into_iter().flatten().collect();
    mistakes.extend(unused_roots(given));
    mistakes
}

/// None where one is needed, or more than one.
fn source(given: Given<'_>) -> Option<String> {
    let named = |name: &str| match name {
        TLS_SELF_SIGNED => given.values.get(name) == Some(&Value::Truth(true)),
        _ => given.names(name),
    };
    let files = [TLS_CERTIFICATE, TLS_KEY].into_iter().find(|name| named(name));
    let others = [ACME_DOMAINS, TLS_SELF_SIGNED].into_iter().filter(|name| named(name));
    let sources: Vec<&'static str> = files.into_iter().chain(others).collect();
    if sources.len() > 1 {
        return Some(format!(
            "{}: a server has one certificate; leave one of these and take the others away",
            given.list(&sources, |_| true)
        ));
    }
    let is_wrong = |name: &&str| !given.values.contains_key(name);
    let is_none = sources.is_empty()
        && ![TLS_CERTIFICATE, TLS_KEY, ACME_DOMAINS, TLS_SELF_SIGNED].iter().any(is_wrong);
    (is_none && TLS_PORTS.iter().any(|port| given.is_on(port))).then(|| {
        format!(
            "{}: no certificate is given for TLS; name its files by {} and {}, or have one \
             fetched by {}, or made for a trial by {}=yes",
            given.list(TLS_PORTS, |port| given.is_on(port)),
            variable(TLS_CERTIFICATE),
            variable(TLS_KEY),
            variable(ACME_DOMAINS),
            variable(TLS_SELF_SIGNED),
        )
    })
}

fn half_a_pair(
    given: Given<'_>,
    there: &'static str,
    missing: &'static str,
    what: &str,
) -> Option<String> {
    (given.names(there) && !given.has(missing)).then(|| {
        let (shown, variable) = (given.shown(there), variable(missing));
        format!("{shown}: {what} missing; name its file by {variable}")
    })
}

fn terms(given: Given<'_>) -> Option<String> {
    let agree = "acme-agree";
    (given.names(ACME_DOMAINS) && given.is_no(agree)).then(|| {
        format!(
            "{}: a certificate authority wants you to agree to its terms; read them and set \
             {}=yes",
            given.shown(ACME_DOMAINS),
            variable(agree)
        )
    })
}

fn challenge(given: Given<'_>) -> Option<String> {
    let (challenge, port) = ("acme-challenge", "http-port");
    (given.has(ACME_DOMAINS) && given.is(challenge, HTTP_01) && given.is_off(port)).then(|| {
        format!(
            "{}: it is answered on the HTTP endpoint, which {} switches off",
            given.shown(challenge),
            given.shown(port)
        )
    })
}

/// Callers are asked for certificates that nothing vouches for, or that no endpoint
/// asks for.
fn callers(given: Given<'_>) -> Option<String> {
    let (clients, roots) = ("tls-clients", "tls-client-ca");
    if given.is(clients, NOBODY) || !given.values.contains_key(clients) {
        return None;
    }
    if !given.has(roots) {
        let (shown, variable) = (given.shown(clients), variable(roots));
        return Some(format!(
            "{shown}: name the file of the roots of their certificates by {variable}"
        ));
    }
    let ports = ["https-port", "grpc-tls-port", "coaps-tcp-port"];
    ports.into_iter().all(|port| given.is_off(port)).then(|| {
        format!(
            "{}: callers show certificates over TLS only, which is off; set HTTPS_PORT, \
             GRPC_TLS_PORT or COAPS_TCP_PORT",
            given.shown(clients)
        )
    })
}

fn managers(given: Given<'_>) -> Option<String> {
    let (clients, roots) = ("management-clients", "management-client-ca");
    if given.is(clients, NOBODY) || !given.values.contains_key(clients) {
        return None;
    }
    if !given.has(roots) && !given.has("tls-client-ca") {
        let (shown, variable) = (given.shown(clients), variable(roots));
        return Some(format!(
            "{shown}: name the file of the roots of their certificates by {variable}"
        ));
    }
    given.is_off("management-tls-port").then(|| {
        format!(
            "{}: certificates are shown over TLS only, and management over TLS is off; set \
             MANAGEMENT_TLS_PORT",
            given.shown(clients)
        )
    })
}

/// Roots are named, but nobody is asked for a certificate: that is surely not meant.
fn unused_roots(given: Given<'_>) -> Vec<String> {
    let callers = given.is("tls-clients", NOBODY);
    let managers = given.is("management-clients", NOBODY);
    let unused = |roots: &'static str, clients: &str| {
        let (shown, variable) = (given.shown(roots), variable(clients));
        format!("{shown}: nobody is asked for such a certificate; set {variable}=required")
    };
    let mut mistakes = Vec::new();
    let serves_managers = !managers && !given.has("management-client-ca");
    if given.names("tls-client-ca") && callers && !serves_managers {
        mistakes.push(unused("tls-client-ca", "tls-clients"));
    }
    if given.names("management-client-ca") && managers {
        mistakes.push(unused("management-client-ca", "management-clients"));
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// The mistakes of these variables, each of which must hold one of these texts.
    fn check(variables: &[(&str, &str)], expected: &[&str]) {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let mistakes = Config::read(|_| None, find, None).err().unwrap_or_default();
        assert_eq!(mistakes.len(), expected.len(), "{variables:?}: {mistakes:#?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.contains(expected), "{variables:?}: {mistake}");
        }
    }

    /// A file that is there; what is in it is not looked at here.
    const FILE: &str = "/proc/version";
    const HTTPS: (&str, &str) = ("HTTPS_PORT", "0");
    const MANAGED: (&str, &str) = ("MANAGEMENT_TLS_PORT", "0");
    const SELF_SIGNED: (&str, &str) = ("TF_TLS_SELF_SIGNED", "yes");

    #[test]
    fn there_is_one_certificate() {
        let [certificate, key] = ["TF_TLS_CERTIFICATE", "TF_TLS_KEY"].map(|name| (name, FILE));
        check(&[HTTPS, SELF_SIGNED], &[]);
        check(&[HTTPS, certificate, key], &[]);
        check(&[certificate, key], &[]);
        check(
            &[HTTPS, ("GRPC_TLS_PORT", "1")],
            &["HTTPS_PORT=\"0\", GRPC_TLS_PORT=\"1\": no certificate is given"],
        );
        check(
            &[HTTPS, certificate, key, SELF_SIGNED],
            &["TF_TLS_CERTIFICATE=\"/proc/version\", TF_TLS_SELF_SIGNED=\"yes\": a server has one"],
        );
        check(&[HTTPS, certificate], &["its private key is missing; name its file by TF_TLS_KEY"]);
        check(&[HTTPS, key], &["the certificate is missing; name its file by TF_TLS_CERTIFICATE"]);
        // One mistake is enough.
        check(&[HTTPS, ("TF_TLS_CERTIFICATE", "/no/such"), key], &["there is no such file"]);
        check(&[HTTPS, ("TF_TLS_SELF_SIGNED", "maybe")], &["use one of: yes, no"]);
    }

    #[test]
    fn a_certificate_is_fetched_by_who_has_agreed() {
        let domains = ("TF_ACME_DOMAINS", "gw.example");
        let agreed = ("TF_ACME_AGREE", "yes");
        check(&[HTTPS, domains, agreed], &[]);
        check(&[HTTPS, domains], &["read them and set TF_ACME_AGREE=yes"]);
        check(&[HTTPS, ("TF_ACME_DOMAINS", "*.example"), agreed], &["no host name"]);
        let over_http = ("TF_ACME_CHALLENGE", "http-01");
        check(&[HTTPS, domains, agreed, over_http], &[]);
        check(
            &[HTTPS, domains, agreed, over_http, ("HTTP_PORT", "-1")],
            &["which HTTP_PORT=\"-1\" switches off"],
        );
    }

    #[test]
    fn certificates_of_clients_have_roots_and_an_endpoint() {
        let roots = ("TF_TLS_CLIENT_CA", FILE);
        let required = ("TF_TLS_CLIENTS", "required");
        check(&[HTTPS, SELF_SIGNED, roots, required], &[]);
        check(&[HTTPS, SELF_SIGNED, required], &["by TF_TLS_CLIENT_CA"]);
        check(&[HTTPS, SELF_SIGNED, roots], &["set TF_TLS_CLIENTS=required"]);
        check(
            &[MANAGED, SELF_SIGNED, roots, required],
            &["set HTTPS_PORT, GRPC_TLS_PORT or COAPS_TCP_PORT"],
        );
        let managers = ("TF_MANAGEMENT_CLIENTS", "required");
        check(&[MANAGED, SELF_SIGNED, roots, managers], &[]);
        let their_roots = ("TF_MANAGEMENT_CLIENT_CA", FILE);
        check(&[MANAGED, SELF_SIGNED, their_roots, managers], &[]);
        check(&[MANAGED, SELF_SIGNED, managers], &["by TF_MANAGEMENT_CLIENT_CA"]);
        check(&[HTTPS, SELF_SIGNED, managers, their_roots], &["set MANAGEMENT_TLS_PORT"]);
        check(
            &[MANAGED, SELF_SIGNED, their_roots],
            &["nobody is asked for such a certificate; set TF_MANAGEMENT_CLIENTS=required"],
        );
        check(
            &[MANAGED, SELF_SIGNED, roots, their_roots, managers],
            &["TF_TLS_CLIENT_CA=\"/proc/version\": nobody is asked"],
        );
    }

    #[test]
    fn management_may_be_served_over_tls_alone() {
        let off = ("MANAGEMENT_PORT", "-1");
        check(&[off], &["cannot be switched off unless management is served over TLS"]);
        check(&[off, MANAGED, SELF_SIGNED], &[]);
        check(&[off, ("MANAGEMENT_TLS_PORT", "x")], &["not a whole number"]);
    }

    #[test]
    fn all_endpoints_may_be_off_at_once() {
        let off = ["HTTP_PORT", "COAP_PORT", "GRPC_PORT", "HTTPS_PORT", "GRPC_TLS_PORT"];
        check(&off.map(|port| (port, "-1")), &[]);
    }
}
