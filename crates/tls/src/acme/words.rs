//! What an authority said, in words for a person.
//!
//! Its text is a stranger's: bounded, and without control characters. Must not know
//! what was asked.

use instant_acme::{ChallengeType, Error, Identifier, Problem};

use super::http::AnswerError;

/// Where all of ACME's problem types begin (RFC 8555, section 6.7).
const TYPE_PREFIX: &str = "urn:ietf:params:acme:error:";
/// Characters of an authority's text that are shown.
const CHARS_MAX: usize = 600;
/// Problems with single domains that are told of one order.
const SUBPROBLEMS_MAX: usize = 5;

/// Whether an authority said this: the end of one of ACME's problem types.
pub(super) fn is(error: &Error, kind: &str) -> bool {
    matches!(error, Error::Api(problem) if short(problem) == Some(kind))
}

/// Whether an order that said which certificate it replaces is worth trying without
/// that. So it is not where nobody answered, or too much was asked for.
pub(super) fn is_about_replacing(error: &Error) -> bool {
    match error {
        Error::Api(_) => !["rateLimited", "accountDoesNotExist"].iter().any(|kind| is(error, kind)),
        Error::Other(other) => !other.is::<AnswerError>(),
        Error::Unsupported(_) => true,
        _ => false,
    }
}

/// Why there is no good answer.
pub(super) fn said(error: &Error) -> String {
    match error {
        Error::Api(one) => problem(one),
        Error::Json(_) => {
            "its answer makes no sense; is TF_ACME_DIRECTORY the URL of an ACME directory?"
                .to_owned()
        }
        Error::Timeout(_) => "it is not done yet, and has had its time".to_owned(),
        other => shown(&other.to_string()),
    }
}

/// What a problem document says (RFC 7807).
pub(super) fn problem(problem: &Problem) -> String {
    let detail = problem.detail.as_deref().unwrap_or_default();
    let mut text = match (detail.trim(), short(problem)) {
        ("", None) => "it does not say why".to_owned(),
        ("", Some(kind)) => kind.to_owned(),
        (detail, None) => detail.to_owned(),
        (detail, Some(kind)) => format!("{detail} ({kind})"),
    };
    for sub in problem.subproblems.iter().take(SUBPROBLEMS_MAX) {
        let domain = match &sub.identifier {
            Some(Identifier::Dns(name)) => format!("{name}: "),
            Some(Identifier::Ip(address)) => format!("{address}: "),
            Some(_) | None => String::new(),
        };
        let detail = sub.detail.as_deref().unwrap_or("not accepted");
        text = format!("{text}; {domain}{detail}");
    }
    shown(&text)
}

/// As much of a stranger's text as goes into a log.
pub(super) fn shown(text: &str) -> String {
    let text = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(CHARS_MAX).collect()
}

/// A challenge's name in the protocol.
pub(super) fn kind(kind: &ChallengeType) -> String {
    match kind {
        ChallengeType::Http01 => "http-01".to_owned(),
        ChallengeType::Dns01 => "dns-01".to_owned(),
        ChallengeType::TlsAlpn01 => "tls-alpn-01".to_owned(),
        ChallengeType::Unknown(name) => name.clone(),
        other => format!("{other:?}"),
    }
}

fn short(problem: &Problem) -> Option<&str> {
    problem.r#type.as_deref()?.strip_prefix(TYPE_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of this problem document.
    #[track_caller]
    fn check(document: &str, expected: &str) {
        let parsed: Problem = serde_json::from_str(document).expect("a problem document");
        assert_eq!(problem(&parsed), expected);
    }

    #[test]
    fn a_problem_document_becomes_words() {
        check(
            r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many"}"#,
            "too many (rateLimited)",
        );
        check(r#"{"type": "about:blank", "detail": " down\nfor today"}"#, "down for today");
        check(r#"{"type": "urn:ietf:params:acme:error:serverInternal"}"#, "serverInternal");
        check("{}", "it does not say why");
        check(
            r#"{"detail": "no", "subproblems": [
                {"identifier": {"type": "dns", "value": "a.example"}, "detail": "forbidden"}, {}]}"#,
            "no; a.example: forbidden; not accepted",
        );
        let long = format!(r#"{{"detail": "{}"}}"#, "x".repeat(5_000));
        check(&long, &"x".repeat(CHARS_MAX));
    }

    #[test]
    fn what_is_wrong_with_replacing_is_told_from_the_rest() {
        let api = |kind: &str| {
            let document = format!(r#"{{"type": "{TYPE_PREFIX}{kind}"}}"#);
            Error::Api(serde_json::from_str(&document).expect("a problem document"))
        };
        assert!(is_about_replacing(&api("alreadyReplaced")));
        assert!(is_about_replacing(&api("malformed")));
        assert!(is_about_replacing(&Error::Unsupported("ARI")));
        assert!(is_about_replacing(&Error::Other("replaces field mismatch".into())));
        assert!(!is_about_replacing(&api("rateLimited")));
        assert!(!is_about_replacing(&Error::Other(Box::new(AnswerError::TooLong(1)))));
    }
}
