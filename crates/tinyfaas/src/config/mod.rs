//! The configuration: read in one place, checked whole, every mistake reported
//! at once.
//!
//! Owns which settings there are (`settings.rs`), where their texts come from
//! (`file.rs`), how those are read (`values.rs`), which of them go together
//! (`checks.rs`) and what they amount to. Must not know what the rooms do with them.

mod checks;
pub(crate) mod file;
pub(crate) mod settings;
mod values;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::file::FileValues;
use crate::config::settings::{COAP_KEYS, CONFIG, DATA_DIR, SETTINGS, Setting};
use crate::config::values::Secret;
pub(crate) use crate::config::values::Value;

/// The port of CoAP over DTLS (RFC 7252 section 6.2), once there are keys.
const COAPS_PORT: u16 = 5684;

/// Where one endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The setting's name, for messages: `http`, `management`.
    pub(crate) name: &'static str,
    /// What its port is one of.
    pub(crate) transport: Transport,
    /// `None` switches it off, 0 lets the kernel choose.
    pub(crate) port: Option<u16>,
    /// Where to bind it; empty is all addresses of both families.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Endpoint {
    /// How its variables begin.
    pub(crate) fn variable(&self) -> String {
        self.name.to_ascii_uppercase().replace('-', "_")
    }
}

/// What ports are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Every setting, checked.
#[derive(Debug)]
pub(crate) struct Config {
    values: BTreeMap<&'static str, Value>,
    file: Option<PathBuf>,
    /// Whether the configuration file holds keys.
    file_is_secret: bool,
}

/// A setting's text and where it comes from, for messages.
struct Given {
    text: String,
    source: String,
}

impl Config {
    /// Reads every setting from the flags, else from the environment, else from
    /// the configuration file, else its default. `default_file` is read where none
    /// is named, if it is there.
    ///
    /// # Errors
    /// All mistakes, a line each.
    pub(crate) fn read(
        flag: impl Fn(&Setting) -> Option<String>,
        variable: impl Fn(&str) -> Option<String>,
        default_file: Option<&Path>,
    ) -> Result<Self, Vec<String>> {
        let mut values = BTreeMap::new();
        let mut shown = BTreeMap::new();
        let (file, FileValues { mut texts, mut mistakes }) =
            read_file(&flag, &variable, default_file);
        let file_is_secret = texts.contains_key(COAP_KEYS);
        for setting in SETTINGS {
            let from_file = texts.remove(setting.name).map(|(line, text)| {
                let path = file.as_deref().unwrap_or(Path::new("")).display();
                Given { text, source: format!("{path}:{line}: {}", setting.name) }
            });
            let given = given(setting, &flag, &variable).or(from_file).unwrap_or_else(|| Given {
                text: setting.default.to_owned(),
                source: setting.variable.to_owned(),
            });
            let as_given = match setting.kind.is_secret() {
                true => given.source,
                false => format!("{}={:?}", given.source, given.text),
            };
            match setting.kind.parse(&given.text) {
                Ok(value) => drop(values.insert(setting.name, value)),
                Err(problem) => mistakes.push(format!("{as_given}: {problem}")),
            }
            shown.insert(setting.name, as_given);
        }
        mistakes.extend(checks::mistakes(&values, &shown));
        if mistakes.is_empty() { Ok(Self { values, file, file_is_secret }) } else { Err(mistakes) }
    }

    /// Whether the configuration file holds keys, which are nobody else's business.
    pub(crate) fn file_is_secret(&self) -> bool {
        self.file_is_secret
    }

