//! Handshakes in memory: who is trusted, who is not, and in what words.

use std::io::Write;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::ServerName;
use rustls::server::{ResolvesServerCert, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConnection, ServerConnection};

use super::trouble::Trouble;
use super::*;
use crate::terminal::Paint;

/// A certificate and its key.
struct Made {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("good names")
}

fn self_signed(params: CertificateParams) -> Made {
    let key = KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("a certificate");
    Made { der: made.der().clone(), pem: made.pem(), key }
}

fn authority() -> (Made, Issuer<'static, KeyPair>) {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = self_signed(params.clone());
    let key = KeyPair::from_pem(&made.key.serialize_pem()).expect("its own");
    (made, Issuer::new(params, key))
}

fn signed(names: &[&str], issuer: &Issuer<'static, KeyPair>) -> Made {
    let key = KeyPair::generate().expect("a key");
    let made = params(names).signed_by(&key, issuer).expect("a certificate");
    Made { der: made.der().clone(), pem: made.pem(), key }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("room for a file");
    file.write_all(text.as_bytes()).expect("writable");
    file
}

fn pin(made: &Made) -> Vec<Pin> {
    vec![Pin::of(&made.key.subject_public_key_info())]
}

/// Shakes hands with a server that shows this certificate and signs with that key.
fn handshake(
    trust: &Trust,
    shown: &Made,
    key: &KeyPair,
    name: &'static str,
    version: &'static rustls::SupportedProtocolVersion,
) -> Result<(), rustls::Error> {
    let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let key = ring::sign::any_supported_type(&der).expect("a key that signs");
    let certified = CertifiedKey::new(vec![shown.der.clone()], key);
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let mut server = ServerConnection::new(Arc::new(server)).expect("a server");
    let client = Arc::new(trust.config(&[]).expect("readable"));
    let name = ServerName::try_from(name).expect("a name");
    let mut client = ClientConnection::new(client, name).expect("a client");
    while client.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets()?;
    }
    Ok(())
}

/// In both versions of TLS; what a refusal is to say.
fn check(trust: &Trust, shown: &Made, key: &KeyPair, name: &'static str, expected: Option<&str>) {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let outcome = handshake(trust, shown, key, name, version);
        match (outcome, expected) {
            (Ok(()), None) => {}
            (Err(error), Some(words)) => {
                let trouble = Trouble::of(&error).expect("of TLS");
                let said = trouble.advise(Failure::failed(&trouble.why)).shown(Paint::NEVER);
                assert!(said.contains(words), "{said}");
            }
            (outcome, expected) => panic!("{name}: {outcome:?}, not {expected:?}"),
        }
    }
}

#[test]
fn authorities_are_asked_for_names_dates_and_signatures() {
    let (ca, issuer) = authority();
    let board = signed(&["board", "10.0.0.1"], &issuer);
    let ca_file = file(&ca.pem);
    let trust = Trust { ca_file: Some(ca_file.path().into()), ..Trust::default() };
    check(&trust, &board, &board.key, "board", None);
    check(&trust, &board, &board.key, "10.0.0.1", None);
    check(&trust, &board, &board.key, "other", Some("for board, 10.0.0.1, and not for other"));
    let stranger = self_signed(params(&["board"]));
    check(&trust, &stranger, &stranger.key, "board", Some("--ca-file FILE"));
    check(&trust, &board, &stranger.key, "board", Some("does not have the key"));
    let mut old = params(&["board"]);
    old.not_after = rcgen::date_time_ymd(2020, 2, 3);
    let key = KeyPair::generate().expect("a key");
    let old = old.signed_by(&key, &issuer).expect("a certificate");
    let old = Made { der: old.der().clone(), pem: old.pem(), key };
    check(&trust, &old, &old.key, "board", Some("expired on Mon, 03 Feb 2020"));
}

