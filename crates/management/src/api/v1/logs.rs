//! What functions print, as text or as JSON, and as it comes.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Response};
use jiff::Timestamp;
use tinyfaas_model::{FunctionName, parse_duration};

use crate::api::Api;
use crate::api::answer::{self, AnswerBody};
use crate::api::query::{Query, QueryError, decoded};
use crate::api::refusal::Refusal;
use crate::api::server::Stop;
use crate::logs::{Line, LogError, LogReader, LogView};

/// What a log may be asked for.
pub(in crate::api) const LOGS_QUERY: &[&str] = &["follow", "since", "tail"];

impl Api {
    pub(in crate::api) fn all_logs(
        &self,
        head: &Parts,
        stop: Stop,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let reader = self.manager.read_logs(None, view(head)?)?;
        Ok(LogStream::answer(reader, head, stop))
    }

    pub(in crate::api) fn function_logs(
        &self,
        name: &str,
        head: &Parts,
        stop: Stop,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let name = decoded(name);
        let view = view(head)?;
        let known = FunctionName::parse(&name).map_err(|_| self.unknown_function(&name))?;
        let reader = self.manager.read_logs(Some(known), view).map_err(|error| match error {
            LogError::Unknown => self.unknown_function(&name),
            full @ LogError::TooManyFollowers { .. } => full.into(),
        })?;
        Ok(LogStream::answer(reader, head, stop))
    }
}

fn view(head: &Parts) -> Result<LogView, QueryError> {
    let query = Query::parse(head.uri.query(), LOGS_QUERY)?;
    let truth = |text: &str| match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    let time = "a time such as 2026-11-03T12:00:00Z, or how long ago, such as 10m";
    Ok(LogView {
        since: query.read("since", time, since)?,
        tail: query.read("tail", "a number of lines", |text| text.parse().ok())?,
        follow: query.read("follow", "true or false", truth)?.unwrap_or(false),
    })
}

/// A time, or one so long ago.
fn since(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let ago: Duration = parse_duration(text).ok()?;
    Timestamp::try_from(SystemTime::now().checked_sub(ago)?).ok()
}

/// A log on its way to a client.
pub(in crate::api) struct LogStream {
    reader: LogReader,
    /// Where each line becomes a JSON object: the beginning of one that has not
    /// come whole.
    json: Option<Vec<u8>>,
    stop: Stop,
}

impl LogStream {
    fn answer(reader: LogReader, head: &Parts, stop: Stop) -> Response<AnswerBody> {
        let media = ["application/x-ndjson", "application/json"];
        let media = media.into_iter().find(|media| answer::names(&head.headers, ACCEPT, media));
        let json = media.map(|_| Vec::new());
        let mut response = answer::log(Self { reader, json, stop });
        if media.is_some() {
            let lines = HeaderValue::from_static("application/x-ndjson");
            response.headers_mut().insert(CONTENT_TYPE, lines);
        }
        response
    }

    /// A log as text, as it ever was.
    pub(in crate::api) const fn text(reader: LogReader, stop: Stop) -> Self {
        Self { reader, json: None, stop }
    }

    /// The next piece; none at the end, which is at the server's stop at the
    /// latest.
    pub(in crate::api) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let piece = tokio::select! {
                piece = self.reader.next() => piece?,
                () = self.stop.stopped() => None,
            };
            let (Some(json), Some(piece)) = (&mut self.json, &piece) else { return Ok(piece) };
            json.extend_from_slice(piece);
            // A piece may hold no line's end: nothing to send is no end of the body.
            let objects = take_objects(json);
            if !objects.is_empty() {
                return Ok(Some(objects.into()));
            }
        }
    }
}

/// Takes the whole lines out and writes each as a JSON object.
fn take_objects(text: &mut Vec<u8>) -> Vec<u8> {
    let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let mut objects = Vec::with_capacity(2 * end);
    for line in text[..end].split(|byte| *byte == b'\n') {
        let Some(line) = std::str::from_utf8(line).ok().and_then(Line::parse) else { continue };
        serde_json::to_writer(&mut objects, &line).expect("text goes into memory");
        objects.push(b'\n');
    }
    text.drain(..=end);
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(since("2026-11-03T12:00:00.5Z"), "2026-11-03T12:00:00.5Z".parse().ok());
        let (before, ago) = (Timestamp::now(), since("1h").unwrap());
        let hour = jiff::SignedDuration::from_hours(1);
        assert!(ago >= before.saturating_sub(hour).unwrap() && ago < before, "{ago}");
        for bad in ["", "yesterday", "2026-11-03", "-1s"] {
            assert_eq!(since(bad), None, "{bad}");
        }
    }

    #[test]
    fn lines_become_objects_as_they_come_whole() {
        let line = "function=a handler=a-1 2026-11-03T12:00:00.000000Z say \"hi\"\nfunction=a ha";
        let mut text = line.as_bytes().to_vec();
        let objects = String::from_utf8(take_objects(&mut text)).unwrap();
        let expected = "{\"function\":\"a\",\"handler\":\"a-1\",\
            \"time\":\"2026-11-03T12:00:00.000000Z\",\"text\":\"say \\\"hi\\\"\"}\n";
        assert_eq!(objects, expected);
        assert_eq!(text, b"function=a ha");
        assert!(take_objects(&mut text).is_empty());
    }
}
