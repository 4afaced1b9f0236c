//! What a function's folder says of itself: `tinyfaas.toml`, checked.
//!
//! Owns the file's settings and their rules, within the maxima that the server's
//! configuration gives. Must not know what a request says; that wins, and is put
//! together with this in `request.rs`. The file is a stranger's: every mistake in
//! it is told with its line, and none breaks the server.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use tinyfaas_model::{CoapAttributes, Runtime};
use toml::de::{DeTable, DeValue};

use crate::config::ManagementConfig;

use self::value::{Named, cut};

mod coap;
mod value;

/// The file's name in the function's folder.
pub(crate) const FILE: &str = "tinyfaas.toml";
/// The longest file, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// How many mistakes are told; the rest is counted.
const SHOWN_MISTAKES_MAX: usize = 20;
/// How near a key must be to a setting's name to be taken for a spelling mistake
/// (Jaro-Winkler; 1 is the same).
const NEARNESS_MIN: f64 = 0.8;

/// Every setting that the file may hold.
const KEYS: [&str; 10] = [
    "environment",
    "threads",
    "description",
    "call_deadline",
    "start_timeout",
    "build_timeout",
    "calls_per_handler",
    "waiting",
    "cgi",
    "coap",
];

/// What the file says; what it does not say is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) threads: Option<usize>,
    pub(crate) description: Option<String>,
    pub(crate) call_deadline: Option<Duration>,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) build_timeout: Option<Duration>,
    pub(crate) calls_per_handler: Option<usize>,
    pub(crate) waiting: Option<usize>,
    /// Set where it is true: the line that says so.
    pub(crate) cgi: Option<usize>,
    /// The table `[coap]`.
    pub(crate) coap: CoapAttributes,
}

/// Why a folder's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file has mistakes, a line of text for each.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
    /// It is too large to be meant.
    #[error("{FILE} is larger than the {FILE_BYTES_MAX} bytes that are allowed")]
    TooLarge,
    /// It is no text.
    #[error("{FILE} is not UTF-8; save it as UTF-8 text")]
    NotUtf8,
    /// It is no file.
    #[error("{FILE} is a folder; it must be a file of settings")]
    Folder,
    /// Nobody says which environment it is.
    #[error(
        "the function's environment is not given: send \"env\" with the request, or put a line \
         like environment = \"{}\" into {FILE} in the function's folder; there are {}",
        Runtime::Python3, Runtime::ALL.map(Runtime::name).join(", ")
    )]
    NoRuntime,
    /// `cgi` is for scripts.
    #[error(
        "{FILE}:{line}: cgi is for the environment binary only, and this function is {runtime}"
    )]
    CgiElsewhere {
        /// Where the file says so.
        line: usize,
        /// What the function is.
        runtime: Runtime,
    },
    /// The server's own trouble.
    #[error("reading {FILE}: {0}")]
    Io(io::Error),
}

