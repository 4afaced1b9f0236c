//! A certificate as it is kept: key and chain in one PEM text.
//!
//! Owns telling whether it is what is wanted, and the stand-in for none. Must not
//! know where the text came from.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use instant_acme::Identifier;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::schedule::Validity;
use crate::certificate::Certificate;
use crate::error::TlsError;
use crate::pem;

/// Reads it; the file is named in errors. It may have expired: who has no better
/// one serves it all the same.
pub(super) fn parse(text: &[u8], file: &Path) -> Result<Certificate, TlsError> {
    let key = pem::private_key(text).map_err(|problem| problem.in_file(file))?;
    let chain = pem::certificates(text).map_err(|problem| problem.in_file(file))?;
    Certificate::new(chain, file, &key, file)
}

/// Whether it is for these and nothing else.
pub(super) fn is_for(certificate: &Certificate, identifiers: &[Identifier]) -> bool {
    let wanted: BTreeSet<String> =
        identifiers.iter().map(|one| one.authorized(false).to_string()).collect();
    let names = certificate.facts.names.iter().map(|name| name.to_ascii_lowercase());
    names.collect::<BTreeSet<_>>() == wanted
}

pub(super) fn validity(certificate: &Certificate) -> Validity {
    let facts = &certificate.facts;
    Validity { from: SystemTime::from(facts.not_before), until: SystemTime::from(facts.not_after) }
}

/// Served until there is a real one, so that a port for TLS speaks TLS and an
/// authority can ask there. It is kept nowhere, and no client trusts it.
pub(super) fn stand_in(identifiers: &[Identifier]) -> Result<Certificate, rcgen::Error> {
    let names = identifiers.iter().map(|one| one.authorized(false).to_string());
    let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "tinyFaaS, waiting for ACME");
    let key = KeyPair::generate()?;
    let text = format!("{}{}", key.serialize_pem(), params.self_signed(&key)?.pem());
    parse(text.as_bytes(), Path::new("stand-in"))
        .map_err(|_| rcgen::Error::CouldNotParseCertificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<Identifier> {
        let one = |name: &&str| match name.parse() {
            Ok(address) => Identifier::Ip(address),
            Err(_) => Identifier::Dns((*name).to_owned()),
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn a_stand_in_is_for_the_domains() {
        let certificate = stand_in(&names(&["a.example", "192.0.2.1"])).expect("made");
        assert!(is_for(&certificate, &names(&["192.0.2.1", "a.example"])));
        assert!(!is_for(&certificate, &names(&["a.example"])));
        assert!(!is_for(&certificate, &names(&["a.example", "192.0.2.1", "b.example"])));
        assert!(validity(&certificate).until > validity(&certificate).from);
    }

    #[test]
    fn a_kept_file_that_is_damaged_is_named() {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("signed").pem();
        let file = Path::new("certificate.pem");
        let whole = format!("{}{certificate}", key.serialize_pem());
        assert!(parse(whole.as_bytes(), file).is_ok());
        let other = KeyPair::generate().expect("a key").serialize_pem();
        for damaged in
            [&whole[..whole.len() / 2], "", &certificate, &format!("{other}{certificate}")]
        {
            let error = parse(damaged.as_bytes(), file).expect_err("damaged").to_string();
            assert!(error.starts_with("certificate.pem: "), "{error}");
        }
    }
}
