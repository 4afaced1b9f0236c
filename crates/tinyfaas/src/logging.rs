//! The server's own log: as text or JSON on standard error.
//!
//! Owns the form of a line, and what is different where systemd's journal reads
//! it: no time, which the journal has itself, and the level as a prefix `<N>`
//! (sd-daemon(3)). Must not know what is logged.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// How lines look.
#[derive(Debug, Clone, Copy)]
struct Look {
    json: bool,
    journal: bool,
    colours: bool,
}

/// The journal's name for an error's level.
const ERROR: u8 = 3;

/// Starts the log.
///
/// `level` is one of tracing's, `form` a choice of the setting `log-format`.
pub(crate) fn start(level: &str, form: &str) {
    let level: Level = level.parse().expect("the setting's choices are tracing's levels");
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let look = Look {
        json: form == "json",
        journal: is_journal(),
        colours: io::stderr().is_terminal() && !no_color,
    };
    tracing::subscriber::set_global_default(subscriber(level, look, io::stderr))
        .expect("the log is started once");
}

/// Tells, on standard error, what ends the program before or without a log. Each
/// line is one of the journal's where that reads them.
pub(crate) fn complain(text: &str) {
    let journal = is_journal();
    for line in text.lines() {
        let prefix = if journal { prefix(ERROR) } else { String::new() };
        // Nobody may be left to read it.
        drop(writeln!(io::stderr(), "{prefix}{line}"));
    }
}

/// Whether the journal reads standard error: `JOURNAL_STREAM` names the device
/// and inode of the stream that it does read.
fn is_journal() -> bool {
    let Some(named) = env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    File::from(stderr).metadata().is_ok_and(|meta| names(&named, meta.dev(), meta.ino()))
}

fn names(journal_stream: &str, device: u64, inode: u64) -> bool {
    journal_stream == format!("{device}:{inode}")
}

fn prefix(priority: u8) -> String {
    format!("<{priority}>")
}

fn subscriber<W>(level: Level, look: Look, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let Look { json, journal, colours } = look;
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::from_level(level))
        .with_ansi(colours && !json)
        .with_writer(writer);
    let text = Format::default().with_target(false);
    match (json, journal) {
        (false, false) => Box::new(builder.event_format(text).finish()),
        (false, true) => {
            let inner = text.without_time().with_level(false).with_ansi(false);
            Box::new(builder.event_format(Journal(inner)).finish())
        }
        (true, false) => {
            let builder = builder.fmt_fields(JsonFields::new());
            Box::new(builder.event_format(text.json().flatten_event(true)).finish())
        }
        (true, true) => {
            let inner = text.json().flatten_event(true).without_time();
            let builder = builder.fmt_fields(JsonFields::new());
            Box::new(builder.event_format(Journal(inner)).finish())
        }
    }
}

/// Puts the journal's priority before each line of what another formats.
struct Journal<F>(F);

impl<S, N, F> FormatEvent<S, N> for Journal<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        let prefix = prefix(priority(*event.metadata().level()));
        for line in text.lines() {
            writeln!(writer, "{prefix}{}", line.trim_start())?;
        }
        Ok(())
    }
}

/// syslog(3)'s number for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => ERROR,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(look: Look) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(Level::INFO, look, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(killed = 3, "two\nlines");
            tracing::debug!("too low");
        });
        let bytes = lines.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    const PLAIN: Look = Look { json: false, journal: false, colours: false };

    #[test]
    fn text_has_time_and_level() {
        let text = logged(PLAIN);
        assert!(text.contains("Z  WARN two"), "{text}");
        assert!(text.contains("killed=3") && !text.contains('\x1b') && !text.contains("too low"));
        let coloured = logged(Look { colours: true, ..PLAIN });
        assert!(coloured.contains("\x1b["), "{coloured}");
    }

    #[test]
    fn the_journal_gets_levels_and_no_time() {
        let text = logged(Look { journal: true, colours: true, ..PLAIN });
        assert_eq!(text, "<4>two\n<4>lines killed=3\n");
    }

    #[test]
    fn json_is_an_object_a_line() {
        let text = logged(Look { json: true, colours: true, ..PLAIN });
        let [line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!((&line["level"], &line["killed"]), (&"WARN".into(), &3.into()));
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        let text = logged(Look { json: true, journal: true, colours: true });
        let line = text.strip_prefix("<4>").expect("the journal's prefix");
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((&line["timestamp"], &line["killed"]), (&Value::Null, &3.into()));
    }

    #[test]
    fn only_the_stream_that_is_named_is_the_journal() {
        assert!(names("8:131", 8, 131));
        assert!(!names("8:132", 8, 131));
        assert!(!names("", 0, 0));
    }
}
