//! The configuration file: TOML whose keys are the settings' names.
//!
//! Owns where the file lies and how its values become the texts that a flag or a
//! variable would have held. Must not know what the texts mean. A mistake in it is
//! told with its line, beside all others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::config::settings::{CONFIG, SETTINGS, Setting};
use crate::config::values::Kind;

/// The longest file, in bytes: some hundred times what all settings take.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How much of a key is repeated in a message, in characters.
const SHOWN_CHARS_MAX: usize = 60;
/// How near a key must be to a setting's name to be taken for a spelling mistake
/// (Jaro-Winkler; 1 is the same).
const NEARNESS_MIN: f64 = 0.8;

/// A file's settings, each as the text that it would be elsewhere, with its line.
#[derive(Debug, Default)]
pub(super) struct FileValues {
    pub(super) texts: BTreeMap<&'static str, (usize, String)>,
    /// What is wrong with the file, a line of text each.
    pub(super) mistakes: Vec<String>,
}

/// Where the file is looked for when none is named; none where the user has no
/// home.
pub(crate) fn default_path(
    is_root: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<PathBuf> {
    if is_root {
        return Some("/etc/tinyfaas/config.toml".into());
    }
    let absolute = |name| variable(name).filter(|path| path.starts_with('/'));
    let config = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| format!("{home}/.config")))?;
    Some(PathBuf::from(config).join("tinyfaas/config.toml"))
}

/// Reads a file; `None` where there is none.
pub(super) fn read(path: &Path) -> Option<FileValues> {
    let shown = path.display();
    let wrong = |why: String| FileValues { mistakes: vec![why], ..FileValues::default() };
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(wrong(format!("{shown}: it cannot be read: {error}"))),
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            return Some(wrong(format!("{shown}: it is larger than {FILE_BYTES_MAX} bytes")));
        }
        Ok(_) => {}
    }
    Some(match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, path),
        Err(_) => wrong(format!("{shown}: it is not UTF-8; save it as UTF-8 text")),
    })
}

fn parse(text: &str, path: &Path) -> FileValues {
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line_of = |span: Range<usize>| {
        1 + text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count()
    };
    let mut values = FileValues::default();
    let path = path.display();
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let (line, why) = (error.span().map_or(1, line_of), error.message());
            values.mistakes.push(format!("{path}:{line}: this is not TOML: {why}"));
            return values;
        }
    };
    let mut mistakes = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span());
        match setting_of(key.get_ref()).and_then(|setting| {
            let text = text_of(value.get_ref(), setting)?;
            Ok((setting.name, text))
        }) {
            Ok((name, text)) => drop(values.texts.insert(name, (line, text))),
            Err(what) => mistakes.push((line, what)),
        }
    }
    mistakes.sort();
    values.mistakes =
        mistakes.into_iter().map(|(line, what)| format!("{path}:{line}: {what}")).collect();
    values
}

fn setting_of(key: &str) -> Result<&'static Setting, String> {
    if key == CONFIG {
        return Err(format!("{CONFIG}: a configuration file cannot name another"));
    }
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) {
        return Ok(setting);
    }
    let shown: String = key.chars().take(SHOWN_CHARS_MAX).collect();
    // As a variable or in the manner of a function's settings.
    let kebab = shown.to_ascii_lowercase().replace('_', "-");
    let kebab = kebab.strip_prefix("tf-").unwrap_or(&kebab);
    let nearness = |setting: &Setting| strsim::jaro_winkler(kebab, setting.name);
    let near = SETTINGS.iter().max_by(|a, b| nearness(a).total_cmp(&nearness(b)));
    Err(match near.filter(|setting| nearness(setting) >= NEARNESS_MIN) {
        Some(near) => format!("there is no setting {shown:?}; is {} meant?", near.name),
        None => {
            format!("there is no setting {shown:?}; tinyfaas --help shows those that there are")
        }
    })
}

