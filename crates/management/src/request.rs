//! What a management request asks for: JSON becomes a command, checked.
//!
//! Owns the bodies' fields and their rules. Pure. Keys match whatever their case,
//! unknown ones are ignored, null is as good as absent, and of a repeated key the
//! last one counts, as Go reads JSON. What a request leaves open, the function's
//! folder may say (`settings.rs`); where both say something, the request wins.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use tinyfaas_model::{EnvVar, FunctionName, FunctionSpec, Limits, NameError, Runtime};

use crate::archive::{Subfolder, SubfolderError};
use crate::config::ManagementConfig;
use crate::settings::{Settings, SettingsError};
use crate::shown::shown;

/// The longest environment variable that Linux hands to a program, in bytes
/// (`MAX_ARG_STRLEN`, less the zero byte at its end).
const ENV_BYTES_MAX: usize = (128 << 10) - 1;

/// Why a request asks for nothing that could be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The body has no bytes.
    #[error("the body is empty; send a JSON object, something like {{\"name\": \"echo\"}}")]
    Empty,
    /// The body is no JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// The body is the beginning of something.
    #[error("the body is not JSON: it ends too early; is it cut off?")]
    CutOff,
    /// The body's lists and objects lie too deep within each other.
    #[error("the body's JSON is nested too deeply; lists and objects are not needed here")]
    TooDeep,
    /// The body is JSON, but no object.
    #[error("the body is no JSON object; send something like {{\"name\": \"echo\"}}")]
    NoObject,
    /// A field is missing.
    #[error("the body lacks {key:?}: {what}")]
    Missing {
        /// The field.
        key: &'static str,
        /// What it is.
        what: &'static str,
    },
    /// A field has a value of the wrong kind.
    #[error("{key:?} is {found}; it must be {wanted}")]
    WrongKind {
        /// The field.
        key: &'static str,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// The archive is there, and said to lie elsewhere too.
    #[error("the form holds both \"archive\" and \"url\"; send one of them")]
    ArchiveAndUrl,
    /// The name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such environment.
    #[error("there is no environment {name}; there are {}", known_runtimes())]
    UnknownRuntime {
        /// The name asked for, fit to be shown.
        name: String,
    },
    /// The number of handlers makes no sense.
    #[error("\"threads\" is {found}; it must be a whole number from 1 to {max}")]
    Threads {
        /// What was sent.
        found: String,
        /// The most that is allowed.
        max: usize,
    },
    /// An environment variable that no program can be given.
    #[error("the environment variable {key} {why}")]
    Env {
        /// Its name, fit to be shown; its value is not shown.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The folder leads out of the archive.
    #[error(transparent)]
    Subfolder(#[from] SubfolderError),
}

/// The fields of all bodies, as they came. Not to be shown: environment values and
/// a URL's credentials are among them.
#[derive(Default)]
pub(crate) struct Fields {
    name: Value,
    env: Value,
    threads: Value,
    envs: Value,
    zip: Value,
    url: Value,
    subfolder_path: Value,
}

/// What an upload says of its function, before the folder has been looked into.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: FunctionName,
    runtime: Option<Runtime>,
    threads: Option<usize>,
    envs: Vec<EnvVar>,
}

/// Where to download a function from. Not to be shown: a URL may hold credentials.
pub(crate) struct UrlSource {
    /// As it was sent.
    pub(crate) url: String,
    /// The folder inside the archive.
    pub(crate) subfolder: Subfolder,
}

impl Fields {
    /// Reads a body.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, RequestError> {
        serde_json::from_slice(json).map_err(|error| not_read(json, &error))
    }

    /// The same of the function of this name, whatever else they call it.
    pub(crate) fn named(self, name: String) -> Self {
        Self { name: Value::String(name), ..self }
    }

    /// Takes a field that came as text, such as a form's or a query's. A further
    /// one of `envs` is added to those before; one of the others takes their place.
    pub(crate) fn add_text(&mut self, key: &'static str, text: &str) {
        let value = Value::String(text.to_owned());
        match key {
            "env" => self.env = value,
            "threads" => {
                let number = text.parse::<serde_json::Number>().map(Value::Number);
                self.threads = number.unwrap_or(value);
            }
            "envs" => match &mut self.envs {
                Value::Array(envs) => envs.push(value),
                other => *other = Value::Array(vec![value]),
            },
            "url" => self.url = value,
            "subfolder_path" => self.subfolder_path = value,
            _ => unreachable!("callers know the fields by heart"),
        }
    }

    /// The function's name.
    pub(crate) fn name(&self) -> Result<FunctionName, RequestError> {
        let name = text("name", &self.name)?
            .ok_or(RequestError::Missing { key: "name", what: "the function's name" })?;
        Ok(FunctionName::parse(name)?)
    }

    /// What an upload says of its function.
    pub(crate) fn wanted(&self, config: &ManagementConfig) -> Result<Wanted, RequestError> {
        let name = self.name()?;
        let runtime = text("env", &self.env)?.map(|runtime| {
            Runtime::from_name(runtime)
                .ok_or_else(|| RequestError::UnknownRuntime { name: shown(runtime.as_bytes()) })
        });
        let runtime = runtime.transpose()?;
        let threads = threads(&self.threads, config.threads_max)?;
        let envs = envs(&name, &self.envs)?;
        Ok(Wanted { name, runtime, threads, envs })
    }

    /// That the body has a zip, if it was one of text.
    pub(crate) fn require_zip(&self, has_zip: bool) -> Result<(), RequestError> {
        // The filter has diverted every zip that is a string.
        if has_zip || text("zip", &self.zip)?.is_some() {
            return Ok(());
        }
        let what = "standard base64 of a zip archive of the function's folder";
        Err(RequestError::Missing { key: "zip", what })
    }

    /// Whether it says where to download the function from.
    pub(crate) fn has_url(&self) -> bool {
        !self.url.is_null()
    }

    /// Where to download the function from.
    pub(crate) fn url_source(&self) -> Result<UrlSource, RequestError> {
        let url = text("url", &self.url)?
            .ok_or(RequestError::Missing { key: "url", what: "where the zip archive lies" })?;
        Ok(UrlSource { url: url.to_owned(), subfolder: self.subfolder()? })
    }

    /// The function's folder in the archive.
    pub(crate) fn subfolder(&self) -> Result<Subfolder, RequestError> {
        let subfolder = text("subfolder_path", &self.subfolder_path)?.unwrap_or_default();
        Ok(Subfolder::parse(subfolder)?)
    }
}

