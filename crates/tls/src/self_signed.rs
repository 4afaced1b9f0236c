//! A certificate of this server's own making, for a trial.
//!
//! Owns its key, which is made once: clients pin it. The certificate around it is
//! made anew before it expires and when the machine's name has changed. Nobody
//! vouches for it, so it is made to be valid for whoever trusts the key: from the
//! start of time, as a client may have a clock that is not set, and for long.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::PrivateKeyDer;

use crate::certificate::Certificate;
use crate::error::{FileProblem, TlsError};
use crate::resolver::Served;
use crate::{clock, files, pem};

/// How long it is valid: longer than the machine lasts, so that nobody has to hand
/// out another.
const VALID_YEARS: i16 = 10;
/// It is made anew when less than this is left.
const RENEW_HOURS: i64 = 365 * 24;

/// A name in DNS has no more (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Names beyond are left out.
const NAMES_MAX: usize = 100;

/// What is kept of it.
#[derive(Debug)]
pub(crate) struct SelfSigned {
    key_file: PathBuf,
    certificate_file: PathBuf,
    key: PrivateKeyDer<'static>,
    names: BTreeSet<String>,
    /// It could not be made anew, which is told once.
    told: bool,
}

impl SelfSigned {
    /// Finds or makes it in this directory, for these names and those that every
    /// machine has.
    pub(crate) fn open(
        directory: &Path,
        names: &[String],
    ) -> Result<(Self, Certificate), TlsError> {
        files::make_directory(directory).map_err(|problem| problem.in_file(directory))?;
        let key_file = directory.join("self-signed-key.pem");
        let certificate_file = directory.join("self-signed.pem");
        let key = key(&key_file).map_err(|problem| problem.in_file(&key_file))?;
        let own = Self { key_file, certificate_file, key, names: all_names(names), told: false };
        let certificate = match own.kept() {
            Some(certificate) if !ends_soon(&certificate) && own.has_names(&certificate) => {
                certificate
            }
            _ => own.renew()?,
        };
        Ok((own, certificate))
    }

    /// Makes it anew where it is time.
    pub(crate) fn look(&mut self, served: &Served) {
        if served.get().is_some_and(|it| !ends_soon(&it)) {
            return;
        }
        match self.renew() {
            Ok(certificate) => {
                let until = certificate.facts.not_after;
                tracing::info!(
                    "TLS: made the self-signed certificate anew, until {until}; its key stays"
                );
                served.set(certificate);
            }
            Err(error) if !self.told => {
                self.told = true;
                tracing::warn!("TLS: the self-signed certificate is not made anew: {error}");
            }
            Err(_) => (),
        }
    }

    /// What was made before, if it can be used.
    fn kept(&self) -> Option<Certificate> {
        let text = files::read(&self.certificate_file).ok()?;
        let chain = pem::certificates(&text).ok()?;
        Certificate::new(chain, &self.certificate_file, &self.key, &self.key_file).ok()
    }

    fn has_names(&self, certificate: &Certificate) -> bool {
        certificate.facts.names.iter().cloned().collect::<BTreeSet<_>>() == self.names
    }

    fn renew(&self) -> Result<Certificate, TlsError> {
        let text = self.make(clock::at_least(clock::now()));
        let in_file = |problem: FileProblem| problem.in_file(&self.certificate_file);
        let text = text.map_err(|error| {
            let label = "new certificate".to_owned();
            in_file(FileProblem::Damaged { label, reason: error.to_string() })
        })?;
        files::replace(&self.certificate_file, &text).map_err(in_file)?;
        let chain = pem::certificates(text.as_bytes()).map_err(in_file)?;
        Certificate::new(chain, &self.certificate_file, &self.key, &self.key_file)
    }

    fn make(&self, now: Timestamp) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::new(self.names.iter().cloned().collect::<Vec<_>>())?;
        let until = now.to_zoned(TimeZone::UTC).date();
        let day = u8::try_from(until.day().min(28)).unwrap_or(1);
        let month = u8::try_from(until.month()).unwrap_or(1);
        params.not_before = date_time_ymd(1970, 1, 1);
        params.not_after = date_time_ymd(i32::from(until.year() + VALID_YEARS), month, day);
        params.distinguished_name = DistinguishedName::new();
        let name = host_name().unwrap_or_else(|| "localhost".to_owned());
        params.distinguished_name.push(DnType::CommonName, format!("tinyFaaS on {name}"));
        // Nobody's issuer: who trusts it trusts this server and nothing else.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params.self_signed(&KeyPair::try_from(&self.key)?)?.pem())
    }
}

fn ends_soon(certificate: &Certificate) -> bool {
    let left = certificate.facts.not_after.duration_since(clock::at_least(clock::now()));
    left.as_hours() < RENEW_HOURS
}

