//! Content-Format numbers and the media types that they stand for.
//!
//! Owns the list (IANA's "CoAP Content-Formats", as far as somebody uses it) and
//! what becomes of a type that has no number. Must not know messages.

use std::borrow::Cow;

/// The number of UTF-8 text (RFC 7252 section 12.3).
pub const TEXT: u16 = 0;
/// The number of links (RFC 6690).
pub const LINKS: u16 = 40;
const XML: u16 = 41;
/// The number of bytes that nobody says more of.
pub const BYTES: u16 = 42;
const JSON: u16 = 50;
const CBOR: u16 = 60;
const CBOR_SEQUENCE: u16 = 63;

/// Stands for a number that has no media type, or none known here (RFC 8075
/// section 6.2); its parameter is the number.
const NUMBERED: &str = "application/coap-payload";

/// A format: its number, its media type as a header tells it, and whether it is
/// compressed ("deflate", the only coding that the registry has).
struct Format(u16, &'static str, bool);

/// In the order of the numbers.
static FORMATS: [Format; 60] = [
    Format(TEXT, "text/plain; charset=utf-8", false),
    Format(16, "application/cose; cose-type=\"cose-encrypt0\"", false),
    Format(17, "application/cose; cose-type=\"cose-mac0\"", false),
    Format(18, "application/cose; cose-type=\"cose-sign1\"", false),
    Format(19, "application/ace+cbor", false),
    Format(21, "image/gif", false),
    Format(22, "image/jpeg", false),
    Format(23, "image/png", false),
    Format(LINKS, "application/link-format", false),
    Format(XML, "application/xml", false),
    Format(BYTES, "application/octet-stream", false),
    Format(47, "application/exi", false),
    Format(JSON, "application/json", false),
    Format(51, "application/json-patch+json", false),
    Format(52, "application/merge-patch+json", false),
    Format(CBOR, "application/cbor", false),
    Format(61, "application/cwt", false),
    Format(62, "application/multipart-core", false),
    Format(CBOR_SEQUENCE, "application/cbor-seq", false),
    Format(96, "application/cose; cose-type=\"cose-encrypt\"", false),
    Format(97, "application/cose; cose-type=\"cose-mac\"", false),
    Format(98, "application/cose; cose-type=\"cose-sign\"", false),
    Format(101, "application/cose-key", false),
    Format(102, "application/cose-key-set", false),
    Format(110, "application/senml+json", false),
    Format(111, "application/sensml+json", false),
    Format(112, "application/senml+cbor", false),
    Format(113, "application/sensml+cbor", false),
    Format(114, "application/senml-exi", false),
    Format(115, "application/sensml-exi", false),
    Format(140, "application/yang-data+cbor; id=sid", false),
    Format(256, "application/coap-group+json", false),
    Format(257, "application/concise-problem-details+cbor", false),
    Format(258, "application/swid+cbor", false),
    Format(271, "application/dots+cbor", false),
    Format(272, "application/missing-blocks+cbor-seq", false),
    Format(280, "application/pkcs7-mime; smime-type=server-generated-key", false),
    Format(281, "application/pkcs7-mime; smime-type=certs-only", false),
    Format(284, "application/pkcs8", false),
    Format(285, "application/csrattrs", false),
    Format(286, "application/pkcs10", false),
    Format(287, "application/pkix-cert", false),
    Format(290, "application/aif+cbor", false),
    Format(291, "application/aif+json", false),
    Format(310, "application/senml+xml", false),
    Format(311, "application/sensml+xml", false),
    Format(320, "application/senml-etch+json", false),
    Format(322, "application/senml-etch+cbor", false),
    Format(340, "application/yang-data+cbor", false),
    Format(341, "application/yang-data+cbor; id=name", false),
    Format(432, "application/td+json", false),
    Format(10_000, "application/vnd.ocf+cbor", false),
    Format(10_002, "application/javascript", false),
    Format(11_050, "application/json", true),
    Format(11_060, "application/cbor", true),
    Format(11_542, "application/vnd.oma.lwm2m+tlv", false),
    Format(11_543, "application/vnd.oma.lwm2m+json", false),
    Format(11_544, "application/vnd.oma.lwm2m+cbor", false),
    Format(20_000, "text/css", false),
    Format(30_000, "image/svg+xml", false),
];

/// The media type of this number, as Content-Type and Accept tell it, and whether
/// it is deflated. A number that is not known goes by
/// `application/coap-payload;cf=NUMBER`.
#[must_use]
pub fn media_type(number: u16) -> (Cow<'static, str>, bool) {
    match FORMATS.binary_search_by_key(&number, |format| format.0) {
        Ok(at) => (Cow::Borrowed(FORMATS[at].1), FORMATS[at].2),
        Err(_) => (Cow::Owned(format!("{NUMBERED};cf={number}")), false),
    }
}

/// The number of a reply's media type. One that has none is the most that can be
/// said of it: text is text, what is built on JSON, CBOR or XML is at least that
/// (RFC 6839), and all else is bytes.
#[must_use]
pub fn number(content_type: &str, content_coding: Option<&str>) -> u16 {
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let essence = essence.trim_ascii();
    let deflated = match content_coding.map(str::trim_ascii) {
        None | Some("" | "identity") => false,
        Some("deflate") => true,
        // Of what is coded otherwise, nobody who has a number could read it.
        Some(_) => return BYTES,
    };
    if essence.eq_ignore_ascii_case(NUMBERED) {
        return parameter(parameters, "cf").and_then(|number| number.parse().ok()).unwrap_or(BYTES);
    }
    let listed = FORMATS.iter().filter(|format| format.2 == deflated);
    let listed = listed.filter(|format| format.names(essence, parameters));
    // What says more of itself comes before what says less.
    match listed.max_by_key(|format| format.1.len()) {
        Some(format) => format.0,
        None if deflated => BYTES,
        None => likest(essence, parameters),
    }
}

impl Format {
    fn names(&self, essence: &str, parameters: &str) -> bool {
        let (own, wanted) = self.1.split_once("; ").unwrap_or((self.1, ""));
        if !own.eq_ignore_ascii_case(essence) {
            return false;
        }
        match wanted.split_once('=') {
            None => true,
            Some(("charset", _)) => is_utf8(parameters),
            Some((name, value)) => parameter(parameters, name)
                .is_some_and(|found| found.eq_ignore_ascii_case(value.trim_matches('"'))),
        }
    }
}

fn likest(essence: &str, parameters: &str) -> u16 {
    let essence = essence.to_ascii_lowercase();
    match essence.rsplit_once('+').map(|(_, suffix)| suffix) {
        Some("json") => JSON,
        Some("cbor") => CBOR,
        Some("cbor-seq") => CBOR_SEQUENCE,
        Some("xml") => XML,
        _ if essence.starts_with("text/") && is_utf8(parameters) => TEXT,
        _ => BYTES,
    }
}

/// Whether text of these parameters is UTF-8, which is the only text that has a
/// number.
fn is_utf8(parameters: &str) -> bool {
    let known = ["utf-8", "utf8", "us-ascii"];
    parameter(parameters, "charset")
        .is_none_or(|charset| known.iter().any(|known| known.eq_ignore_ascii_case(charset)))
}

/// The value of the parameter of this name, without quotes.
fn parameter<'p>(parameters: &'p str, name: &str) -> Option<&'p str> {
    let pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(found, _)| found.trim_ascii().eq_ignore_ascii_case(name));
    values.next().map(|(_, value)| value.trim_ascii().trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(content_type: &str, coding: Option<&str>, expected: u16) {
        assert_eq!(number(content_type, coding), expected, "{content_type} {coding:?}");
    }

    #[test]
    fn every_number_comes_back_from_its_media_type() {
        assert!(FORMATS.is_sorted_by_key(|format| format.0));
        for Format(number, ..) in &FORMATS {
            let (name, deflated) = media_type(*number);
            check(&name, deflated.then_some("deflate"), *number);
        }
    }

    #[test]
    fn media_types_have_the_number_that_says_most() {
        check("text/plain", None, TEXT);
        check("Text/PLAIN;charset=UTF-8", None, TEXT);
        check("text/plain; charset=\"utf-8\"; format=flowed", None, TEXT);
        check("text/plain; charset=iso-8859-1", None, BYTES);
        check("text/html; charset=utf-8", None, TEXT);
        check("text/html; charset=latin1", None, BYTES);
        check("text/css", None, 20_000);
        check("application/json; charset=utf-8", None, JSON);
        check("application/problem+json", None, JSON);
        check("application/geo+json-seq", None, BYTES);
        check("application/vnd.api+cbor", None, CBOR);
        check("application/sensor+cbor-seq", None, CBOR_SEQUENCE);
        check("application/atom+xml", None, XML);
        check("image/webp", None, BYTES);
        check("application/cose; cose-type=cose-mac", None, 97);
        check("application/cose", None, BYTES);
        check("application/yang-data+cbor", None, 340);
        check("application/yang-data+cbor;ID=name", None, 341);
        check("nonsense", None, BYTES);
        check("", None, BYTES);
    }

    #[test]
    fn what_is_coded_has_a_number_of_its_own_or_is_bytes() {
        check("application/json", Some("deflate"), 11_050);
        check("application/cbor", Some("identity"), CBOR);
        check("application/json", Some("gzip"), BYTES);
        check("text/plain", Some("deflate"), BYTES);
    }

    #[test]
    fn a_number_without_a_name_goes_by_itself() {
        let (name, deflated) = media_type(65_000);
        assert_eq!((&*name, deflated), ("application/coap-payload;cf=65000", false));
        check("application/coap-payload; CF=\"65000\"", None, 65_000);
        check("application/coap-payload;cf=65536", None, BYTES);
        check("application/coap-payload", None, BYTES);
    }

    proptest! {
        #[test]
        fn any_number_comes_back(value: u16) {
            let (name, deflated) = media_type(value);
            let coding = deflated.then_some("deflate");
            prop_assert_eq!(number(&name, coding), value);
        }

        #[test]
        fn any_type_has_a_number(text in "\\PC{0,60}", coding in proptest::option::of("[a-z]{0,9}")) {
            let _ = number(&text, coding.as_deref());
        }
    }
}
