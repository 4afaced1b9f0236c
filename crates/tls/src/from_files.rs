//! A certificate that somebody else keeps fresh, in two files.
//!
//! Owns reading them together, again when they have changed. Until both fit each
//! other and the time, what was served is served on.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::certificate::Certificate;
use crate::error::{FileProblem, TlsError};
use crate::files::{Look, Watch};
use crate::resolver::Served;
use crate::{clock, files, pem};

/// The two files, as they were last seen.
#[derive(Debug)]
pub(crate) struct FromFiles {
    certificate: PathBuf,
    key: PathBuf,
    watch: Watch,
    /// They will fit by themselves, in time.
    waits: bool,
}

impl FromFiles {
    /// Reads both.
    pub(crate) fn open(certificate: &Path, key: &Path) -> Result<(Self, Certificate), TlsError> {
        let watch = Watch::new(&[certificate, key]);
        let read = read(certificate, key)?;
        read.warn();
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok((Self { certificate, key, watch, waits: false }, read.pair))
    }

    /// Reads both where they have changed.
    pub(crate) fn look(&mut self, served: &Served) {
        match self.reload(served) {
            Reload::Nothing => (),
            Reload::Replaced(until) => tracing::info!(
                "TLS: {} was replaced; served from now on, until {until}",
                self.certificate.display(),
            ),
            Reload::Refused(error) => {
                tracing::warn!("TLS: the certificate stays the one it was: {error}");
            }
        }
    }

    fn reload(&mut self, served: &Served) -> Reload {
        let look = self.watch.look();
        if look == Look::Same && !self.waits {
            return Reload::Nothing;
        }
        match read(&self.certificate, &self.key) {
            Ok(read) => {
                self.waits = false;
                if served.get().is_some_and(|it| it.is_same(&read.pair)) {
                    return Reload::Nothing;
                }
                read.warn();
                let until = read.pair.facts.not_after;
                served.set(read.pair);
                Reload::Replaced(until)
            }
            Err(error) => {
                let waits =
                    |problem: &FileProblem| matches!(problem, FileProblem::NotYetValid { .. });
                self.waits = matches!(&error, TlsError::File { problem, .. } if waits(problem));
                if look == Look::Settled { Reload::Refused(error) } else { Reload::Nothing }
            }
        }
    }
}

/// What came of looking.
#[derive(Debug)]
enum Reload {
    /// Nothing that is to be told.
    Nothing,
    /// Another is served, until then.
    Replaced(Timestamp),
    /// Another is there that does not do.
    Refused(TlsError),
}

struct Files<'a> {
    pair: Certificate,
    certificate: &'a Path,
    key: &'a Path,
}

fn read<'a>(certificate: &'a Path, key: &'a Path) -> Result<Files<'a>, TlsError> {
    let chain = files::read(certificate)
        .and_then(|text| pem::certificates(&text))
        .map_err(|problem| problem.in_file(certificate))?;
    let private = files::read(key)
        .and_then(|text| pem::private_key(&text))
        .map_err(|problem| problem.in_file(key))?;
    let pair = Certificate::new(chain, certificate, &private, key)?;
    pair.check_time(clock::now()).map_err(|problem| problem.in_file(certificate))?;
    Ok(Files { pair, certificate, key })
}

