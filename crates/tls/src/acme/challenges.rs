//! What the authority is shown while it looks at our domains.
//!
//! Owns the table of challenges under way, and their certificates (RFC 8737). Must
//! not know the protocol by which they were given.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use instant_acme::Identifier;
use parking_lot::Mutex;
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The challenges under way. Without any, which is nearly always, nothing is kept.
#[derive(Debug, Default)]
pub(crate) struct Challenges {
    shown: Mutex<Shown>,
}

/// At most one for each domain of an order.
#[derive(Debug, Default)]
struct Shown {
    /// By the name of the handshake.
    certificates: HashMap<String, Arc<CertifiedKey>>,
    /// By token.
    key_authorizations: HashMap<String, String>,
}

/// Takes the challenges back when an order ends, however it does.
pub(crate) struct Showing<'a>(&'a Challenges);

impl Challenges {
    /// The certificate for a handshake with this name.
    pub(crate) fn certificate(&self, server_name: &str) -> Option<Arc<CertifiedKey>> {
        self.locked(|shown| shown.certificates.get(&server_name.to_ascii_lowercase()).cloned())
    }

    /// What the file of this name is to hold.
    pub(crate) fn key_authorization(&self, token: &str) -> Option<String> {
        self.locked(|shown| shown.key_authorizations.get(token).cloned())
    }

    /// Until it is dropped, challenges may be added.
    pub(crate) fn show(&self) -> Showing<'_> {
        Showing(self)
    }

    fn locked<T>(&self, with: impl FnOnce(&mut Shown) -> T) -> T {
        with(&mut self.shown.lock())
    }
}

impl Showing<'_> {
    /// By HTTP.
    pub(crate) fn file(&self, token: &str, key_authorization: &str) {
        self.0.locked(|shown| {
            shown.key_authorizations.insert(token.to_owned(), key_authorization.to_owned())
        });
    }

    /// By TLS: a certificate for nothing but this name, with the digest of the key
    /// authorization in it (RFC 8737, section 3).
    pub(crate) fn certificate(
        &self,
        identifier: &Identifier,
        digest: &[u8],
    ) -> Result<(), rcgen::Error> {
        let Some((server_name, subject)) = names(identifier)? else {
            return Err(rcgen::Error::UnsupportedSignatureAlgorithm);
        };
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![subject];
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = any_supported_type(&der).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], signing);
        self.0.locked(|shown| shown.certificates.insert(server_name, Arc::new(certified)));
        Ok(())
    }
}

impl Drop for Showing<'_> {
    fn drop(&mut self) {
        self.0.locked(|shown| *shown = Shown::default());
    }
}

/// The name in the handshake and the one in the certificate.
fn names(identifier: &Identifier) -> Result<Option<(String, SanType)>, rcgen::Error> {
    Ok(match identifier {
        Identifier::Dns(name) => {
            Some((name.to_ascii_lowercase(), SanType::DnsName(name.as_str().try_into()?)))
        }
        Identifier::Ip(address) => Some((reverse(*address), SanType::IpAddress(*address))),
        _ => None,
    })
}

/// A handshake cannot name an address: its name in the reverse tree stands for it
/// (RFC 8738, section 6).
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles =
                address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            labels + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn a_certificate_holds_the_digest_and_one_name() {
        let challenges = Challenges::default();
        let showing = challenges.show();
        let digest = [7; 32];
        showing.certificate(&Identifier::Dns("A.example".to_owned()), &digest).expect("made");
        let shown = challenges.certificate("a.EXAMPLE").expect("shown");
        let (_, parsed) = X509Certificate::from_der(&shown.cert[0]).expect("a certificate");
        let acme =
            parsed.extensions().iter().find(|one| one.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let acme = acme.expect("acmeIdentifier");
        assert!(acme.critical);
        // An OCTET STRING of 32 bytes.
        assert_eq!(acme.value, [&[4, 32][..], &digest].concat());
        let names = parsed.subject_alternative_name().expect("readable").expect("there");
        assert_eq!(names.value.general_names.len(), 1);
        assert!(challenges.certificate("b.example").is_none());
        drop(showing);
        assert!(challenges.certificate("a.example").is_none(), "taken back");
    }

    #[test]
    fn a_file_is_there_while_it_is_shown() {
        let challenges = Challenges::default();
        let showing = challenges.show();
        showing.file("token", "token.thumb");
        assert_eq!(challenges.key_authorization("token").as_deref(), Some("token.thumb"));
        assert_eq!(challenges.key_authorization("other"), None);
        drop(showing);
        assert_eq!(challenges.key_authorization("token"), None);
    }

    #[test]
    fn addresses_are_named_in_reverse() {
        let of = |text: &str| reverse(text.parse().expect("an address"));
        assert_eq!(of("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            of("2001:db8::1"),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
        let challenges = Challenges::default();
        let showing = challenges.show();
        let address = Identifier::Ip("192.0.2.1".parse().expect("an address"));
        showing.certificate(&address, &[0; 32]).expect("made");
        assert!(challenges.certificate("1.2.0.192.in-addr.arpa").is_some());
    }
}
