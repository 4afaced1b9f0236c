//! What a script learns of its call through its environment (after RFC 3875).
//!
//! Owns the names and forms of these variables. Must not know how a script is
//! started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use http::HeaderMap;
use tinyfaas_handlers::wire::CallHead;

/// What is known of the length of a call's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// So many bytes.
    Known(usize),
    /// Whatever its header says, if there is one.
    Streamed,
}

/// The variables of a call.
pub(crate) fn variables(
    head: &CallHead<'_>,
    headers: &HeaderMap,
    function: &str,
    length: BodyLength,
) -> BTreeMap<String, OsString> {
    let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    let mut variables = header_variables(headers);
    variables.extend([
        ("REQUEST_METHOD".to_owned(), text(head.method)),
        ("QUERY_STRING".to_owned(), text(head.query)),
        ("PATH_INFO".to_owned(), OsString::from_vec(percent_decoded(head.path))),
        ("TINYFAAS_CALL_ID".to_owned(), text(head.id)),
        ("TINYFAAS_FUNCTION".to_owned(), function.into()),
    ]);
    if let Some(media_type) = headers.get(http::header::CONTENT_TYPE) {
        variables.insert("CONTENT_TYPE".to_owned(), text(media_type.as_bytes()));
    }
    let said = headers.get(http::header::CONTENT_LENGTH).map(|value| text(value.as_bytes()));
    let length = match length {
        // RFC 3875 section 4.1.2: not set where there is no body.
        BodyLength::Known(0) => None,
        BodyLength::Known(bytes) => Some(bytes.to_string().into()),
        BodyLength::Streamed => said,
    };
    variables.extend(length.map(|length| ("CONTENT_LENGTH".to_owned(), length)));
    variables
}

/// RFC 3875 section 4.1.18: `HTTP_` and the name in upper case, `-` as `_`, the
/// values of a repeated header joined.
fn header_variables(headers: &HeaderMap) -> BTreeMap<String, OsString> {
    let mut joined: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(name) = header_variable(name.as_str()) else { continue };
        joined
            .entry(name)
            .and_modify(|all| {
                all.extend_from_slice(b", ");
                all.extend_from_slice(value.as_bytes());
            })
            .or_insert_with(|| value.as_bytes().to_vec());
    }
    joined.into_iter().map(|(name, value)| (name, OsString::from_vec(value))).collect()
}

/// The variable of a header. `Proxy` has none, as programs take `HTTP_PROXY` for
/// their own setting (httpoxy); nor have names that no shell could read.
fn header_variable(name: &str) -> Option<String> {
    let is_readable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_elsewhere = matches!(name, "proxy" | "content-type" | "content-length");
    (!is_elsewhere && name.bytes().all(is_readable))
        .then(|| format!("HTTP_{}", name.replace('-', "_").to_ascii_uppercase()))
}

/// RFC 3875 section 4.1.5: the path is not encoded. What would be a NUL stays as
/// it is, as no variable holds one.
fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let byte = match (first, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)).map(|(h, l)| h << 4 | l),
            _ => None,
        };
        match byte {
            Some(byte) if byte != 0 => {
                decoded.push(byte);
                rest = &after[2..];
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};

    use super::*;

    fn check(headers: &[(&str, &[u8])], length: BodyLength, expected: &[(&str, &[u8])]) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap())
            })
            .collect();
        let head = CallHead {
            id: b"00ff",
            method: b"PUT",
            path: b"/a%20b%2Fc",
            query: b"x=%201",
            remaining: Duration::ZERO,
        };
        let variables = variables(&head, &headers, "echo", length);
        let always: [(&str, &[u8]); 5] = [
            ("PATH_INFO", b"/a b/c"),
            ("QUERY_STRING", b"x=%201"),
            ("REQUEST_METHOD", b"PUT"),
            ("TINYFAAS_CALL_ID", b"00ff"),
            ("TINYFAAS_FUNCTION", b"echo"),
        ];
        let mut expected: Vec<_> = expected.iter().copied().chain(always).collect();
        expected.sort_unstable();
        let got: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn a_call_becomes_variables() {
        use BodyLength::{Known, Streamed};
        check(&[], Known(0), &[]);
        check(&[], Known(7), &[("CONTENT_LENGTH", b"7")]);
        check(&[], Streamed, &[]);
        check(&[("content-length", b"9")], Streamed, &[("CONTENT_LENGTH", b"9")]);
        check(&[("content-type", b"a/b")], Known(0), &[("CONTENT_TYPE", b"a/b")]);
        check(
            &[("lab", b"tu"), ("x-y", b"\xfc")],
            Streamed,
            &[("HTTP_LAB", b"tu"), ("HTTP_X_Y", b"\xfc")],
        );
        check(
            &[("a", b"1"), ("b", b"2"), ("a", b"3")],
            Streamed,
            &[("HTTP_A", b"1, 3"), ("HTTP_B", b"2")],
        );
        check(&[("proxy", b"evil:1"), ("a.b", b"1"), ("a!", b"1")], Streamed, &[]);
        check(&[("http-proxy", b"1")], Streamed, &[("HTTP_HTTP_PROXY", b"1")]);
    }

    #[test]
    fn a_path_is_decoded_once() {
        let check = |path: &str, expected: &[u8]| {
            assert_eq!(percent_decoded(path.as_bytes()), expected, "{path}");
        };
        check("/", b"/");
        check("/%41%2541", b"/A%41");
        check("/%", b"/%");
        check("/%4", b"/%4");
        check("/%zz%+1", b"/%zz%+1");
        check("/%00", b"/%00");
        check("/%FC", b"/\xfc");
    }
}