    /// The configuration file that was read.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn value(&self, name: &str) -> &Value {
        self.values.get(name).expect("every setting has been read, and the tests ask for all")
    }

    /// The endpoint `http`, `coap`, `coap-tcp`, `coaps`, `grpc` or `management`, or
    /// over TLS `https`, `coaps-tcp`, `grpc-tls` or `management-tls`.
    pub(crate) fn endpoint(&self, name: &'static str) -> Endpoint {
        let port = match *self.value(&format!("{name}-port")) {
            Value::Port(port) => port,
            Value::Unset => checks::has_keys(&self.values).then_some(COAPS_PORT),
            ref other => unreachable!("{name}-port is no port but {other:?}"),
        };
        let Value::Addresses(addresses) = self.value(&format!("{name}-address")).clone() else {
            unreachable!("{name}-address is a list of addresses")
        };
        let transport = match name {
            "coap" | "coaps" => Transport::Udp,
            _ => Transport::Tcp,
        };
        Endpoint { name, transport, port, addresses }
    }

    /// A length of time.
    pub(crate) fn duration(&self, name: &str) -> std::time::Duration {
        match *self.value(name) {
            Value::Duration(duration) => duration,
            ref other => unreachable!("{name} is no duration but {other:?}"),
        }
    }

    /// A number of bytes.
    pub(crate) fn bytes(&self, name: &str) -> u64 {
        match *self.value(name) {
            Value::Bytes(bytes) => bytes,
            ref other => unreachable!("{name} is no size but {other:?}"),
        }
    }

    /// A number of things.
    pub(crate) fn count(&self, name: &str) -> usize {
        match *self.value(name) {
            Value::Count(count) => count,
            ref other => unreachable!("{name} is no number but {other:?}"),
        }
    }

    /// A text, one of a list of words, or an empty one.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(text) => text,
            other => unreachable!("{name} is no text but {other:?}"),
        }
    }

    /// The parts of a text between commas that are not empty.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let parts = self.text(name).split(',').map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// Yes or no.
    pub(crate) fn truth(&self, name: &str) -> bool {
        match *self.value(name) {
            Value::Truth(truth) => truth,
            ref other => unreachable!("{name} is neither yes nor no but {other:?}"),
        }
    }

    /// A text that no message may hold.
    pub(crate) fn secret(&self, name: &str) -> &Secret {
        match self.value(name) {
            Value::Secret(secret) => secret,
            other => unreachable!("{name} is no secret but {other:?}"),
        }
    }

    /// The one directory of the server.
    ///
    /// # Errors
    /// Where none is given and the user has no home to hold one.
    pub(crate) fn data_dir(
        &self,
        is_root: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, String> {
        match self.text(DATA_DIR) {
            "" if is_root => Ok("/var/lib/tinyfaas".into()),
            "" => {
                let absolute = |name| variable(name).filter(|path| path.starts_with('/'));
                let state = absolute("XDG_STATE_HOME")
                    .or_else(|| absolute("HOME").map(|home| format!("{home}/.local/state")));
                state.map(|state| PathBuf::from(state).join("tinyfaas")).ok_or_else(|| {
                    "no place for the server's data: HOME is not set; set TF_DATA_DIR to a \
                     directory of your own"
                        .to_owned()
                })
            }
            given => Ok(given.into()),
        }
    }
}

/// The file that is named, else the default one; and what it says.
fn read_file(
    flag: impl Fn(&Setting) -> Option<String>,
    variable: impl Fn(&str) -> Option<String>,
    default_file: Option<&Path>,
) -> (Option<PathBuf>, FileValues) {
    let setting = SETTINGS.iter().find(|setting| setting.name == CONFIG);
    let Some(named) = setting.and_then(|setting| given(setting, flag, variable)) else {
        // One in a folder that this user may not even enter is somebody else's:
        // `sudo -u` may leave HOME as it was.
        let mine = |path: &&Path| path.try_exists().is_ok();
        let values = default_file.filter(mine).and_then(file::read);
        let path = default_file.filter(|_| values.is_some()).map(Path::to_owned);
        return (path, values.unwrap_or_default());
    };
    let path = PathBuf::from(&named.text);
    let values = file::read(&path).unwrap_or_else(|| {
        let mistake = format!("{}={:?}: there is no such file", named.source, named.text);
        FileValues { mistakes: vec![mistake], ..FileValues::default() }
    });
    (Some(path), values)
}