#[test]
fn a_certificate_that_is_named_itself_is_trusted() {
    for ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
        let mut made = params(&["board"]);
        made.is_ca = ca;
        let board = self_signed(made.clone());
        let ca_file = file(&board.pem);
        let trust = Trust { ca_file: Some(ca_file.path().into()), ..Trust::default() };
        check(&trust, &board, &board.key, "board", None);
        check(&trust, &board, &board.key, "localhost", Some("and not for localhost"));
        for (not_before, not_after, words) in [
            (2019, 2020, "expired on Wed, 01 Jan 2020"),
            (2090, 2100, "valid from Sun, 01 Jan 2090"),
        ] {
            made.not_before = rcgen::date_time_ymd(not_before, 1, 1);
            made.not_after = rcgen::date_time_ymd(not_after, 1, 1);
            let board = self_signed(made.clone());
            let ca_file = file(&board.pem);
            let trust = Trust { ca_file: Some(ca_file.path().into()), ..Trust::default() };
            check(&trust, &board, &board.key, "board", Some(words));
        }
    }
}

#[test]
fn a_pinned_key_is_enough_but_must_be_there() {
    let mut old = params(&["elsewhere"]);
    old.not_after = rcgen::date_time_ymd(2020, 2, 3);
    let (board, other) = (self_signed(old), self_signed(params(&["board"])));
    let trust = Trust { pins: pin(&board), ..Trust::default() };
    check(&trust, &board, &board.key, "board", None);
    check(&trust, &board, &other.key, "board", Some("does not have the key"));
    let found = pin(&other)[0].to_string();
    check(&trust, &other, &other.key, "board", Some(&found));
    let trust = Trust { pins: [pin(&board), pin(&other)].concat(), ..Trust::default() };
    check(&trust, &other, &other.key, "board", None);
}

#[test]
fn an_authority_and_a_pin_must_both_hold() {
    let (ca, issuer) = authority();
    let (board, other) = (signed(&["board"], &issuer), self_signed(params(&["board"])));
    let ca_file = file(&ca.pem);
    let both =
        |made| Trust { ca_file: Some(ca_file.path().into()), pins: pin(made), ..Trust::default() };
    check(&both(&board), &board, &board.key, "board", None);
    check(&both(&other), &board, &board.key, "board", Some("which is not pinned"));
    check(&both(&other), &other, &other.key, "board", Some("signed by nobody"));
}

#[test]
fn files_are_told_of_when_they_are_wrong() {
    let (board, other) = (self_signed(params(&["x"])), self_signed(params(&["x"])));
    let pem = |made: &Made| made.key.serialize_pem();
    let half = &board.pem[..board.pem.len() / 2];
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (certificate, key, words) in [
        (&*board.pem, &*pem(&other), "is not that of the certificate"),
        (half, &*pem(&board), "cut off"),
        ("", &*pem(&board), "there is no certificate"),
        (&*board.pem, "", "no private key"),
        (&*board.pem, encrypted, "password"),
        (&*board.pem, &*board.pem, "no private key"),
    ] {
        let (certificate, key) = (file(certificate), file(key));
        let trust = Trust {
            pins: pin(&board),
            certificate: Some(certificate.path().into()),
            key: Some(key.path().into()),
            ..Trust::default()
        };
        let failure = trust.config(&[]).expect_err(words).shown(Paint::NEVER);
        assert!(failure.contains(words), "{failure}");
    }
    let both = file(&format!("{}{}", pem(&board), board.pem));
    let trust =
        Trust { certificate: Some(both.path().into()), pins: pin(&board), ..Trust::default() };
    assert!(trust.config(&[]).is_ok());
    for missing in ["/nowhere/ca.pem", "/dev/null"] {
        let trust = Trust { ca_file: Some(missing.into()), ..Trust::default() };
        let failure = trust.config(&[]).expect_err(missing).shown(Paint::NEVER);
        assert!(failure.contains(missing), "{failure}");
    }
}
