//! What is said where TLS does not come about: why, and what to do.
//!
//! Owns the words for rustls' errors, wherever in a chain of errors they stand. Must
//! not know who was asked.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, InvalidMessage};
use x509_parser::time::ASN1Time;

use crate::failure::Failure;

const CLOCK: &str = "is this machine's clock right? date says what it thinks";

/// Alerts that come when the handshake is done for the client (RFC 8446 section 4.4.2),
/// and so in the midst of what it asks.
const OF_CERTIFICATES: [AlertDescription; 6] = [
    AlertDescription::CertificateRequired,
    AlertDescription::UnknownCA,
    AlertDescription::BadCertificate,
    AlertDescription::CertificateExpired,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];

/// Why, in words for a sentence's end, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client) struct Trouble {
    pub(in crate::client) why: String,
    advice: Advice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advice {
    /// Say whom to trust.
    WhomToTrust,
    /// The key is another one than expected.
    AnotherKey,
    /// Ask for a name that stands in the certificate.
    Name,
    Clock,
    Renew,
    /// Show a certificate.
    Show,
    /// Show another certificate.
    ShowAnother,
    PlainHttp,
    None,
}

impl Trouble {
    /// The trouble with TLS that an error tells of, if it does.
    pub(in crate::client) fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut next = Some(error);
        let mut deepest = error;
        while let Some(error) = next {
            deepest = error;
            if let Some(found) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::of_tls(found));
            }
            // What an I/O error holds is not its source.
            let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = match held {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        Self::of_text(&deepest.to_string())
    }

    /// The same where no more than the words is left of rustls' error: so it is with
    /// HTTP/2.
    fn of_text(text: &str) -> Option<Self> {
        let is_this = |alert: &&AlertDescription| {
            text.contains(&rustls::Error::AlertReceived(**alert).to_string())
        };
        let (why, advice) = of_alert(*OF_CERTIFICATES.iter().find(is_this)?);
        Some(Self { why, advice })
    }

    fn of_tls(error: &rustls::Error) -> Self {
        use rustls::Error as Tls;
        let (why, advice) = match error {
            Tls::InvalidCertificate(error) => of_certificate(error),
            Tls::AlertReceived(alert) => of_alert(*alert),
            Tls::InvalidMessage(InvalidMessage::InvalidContentType) => {
                ("what answers there does not speak TLS".to_owned(), Advice::PlainHttp)
            }
            Tls::NoCertificatesPresented => {
                ("the server shows no certificate".to_owned(), Advice::None)
            }
            Tls::PeerIncompatible(_) => (
                "it speaks no version of TLS, or no cipher, that is spoken here".to_owned(),
                Advice::None,
            ),
            error => (error.to_string(), Advice::None),
        };
        Self { why, advice }
    }

    /// Adds what to do.
    pub(in crate::client) fn advise(&self, failure: Failure) -> Failure {
        match self.advice {
            Advice::WhomToTrust => whom_to_trust(failure),
            Advice::AnotherKey => failure
                .tip("the server prints its key at its start: is this the one you mean?")
                .tip("if its key was changed, pin the new one; if not, somebody stands between"),
            Advice::Name => failure.tip(
                "ask for a name that the certificate has, or pin the server's key, whatever names \
                 it has: --pinned-pubkey sha256//…",
            ),
            Advice::Clock => failure.tip(CLOCK),
            Advice::Renew => failure.tip("the server needs a new one").tip(CLOCK),
            Advice::Show => failure.tip(
                "show one: --client-certificate FILE --client-key FILE (or \
                 TINYFAAS_CLIENT_CERTIFICATE and TINYFAAS_CLIENT_KEY)",
            ),
            Advice::ShowAnother => failure.tip(
                "show one that an authority has signed which the server trusts: \
                 --client-certificate FILE --client-key FILE",
            ),
            Advice::PlainHttp => {
                failure.tip("is this the port for plain HTTP? then write http:// instead")
            }
            Advice::None => failure,
        }
    }
}

