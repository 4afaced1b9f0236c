//! The header lines with which a CGI script's output begins (RFC 3875 section 6).
//!
//! Owns reading them: pure, over what has been printed so far. Must not know how
//! the output comes, nor frames.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION};
use tinyfaas_handlers::wire::ReplyHead;

use crate::script;

/// The longest header block, its blank line included, in bytes: as much as a
/// request's headers may have.
pub(crate) const BYTES_MAX: usize = 64 << 10;
/// How much of a wrong line is repeated in a message, in bytes.
const SHOWN_BYTES_MAX: usize = 80;

/// Why output is no CGI response. The script is to blame, and its caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// A line is no header line.
    NoHeader { line: usize, text: String, why: &'static str },
    /// The status is none.
    BadStatus { text: String },
    /// A field that may stand there once stands there again.
    Twice(HeaderName),
    /// No blank line came within [`BYTES_MAX`].
    TooLong,
    /// The script ended, and no blank line had come.
    NoEnd,
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = script::FILE;
        match self {
            Self::NoHeader { line, text, why } => write!(
                f,
                "{file} printed no CGI header: line {line}, {text:?}, {why}; with cgi = true its \
                 output begins with lines like \"Content-Type: text/plain\", then a blank line"
            ),
            Self::BadStatus { text } => write!(
                f,
                "{file} printed {text:?} as its Status; print a number from 200 to 599, like \
                 \"Status: 404 Not Found\""
            ),
            Self::Twice(name) => write!(f, "{file} printed the header {name} twice; print it once"),
            Self::TooLong => write!(
                f,
                "{file} printed no blank line within {BYTES_MAX} bytes; with cgi = true a blank \
                 line ends the headers, and the body follows"
            ),
            Self::NoEnd => write!(
                f,
                "{file} ended without a blank line; with cgi = true its output is header lines, a \
                 blank line and the body"
            ),
        }
    }
}

/// Reads the header lines, which end in LF or CRLF, and the blank line after them.
/// Returns the head and its length in bytes; `None` where its end has not come yet.
///
/// # Errors
/// Says what is wrong with them.
pub(crate) fn parse(output: &[u8]) -> Result<Option<(ReplyHead, usize)>, HeadError> {
    let mut fields = Fields::default();
    let mut at = 0;
    for number in 1.. {
        let rest = &output[at..output.len().min(BYTES_MAX)];
        let Some(length) = rest.iter().position(|byte| *byte == b'\n') else { break };
        let line = rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]);
        at += length + 1;
        if line.is_empty() {
            return Ok(Some((fields.into_head(), at)));
        }
        fields.add(number, line)?;
    }
    if output.len() >= BYTES_MAX { Err(HeadError::TooLong) } else { Ok(None) }
}

#[derive(Default)]
struct Fields {
    status: Option<StatusCode>,
    headers: HeaderMap,
}

impl Fields {
    fn add(&mut self, number: usize, line: &[u8]) -> Result<(), HeadError> {
        let shown =
            || String::from_utf8_lossy(&line[..line.len().min(SHOWN_BYTES_MAX)]).into_owned();
        let refuse = |why| HeadError::NoHeader { line: number, text: shown(), why };
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or_else(|| refuse("has no colon"))?;
        let name = HeaderName::from_bytes(&line[..colon])
            .map_err(|_| refuse("does not begin with a header's name"))?;
        let value = line[colon + 1..].trim_ascii();
        // RFC 3875 section 6.3.3: the script's own field, no header of the reply.
        if name == "status" {
            let status =
                parse_status(value).ok_or_else(|| HeadError::BadStatus { text: shown() })?;
            return match self.status.replace(status) {
                None => Ok(()),
                Some(_) => Err(HeadError::Twice(name)),
            };
        }
        // Section 6.3: each of CGI's own fields at most once.
        let once = name == CONTENT_TYPE || name == LOCATION || name == CONTENT_LENGTH;
        if once && self.headers.contains_key(&name) {
            return Err(HeadError::Twice(name));
        }
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| refuse("holds a control character in its value"))?;
        self.headers.try_append(name, value).map_err(|_| refuse("is one header too many"))?;
        Ok(())
    }

    /// Section 6.2.3: a location without a status is a redirection.
    fn into_head(self) -> ReplyHead {
        let redirect = self.headers.contains_key(LOCATION).then_some(StatusCode::FOUND);
        ReplyHead { status: self.status.or(redirect), headers: self.headers }
    }
}