impl Settings {
    /// Reads the file in a function's folder; without one, nothing is set. Blocks
    /// for a moment.
    pub(crate) fn read(folder: &Path, config: &ManagementConfig) -> Result<Self, SettingsError> {
        let file = match File::open(folder.join(FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(SettingsError::Io(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| {
            match error.kind() {
                io::ErrorKind::IsADirectory => SettingsError::Folder,
                _ => SettingsError::Io(error),
            }
        })?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(SettingsError::TooLarge);
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| SettingsError::NotUtf8)?;
        Self::parse(text, config)
    }

    pub(crate) fn parse(text: &str, config: &ManagementConfig) -> Result<Self, SettingsError> {
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let line_of = |span: Range<usize>| {
            1 + text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count()
        };
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, line_of);
            let why = error.message();
            SettingsError::Mistakes(vec![format!("{FILE}:{line}: this is not TOML: {why}")])
        })?;
        let mut settings = Self::default();
        let mut mistakes = Vec::new();
        for (key, value) in table.get_ref() {
            let line = line_of(key.span());
            match (&**key.get_ref(), value.get_ref()) {
                ("coap", DeValue::Table(table)) => {
                    for (key, value) in table {
                        let named = Named { key: key.get_ref(), value: value.get_ref() };
                        if let Err(what) = coap::set(&mut settings.coap, named) {
                            mistakes.push((line_of(key.span()), what));
                        }
                    }
                }
                (key, value) => {
                    if let Err(what) = settings.set(key, value, line, config) {
                        mistakes.push((line, what));
                    }
                }
            }
        }
        if mistakes.is_empty() { Ok(settings) } else { Err(told(mistakes)) }
    }

    fn set(
        &mut self,
        key: &str,
        value: &DeValue<'_>,
        line: usize,
        config: &ManagementConfig,
    ) -> Result<(), String> {
        let most = &config.limits_max;
        let value = Named { key, value };
        match key {
            "environment" => self.runtime = Some(value.runtime()?),
            "threads" => self.threads = Some(value.number(1, config.threads_max)?),
            "description" => self.description = Some(value.description()?),
            "call_deadline" => self.call_deadline = Some(value.time(most.call_deadline)?),
            "start_timeout" => self.start_timeout = Some(value.time(most.start_timeout)?),
            "build_timeout" => self.build_timeout = Some(value.time(most.build_timeout)?),
            "calls_per_handler" => {
                self.calls_per_handler = Some(value.number(1, most.calls_per_handler)?);
            }
            "waiting" => self.waiting = Some(value.number(0, most.waiting_max)?),
            "cgi" => self.cgi = value.truth()?.then_some(line),
            "coap" => return Err(value.wrong("a table, [coap], with lines of its own")),
            _ => return Err(unknown("", key, &KEYS)),
        }
        Ok(())
    }
}

fn told(mut mistakes: Vec<(usize, String)>) -> SettingsError {
    mistakes.sort();
    let more = mistakes.len().saturating_sub(SHOWN_MISTAKES_MAX);
    let shown = mistakes.into_iter().take(SHOWN_MISTAKES_MAX);
    let mut lines: Vec<_> = shown.map(|(line, what)| format!("{FILE}:{line}: {what}")).collect();
    if more > 0 {
        lines.push(format!("{FILE}: and {more} mistakes more"));
    }
    SettingsError::Mistakes(lines)
}