/// Adds how to say whom to trust.
pub(super) fn whom_to_trust(failure: Failure) -> Failure {
    failure.tip("name the file of its authority: --ca-file FILE, or TINYFAAS_CA_FILE=FILE").tip(
        "or its key, which it prints at its start: --pinned-pubkey sha256//…, or \
             TINYFAAS_PINNED_PUBKEY",
    )
}

fn of_certificate(error: &CertificateError) -> (String, Advice) {
    use CertificateError as Why;
    match error {
        Why::UnknownIssuer => (
            "its certificate is signed by nobody who is trusted here".to_owned(),
            Advice::WhomToTrust,
        ),
        Why::BadSignature => {
            ("it does not have the key that its certificate is for".to_owned(), Advice::None)
        }
        Why::ExpiredContext { not_after, .. } => {
            (format!("its certificate has expired on {}", day(not_after.as_secs())), Advice::Renew)
        }
        Why::Expired => ("its certificate has expired".to_owned(), Advice::Renew),
        Why::NotValidYetContext { not_before, .. } => (
            format!("its certificate is valid from {} on only", day(not_before.as_secs())),
            Advice::Clock,
        ),
        Why::NotValidYet => ("its certificate is not valid yet".to_owned(), Advice::Clock),
        Why::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| plain_name(name)).collect();
            let names = match names.as_slice() {
                [] => "for no name at all".to_owned(),
                names => format!("for {}", names.join(", ")),
            };
            let expected = expected.to_str();
            (format!("its certificate is {names}, and not for {expected}"), Advice::Name)
        }
        Why::NotValidForName => ("its certificate is for another name".to_owned(), Advice::Name),
        Why::Other(other) => match other.0.downcast_ref::<super::verifier::WrongKey>() {
            Some(wrong) => (wrong.to_string(), Advice::AnotherKey),
            None => (format!("its certificate is refused: {}", other.0), Advice::WhomToTrust),
        },
        error => (format!("its certificate is refused: {error}"), Advice::None),
    }
}

/// What the server says of the handshake.
fn of_alert(alert: AlertDescription) -> (String, Advice) {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => {
            ("the server wants to see a certificate".to_owned(), Advice::Show)
        }
        Alert::UnknownCA | Alert::BadCertificate | Alert::AccessDenied | Alert::DecryptError => (
            "the server does not take the certificate that was shown to it".to_owned(),
            Advice::ShowAnother,
        ),
        Alert::CertificateExpired => {
            let why = "the certificate that was shown to the server has expired, it says";
            (why.to_owned(), Advice::ShowAnother)
        }
        Alert::NoApplicationProtocol => {
            ("it does not speak HTTP over TLS".to_owned(), Advice::None)
        }
        Alert::ProtocolVersion | Alert::HandshakeFailure => (
            "it speaks no version of TLS, or no cipher, that is spoken here".to_owned(),
            Advice::None,
        ),
        alert => (format!("the server ended the handshake: {alert:?}"), Advice::None),
    }
}

/// rustls shows names as its own types: `DnsName("board")`, `IpAddress(10.0.0.1)`.
fn plain_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn day(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|time| ASN1Time::from_timestamp(time).ok());
    time.and_then(|time| time.to_rfc2822().ok()).unwrap_or_else(|| format!("second {seconds}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_known_wherever_it_is() {
        let check = |error: &(dyn Error + 'static), expected: Option<Advice>| {
            assert_eq!(Trouble::of(error).map(|trouble| trouble.advice), expected, "{error}");
        };
        let alert = || rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        check(&alert(), Some(Advice::Show));
        check(&io::Error::other(alert()), Some(Advice::Show));
        check(&io::Error::other(alert().to_string()), Some(Advice::Show));
        check(&io::Error::other("received fatal alert: InternalError"), None);
        check(&io::Error::from(io::ErrorKind::ConnectionReset), None);
    }
}
