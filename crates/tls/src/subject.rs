//! A distinguished name as text (RFC 4514), fit for a header.
//!
//! Owns the notation: whatever a certificate says, what comes out is printable
//! ASCII of bounded length, and no value can pass for another attribute. Must not
//! know whose name it is.

use x509_parser::asn1_rs::{Any, Tag, ToDer};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Bytes of a subject's text. Names are refused beyond, never cut: a part of one
/// may be another's name.
pub(crate) const SUBJECT_BYTES_MAX: usize = 2048;

/// A name whose text would be longer than [`SUBJECT_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its subject is longer than {SUBJECT_BYTES_MAX} bytes")]
pub struct TooLong;

/// The names that RFC 4514, section 3, has for types; others are told by number.
const TYPES: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The text of a name, its last part first (section 2.1). Empty for an empty name.
pub(crate) fn of(name: &X509Name<'_>) -> Result<String, TooLong> {
    let mut text = String::new();
    let parts: Vec<_> = name.iter().collect();
    for part in parts.iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        // The order within a part is free; openssl's is the last first as well.
        let attributes: Vec<_> = part.iter().collect();
        for (at, attribute) in attributes.iter().rev().enumerate() {
            if at > 0 {
                text.push('+');
            }
            push(&mut text, attribute);
            if text.len() > SUBJECT_BYTES_MAX {
                return Err(TooLong);
            }
        }
    }
    Ok(text)
}

fn push(text: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let short = TYPES.iter().find(|(number, _)| *number == oid).map(|(_, short)| *short);
    text.push_str(short.unwrap_or(&oid));
    text.push('=');
    let value = attribute.attr_value();
    // A type without a name has its value in hexadecimal too (section 2.4).
    match string(value).filter(|_| short.is_some()) {
        Some(string) => push_escaped(text, &string),
        None => push_der(text, value),
    }
}

/// A value that is a string, of whatever kind.
fn string(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            std::str::from_utf8(value.data).map(str::to_owned).ok()
        }
        // Nobody has ever used it but for ISO 8859-1.
        Tag::T61String => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let (pairs, rest) = value.data.as_chunks::<2>();
            let units: Vec<_> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
            String::from_utf16(&units).ok().filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// Section 2.4: what has a meaning is escaped, and here all that is not printable
/// ASCII, which the section allows.
fn push_escaped(text: &mut String, value: &str) {
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b'#' if at == 0 => text.push_str("\\#"),
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                text.push('\\');
                push_hex(text, byte);
            }
        }
    }
}

fn push_der(text: &mut String, value: &Any<'_>) {
    text.push('#');
    let der = value.to_der_vec().unwrap_or_else(|_| value.data.to_vec());
    // No longer than what is refused anyway.
    for byte in der.iter().take(SUBJECT_BYTES_MAX) {
        push_hex(text, *byte);
    }
}

fn push_hex(text: &mut String, byte: u8) {
    for digit in [byte >> 4, byte & 15] {
        text.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
    }
}

#[cfg(test)]
mod tests {
    use rcgen::string::{BmpString, TeletexString};
    use rcgen::{DnType, DnValue};
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::testing::{issuer, pair};

    fn check(parts: Vec<(DnType, DnValue)>, expected: Result<&str, TooLong>) {
        let pair = pair(&issuer("root"), |params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in parts {
                params.distinguished_name.push(kind, value);
            }
        });
        let chain = crate::pem::certificates(pair.certificate.as_bytes()).unwrap();
        let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
        let said = of(parsed.subject());
        assert_eq!(said.as_deref(), expected.as_ref().copied());
        if let Ok(said) = said {
            assert!(said.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{said:?}");
        }
    }

    fn check_cn(value: &str, expected: &str) {
        check(vec![(DnType::CommonName, value.into())], Ok(expected));
    }

    #[test]
    fn parts_are_told_from_the_last_to_the_first() {
        let parts = vec![
            (DnType::CountryName, "DE".into()),
            (DnType::OrganizationName, "Water, Works".into()),
            (DnType::CommonName, "pump 3".into()),
        ];
        check(parts, Ok("CN=pump 3,O=Water\\, Works,C=DE"));
        check(Vec::new(), Ok(""));
    }

    #[test]
    fn what_has_a_meaning_is_escaped() {
        check_cn("a+b;c<d>e\"f\\g=h", "CN=a\\+b\\;c\\<d\\>e\\\"f\\\\g=h");
        check_cn(" # ", "CN=\\ #\\ ");
        check_cn("#1", "CN=\\#1");
        // A header ends at a line break, and has no letters but ASCII's.
        check_cn("a\r\nx: y\0", "CN=a\\0D\\0Ax: y\\00");
        check_cn("Käse", "CN=K\\C3\\A4se");
    }

    #[test]
    fn other_kinds_of_strings_are_read() {
        let latin = TeletexString::try_from("Kase").unwrap();
        check(vec![(DnType::CommonName, DnValue::TeletexString(latin))], Ok("CN=Kase"));
        let wide = BmpString::try_from("Käse").unwrap();
        check(vec![(DnType::CommonName, DnValue::BmpString(wide))], Ok("CN=K\\C3\\A4se"));
    }

    #[test]
    fn a_type_without_a_name_is_told_by_its_number_and_bytes() {
        // The serial number of a device, a UTF8String (tag 12) of two bytes.
        let parts = vec![(DnType::CustomDnType(vec![2, 5, 4, 5]), "A1".into())];
        check(parts, Ok("2.5.4.5=#0C024131"));
    }

    #[test]
    fn one_that_is_too_long_is_not_cut() {
        let long = "x".repeat(SUBJECT_BYTES_MAX);
        check(vec![(DnType::CommonName, long.as_str().into())], Err(TooLong));
    }
}
