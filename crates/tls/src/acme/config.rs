//! What an operator says of the authority, and what of it makes sense.
//!
//! Must not know how a certificate is asked for.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use instant_acme::{ChallengeType, Identifier};

/// So many names one certificate may have; public authorities take no more.
const DOMAINS_MAX: usize = 100;

/// How a certificate is had from an authority (RFC 8555).
#[derive(Debug, Clone)]
pub struct AcmeConfig {
    /// The authority's directory: an https URL.
    pub directory: String,
    /// What the certificate is for: DNS names and addresses, at least one.
    pub domains: Vec<String>,
    /// Mail addresses, with or without `mailto:`, for news from the authority. May
    /// be empty.
    pub contact: Vec<String>,
    /// How the authority is shown that the domains are ours.
    pub challenge: Challenge,
    /// One of the authority's own profiles (`shortlived`), where it has any.
    pub profile: Option<String>,
    /// A PEM file with the certificates that vouch for the directory's own, and no
    /// others do then; else those of the system.
    pub ca_file: Option<PathBuf>,
    /// That the operator agrees to the authority's terms of service.
    pub terms_agreed: bool,
    /// The folder for account and certificate. It is made when first needed.
    pub state: PathBuf,
    /// The wait after a first failure; it doubles with each further one.
    pub retry_first: Duration,
    /// The longest wait after a failure, whatever the authority says.
    pub retry_max: Duration,
    /// The longest wait where the authority was not even reached, and before the
    /// first attempt of a restarted server: neither counts against an authority's
    /// limits as a failed order does.
    pub retry_unheard_max: Duration,
    /// How long the authority has for an answer.
    pub request_timeout: Duration,
    /// How long an answer may be, in bytes.
    pub response_bytes_max: usize,
    /// How long an order may take, from the account to the certificate.
    pub order_timeout: Duration,
    /// How long the authority has to look at the domains, and then for the
    /// certificate.
    pub poll_timeout: Duration,
    /// How often the authority is asked when it wants the certificate renewed
    /// (RFC 9773), unless it says how often itself (up to a day).
    pub renewal_info_interval: Duration,
    /// A certificate is not replaced sooner than this after it came, or than after a
    /// third of its life, whatever the authority says.
    pub renewal_gap_max: Duration,
    /// How often the clock is looked at: it may have been set.
    pub clock_interval: Duration,
}

/// The kinds of proof that a domain is ours, of those that need no access to DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// By a special certificate in a TLS handshake on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a file over plain HTTP on port 80 (RFC 8555, section 8.3).
    Http01,
}

/// What keeps a configuration from being used.
#[derive(Debug, thiserror::Error)]
pub enum AcmeConfigError {
    /// Not an https URL with a host.
    #[error(
        "the ACME directory {0:?} is not an https:// URL; Let's Encrypt's, for one, is \
         https://acme-v02.api.letsencrypt.org/directory"
    )]
    Directory(String),
    /// None given.
    #[error("an ACME certificate needs at least one domain")]
    NoDomains,
    /// More than one certificate may have.
    #[error("{0} domains are more than the {DOMAINS_MAX} that one ACME certificate may have")]
    TooManyDomains(usize),
    /// One that only DNS can prove.
    #[error(
        "the ACME domain {0:?} is a wildcard, which an authority only gives to who can change \
         DNS records (dns-01): name each host, or set the certificate's files instead"
    )]
    Wildcard(String),
    /// Neither a name nor an address.
    #[error("the ACME domain {0:?} is neither a DNS name nor an IP address")]
    Domain(String),
    /// Not an address for mail.
    #[error("the ACME contact {0:?} is not a mail address")]
    Contact(String),
    /// No stand-in for the certificate can be made for the domains.
    #[error("cannot make a self-signed certificate to begin with: {0}")]
    StandIn(rcgen::Error),
    /// Not agreed.
    #[error(
        "the terms of service of the authority {host} are not agreed to: read them (its \
         directory, {directory}, says where) and then set TF_ACME_AGREE=yes"
    )]
    TermsNotAgreed {
        /// Of the directory's URL.
        host: String,
        /// The directory.
        directory: String,
    },
}

