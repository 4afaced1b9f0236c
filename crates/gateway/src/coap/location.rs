//! Where a function says that it has made something: a URL becomes options.
//!
//! Owns taking a Location header apart (RFC 7252 sections 5.10.7 and 6.4). Must
//! not know messages.

use percent_encoding::percent_decode_str;

/// The longest value of Location-Path and Location-Query, in bytes.
const VALUE_BYTES_MAX: usize = 255;

/// A place on this server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Location {
    /// The segments of its path.
    pub(super) path: Vec<Vec<u8>>,
    /// The parts of its query.
    pub(super) query: Vec<Vec<u8>>,
}

/// The place that `reference` names, seen from `base`, the path of the request.
/// None where the options cannot carry it: another server, what is no UTF-8, what
/// is too long.
pub(super) fn read(reference: &str, base: &str) -> Option<Location> {
    let reference = reference.trim_ascii();
    let reference = reference.split_once('#').map_or(reference, |(before, _)| before);
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    if path.starts_with("//") || has_scheme(path) {
        return None;
    }
    let above = base.rsplit_once('/').map_or("", |(above, _)| above);
    let path = match path {
        "" => segments(base, ""),
        path if path.starts_with('/') => segments("", path),
        path => segments(above, path),
    };
    let decode_all = |parts: Vec<&str>| parts.into_iter().map(decode).collect::<Option<Vec<_>>>();
    let query = query.map(|query| query.split('&').collect()).unwrap_or_default();
    Some(Location { path: decode_all(path)?, query: decode_all(query)? })
}

/// Whether it begins as an absolute URL does (RFC 3986 section 3.1).
fn has_scheme(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    first.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// The segments of both, one after the other, with dots followed (RFC 3986 section
/// 5.2.4).
fn segments<'p>(above: &'p str, path: &'p str) -> Vec<&'p str> {
    let mut segments: Vec<&str> = Vec::new();
    let all = above.split('/').skip(1).chain(path.strip_prefix('/').unwrap_or(path).split('/'));
    let all: Vec<&str> =
        if path.is_empty() { above.split('/').skip(1).collect() } else { all.collect() };
    let last = all.len().saturating_sub(1);
    for (at, segment) in all.into_iter().enumerate() {
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                // What ends in dots is a folder.
                if at == last {
                    segments.push("");
                }
            }
            segment => segments.push(segment),
        }
    }
    // The root has no segments.
    if segments == [""] {
        segments.clear();
    }
    segments
}

/// What a percent-encoded part stands for, where an option can carry it.
fn decode(part: &str) -> Option<Vec<u8>> {
    let decoded: Vec<u8> = percent_decode_str(part).collect();
    let fits = decoded.len() <= VALUE_BYTES_MAX && std::str::from_utf8(&decoded).is_ok();
    let is_dots = decoded == b"." || decoded == b"..";
    (fits && !is_dots).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(reference: &str, expected: Option<(&[&str], &[&str])>) {
        let bytes = |parts: &[&str]| parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        let expected =
            expected.map(|(path, query)| Location { path: bytes(path), query: bytes(query) });
        assert_eq!(read(reference, "/f/items"), expected, "{reference}");
    }

    #[test]
    fn references_name_places_on_this_server() {
        check("/f/items/1", Some((&["f", "items", "1"], &[])));
        check("/f/a%2Fb/%C3%A9", Some((&["f", "a/b", "\u{e9}"], &[])));
        check("/f?first=1&second=a%26b", Some((&["f"], &["first=1", "second=a&b"])));
        check("?x", Some((&["f", "items"], &["x"])));
        check("1", Some((&["f", "1"], &[])));
        check("items/1#part", Some((&["f", "items", "1"], &[])));
        check("./1", Some((&["f", "1"], &[])));
        check("../g", Some((&["g"], &[])));
        check("../../../g/.", Some((&["g", ""], &[])));
        check("/f/", Some((&["f", ""], &[])));
        check("/", Some((&[], &[])));
        check("", Some((&["f", "items"], &[])));
        check("a:b", None);
        check("1:b", Some((&["f", "1:b"], &[])));
        check("./a:b", Some((&["f", "a:b"], &[])));
        check("coap://other.example/f", None);
        check("//other.example/f", None);
        check("/f/%FF", None);
        check("/f/%2e%2e", None);
        check("/f/%4", Some((&["f", "%4"], &[])));
        check(&"x".repeat(255), Some((&["f", &"x".repeat(255)], &[])));
        check(&"x".repeat(256), None);
    }

    proptest! {
        #[test]
        fn any_reference_is_read_into_values_that_may_be_sent(
            reference in "\\PC{0,60}|[/.?&%a-f]{0,30}",
            base in "(/[a-f.%]{0,3}){0,4}",
        ) {
            let Some(location) = read(&reference, &base) else { return Ok(()) };
            for value in location.path.iter().chain(&location.query) {
                prop_assert!(value.len() <= VALUE_BYTES_MAX);
                prop_assert!(std::str::from_utf8(value).is_ok());
            }
            for segment in &location.path {
                prop_assert!(segment != b"." && segment != b"..");
            }
        }
    }
}
