//! What is wrong with settings that are right each by itself.
//!
//! Owns which settings go together. Must not know where their texts came from. What
//! could not be read is passed over here: it has been told, and one mistake is enough.

mod tls;

use std::collections::BTreeMap;
use std::path::Path;

use super::settings::{BOUNDED, COAP_KEYS, COAP_KEYS_FILE, DATA_DIR, SETTINGS};
use super::values::Value;

/// All settings that could be read.
pub(super) type Values = BTreeMap<&'static str, Value>;

/// The settings, and how each was given.
#[derive(Clone, Copy)]
struct Given<'a> {
    values: &'a Values,
    shown: &'a BTreeMap<&'static str, String>,
}

impl<'a> Given<'a> {
    /// Whether a port is on.
    fn is_on(self, port: &str) -> bool {
        matches!(self.values.get(port), Some(Value::Port(Some(_))))
    }

    /// Whether a port is off, and not merely wrong.
    fn is_off(self, port: &str) -> bool {
        matches!(self.values.get(port), Some(Value::Port(None)))
    }

    /// How a setting was given: `HTTP_PORT="80"`.
    fn shown(self, name: &'a str) -> &'a str {
        self.shown.get(name).map_or(name, String::as_str)
    }
}

/// All mistakes, a line each; `shown` tells how each setting was given.
pub(super) fn mistakes(values: &Values, shown: &BTreeMap<&'static str, String>) -> Vec<String> {
    let given = Given { values, shown };
    let mut mistakes: Vec<String> =
        [unmanaged(given), port_without_keys(given)].into_iter().flatten().collect();
    mistakes.extend(tls::mistakes(given));
    for (name, max) in BOUNDED {
        if exceeds(values.get(name), values.get(max)) {
            let (name, max) = (given.shown(name), given.shown(max));
            mistakes.push(format!("{name}: more than {max} allows; raise that one too"));
        }
    }
    if let Some(Value::Text(path)) = values.get(DATA_DIR)
        && let Some(obstacle) = obstacle(Path::new(path))
    {
        let given = given.shown(DATA_DIR);
        mistakes.push(format!("{given}: {} is no directory", obstacle.display()));
    }
    mistakes
}

/// Whether keys are given, or a file of them; so it is too where they are wrong.
pub(super) fn has_keys(values: &Values) -> bool {
    let none = |value: Option<&Value>| match value {
        Some(Value::Secret(keys)) => keys.expose().is_empty(),
        Some(Value::Text(path)) => path.is_empty(),
        _ => false,
    };
    !(none(values.get(COAP_KEYS)) && none(values.get(COAP_KEYS_FILE)))
}

/// Nothing by which the server could be managed.
fn unmanaged(given: Given<'_>) -> Option<String> {
    let off = given.is_off("management-port") && given.is_off("management-tls-port");
    off.then(|| {
        format!(
            "{}: it cannot be switched off unless management is served over TLS; set \
             MANAGEMENT_TLS_PORT as well",
            given.shown("management-port")
        )
    })
}

/// A port for DTLS, but nobody who could be let in there.
fn port_without_keys(given: Given<'_>) -> Option<String> {
    let port = "coaps-port";
    let wanted = given.is_on(port) && !has_keys(given.values);
    wanted.then(|| {
        format!(
            "{}: no key is given for CoAP over DTLS; name a file of keys by {}, or leave the \
             port empty",
            given.shown(port),
            variable(COAP_KEYS_FILE)
        )
    })
}

/// The variable of a setting.
fn variable(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.variable)
}

/// What lies where a directory would have to be, so that `path` can never be one.
fn obstacle(path: &Path) -> Option<&Path> {
    let there = path.ancestors().filter(|part| *part != Path::new(""));
    let nearest = there.map(|part| (part, part.metadata())).find_map(|(part, found)| match found {
        Ok(found) => Some((part, found.is_dir())),
        Err(_) => None,
    });
    nearest.filter(|(_, is_dir)| !is_dir).map(|(part, _)| part)
}

/// Whether both have been read, and the first is more than the second.
fn exceeds(value: Option<&Value>, most: Option<&Value>) -> bool {
    match (value, most) {
        (Some(Value::Duration(value)), Some(Value::Duration(most))) => value > most,
        (Some(Value::Count(value)), Some(Value::Count(most))) => value > most,
        (Some(Value::Bytes(value)), Some(Value::Bytes(most))) => value > most,
        _ => false,
    }
}