impl Wanted {
    /// All that is to be known of the function, together with what its folder says.
    ///
    /// # Errors
    /// Where neither gives the environment, or the folder's settings are for
    /// another one.
    pub(crate) fn complete(
        self,
        settings: Settings,
        config: &ManagementConfig,
    ) -> Result<FunctionSpec, SettingsError> {
        let runtime = self.runtime.or(settings.runtime).ok_or(SettingsError::NoRuntime)?;
        if let Some(line) = settings.cgi.filter(|_| runtime != Runtime::Binary) {
            return Err(SettingsError::CgiElsewhere { line, runtime });
        }
        let given = config.limits(runtime);
        let limits = Limits {
            call_deadline: settings.call_deadline.unwrap_or(given.call_deadline),
            start_timeout: settings.start_timeout.unwrap_or(given.start_timeout),
            calls_per_handler: settings.calls_per_handler.unwrap_or(given.calls_per_handler),
            waiting_max: settings.waiting.unwrap_or(given.waiting_max),
            build_timeout: settings.build_timeout.unwrap_or(given.build_timeout),
        };
        Ok(FunctionSpec {
            name: self.name,
            description: settings.description,
            runtime,
            threads: self.threads.or(settings.threads).unwrap_or(1),
            envs: self.envs,
            limits,
            cgi: settings.cgi.is_some(),
            coap: settings.coap,
        })
    }
}