/// The text that a flag would have.
fn text_of(value: &DeValue<'_>, setting: &Setting) -> Result<String, String> {
    let takes_numbers = matches!(
        setting.kind,
        Kind::Port
            | Kind::PortIfWanted
            | Kind::Duration
            | Kind::Bytes
            | Kind::BytesUpTo(_)
            | Kind::BytesBetween(..)
            | Kind::Count
    );
    let takes_lists =
        matches!(setting.kind, Kind::Addresses | Kind::Names | Kind::Emails | Kind::Origins);
    let found = match value {
        DeValue::String(text) => return Ok(text.clone().into_owned()),
        DeValue::Integer(number) if takes_numbers => {
            return i64::from_str_radix(number.as_str(), number.radix())
                .map(|number| number.to_string())
                .map_err(|_| format!("{} is out of range", setting.name));
        }
        DeValue::Array(list) if takes_lists => {
            let texts = list.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Some(text.as_ref()),
                _ => None,
            });
            if let Some(texts) = texts.collect::<Option<Vec<_>>>() {
                return Ok(texts.join(","));
            }
            "a list of other things"
        }
        DeValue::Boolean(truth) if setting.kind == Kind::YesNo => return Ok(truth.to_string()),
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let wanted = match setting.kind {
        Kind::Port | Kind::PortIfWanted | Kind::Count => "a whole number",
        Kind::Duration => "a text such as \"30s\", or a number of seconds",
        Kind::Bytes | Kind::BytesUpTo(_) | Kind::BytesBetween(..) => {
            "a text such as \"64MiB\", or a number of bytes"
        }
        Kind::Addresses | Kind::Names | Kind::Emails | Kind::Origins => "a text or a list of texts",
        Kind::YesNo => "true or false",
        Kind::Text
        | Kind::User
        | Kind::Word
        | Kind::Choice(_)
        | Kind::File
        | Kind::HttpsUrl
        | Kind::Keys => "a text",
    };
    Err(format!("{} is {found}; it must be {wanted}", setting.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, usize, &str)], &[&str]>) {
        let values = parse(text, Path::new("c.toml"));
        match expected {
            Ok(expected) => {
                let texts = values.texts.iter();
                let read: Vec<_> =
                    texts.map(|(key, (line, text))| (*key, *line, text.as_str())).collect();
                assert_eq!((read.as_slice(), values.mistakes.len()), (expected, 0), "{text}");
            }
            Err(expected) => {
                assert_eq!(values.mistakes.len(), expected.len(), "{:#?}", values.mistakes);
                for (mistake, expected) in values.mistakes.iter().zip(expected) {
                    assert!(
                        mistake.starts_with("c.toml:") && mistake.contains(expected),
                        "{mistake}"
                    );
                }
            }
        }
    }

    #[test]
    fn values_become_the_texts_of_flags() {
        check("", Ok(&[]));
        check("\u{feff}# x\nhttp-port = -1\n", Ok(&[("http-port", 2, "-1")]));
        check("call-deadline = '5min'", Ok(&[("call-deadline", 1, "5min")]));
        check("call-deadline = 0x10", Ok(&[("call-deadline", 1, "16")]));
        check("http-address = ['::1', '10.0.0.1']", Ok(&[("http-address", 1, "::1,10.0.0.1")]));
        check("management-hosts = ['a.b']", Ok(&[("management-hosts", 1, "a.b")]));
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        check(
            "http_port = 1",
            Err(&[":1: there is no setting \"http_port\"; is http-port meant?"]),
        );
        check("TF_CALL_DEADLINE = 1", Err(&["is call-deadline meant?"]));
        check("colour = 1", Err(&["tinyfaas --help"]));
        check("config = 'x'", Err(&["cannot name another"]));
        check("data-dir = 3", Err(&["data-dir is a number; it must be a text"]));
        check("uploads-max = 1.5", Err(&["uploads-max is a number; it must be a whole number"]));
        check("uploads-max = [1]", Err(&["is a list; it must be a whole number"]));
        check("uploads-max = 99999999999999999999", Err(&["out of range"]));
        check("http-address = [1]", Err(&["a list of other things"]));
        check("\n[gateway]\nx = 1\n\n[log-level]\n", Err(&[":2: ", ":5: log-level is a table"]));
        check("http-port = 1\nhttp-port = 2", Err(&[":2: this is not TOML: "]));
    }

    #[test]
    fn the_file_follows_the_user() {
        let home = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
        let both = |name: &str| {
            if name == "XDG_CONFIG_HOME" { Some("/cfg".to_owned()) } else { home(name) }
        };
        assert_eq!(default_path(true, both), Some("/etc/tinyfaas/config.toml".into()));
        assert_eq!(default_path(false, both), Some("/cfg/tinyfaas/config.toml".into()));
        assert_eq!(
            default_path(false, home),
            Some("/home/ada/.config/tinyfaas/config.toml".into())
        );
        assert_eq!(default_path(false, |_| None), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(?s).{0,400}", value in "[^\\n]{0,40}") {
            let _ = parse(&text, Path::new("c.toml"));
            for setting in SETTINGS {
                let _ = parse(&format!("{} = {value}", setting.name), Path::new("c.toml"));
            }
        }
    }
}
