//! Who calls, where a certificate has shown it: headers that nobody else can set.
//!
//! Owns their names. Must not know certificates, which TLS has judged, nor the
//! protocols that carry headers.

use ::http::{HeaderMap, HeaderName, HeaderValue};
use tinyfaas_tls::Client;

/// How all such headers begin. Whatever begins so is taken off every request.
const RESERVED: &[u8] = b"x-tinyfaas-client-";

static SUBJECT: HeaderName = HeaderName::from_static("x-tinyfaas-client-subject");
static FINGERPRINT: HeaderName = HeaderName::from_static("x-tinyfaas-client-fingerprint");

/// What a function is told of a client that has shown a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    subject: HeaderValue,
    fingerprint: HeaderValue,
}

impl Shown {
    pub(crate) fn of(client: &Client) -> Self {
        let value = |text: &str| {
            HeaderValue::from_str(text).expect("a subject is printable ASCII, a fingerprint hex")
        };
        Self { subject: value(client.subject()), fingerprint: value(client.fingerprint()) }
    }
}

/// Whether a header of this name could be taken for one that only the server sets.
/// Where headers become variables (CGI, WSGI), `-` and `_` are one, and elsewhere all
/// that is neither a letter nor a digit.
pub(crate) fn is_reserved(name: &str) -> bool {
    let same = |(byte, reserved): (&u8, &u8)| match reserved {
        b'-' => !byte.is_ascii_alphanumeric(),
        _ => byte.eq_ignore_ascii_case(reserved),
    };
    let name = name.as_bytes();
    name.len() >= RESERVED.len() && name.iter().zip(RESERVED).all(same)
}

/// Sees to it that a function gets what `shown` says and nothing else. `has_reserved`
/// tells whether any header is reserved: most requests have none.
pub(crate) fn hand_on(headers: &mut HeaderMap, has_reserved: bool, shown: Option<&Shown>) {
    if has_reserved {
        let reserved: Vec<HeaderName> =
            headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
    }
    if let Some(Shown { subject, fingerprint }) = shown {
        headers.insert(&SUBJECT, subject.clone());
        headers.insert(&FINGERPRINT, fingerprint.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_ours_is_reserved() {
        for name in [
            "x-tinyfaas-client-subject",
            "X-tinyFaaS-Client-Fingerprint",
            "x_tinyfaas_client_subject",
            "X-tinyFaaS-Client_Subject",
            "x.tinyfaas-client|subject",
            "x-tinyfaas-client-subject-bin",
            "x-tinyfaas-client-",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        for name in
            ["x-tinyfaas-client", "x-tinyfaas-async", "x0tinyfaas-client-subject", "lab", ""]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }

    fn check(has_reserved: bool, shown: Option<&Shown>, expected: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        headers.append("lab", HeaderValue::from_static("tu"));
        if has_reserved {
            headers.append(&SUBJECT, HeaderValue::from_static("CN=me"));
            headers.append(&SUBJECT, HeaderValue::from_static("CN=me too"));
            headers.append("x_tinyfaas_client_subject", HeaderValue::from_static("CN=me"));
        }
        hand_on(&mut headers, has_reserved, shown);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(left, expected);
    }

    #[test]
    fn a_function_gets_what_was_shown_and_nothing_else() {
        let subject = HeaderValue::from_static("CN=sensor-1");
        let shown = Shown { subject, fingerprint: HeaderValue::from_static("00ff") };
        let told = [
            ("lab", "tu"),
            ("x-tinyfaas-client-fingerprint", "00ff"),
            ("x-tinyfaas-client-subject", "CN=sensor-1"),
        ];
        for has_reserved in [false, true] {
            check(has_reserved, None, &told[..1]);
            check(has_reserved, Some(&shown), &told);
        }
    }
}