/// The key that is kept, or a new one where there is none. One that is there and
/// cannot be used is not replaced: clients would find another server.
fn key(file: &Path) -> Result<PrivateKeyDer<'static>, FileProblem> {
    let kept = files::read(file).and_then(|text| pem::private_key(&text));
    match kept {
        Ok(key) => {
            files::warn_if_open(file);
            Ok(key)
        }
        Err(FileProblem::NotThere) => {
            // ECDSA on P-256: what every client of the last ten years has, and the
            // cheapest to serve.
            let text = KeyPair::generate()
                .map_err(|error| FileProblem::Write(std::io::Error::other(error)))?
                .serialize_pem();
            files::replace(file, &text)?;
            pem::private_key(text.as_bytes())
        }
        Err(problem) => Err(FileProblem::KeptKey(Box::new(problem))),
    }
}

/// These, what this machine is called, and how it is reached from itself.
fn all_names(names: &[String]) -> BTreeSet<String> {
    let mut all: BTreeSet<_> =
        ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).collect();
    if let Some(name) = host_name() {
        // As it is called by neighbours that speak mDNS (RFC 6762).
        if !name.contains('.') {
            all.insert(format!("{name}.local"));
        }
        all.insert(name);
    }
    for name in names {
        match canonical(name) {
            Some(name) if all.len() < NAMES_MAX => {
                all.insert(name);
            }
            Some(_) | None => {
                tracing::warn!("TLS: {name:?} is left out of the self-signed certificate");
            }
        }
    }
    all
}

fn host_name() -> Option<String> {
    canonical(fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim())
}

/// As it is told again by the certificate. None for what is no name.
fn canonical(name: &str) -> Option<String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte));
    fits.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jiff::SignedDuration;

    use super::*;
    use crate::testing::Files;

    fn open(files: &Files) -> (SelfSigned, Certificate) {
        SelfSigned::open(&files.path("tls"), &["edge.example".to_owned()]).unwrap()
    }

    #[test]
    fn it_is_made_once_and_kept() {
        let files = Files::new();
        let (_, first) = open(&files);
        for name in ["localhost", "127.0.0.1", "::1", "edge.example"] {
            assert!(first.facts.names.iter().any(|it| it == name), "{:?}", first.facts);
        }
        first.check_time(clock::now()).unwrap();
        let mode =
            |name: &str| fs::metadata(files.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tls"), mode("tls/self-signed-key.pem")), (0o700, 0o600));
        let (_, second) = open(&files);
        assert!(second.is_same(&first));
    }

    #[test]
    fn another_certificate_has_the_same_key() {
        let files = Files::new();
        let (_, first) = open(&files);
        let (_, named) = SelfSigned::open(&files.path("tls"), &["10.0.0.7".to_owned()]).unwrap();
        assert!(named.facts.names.iter().any(|it| it == "10.0.0.7"));
        assert!(!named.is_same(&first));
        assert_eq!(named.facts.pin, first.facts.pin);
        fs::remove_file(files.path("tls/self-signed.pem")).unwrap();
        let (_, again) = open(&files);
        assert_eq!(again.facts.pin, first.facts.pin);
    }

    #[test]
    fn one_that_ends_soon_is_made_anew_while_it_is_served() {
        let files = Files::new();
        let (mut own, certificate) = open(&files);
        let served = Served::default();
        served.set(certificate);
        let first = served.get().unwrap();
        own.look(&served);
        assert!(served.get().unwrap().is_same(&first));

        let long_ago = clock::now() - SignedDuration::from_hours(9 * 366 * 24);
        files::replace(&own.certificate_file, &own.make(long_ago).unwrap()).unwrap();
        served.set(own.kept().unwrap());
        own.look(&served);
        let renewed = served.get().unwrap();
        assert!(!ends_soon(&renewed));
        assert_eq!(renewed.facts.pin, first.facts.pin);
    }

    #[test]
    fn a_clock_that_is_not_set_does_not_make_it_end_in_the_past() {
        let files = Files::new();
        let (own, _) = open(&files);
        let text = own.make(clock::at_least(Timestamp::UNIX_EPOCH)).unwrap();
        let chain = pem::certificates(text.as_bytes()).unwrap();
        let made = Certificate::new(chain, &own.certificate_file, &own.key, &own.key_file).unwrap();
        assert!(made.facts.not_after.to_string().starts_with("2036-"), "{:?}", made.facts);
    }

    #[test]
    fn a_key_that_is_broken_is_not_replaced() {
        let files = Files::new();
        let (own, _) = open(&files);
        fs::write(&own.key_file, "").unwrap();
        let error = SelfSigned::open(&files.path("tls"), &[]).unwrap_err().to_string();
        assert!(error.contains("self-signed-key.pem: it is empty; "), "{error}");
        assert!(fs::read(&own.key_file).unwrap().is_empty());
    }
}