/// What a flag or a variable says.
fn given(
    setting: &Setting,
    flag: impl Fn(&Setting) -> Option<String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<Given> {
    if let Some(text) = flag(setting) {
        return Some(Given { text, source: format!("--{}", setting.name) });
    }
    // An empty variable is one that is not set, as in `HTTP_PORT= tinyfaas`.
    for name in std::iter::once(setting.variable).chain(setting.old_variable) {
        if let Some(text) = variable(name).filter(|text| !text.trim().is_empty()) {
            return Some(Given { text, source: name.to_owned() });
        }
    }
    None
}

/// Variables that are no setting but nearly one: spelling mistakes, each with
/// the name that was probably meant. Other programs have variables that start
/// with `TF_` too, so not every unknown one is a mistake.
pub(crate) fn misspelt(names: impl Iterator<Item = String>) -> Vec<(String, &'static str)> {
    let nearest = |name: &str| {
        let far = |setting: &&Setting| strsim::osa_distance(name, setting.variable);
        let nearest = SETTINGS.iter().min_by_key(far)?;
        (1..=2).contains(&far(&nearest)).then_some(nearest.variable)
    };
    let known = |name: &str| SETTINGS.iter().any(|setting| setting.variable == name);
    names
        .filter(|name| name.starts_with("TF_") && !known(name))
        .filter_map(|name| nearest(&name).map(|meant| (name, meant)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::settings::BOUNDED;
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let find = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Config::read(|_| None, find, None)
    }

    fn check_port(variables: &[(&str, &str)], expected: Option<u16>) {
        let config = read(variables).expect("valid");
        assert_eq!(config.endpoint("http").port, expected, "{variables:?}");
    }

    #[test]
    fn ports_follow_the_contract() {
        check_port(&[], Some(8000));
        check_port(&[("HTTP_PORT", "")], Some(8000));
        check_port(&[("HTTP_PORT", "0")], Some(0));
        check_port(&[("HTTP_PORT", "-1")], None);
        check_port(&[("HTTP_PORT", "-70000")], None);
        check_port(&[("http_PORT", "81")], Some(81));
        check_port(&[("http_PORT", "81"), ("HTTP_PORT", "82")], Some(82));
        check_port(&[("http_PORT", "81"), ("HTTP_PORT", "")], Some(81));
    }

    #[test]
    fn management_cannot_be_switched_off() {
        let mistakes = read(&[("MANAGEMENT_PORT", "-1")]).expect_err("a mistake");
        assert!(mistakes[0].contains("cannot be switched off"), "{mistakes:?}");
        let config = read(&[("MANAGEMENT_PORT", "0")]).expect("valid");
        assert_eq!(config.endpoint("management").port, Some(0));
    }

    #[test]
    fn all_mistakes_are_reported_at_once() {
        let mistakes = read(&[
            ("HTTP_PORT", "http"),
            ("COAP_PORT", "65536"),
            ("HTTP_ADDRESS", "nowhere"),
            ("TF_CALL_DEADLINE", "soon"),
            ("TF_HTTP_BODY_MAX", "big"),
            ("TF_BACKEND", "podman"),
        ])
        .expect_err("six mistakes");
        assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
        assert!(mistakes.iter().any(|line| line.starts_with("COAP_PORT=\"65536\": ")));
    }

    #[test]
    fn a_default_above_its_maximum_is_a_mistake() {
        let mistakes = read(&[
            ("TF_CALL_DEADLINE", "2h"),
            ("TF_CALLS_PER_HANDLER_MAX", "20"),
            ("TF_START_TIMEOUT", "2h"),
            ("TF_START_TIMEOUT_MAX", "soon"),
        ])
        .expect_err("three mistakes");
        assert_eq!(mistakes.len(), 3, "one of them unreadable: {mistakes:#?}");
        let call = "TF_CALL_DEADLINE=\"2h\": more than TF_CALL_DEADLINE_MAX=\"1h\" allows; \
                    raise that one too";
        assert!(mistakes.iter().any(|line| line == call), "{mistakes:#?}");
        let handler = "TF_CALLS_PER_HANDLER=\"64\": more than TF_CALLS_PER_HANDLER_MAX=\"20\"";
        assert!(mistakes.iter().any(|line| line.starts_with(handler)), "{mistakes:#?}");
        for (name, max) in BOUNDED {
            assert!(
                read(&[]).is_ok_and(|config| {
                    std::mem::discriminant(config.value(name))
                        == std::mem::discriminant(config.value(max))
                }),
                "{name} and {max} must be of one kind"
            );
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let flag = |setting: &Setting| (setting.name == "http-port").then(|| "5".to_owned());
        let config = Config::read(flag, |name| (name == "HTTP_PORT").then(|| "6".to_owned()), None);
        assert_eq!(config.expect("valid").endpoint("http").port, Some(5));
    }

    fn check_coaps(variables: &[(&str, &str)], expected: Option<u16>) {
        let config = read(variables).expect("valid");
        assert_eq!(config.endpoint("coaps").port, expected, "{variables:?}");
    }

    #[test]
    fn the_port_of_dtls_follows_the_keys() {
        check_coaps(&[], None);
        check_coaps(&[("COAPS_PORT", "-1")], None);
        let keys = ("TF_COAP_KEYS", "a:hidden");
        check_coaps(&[keys], Some(5684));
        check_coaps(&[keys, ("COAPS_PORT", "0")], Some(0));
        check_coaps(&[keys, ("COAPS_PORT", "-1")], None);
        check_coaps(&[("TF_COAP_KEYS_FILE", "/proc/version")], Some(5684));
        let mistakes = read(&[("COAPS_PORT", "5684")]).expect_err("no keys");
        assert_eq!(
            mistakes,
            ["COAPS_PORT=\"5684\": no key is given for CoAP over DTLS; name a file of keys by \
              TF_COAP_KEYS_FILE, or leave the port empty"]
        );
        // One mistake is enough.
        let mistakes = read(&[("COAPS_PORT", "5684"), ("TF_COAP_KEYS", "hidden")]);
        assert_eq!(mistakes.expect_err("no colon").len(), 1);
    }

    #[test]
    fn nothing_shows_the_keys() {
        let shows = |text: &str| text.contains("hidden");
        let config = read(&[("TF_COAP_KEYS", "a:hidden")]).expect("valid");
        assert_eq!(config.secret(COAP_KEYS).expose(), "a:hidden");
        assert!(!shows(&format!("{config:?}")));
        for wrong in ["hidden", "a:b:hidden", "a:hidden,a:hidden", "a:0xhidden", "a:hidden\u{fffd}"]
        {
            let mistakes = read(&[("TF_COAP_KEYS", wrong)]).expect_err(wrong);
            assert!(mistakes[0].starts_with("TF_COAP_KEYS: "), "{mistakes:?}");
            assert!(mistakes.len() == 1 && !shows(&mistakes[0]), "{mistakes:?}");
            // The same out of a file, in which it may be no TOML either.
            for line in [
                format!("coap-keys = {wrong:?}"),
                format!("coap-keys = {wrong}"),
                format!("coap-keys {wrong}"),
            ] {
                let (_dir, path) = write(&format!("\n{line}"));
                let mistakes = Config::read(|_| None, |_| None, Some(&path)).expect_err(wrong);
                assert!(mistakes[0].contains("config.toml:2: "), "{mistakes:?}");
                assert!(mistakes.iter().all(|mistake| !shows(mistake)), "{mistakes:?}");
            }
        }
        let (_dir, path) = write("coap-keys = 'a:hidden'");
        let config = Config::read(|_| None, |_| None, Some(&path)).expect("valid");
        assert!(config.file_is_secret());
    }

    fn write(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("room for a file");
        let path = dir.path().join("config.toml");
        std::fs::write(&path, text).expect("writable");
        (dir, path)
    }

    #[test]
    fn a_file_wins_over_the_defaults_only() {
        let (_dir, path) = write("http-port = 5\ncall-deadline = '7s'\ndata-dir = '/f'\n");
        let flag = |setting: &Setting| (setting.name == "data-dir").then(|| "/flag".to_owned());
        let variable = |name: &str| (name == "HTTP_PORT").then(|| "6".to_owned());
        let config = Config::read(flag, variable, Some(&path)).expect("valid");
        assert_eq!(config.endpoint("http").port, Some(6));
        assert_eq!(config.text("data-dir"), "/flag");
        assert_eq!(config.duration("call-deadline").as_secs(), 7);
        assert_eq!(config.count("uploads-max"), 4);
        assert_eq!(config.file(), Some(&*path));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let (dir, path) = write("http-port = 5\n");
        let named = |path: &Path| {
            let text = path.display().to_string();
            Config::read(|_| None, |name| (name == "TF_CONFIG").then(|| text.clone()), Some(path))
        };
        let (other_dir, other) = write("http-port = 6\n");
        assert_eq!(named(&other).expect("valid").endpoint("http").port, Some(6));
        drop(other_dir);
        let mistakes = named(&other).expect_err("it is gone");
        assert!(mistakes[0].starts_with("TF_CONFIG=\"/") && mistakes[0].contains("no such file"));
        assert!(named(dir.path()).expect_err("a folder")[0].contains("cannot be read"));
        let config = Config::read(|_| None, |_| None, Some(&other)).expect("a default need not be");
        assert_eq!(config.file(), None);
        assert_eq!(
            Config::read(|_| None, |_| None, Some(&path)).expect("valid").file(),
            Some(&*path)
        );
    }

    #[test]
    fn mistakes_of_all_sources_are_reported_at_once() {
        let (_dir, path) = write("http-prt = 5\n\ncoap-port = 'x'\ncall-deadline = '2h'\n");
        let variable = |name: &str| (name == "GRPC_PORT").then(|| "x".to_owned());
        let flag = |setting: &Setting| (setting.name == "backend").then(|| "x".to_owned());
        let mistakes = Config::read(flag, variable, Some(&path)).expect_err("five mistakes");
        assert_eq!(mistakes.len(), 5, "{mistakes:#?}");
        let path = path.display();
        for expected in [
            format!("{path}:1: there is no setting \"http-prt\"; is http-port meant?"),
            format!("{path}:3: coap-port=\"x\": not a whole number"),
            format!("{path}:4: call-deadline=\"2h\": more than TF_CALL_DEADLINE_MAX=\"1h\""),
            "GRPC_PORT=\"x\": ".to_owned(),
            "--backend=\"x\": ".to_owned(),
        ] {
            assert!(
                mistakes.iter().any(|line| line.starts_with(&expected)),
                "{expected}: {mistakes:#?}"
            );
        }
    }

    #[test]
    fn a_data_directory_must_be_able_to_be_one() {
        let (_dir, file) = write("");
        let below = file.join("a/b").display().to_string();
        let mistakes = read(&[("TF_DATA_DIR", &below), ("HTTP_PORT", "x")]).expect_err("two");
        assert_eq!(mistakes.len(), 2, "{mistakes:#?}");
        let expected = format!("TF_DATA_DIR={below:?}: {} is no directory", file.display());
        assert_eq!(mistakes[1], expected);
        for good in ["/", "data", "/proc/not-there/yet", ""] {
            assert!(read(&[("TF_DATA_DIR", good)]).is_ok(), "{good}");
        }
    }

    #[test]
    fn the_data_directory_follows_the_user() {
        let config = read(&[]).expect("valid");
        let home = |name: &str| (name == "HOME").then(|| "/home/ada".to_owned());
        let dir = |root| config.data_dir(root, home).expect("a home");
        assert_eq!(dir(true), PathBuf::from("/var/lib/tinyfaas"));
        assert_eq!(dir(false), PathBuf::from("/home/ada/.local/state/tinyfaas"));
        assert!(config.data_dir(false, |_| None).is_err());
    }

    #[test]
    fn misspelt_variables_are_found() {
        let names = ["TF_BACKEND", "TF_BACKENT", "TF_CLI_ARGS", "HOME"].map(str::to_owned);
        assert_eq!(misspelt(names.into_iter()), [("TF_BACKENT".to_owned(), "TF_BACKEND")]);
    }
}
