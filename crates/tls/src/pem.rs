//! The sections of a PEM file (RFC 7468), and what is wrong with it.
//!
//! Owns the text; must not know files or what a section's bytes mean. The decoding
//! is rustls-pki-types'; it skips what it does not know in silence, so what is
//! there at all is looked for here, lest an encrypted key passes for none.

use rustls_pki_types::pem::{Error, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::FileProblem;

const BEGIN: &str = "-----BEGIN ";
/// As labels are told, no more of one than this.
const LABEL_BYTES_MAX: usize = 40;
/// Labels that are told of a file.
const LABELS_MAX: usize = 5;

/// The certificates of a file, in their order, one at least.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileProblem> {
    const WANTED: &str = "CERTIFICATE";
    let sections = sections(text, WANTED, "x509")?;
    let found: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if found.is_empty() {
        return Err(FileProblem::Lacks { wanted: "certificate", found: listed(text) });
    }
    Ok(found)
}

/// The private key of a file: its first.
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, FileProblem> {
    // Both ways in which a key may be encrypted: PKCS #8 and the older one.
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    if labels(text).any(|label| label.ends_with("PRIVATE KEY"))
        && (contains(text, encrypted) || contains(text, "Proc-Type: 4,ENCRYPTED"))
    {
        return Err(FileProblem::EncryptedKey);
    }
    let sections = sections(text, "PRIVATE KEY", "pkey")?;
    sections
        .into_iter()
        .find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
        .ok_or_else(|| FileProblem::Lacks { wanted: "private key", found: listed(text) })
}

fn sections(
    text: &[u8],
    wanted: &'static str,
    command: &'static str,
) -> Result<Vec<(SectionKind, Vec<u8>)>, FileProblem> {
    if text.trim_ascii().is_empty() {
        return Err(FileProblem::Empty);
    }
    if labels(text).next().is_none() {
        return Err(FileProblem::NoPem { wanted, command });
    }
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| problem(error, wanted))
}

fn problem(error: Error, wanted: &str) -> FileProblem {
    let damaged = |reason: String| FileProblem::Damaged { label: wanted.to_owned(), reason };
    match error {
        Error::MissingSectionEnd { end_marker } => {
            FileProblem::HalfWritten { label: shown(&String::from_utf8_lossy(&end_marker)) }
        }
        Error::IllegalSectionStart { line } => {
            damaged(format!("the line {:?}", shown(&String::from_utf8_lossy(&line))))
        }
        Error::Base64Decode(_) => damaged("it is not base64".to_owned()),
        other => damaged(other.to_string()),
    }
}

/// What stands between BEGIN and the dashes, for each section that begins.
fn labels(text: &[u8]) -> impl Iterator<Item = String> {
    text.split(|byte| *byte == b'\n' || *byte == b'\r')
        .filter_map(|line| line.strip_prefix(BEGIN.as_bytes()))
        .map(|label| shown(String::from_utf8_lossy(label).trim_end_matches(['-', ' '])))
}

fn contains(text: &[u8], line: &str) -> bool {
    text.split(|byte| *byte == b'\n' || *byte == b'\r').any(|it| it.starts_with(line.as_bytes()))
}

fn listed(text: &[u8]) -> String {
    let mut seen: Vec<String> = Vec::new();
    for label in labels(text) {
        if !seen.contains(&label) && seen.len() < LABELS_MAX {
            seen.push(label);
        }
    }
    seen.join(", ")
}

/// As much of a stranger's text as goes into an error.
fn shown(label: &str) -> String {
    label.chars().filter(|c| !c.is_control()).take(LABEL_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    fn check_certificates(text: &str, expected: &str) {
        let said = match certificates(text.as_bytes()) {
            Ok(found) => format!("{} found", found.len()),
            Err(problem) => problem.to_string(),
        };
        assert!(said.contains(expected), "{text:?}: {said}");
    }

    fn check_key(text: &str, expected: &str) {
        let said = match private_key(text.as_bytes()) {
            Ok(_) => "found".to_owned(),
            Err(problem) => problem.to_string(),
        };
        assert!(said.contains(expected), "{text:?}: {said}");
    }

    #[test]
    fn certificates_are_found_or_what_is_wrong_is_named() {
        check_certificates(&format!("{CERTIFICATE}\n# and\r\n{CERTIFICATE}"), "2 found");
        check_certificates(&format!("{KEY}{CERTIFICATE}"), "1 found");
        check_certificates("", "it is empty");
        check_certificates(" \n", "it is empty");
        check_certificates("0\u{82}\u{1}", "not PEM");
        check_certificates("0\u{82}\u{1}", "openssl x509 -inform der");
        check_certificates(KEY, "no certificate, only PRIVATE KEY");
        check_certificates(&CERTIFICATE[..40], "ends within its CERTIFICATE");
        check_certificates(&CERTIFICATE[..20], "damaged: the line");
        check_certificates(&CERTIFICATE.replace("AAAA", "A!AA"), "damaged: it is not base64");
    }

    #[test]
    fn a_key_is_found_or_what_is_wrong_is_named() {
        check_key(KEY, "found");
        check_key(&format!("{CERTIFICATE}{KEY}"), "found");
        let parameters = "-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n";
        check_key(&format!("{parameters}{}", KEY.replace("PRIVATE", "EC PRIVATE")), "found");
        check_key(parameters, "no private key, only EC PARAMETERS");
        check_key(&KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted");
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,1\n\n\
                   AAAA\n-----END RSA PRIVATE KEY-----\n";
        check_key(old, "encrypted");
        check_key(&KEY[..34], "ends within its PRIVATE KEY");
        check_key("", "it is empty");
    }
}
