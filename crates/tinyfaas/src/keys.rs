//! Where the keys of CoAP over DTLS come from: a file, a variable, or both.
//!
//! Owns the reading of that file, once, while the server may still have root's
//! rights. Must not know how keys are written; that is the gateway's. No message
//! here shows one.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tinyfaas_gateway::{KeyMistakes, PskKeys};

use crate::config::Config;
use crate::config::settings::{COAP_KEYS, COAP_KEYS_FILE};

/// The longest file of keys, in bytes: more than all keys take that there may be.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Whether others than owner and group may read or change it, as the mode has it.
const OTHERS: u32 = 0o006;

/// The keys, and what should be put right about them.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(crate) keys: PskKeys,
    pub(crate) warnings: Vec<String>,
}

/// Reads all keys that the configuration gives, if CoAP over DTLS is on.
///
/// # Errors
/// All mistakes, a line each, with the file and the line in it.
pub(crate) fn read(config: &Config) -> Result<Keys, Vec<String>> {
    let mut keys = Keys::default();
    if config.endpoint("coaps").port.is_none() {
        return Ok(keys);
    }
    if let Some(file) = config.file().filter(|_| config.file_is_secret()) {
        keys.warnings.extend(open_to_others(file));
    }
    let list = PskKeys::parse_list(config.secret(COAP_KEYS).expose());
    let list = list.map_err(|mistakes| each(COAP_KEYS, mistakes))?;
    let path = Path::new(config.text(COAP_KEYS_FILE));
    keys.keys = match path.as_os_str().is_empty() {
        true => list,
        false => {
            let of_file = read_file(path).map_err(|why| lines(path, why))?;
            keys.warnings.extend(open_to_others(path));
            list.join(of_file).map_err(|mistakes| lines(path, mistakes.lines))?
        }
    };
    keys.warnings.extend(keys.keys.warnings());
    Ok(keys)
}

fn read_file(path: &Path) -> Result<PskKeys, Vec<String>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| vec![format!("it cannot be read: {error}")])?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(vec![format!("it is larger than {FILE_BYTES_MAX} bytes")]);
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        vec![format!(
            "line {line}: it is not UTF-8; write a key of any bytes in hex, ID:hex:00ff10ab"
        )]
    })?;
    match PskKeys::parse_lines(text) {
        Err(mistakes) => Err(mistakes.lines),
        Ok(keys) if keys.is_empty() => {
            Err(vec!["there is no key in it; write a line IDENTITY:KEY for each client".to_owned()])
        }
        Ok(keys) => Ok(keys),
    }
}

fn lines(path: &Path, mistakes: Vec<String>) -> Vec<String> {
    mistakes.into_iter().map(|mistake| format!("{}: {mistake}", path.display())).collect()
}

fn each(name: &str, mistakes: KeyMistakes) -> Vec<String> {
    mistakes.lines.into_iter().map(|mistake| format!("{name}: {mistake}")).collect()
}

fn open_to_others(path: &Path) -> Option<String> {
    // Who could read it a moment ago can look at it.
    let mode = path.metadata().ok()?.permissions().mode();
    let shown = path.display();
    (mode & OTHERS != 0).then(|| {
        format!(
            "{shown} holds keys, and every user of this machine can read or change it; \
             chmod o-rw {shown}"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    /// What comes of a file with this text, and of these keys beside it.
    fn check(text: &[u8], mode: u32, list: &str) -> (Result<Keys, Vec<String>>, String) {
        let place = tempfile::tempdir().expect("room");
        let path = place.path().join("keys");
        std::fs::write(&path, text).expect("writable");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
        let shown = path.display().to_string();
        let variable = |name: &str| match name {
            "TF_COAP_KEYS_FILE" => Some(shown.clone()),
            "TF_COAP_KEYS" => Some(list.to_owned()),
            _ => None,
        };
        (read(&Config::read(|_| None, variable, None).expect("valid")), shown)
    }

    #[test]
    fn both_sources_are_read() {
        let text = b"# ours\n\nsensor-1:a long enough secret\n";
        let (keys, _) = check(text, 0o600, "urn:x:hex:000102030405060708090a0b0c0d0e0f");
        let keys = keys.expect("valid");
        assert_eq!((keys.keys.len(), keys.warnings.len()), (2, 0), "{keys:?}");
        let none = Config::read(|_| None, |_| None, None).expect("valid");
        assert!(read(&none).expect("off").keys.is_empty());
    }

    #[test]
    fn a_file_that_others_read_and_short_keys_are_warned_of() {
        for mode in [0o644, 0o602] {
            let (keys, path) = check(b"a:hidden", mode, "");
            let warnings = keys.expect("valid").warnings;
            assert_eq!(warnings.len(), 2, "{warnings:?}");
            assert!(warnings[0].starts_with(&path), "{warnings:?}");
            assert!(warnings[1].contains("\"a\"") && !warnings[1].contains("hidden"));
        }
        let (keys, _) = check(b"a:a long enough secret", 0o640, "");
        assert_eq!(keys.expect("valid").warnings, [""; 0]);
    }

    fn check_refused(text: &[u8], list: &str, expected: &[&str]) {
        let (keys, path) = check(text, 0o600, list);
        let mistakes = keys.expect_err("it is broken");
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.starts_with(&format!("{path}: {expected}")), "{mistake}");
            assert!(!mistake.contains("hidden"), "{mistake}");
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        check_refused(b"\nhidden\na:hidden\na:hidden", "", &["line 2: ", "line 4: the identity"]);
        check_refused(b"a:1\nb:\xff", "", &["line 2: it is not UTF-8"]);
        check_refused(b"# nothing\n", "", &["there is no key in it"]);
        check_refused(b"a:hidden", "a:hidden", &["the identity \"a\" has a key in both"]);
        check_refused(&[b'#'; (4 << 20) + 1], "", &["it is larger than"]);
    }
}