/// Why a body was not read. Where in it is not told: an upload's zip has been taken
/// out of it before.
fn not_read(json: &[u8], error: &serde_json::Error) -> RequestError {
    match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return RequestError::Empty,
        Some(b'{') => {}
        Some(_) => return RequestError::NoObject,
    }
    let told = error.to_string();
    let why = told.rsplit_once(" at line ").map_or(told.as_str(), |(why, _)| why);
    match error.classify() {
        Category::Eof => RequestError::CutOff,
        // The library has no other name for it.
        _ if why == "recursion limit exceeded" => RequestError::TooDeep,
        Category::Data => RequestError::NoObject,
        Category::Syntax | Category::Io => RequestError::NotJson(why.to_owned()),
    }
}

fn text<'a>(key: &'static str, value: &'a Value) -> Result<Option<&'a str>, RequestError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other => Err(RequestError::WrongKind { key, found: kind(other), wanted: "a string" }),
    }
}

fn threads(value: &Value, max: usize) -> Result<Option<usize>, RequestError> {
    let refuse = |found: String| RequestError::Threads { found, max };
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => number
            .as_u64()
            .and_then(|threads| usize::try_from(threads).ok())
            .filter(|threads| (1..=max).contains(threads))
            .map(Some)
            .ok_or_else(|| refuse(number.to_string())),
        other => Err(refuse(kind(other).to_owned())),
    }
}

