//! Whom a command trusts over TLS, and whom it says that it is itself.
//!
//! Owns the flags and variables for it, and the reading of their files. How a
//! server's certificate is judged is `trust/verifier.rs`, what is said of one that is
//! refused `trust/trouble.rs`. Must not know what a server is asked.

mod pin;
pub(super) mod trouble;
mod verifier;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, value_parser};
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::failure::Failure;

use pin::Pin;
use verifier::Verifier;

/// The flag for the authorities, and its variable.
const CA_FILE: [&str; 2] = ["ca-file", "TINYFAAS_CA_FILE"];
/// The same for the server's public key.
const PINS: [&str; 2] = ["pinned-pubkey", "TINYFAAS_PINNED_PUBKEY"];
/// The same for the certificate that a command shows.
const CERTIFICATE: [&str; 2] = ["client-certificate", "TINYFAAS_CLIENT_CERTIFICATE"];
/// The same for its key.
const KEY: [&str; 2] = ["client-key", "TINYFAAS_CLIENT_KEY"];
const ALL: [[&str; 2]; 4] = [CA_FILE, PINS, CERTIFICATE, KEY];
const HEADING: &str = "TLS (https://)";

/// Whom a command trusts. Files are read when a connection over TLS is to be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    /// Authorities instead of the system's.
    ca_file: Option<PathBuf>,
    /// Public keys; the server must have one of them.
    pins: Vec<Pin>,
    /// What is shown to a server that asks for it.
    certificate: Option<PathBuf>,
    /// Its key; none: it stands in the same file.
    key: Option<PathBuf>,
    /// One of these flags, if any was given on the command line.
    flag: Option<&'static str>,
}

impl Trust {
    /// The flags that say whom to trust.
    pub(super) fn flags() -> [Arg; 4] {
        let flag = |[name, variable]: [&'static str; 2], value: &'static str, help: &str| {
            let flag = Arg::new(name).long(name).value_name(value).help_heading(HEADING);
            flag.help(format!("{help} [env {variable}]"))
        };
        let file = |names, help| flag(names, "FILE", help).value_parser(value_parser!(PathBuf));
        [
            file(CA_FILE, "trust the authorities in this file (PEM) and no others"),
            flag(
                PINS,
                "PINS",
                "trust who has this public key: sha256//BASE64, as the server prints at its start; \
                 several with ; between",
            ),
            file(CERTIFICATE, "the certificate to show (PEM), for servers that ask for one"),
            file(KEY, "its private key (PEM) [default: in the certificate's file]"),
        ]
    }

    /// What the command line says, else the environment.
    ///
    /// # Errors
    /// Where a pin is none, or a key is given without a certificate.
    pub(super) fn read(matches: &ArgMatches) -> Result<Self, Failure> {
        let path = |[name, variable]: [&'static str; 2]| {
            let given = matches.get_one::<PathBuf>(name).cloned();
            given.or_else(|| {
                std::env::var_os(variable).filter(|text| !text.is_empty()).map(PathBuf::from)
            })
        };
        let [name, variable] = PINS;
        let given = matches.get_one::<String>(name).map(|text| (text.clone(), "--pinned-pubkey"));
        let pins = given.or_else(|| {
            let text = std::env::var_os(variable)?.to_string_lossy().into_owned();
            (!text.is_empty()).then_some((text, variable))
        });
        let pins = match pins {
            None => Vec::new(),
            Some((text, source)) => Pin::parse_all(&text)
                .map_err(|why| Failure::usage(format!("{source}={text:?}: {why}")))?,
        };
        let by_flag = |name: &&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        let trust = Self {
            ca_file: path(CA_FILE),
            pins,
            certificate: path(CERTIFICATE),
            key: path(KEY),
            flag: ALL.into_iter().map(|[name, _]| name).find(|name| by_flag(name)),
        };
        if trust.key.is_some() && trust.certificate.is_none() {
            let [name, variable] = CERTIFICATE;
            return Err(Failure::usage("there is a client's key and no certificate to show")
                .tip(format!("name it: --{name} FILE, or {variable}=FILE")));
        }
        Ok(trust)
    }

    /// What command line and environment say, for this one address.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::suits`].
    pub(crate) fn of(
        matches: &ArgMatches,
        is_tls: bool,
        address: impl fmt::Display,
    ) -> Result<Self, Failure> {
        let trust = Self::read(matches)?;
        trust.suits(is_tls, address)?;
        Ok(trust)
    }

    /// Checks that nobody is told whom to trust where nobody is asked for that.
    /// Variables may stand for good.
    ///
    /// # Errors
    /// Where one of the flags was given for an address without TLS.
    pub(super) fn suits(&self, is_tls: bool, address: impl fmt::Display) -> Result<(), Failure> {
        let Some(flag) = self.flag.filter(|_| !is_tls) else { return Ok(()) };
        let message = format!("--{flag} is for TLS, and {address} is asked without");
        Err(Failure::usage(message).tip(
            "write https:// (grpcs:// for gRPC), and the port for that, which the server prints",
        ))
    }

    /// How to speak TLS with these protocols (RFC 7301), the preferred first.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(crate) fn config(&self, alpn: &[&[u8]]) -> Result<ClientConfig, Failure> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Verifier::new(&provider, self.roots()?, self.pins.clone());
        let verifier = verifier.map_err(|why| self.no_authorities(&why))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::failed(format!("cannot speak TLS: {error}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let key_file = self.key.as_ref().unwrap_or(file);
                let (chain, key) = (certificates(file, CERTIFICATE)?, key(key_file)?);
                builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => Failure::failed(format!(
                        "the key in {} is not that of the certificate in {}",
                        key_file.display(),
                        file.display()
                    )),
                    error => Failure::failed(format!("{}: {error}", file.display())),
                })?
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(config)
    }

