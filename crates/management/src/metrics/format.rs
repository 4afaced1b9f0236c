//! The two texts in which metrics are told.
//!
//! Owns which of them a scraper asks for, and how the older one is made of the
//! newer. Must not know what is measured.

use std::fmt::Write;

/// How metrics are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>
    Prometheus,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// What is asked for by these values of `Accept`: the newer text only where it
    /// is named.
    pub(crate) fn asked<'a>(accept: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let names_it = accept.into_iter().any(|value| {
            String::from_utf8_lossy(value).split(',').any(|range| {
                let mut parts = range.split(';').map(str::trim);
                let named =
                    parts.next().is_some_and(|media| media.eq_ignore_ascii_case(OPEN_METRICS));
                // RFC 9110, section 12.4.2: a weight of zero is "not acceptable".
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                named && weight.is_none_or(|weight| weight.parse() != Ok(0.0))
            })
        });
        if names_it { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its content type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Makes this text of OpenMetrics'.
    pub(super) fn finish(self, text: String) -> String {
        match self {
            Self::OpenMetrics => text,
            Self::Prometheus => prometheus(&text),
        }
    }
}

/// In the older text a counter's description has its values' whole name, there
/// are no units, and the end is no line.
fn prometheus(text: &str) -> String {
    let mut older = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(comment) = line.strip_prefix("# ") else {
            older.push_str(line);
            older.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(key), Some(name)) = (words.next(), words.next()) else { continue };
        let rest = words.next().unwrap_or_default();
        // The type stands behind the help of the same metric.
        let kind = if key == "TYPE" { line } else { lines.peek().copied().unwrap_or_default() };
        let total = if kind.ends_with(" counter") { "_total" } else { "" };
        if matches!(key, "HELP" | "TYPE") {
            writeln!(older, "# {key} {name}{total} {rest}").expect("memory takes all");
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &[&str], expected: Format) {
        assert_eq!(
            Format::asked(accept.iter().map(|value| value.as_bytes())),
            expected,
            "{accept:?}"
        );
    }

    #[test]
    fn the_newer_text_is_for_who_names_it() {
        check(&[], Format::Prometheus);
        check(&["*/*"], Format::Prometheus);
        check(&["text/plain;version=0.0.4;q=0.5,*/*;q=0.1"], Format::Prometheus);
        check(
            &["application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5"],
            Format::OpenMetrics,
        );
        check(&["text/plain", "Application/OpenMetrics-Text"], Format::OpenMetrics);
        check(&["application/openmetrics-text; q=0, text/plain"], Format::Prometheus);
        check(&["application/openmetrics-text;q=0.0"], Format::Prometheus);
    }

    #[test]
    fn the_older_text_is_made_of_the_newer() {
        let newer = "# HELP a_calls How many: counter\n# TYPE a_calls counter\n\
                     a_calls_total{b=\"# \"} 1\n# HELP d Now.\n# TYPE d gauge\n# UNIT d seconds\nd 2\n# EOF\n";
        let older = "# HELP a_calls_total How many: counter\n# TYPE a_calls_total counter\n\
                     a_calls_total{b=\"# \"} 1\n# HELP d Now.\n# TYPE d gauge\nd 2\n";
        assert_eq!(prometheus(newer), older);
    }
}