/// Section 6.3.3: three digits, then a phrase of no matter.
fn parse_status(value: &[u8]) -> Option<StatusCode> {
    let (code, phrase) = value.split_at_checked(3)?;
    let ends = phrase.first().is_none_or(|byte| *byte == b' ');
    let status = StatusCode::from_bytes(code).ok()?;
    (ends && (200..=599).contains(&status.as_u16())).then_some(status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(output: &str, status: Option<u16>, headers: &[(&str, &str)], body: &str) {
        let (head, length) = parse(output.as_bytes()).unwrap().unwrap();
        let got: Vec<_> =
            head.headers.iter().map(|(k, v)| (k.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(head.status.map(|status| status.as_u16()), status, "{output:?}");
        assert_eq!((got.as_slice(), &output[length..]), (headers, body), "{output:?}");
    }

    #[test]
    fn header_lines_are_taken_off_the_output() {
        check(
            "Content-Type: text/html\n\nbody\n",
            None,
            &[("content-type", "text/html")],
            "body\n",
        );
        check("Status: 404 Not Found\r\nX-A:1\r\n\r\n\r\n", Some(404), &[("x-a", "1")], "\r\n");
        check("status:204\n\n", Some(204), &[], "");
        check("\nno headers", None, &[], "no headers");
        check("Location: http://x/\n\n", Some(302), &[("location", "http://x/")], "");
        let moved = "Location: /a\nStatus: 307 Temporary Redirect\n\n";
        check(moved, Some(307), &[("location", "/a")], "");
        check(
            "Set-Cookie: a\nSet-Cookie: b\n\n",
            None,
            &[("set-cookie", "a"), ("set-cookie", "b")],
            "",
        );
        check("X-Empty:\nX-Colon: a:b \n\n", None, &[("x-empty", ""), ("x-colon", "a:b")], "");
        check("Status: 599\n\n", Some(599), &[], "");
    }

    #[test]
    fn a_head_that_has_not_ended_is_waited_for() {
        for output in ["", "Con", "Content-Type: a/b", "Content-Type: a/b\n", "A: b\r\n\r"] {
            assert_eq!(parse(output.as_bytes()).map(|head| head.is_none()), Ok(true), "{output:?}");
        }
    }

    fn check_refused(output: &str, expected: &str) {
        let error = parse(output.as_bytes()).expect_err(output).to_string();
        assert!(error.contains(expected), "{output:?}: {error}");
    }

    #[test]
    fn what_is_no_head_is_refused_with_a_reason() {
        check_refused("hello\n", "line 1, \"hello\", has no colon; with cgi = true");
        check_refused("A: b\n<p>: c\n", "line 2, \"<p>: c\", does not begin with a header's name");
        check_refused("A : b\n", "does not begin with a header's name");
        check_refused("A: b\n folded\n", "line 2, \" folded\", has no colon");
        check_refused(": b\n", "does not begin");
        check_refused("A: b\0c\n", "control character");
        check_refused("A: b\rc\n", "control character");
        for status in ["", "20", "200OK", "2000", "100 Continue", "600", "abc", "-20"] {
            check_refused(&format!("Status: {status}\n"), "as its Status; print a number");
        }
        check_refused("Status: 200\nStatus: 200\n\n", "header status twice");
        check_refused("Content-Type: a\ncontent-type: b\n\n", "header content-type twice");
        check_refused(&"x".repeat(BYTES_MAX), "no blank line within 65536 bytes");
        check_refused(&"A: b\n".repeat(BYTES_MAX), "no blank line within 65536 bytes");
    }

    #[test]
    fn the_longest_head_fits() {
        let line = |length: usize| format!("A: {}\n", "b".repeat(length - 4));
        let longest = line(BYTES_MAX - 1) + "\n";
        assert_eq!(parse(longest.as_bytes()).unwrap().unwrap().1, BYTES_MAX);
        assert_eq!(parse((line(BYTES_MAX) + "\n").as_bytes()), Err(HeadError::TooLong));
    }

    proptest! {
        #[test]
        fn any_output_is_read_without_harm(
            output in prop::collection::vec(any::<u8>(), 0..300),
            lines in "([A-Za-z-]{0,8}: ?[ -~]{0,10}\r?\n){0,6}\r?\n?.{0,10}",
        ) {
            for output in [output.as_slice(), lines.as_bytes()] {
                if let Ok(Some((_, length))) = parse(output) {
                    prop_assert!(length <= output.len());
                    prop_assert_eq!(output[length - 1], b'\n');
                    // What comes after changes nothing.
                    prop_assert_eq!(parse(&output[..length]), parse(output));
                }
            }
        }
    }
}