    /// The authorities to trust; none where a pinned key is to be enough.
    fn roots(&self) -> Result<Option<Vec<CertificateDer<'static>>>, Failure> {
        match &self.ca_file {
            Some(file) => certificates(file, CA_FILE).map(Some),
            None if !self.pins.is_empty() => Ok(None),
            // Errors in single files of the system's are no matter where others are good.
            None => Ok(Some(rustls_native_certs::load_native_certs().certs)),
        }
    }

    fn no_authorities(&self, why: &str) -> Failure {
        match &self.ca_file {
            Some(file) => Failure::failed(format!("{}: {why}", file.display())),
            None => {
                let message = "this machine has no file of authorities to trust over TLS";
                trouble::whom_to_trust(Failure::failed(message))
                    .tip("or install the system's (on Debian: apt-get install ca-certificates)")
            }
        }
    }
}

/// The certificates in a file.
fn certificates(
    file: &Path,
    [flag, variable]: [&str; 2],
) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) | Err(pem::Error::NoItemsFound) => {
            let message = format!("{}: there is no certificate in it", file.display());
            Err(Failure::failed(message)
                .tip(format!("--{flag} ({variable}) takes PEM: -----BEGIN CERTIFICATE-----")))
        }
        Err(error) => Err(unreadable(file, &error)),
    }
}

/// The private key in a file.
fn key(file: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let failure = Failure::failed(format!(
                "{}: there is no private key in it that can be read without a password",
                file.display()
            ));
            let [flag, variable] = KEY;
            failure
                .tip(format!("name the key's file: --{flag} FILE, or {variable}=FILE"))
                .tip("one with a password becomes one without by: openssl pkey -in FILE -out NEW")
        }
        error => unreadable(file, &error),
    })
}

fn unreadable(file: &Path, error: &pem::Error) -> Failure {
    let why = match error {
        pem::Error::Io(error) => error.to_string(),
        pem::Error::MissingSectionEnd { .. } => {
            "it is cut off: its -----END line is missing".into()
        }
        error => format!("it is no PEM: {error}"),
    };
    Failure::failed(format!("{}: {why}", file.display()))
}

#[cfg(test)]
mod tests;