/// Of a key that none of the known ones is; `place` says of which table, with a
/// space before it.
fn unknown(place: &str, key: &str, known: &[&str]) -> String {
    let nearness = |known: &str| strsim::jaro_winkler(&cut(key).to_ascii_lowercase(), known);
    let near = known.iter().max_by(|a, b| nearness(a).total_cmp(&nearness(b)));
    let near = near.filter(|known| nearness(known) >= NEARNESS_MIN);
    match near {
        Some(near) => format!("there is no setting {:?}{place}; is {near} meant?", cut(key)),
        None => {
            format!("there is no setting {:?}{place}; there are {}", cut(key), known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn config() -> ManagementConfig {
        ManagementConfig::new(PathBuf::new(), PathBuf::new())
    }

    fn check_refused(text: &str, expected: &[&str]) {
        let error = Settings::parse(text, &config()).expect_err(text).to_string();
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{text}: {error}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with("tinyfaas.toml:") && line.contains(expected), "{line}");
        }
    }

    #[test]
    fn a_file_with_everything_is_read() {
        let text = "\u{feff}# a comment\r\nenvironment = 'binary'\nthreads = 0x10\n\
            description = \"übt\"\ncall_deadline = \"5min\"\nstart_timeout = 90\n\
            build_timeout = '500ms'\ncalls_per_handler = 1_000\nwaiting = 0\ncgi = true\n";
        let settings = Settings::parse(text, &config()).unwrap();
        let expected = Settings {
            runtime: Some(Runtime::Binary),
            threads: Some(16),
            description: Some("übt".to_owned()),
            call_deadline: Some(Duration::from_secs(300)),
            start_timeout: Some(Duration::from_secs(90)),
            build_timeout: Some(Duration::from_millis(500)),
            calls_per_handler: Some(1000),
            waiting: Some(0),
            cgi: Some(10),
            coap: CoapAttributes::default(),
        };
        assert_eq!(settings, expected);
        for nothing in ["", "\n\n", "# nothing", "cgi = false"] {
            assert_eq!(Settings::parse(nothing, &config()).unwrap(), Settings::default());
        }
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        check_refused(
            "threads = 1\nthread = 2\n",
            &[":2: there is no setting \"thread\"; is threads meant?"],
        );
        check_refused("env = 'python3'", &["is environment meant?"]);
        check_refused("call-deadline = 1", &["is call_deadline meant?"]);
        check_refused("colour = 1", &["there are environment, threads"]);
        check_refused("[limits]\nthreads = 1", &[":1: there is no setting \"limits\""]);
        check_refused("environment = 'php'", &["one of \"python3\", \"nodejs\", \"binary\""]);
        check_refused("environment = 3", &["environment is 3; it must be one of"]);
        check_refused("cgi = 'yes'", &["cgi is \"yes\"; it must be true or false"]);
        check_refused("description = \"two\\nlines\"", &["one line of text"]);
        check_refused(&format!("description = '{}'", "x".repeat(501)), &["at most 500"]);
        for threads in ["0", "-1", "257", "1.5", "'2'", "[1]", "true", "99999999999999999999"] {
            check_refused(&format!("threads = {threads}"), &["a whole number from 1 to 256"]);
        }
        check_refused("waiting = 4097", &["a whole number from 0 to 4096"]);
        check_refused("calls_per_handler = 1025", &["a whole number from 1 to 1024"]);
        for (time, why) in [
            ("'2h'", "call_deadline is \"2h\"; it must be longer than 0 and at most 3600s"),
            ("0", "longer than 0"),
            ("'soon'", "not a time; write 500ms"),
            ("-1", "not a time"),
            ("1.5", "a time such as"),
            ("1979-05-27", "call_deadline is a date"),
        ] {
            check_refused(&format!("call_deadline = {time}"), &[why]);
        }
        check_refused("waiting = 'a'\n\nbuild_timeout = {}\ncgi = 1", &[":1: ", ":3: ", ":4: "]);
        let many: String = (0..50).map(|n| format!("k{n} = 1\n")).collect();
        let mut expected = vec!["there is no setting"; 20];
        expected.push("and 30 mistakes more");
        check_refused(&many, &expected);
    }

    #[test]
    fn what_is_no_toml_is_told_in_its_words() {
        check_refused("threads = 1\nwaiting = = 2", &[":2: this is not TOML: "]);
        check_refused("threads", &[":1: this is not TOML: "]);
        check_refused("a = 1\na = 2", &["duplicate key"]);
        check_refused(&"[".repeat(60_000), &["this is not TOML"]);
    }

    fn check_file(content: &[u8], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), content).unwrap();
        let read = Settings::read(folder.path(), &config());
        assert!(format!("{read:?}").contains(expected), "{read:?}");
    }

    #[test]
    fn the_file_is_bounded_and_text() {
        check_file(b"threads = 3", "threads: Some(3)");
        check_file(b"# \xff", "NotUtf8");
        check_file(&[b'#'; 64 << 10], "Ok(");
        check_file(&[b'#'; (64 << 10) + 1], "TooLarge");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(folder.path(), &config()).unwrap(), Settings::default());
        std::fs::create_dir(folder.path().join(FILE)).unwrap();
        let error = Settings::read(folder.path(), &config()).unwrap_err();
        assert!(matches!(error, SettingsError::Folder), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(?s).{0,400}") {
            let _ = Settings::parse(&text, &config());
        }

        #[test]
        fn any_values_of_known_keys_are_read_within_bounds(
            lines in prop::collection::vec((
                prop::sample::select(KEYS.to_vec()),
                "-?[0-9]{1,22}|\"[0-9a-z ]{0,8}\"|true|[0-9]\\.[0-9]|\\[\\[1\\]\\]|\\{a=1\\}|'[^'\\r\\n]{0,20}'",
            ), 0..9),
        ) {
            let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
            if let Ok(settings) = Settings::parse(&text, &config()) {
                prop_assert!(settings.threads.is_none_or(|n| (1..=256).contains(&n)));
                prop_assert!(settings.waiting.is_none_or(|n| n <= 4096));
                let hour = Duration::from_secs(3600);
                prop_assert!(settings.call_deadline.is_none_or(|time| !time.is_zero() && time <= hour));
            }
        }
    }
}