impl AcmeConfig {
    /// The limits' defaults, and TLS-ALPN-01. Nothing is agreed to.
    pub fn new(directory: String, domains: Vec<String>, state: PathBuf) -> Self {
        Self {
            directory,
            domains,
            contact: Vec::new(),
            challenge: Challenge::TlsAlpn01,
            profile: None,
            ca_file: None,
            terms_agreed: false,
            state,
            retry_first: Duration::from_secs(60),
            retry_max: Duration::from_secs(24 * 60 * 60),
            retry_unheard_max: Duration::from_secs(15 * 60),
            request_timeout: Duration::from_secs(30),
            response_bytes_max: 1 << 20,
            order_timeout: Duration::from_secs(10 * 60),
            poll_timeout: Duration::from_secs(2 * 60),
            renewal_info_interval: Duration::from_secs(6 * 60 * 60),
            renewal_gap_max: Duration::from_secs(60 * 60),
            clock_interval: Duration::from_secs(10),
        }
    }

    /// The directory's host, for messages.
    pub(crate) fn host(&self) -> &str {
        host(&self.directory).unwrap_or(&self.directory)
    }

    /// What the certificate is to be for, each once and in lower case.
    ///
    /// # Errors
    /// The first thing in this configuration that makes no sense.
    pub(crate) fn check(&self) -> Result<Vec<Identifier>, AcmeConfigError> {
        if host(&self.directory).is_none() {
            return Err(AcmeConfigError::Directory(self.directory.clone()));
        }
        let mut identifiers = Vec::new();
        for domain in &self.domains {
            let identifier = identifier(domain)?;
            if !identifiers.contains(&identifier) {
                identifiers.push(identifier);
            }
        }
        match identifiers.len() {
            0 => return Err(AcmeConfigError::NoDomains),
            1..=DOMAINS_MAX => {}
            more => return Err(AcmeConfigError::TooManyDomains(more)),
        }
        if let Some(wrong) = self.contact.iter().find(|contact| !is_mail(contact)) {
            return Err(AcmeConfigError::Contact(wrong.clone()));
        }
        if !self.terms_agreed {
            let (host, directory) = (self.host().to_owned(), self.directory.clone());
            return Err(AcmeConfigError::TermsNotAgreed { host, directory });
        }
        Ok(identifiers)
    }

    /// The contacts as an authority takes them.
    pub(crate) fn contacts(&self) -> Vec<String> {
        let contacts = self.contact.iter();
        contacts.map(|contact| format!("mailto:{}", bare_mail(contact))).collect()
    }
}

impl Challenge {
    /// Its name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }

    /// Of the two.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::TlsAlpn01, Self::Http01].into_iter().find(|challenge| challenge.name() == name)
    }

    pub(crate) const fn kind(self) -> ChallengeType {
        match self {
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Self::Http01 => ChallengeType::Http01,
        }
    }
}

/// The host of an https URL.
fn host(url: &str) -> Option<&str> {
    let url_parsed: http::Uri = url.parse().ok()?;
    if url_parsed.scheme_str() != Some("https") {
        return None;
    }
    let length = url_parsed.host()?.len();
    // The same bytes of what was given, which lives longer.
    let from = url.find("://")? + 3;
    url.get(from..).and_then(|rest| {
        let rest_from = rest.split('/').next()?.rfind('@').map_or(0, |at| at + 1);
        rest.get(rest_from..rest_from + length)
    })
}

