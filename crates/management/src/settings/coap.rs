//! The table `[coap]` of `tinyfaas.toml`: what a function is over CoAP.
//!
//! What is told of it in links (RFC 6690) is held to what a link can carry, so that
//! who writes links need not look again.

use tinyfaas_model::CoapAttributes;

use super::unknown;
use super::value::Named;

/// The longest `rt`, `if` and `title`, in characters.
const ATTRIBUTE_CHARS_MAX: usize = 200;
/// The most content formats of one function.
const FORMATS_MAX: usize = 16;

/// Every setting that the table may hold.
pub(super) const KEYS: [&str; 6] = ["observable", "rt", "if", "ct", "sz", "title"];

/// Sets one of them.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(super) fn set(coap: &mut CoapAttributes, value: Named<'_>) -> Result<(), String> {
    match value.key {
        "observable" => coap.observable = value.truth()?,
        "rt" => coap.rt = Some(value.words(ATTRIBUTE_CHARS_MAX)?),
        "if" => coap.interface = Some(value.words(ATTRIBUTE_CHARS_MAX)?),
        "ct" => coap.ct = formats(value)?,
        "sz" => coap.sz = Some(size(value)?),
        "title" => coap.title = Some(value.line(ATTRIBUTE_CHARS_MAX)?),
        key => return Err(unknown(" in [coap]", key, &KEYS)),
    }
    Ok(())
}

/// The numbers of content formats (RFC 7252 section 12.3), each once.
fn formats(value: Named<'_>) -> Result<Vec<u16>, String> {
    let mut formats = Vec::new();
    for member in value.members() {
        let number = member.integer().and_then(|number| u16::try_from(number).ok());
        let format = number.ok_or_else(|| {
            member.wrong("the number of a content format, from 0 to 65535, or a list of such")
        })?;
        if !formats.contains(&format) {
            formats.push(format);
        }
        if formats.len() > FORMATS_MAX {
            return Err(format!("{} names more than {FORMATS_MAX} content formats", value.key));
        }
    }
    Ok(formats)
}

fn size(value: Named<'_>) -> Result<u32, String> {
    let most = u32::MAX;
    let number = value.integer().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| value.wrong(&format!("a number of bytes, from 0 to {most}")))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::Settings;
    use super::*;
    use crate::config::ManagementConfig;

    fn read(lines: &str) -> Result<CoapAttributes, String> {
        let config = ManagementConfig::new(PathBuf::new(), PathBuf::new());
        let settings = Settings::parse(&format!("threads = 2\n\n[coap]\n{lines}"), &config);
        settings.map(|settings| settings.coap).map_err(|error| error.to_string())
    }

    fn check_refused(line: &str, expected: &str) {
        let error = read(line).expect_err(line);
        assert!(error.starts_with("tinyfaas.toml:4: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_table_with_everything_is_read() {
        let lines = "observable = true\nrt = 'Type1 urn:x:y'\nif = 'If1'\nct = [0, 0x32, 50, 65535]\n\
            sz = 4294967295\ntitle = 'Wärme \"innen\"'\n";
        let expected = CoapAttributes {
            observable: true,
            rt: Some("Type1 urn:x:y".to_owned()),
            interface: Some("If1".to_owned()),
            ct: vec![0, 50, 65535],
            sz: Some(u32::MAX),
            title: Some("Wärme \"innen\"".to_owned()),
        };
        assert_eq!(read(lines), Ok(expected));
        assert_eq!(read("ct = 40").unwrap().ct, [40]);
        for nothing in ["", "ct = []", "observable = false"] {
            assert_eq!(read(nothing), Ok(CoapAttributes::default()));
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        check_refused("observabel = true", "\"observabel\" in [coap]; is observable meant?");
        check_refused("colour = 1", "there are observable, rt, if, ct, sz, title");
        check_refused("observable = 'yes'", "observable is \"yes\"; it must be true or false");
        let words = "words of ASCII characters without quotes and backslashes";
        for rt in ["''", "' a'", "'a  b'", "'a '", "'ä'", "'a\"b'", "'a\\b'", "\"a\\tb\"", "3"] {
            check_refused(&format!("rt = {rt}"), words);
            check_refused(&format!("if = {rt}"), words);
        }
        check_refused(&format!("rt = '{}'", "x".repeat(201)), "at most 200 characters");
        check_refused(&format!("title = '{}'", "x".repeat(201)), "at most 200 characters");
        check_refused("title = \"two\\nlines\"", "one line of text");
        for ct in ["65536", "-1", "'40'", "1.5", "[0, 65536]", "[0, [1]]", "{}"] {
            check_refused(&format!("ct = {ct}"), "the number of a content format, from 0 to 65535");
        }
        let many: Vec<_> = (0..17).map(|n| n.to_string()).collect();
        check_refused(&format!("ct = [{}]", many.join(", ")), "more than 16 content formats");
        for sz in ["4294967296", "-1", "'1'", "[1]"] {
            check_refused(&format!("sz = {sz}"), "a number of bytes, from 0 to 4294967295");
        }
    }

    #[test]
    fn it_is_a_table() {
        let config = ManagementConfig::new(PathBuf::new(), PathBuf::new());
        let error = Settings::parse("\ncoap = true", &config).unwrap_err().to_string();
        assert_eq!(
            error,
            "tinyfaas.toml:2: coap is true; it must be a table, [coap], with lines of its own"
        );
        let coap = Settings::parse("coap.ct = 3", &config).unwrap().coap;
        assert_eq!(coap.ct, [3]);
    }
}
