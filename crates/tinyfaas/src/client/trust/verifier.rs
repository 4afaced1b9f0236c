//! How a server's certificate is judged: by authorities, by pinned keys, or by both.
//!
//! Owns the rules. Whichever hold, the handshake's signature is verified: a
//! certificate is public, its key is not. Must not know where authorities and pins
//! are from.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::pin::Pin;

/// Judges certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    authorities: Option<Authorities>,
    /// The server's key must be one of these; empty: any.
    pins: Vec<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Who may have signed a certificate.
#[derive(Debug)]
struct Authorities {
    chains: Arc<WebPkiServerVerifier>,
    /// The same certificates, each of which a server may also have itself: so it is
    /// with most that somebody made by hand, which sign themselves.
    certificates: Vec<CertificateDer<'static>>,
}

/// The server has another key than those pinned.
#[derive(Debug)]
pub(super) struct WrongKey(Pin);

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its public key is {}, which is not pinned", self.0)
    }
}

impl std::error::Error for WrongKey {}

impl Verifier {
    /// One that asks for a chain to one of these authorities, and for one of these
    /// keys. Without authorities, neither names nor dates are looked at: the key is
    /// what is trusted, as by curl's `--insecure --pinnedpubkey`.
    ///
    /// # Errors
    /// What is wrong with the authorities.
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        authorities: Option<Vec<CertificateDer<'static>>>,
        pins: Vec<Pin>,
    ) -> Result<Self, String> {
        let algorithms = provider.signature_verification_algorithms;
        let authorities = match authorities {
            None => None,
            Some(certificates) => {
                let mut roots = RootCertStore::empty();
                let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
                if added == 0 {
                    return Err("there is no certificate in it that can be read".to_owned());
                }
                let chains =
                    WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                        .build()
                        .map_err(|error| error.to_string())?;
                Some(Authorities { chains, certificates })
            }
        };
        debug_assert!(authorities.is_some() || !pins.is_empty(), "somebody must be asked for");
        Ok(Self { authorities, pins, algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.authorities {
            Some(known) if known.certificates.contains(end_entity) => {
                is_in_force(end_entity, now)?;
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            Some(known) => {
                let judged = known.chains.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
                judged.map_err(|error| match error {
                    // Of another authority that has the same name.
                    Error::InvalidCertificate(CertificateError::BadSignature) => {
                        CertificateError::UnknownIssuer.into()
                    }
                    error => error,
                })?;
            }
            // Nothing else would hold the server to anything.
            None if self.pins.is_empty() => return Err(CertificateError::UnknownIssuer.into()),
            None => {}
        }
        if !self.pins.is_empty() {
            let key = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
            let pin = Pin::of(&key);
            if !self.pins.contains(&pin) {
                let wrong = OtherError(Arc::new(WrongKey(pin)));
                return Err(CertificateError::Other(wrong).into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether a certificate that is trusted itself is so now (RFC 5280 section 4.1.2.5).
fn is_in_force(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let bound = |time: x509_parser::time::ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    };
    let (not_before, not_after) =
        (bound(parsed.validity.not_before), bound(parsed.validity.not_after));
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    Ok(())
}