fn envs(function: &FunctionName, value: &Value) -> Result<Vec<EnvVar>, RequestError> {
    const WANTED: &str = "a list of strings \"KEY=VALUE\"";
    let wrong = |other| RequestError::WrongKind { key: "envs", found: kind(other), wanted: WANTED };
    let list = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        other => return Err(wrong(other)),
    };
    let mut envs = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let Value::String(pair) = item else {
            let found = "a list of other things";
            return Err(RequestError::WrongKind { key: "envs", found, wanted: WANTED });
        };
        // The text itself is not logged: it may be a value that lost its key.
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            tracing::warn!(%function, index, "an entry of envs is skipped: it is not KEY=VALUE");
            continue;
        };
        let refuse = |why| Err(RequestError::Env { key: shown(key.as_bytes()), why });
        if pair.contains('\0') {
            return refuse("holds a zero byte, which no program can be given");
        }
        if pair.len() > ENV_BYTES_MAX {
            return refuse("is longer than the 131071 bytes that Linux hands to a program");
        }
        envs.push(EnvVar { key: key.to_owned(), value: value.to_owned() });
    }
    Ok(envs)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn known_runtimes() -> String {
    Runtime::ALL.map(Runtime::name).join(", ")
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            let place = match key.to_ascii_lowercase().as_str() {
                "name" => &mut fields.name,
                "env" => &mut fields.env,
                "threads" => &mut fields.threads,
                "envs" => &mut fields.envs,
                "zip" => &mut fields.zip,
                "url" => &mut fields.url,
                "subfolder_path" => &mut fields.subfolder_path,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value = map.next_value::<Value>()?;
            if !value.is_null() {
                *place = value;
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn spec(body: &str) -> Result<FunctionSpec, RequestError> {
        let config = ManagementConfig::new(PathBuf::new(), PathBuf::new());
        let wanted = Fields::parse(body.as_bytes())?.wanted(&config)?;
        Ok(wanted.complete(Settings::default(), &config).expect("the request says it all"))
    }

    fn check_refused(body: &str, expected: &str) {
        let error = spec(body).unwrap_err().to_string();
        assert!(error.contains(expected), "{body}: {error}");
    }

    #[test]
    fn an_upload_is_read() {
        let spec = spec(
            r#"{"NAME":"echo","Env":"binary","threads":2,"color":{"a":[1]},
                "envs":["A=1=2","nonsense","=x","B="]}"#,
        )
        .unwrap();
        assert_eq!((spec.name.as_str(), spec.runtime, spec.threads), ("echo", Runtime::Binary, 2));
        let envs: Vec<_> = spec.envs.iter().map(|v| (v.key.as_str(), v.value.as_str())).collect();
        assert_eq!(envs, [("A", "1=2"), ("B", "")]);
        assert_eq!(spec.limits.calls_per_handler, 16);
    }

    #[test]
    fn what_is_absent_has_a_default() {
        let spec = spec(r#"{"name":"a","env":"python3","threads":null,"envs":null}"#).unwrap();
        assert_eq!((spec.threads, spec.envs.len(), spec.limits.calls_per_handler), (1, 0, 64));
    }

    #[test]
    fn the_request_wins_over_the_folder() {
        let config = ManagementConfig::new(PathBuf::new(), PathBuf::new());
        let complete = |body: &str| {
            let settings = Settings {
                runtime: Some(Runtime::Binary),
                threads: Some(5),
                ..Settings::default()
            };
            let wanted = Fields::parse(body.as_bytes()).unwrap().wanted(&config).unwrap();
            let spec = wanted.complete(settings, &config).unwrap();
            (spec.runtime, spec.threads, spec.limits.calls_per_handler)
        };
        assert_eq!(complete(r#"{"name":"a"}"#), (Runtime::Binary, 5, 16));
        let both = r#"{"name":"a","env":"nodejs","threads":2}"#;
        assert_eq!(complete(both), (Runtime::Nodejs, 2, 64));
    }

    #[test]
    fn the_last_of_a_key_counts() {
        let spec = spec(r#"{"name":"a","Name":"b","name":null,"env":"nodejs"}"#).unwrap();
        assert_eq!(spec.name.as_str(), "b");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        check_refused(" \n", "the body is empty; send a JSON object");
        check_refused("{", "not JSON: it ends too early");
        check_refused(r#"{"name":"a"#, "not JSON: it ends too early");
        check_refused("{'name':1}", "not JSON: key must be a string");
        check_refused("name=a", "no JSON object");
        check_refused(&format!("{{\"name\":{}", "[".repeat(10_000)), "nested too deeply");
        check_refused("{} x", "not JSON");
        check_refused("[]", "no JSON object");
        check_refused("3", "no JSON object");
        check_refused("{}", r#"lacks "name""#);
        check_refused(r#"{"name":3}"#, r#""name" is a number; it must be a string"#);
        check_refused(r#"{"name":"a b"}"#, "name holds ' '");
        check_refused(r#"{"name":"a","env":"php"}"#, "python3, nodejs, binary");
        for threads in ["0", "-1", "257", "1.5", "2.0", "1e30", "\"2\"", "[]", "true"] {
            let body = format!(r#"{{"name":"a","env":"binary","threads":{threads}}}"#);
            check_refused(&body, "whole number from 1 to 256");
        }
        let env = |envs: &str| format!(r#"{{"name":"a","env":"binary","envs":{envs}}}"#);
        check_refused(&env("{}"), "KEY=VALUE");
        check_refused(&env("[1]"), "KEY=VALUE");
        check_refused(&env(r#"["A=\u0000"]"#), "zero byte");
        check_refused(&env(&format!("[\"A={}\"]", "x".repeat(ENV_BYTES_MAX))), "131071");
    }

    #[test]
    fn a_value_is_never_told() {
        let error = spec(r#"{"name":"a","env":"binary","envs":["TOKEN=secret\u0000"]}"#);
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    #[test]
    fn a_url_needs_a_folder_inside() {
        let source = |body: &str| Fields::parse(body.as_bytes()).unwrap().url_source();
        assert!(source(r#"{"url":"http://x","subfolder_path":"/"}"#).is_ok());
        assert!(source(r#"{"url":"http://x"}"#).is_ok());
        assert!(source("{}").err().unwrap().to_string().contains(r#"lacks "url""#));
        let error = source(r#"{"url":"http://x","subfolder_path":"../x"}"#).err().unwrap();
        assert!(error.to_string().contains("subfolder_path"), "{error}");
    }
}