impl Files<'_> {
    /// What does not keep them from being served.
    fn warn(&self) {
        let (shown, now) = (self.certificate.display(), clock::now());
        files::warn_if_open(self.key);
        if self.pair.facts.names.is_empty() {
            tracing::warn!("TLS: the certificate in {shown} names no host: clients refuse it");
        }
        if now < self.pair.facts.not_before {
            tracing::warn!(
                "TLS: the clock of this machine is not set, it says {now}; it is taken on trust \
                 that the certificate in {shown} is valid"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, date_time_ymd};

    use super::*;
    use crate::testing::{Files, Issuer, Pair, issuer, pair};

    fn check_open(files: &Files, expected: &[&str]) {
        let said = match FromFiles::open(&files.path("cert.pem"), &files.path("key.pem")) {
            Ok((_, it)) => format!("good: {:?}", it.facts),
            Err(error) => error.to_string(),
        };
        for words in expected {
            assert!(said.contains(words), "{said:?} without {words:?}");
        }
    }

    fn with(issuer: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> Files {
        let files = Files::new();
        files.put_pair(&pair(issuer, change));
        files
    }

    #[test]
    fn what_is_good_is_described() {
        check_open(&with(&issuer("root"), |_| ()), &["good", "CN=tests", "localhost", "sha256//"]);
    }

    #[test]
    fn what_is_wrong_names_the_file_and_itself() {
        let issuer = issuer("root");
        let files = with(&issuer, |it| it.not_after = date_time_ymd(2024, 2, 3));
        check_open(&files, &["cert.pem: ", "expired", "valid until 2024-02-03T00:00:00Z"]);
        let files = with(&issuer, |it| it.not_before = date_time_ymd(2094, 2, 3));
        check_open(&files, &["cert.pem: ", "not valid yet", "from 2094-02-03"]);

        let (one, other) = (pair(&issuer, |_| ()), pair(&issuer, |_| ()));
        let files = Files::new();
        check_open(&files, &["cert.pem: there is no such file"]);
        files.put("cert.pem", &one.certificate);
        check_open(&files, &["key.pem: there is no such file"]);
        files.put("key.pem", &other.key);
        check_open(&files, &["key.pem: its key does not belong to", "cert.pem"]);
        files.put("key.pem", &one.certificate);
        check_open(&files, &["key.pem: it has no private key, only CERTIFICATE"]);
        files.put("key.pem", &one.key[..one.key.len() / 2]);
        check_open(&files, &["key.pem: it is half-written", "PRIVATE KEY"]);
        files.put("key.pem", &one.key);
        files.put("cert.pem", &one.certificate[..one.certificate.len() / 2]);
        check_open(&files, &["cert.pem: it is half-written", "CERTIFICATE"]);
        files.put("cert.pem", &one.key);
        check_open(&files, &["cert.pem: it has no certificate, only PRIVATE KEY"]);
        files.put("cert.pem", &format!("{}{}", issuer.pem(), one.certificate));
        check_open(&files, &["cert.pem: ", "must be the first", "key.pem is number 2"]);
        files.put("cert.pem", &damaged(&one));
        check_open(&files, &["cert.pem: ", "damaged"]);
        std::fs::remove_file(files.path("cert.pem")).unwrap();
        std::fs::create_dir(files.path("cert.pem")).unwrap();
        check_open(&files, &["cert.pem: it is not a file"]);
    }

    /// Good PEM of something that breaks off.
    fn damaged(pair: &Pair) -> String {
        let lines: Vec<_> = pair.certificate.lines().collect();
        [&lines[..2], &lines[lines.len() - 1..]].concat().join("\n")
    }

    #[test]
    fn a_key_of_an_unsupported_kind_is_named_so() {
        // DER that is no key at all is one of a kind that nobody supports.
        let files = with(&issuer("root"), |_| ());
        files.put("key.pem", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n");
        check_open(&files, &["key.pem: its key is of a kind that is not supported", "ECDSA"]);
    }

    /// Files that are served, and the issuer of others.
    fn served() -> (Files, Issuer, FromFiles, Served) {
        let issuer = issuer("root");
        let files = with(&issuer, |_| ());
        let (from, certificate) =
            FromFiles::open(&files.path("cert.pem"), &files.path("key.pem")).unwrap();
        let served = Served::default();
        served.set(certificate);
        (files, issuer, from, served)
    }

    fn check_reload(from: &mut FromFiles, served: &Served, expected: &str) {
        let said = format!("{:?}", from.reload(served));
        assert!(said.starts_with(expected), "{said:?} is not {expected}");
    }

    #[test]
    fn what_is_replaced_is_served_and_told_once() {
        let (files, issuer, mut from, served) = served();
        check_reload(&mut from, &served, "Nothing");
        check_reload(&mut from, &served, "Nothing");
        let before = served.get().unwrap();
        files.put_pair(&pair(&issuer, |_| ()));
        check_reload(&mut from, &served, "Replaced");
        assert!(!served.get().unwrap().is_same(&before));
        check_reload(&mut from, &served, "Nothing");
        check_reload(&mut from, &served, "Nothing");
    }

    #[test]
    fn a_change_between_two_looks_of_which_one_file_is_late_is_not_told() {
        let (files, issuer, mut from, served) = served();
        let fresh = pair(&issuer, |_| ());
        files.put("cert.pem", &fresh.certificate);
        check_reload(&mut from, &served, "Nothing");
        files.put("key.pem", &fresh.key);
        check_reload(&mut from, &served, "Replaced");
    }

    #[test]
    fn what_stays_unfit_is_told_once_and_the_old_one_is_served() {
        let (files, issuer, mut from, served) = served();
        let before = served.get().unwrap();
        let fresh = pair(&issuer, |_| ());
        let half = &fresh.certificate[..fresh.certificate.len() / 2];
        for text in [half, &fresh.certificate, ""] {
            files.put("cert.pem", text);
            check_reload(&mut from, &served, "Nothing");
            check_reload(&mut from, &served, "Refused");
            check_reload(&mut from, &served, "Nothing");
            assert!(served.get().unwrap().is_same(&before));
        }
        files.put_pair(&fresh);
        check_reload(&mut from, &served, "Replaced");
    }

    #[test]
    fn one_that_is_written_in_place_is_read_again() {
        let (files, issuer, mut from, served) = served();
        let fresh = pair(&issuer, |_| ());
        files.put("key.pem", &fresh.key);
        std::fs::write(files.path("cert.pem"), &fresh.certificate[..40]).unwrap();
        check_reload(&mut from, &served, "Nothing");
        std::fs::write(files.path("cert.pem"), &fresh.certificate).unwrap();
        check_reload(&mut from, &served, "Replaced");
    }
}