fn identifier(domain: &str) -> Result<Identifier, AcmeConfigError> {
    let text = domain.trim();
    let address = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = address.parse::<IpAddr>() {
        return Ok(Identifier::Ip(address));
    }
    if text.starts_with("*.") {
        return Err(AcmeConfigError::Wildcard(domain.to_owned()));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if !is_dns_name(&name) {
        return Err(AcmeConfigError::Domain(domain.to_owned()));
    }
    Ok(Identifier::Dns(name))
}

/// Letters, digits and hyphens (RFC 1123, section 2.1); other scripts come as
/// Punycode. A last label of digits would be an address cut short.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

fn bare_mail(contact: &str) -> &str {
    let contact = contact.trim();
    contact.strip_prefix("mailto:").unwrap_or(contact)
}

fn is_mail(contact: &str) -> bool {
    let mail = bare_mail(contact);
    let (user, domain) = mail.rsplit_once('@').unwrap_or_default();
    !user.is_empty()
        && is_dns_name(&domain.to_ascii_lowercase())
        && mail.bytes().all(|byte| byte.is_ascii_graphic() && !b",?&".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &str, domains: &[&str]) -> AcmeConfig {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        let mut config = AcmeConfig::new(directory.to_owned(), domains, PathBuf::new());
        config.terms_agreed = true;
        config
    }

    /// What a configuration with these domains asks for, or why it cannot.
    #[track_caller]
    fn check(domains: &[&str], expected: Result<&[&str], &str>) {
        match (config("https://ca.example/dir", domains).check(), expected) {
            (Ok(found), Ok(expected)) => {
                let found: Vec<String> =
                    found.iter().map(|one| one.authorized(false).to_string()).collect();
                assert_eq!(found, expected);
            }
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            (found, expected) => panic!("{found:?} and not {expected:?}"),
        }
    }

    #[test]
    fn domains_are_read_once_and_alike() {
        check(&["A.example", "a.example.", " b.example "], Ok(&["a.example", "b.example"]));
        check(&["192.0.2.1", "[2001:db8::1]"], Ok(&["192.0.2.1", "2001:db8::1"]));
        check(&["localhost"], Ok(&["localhost"]));
        check(&["xn--bcher-kva.example"], Ok(&["xn--bcher-kva.example"]));
    }

    #[test]
    fn what_is_no_domain_is_named() {
        check(&[], Err("at least one domain"));
        check(&["*.example.org"], Err("\"*.example.org\" is a wildcard"));
        for wrong in ["", ".", "a..b", "-a.example", "bücher.example", "192.0.2", "a/b", "a b"] {
            check(&[wrong], Err("is neither a DNS name nor an IP address"));
        }
        let many: Vec<String> = (0..101).map(|number| format!("n{number}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, Err("101 domains are more than the 100"));
    }

    #[test]
    fn the_directory_is_an_https_url() {
        for (url, expected) in [
            ("https://ca.example/dir", Some("ca.example")),
            ("https://ca.example:14000/dir", Some("ca.example")),
            ("https://[::1]:14000/dir", Some("[::1]")),
            ("https://user@ca.example/dir", Some("ca.example")),
            ("http://ca.example/dir", None),
            ("ca.example", None),
            ("https://", None),
            ("", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
            assert_eq!(config(url, &["a.example"]).check().is_ok(), expected.is_some(), "{url}");
        }
    }

    #[test]
    fn contacts_and_terms_are_checked() {
        let mut config = config("https://ca.example/dir", &["a.example"]);
        config.contact = vec!["mailto:ops@a.example".to_owned(), "ops+iot@b.example".to_owned()];
        assert!(config.check().is_ok());
        assert_eq!(config.contacts(), ["mailto:ops@a.example", "mailto:ops+iot@b.example"]);
        for wrong in ["ops", "@a.example", "ops@", "a b@c.example", "a@b.example,c@d.example"] {
            config.contact = vec![wrong.to_owned()];
            let error = config.check().expect_err(wrong).to_string();
            assert!(error.contains("not a mail address"), "{error}");
        }
        config.contact.clear();
        config.terms_agreed = false;
        let error = config.check().expect_err("not agreed").to_string();
        assert!(error.contains("ca.example") && error.contains("TF_ACME_AGREE=yes"), "{error}");
    }
}
