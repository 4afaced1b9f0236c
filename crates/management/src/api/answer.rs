//! Successful answers and their bodies.
//!
//! Owns bodies and content types. Must not know what is told; what is refused is
//! `refusal.rs`'s.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use serde::Serialize;

use super::v1::deploy::ProgressReader;
use super::v1::logs::LogStream;

/// The bytes of an answer.
pub(super) enum AnswerBody {
    Text(Full<Bytes>),
    Pieces(PiecesBody),
}

/// A body that is made as it is sent.
pub(super) struct PiecesBody(NextPiece);

type NextPiece = Pin<Box<dyn Future<Output = (Pieces, io::Result<Option<Bytes>>)> + Send>>;

/// Where its pieces come from.
enum Pieces {
    Log(LogStream),
    Progress(ProgressReader),
}

/// A successful answer of plain text.
pub(super) fn text(text: String) -> Response<AnswerBody> {
    plain(AnswerBody::Text(Full::from(text)))
}

/// A successful answer of one line for each item.
pub(super) fn lines(items: impl IntoIterator<Item = impl Display>) -> Response<AnswerBody> {
    text(items.into_iter().map(|item| format!("{item}\n")).collect())
}

/// A successful answer of JSON.
pub(super) fn json(value: &impl Serialize) -> Response<AnswerBody> {
    let line = serde_json::to_string(value).expect("text, numbers, lists and objects only");
    let mut response = text(line + "\n");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A successful answer of JSON that was made before.
pub(super) fn json_text(text: &'static str) -> Response<AnswerBody> {
    let mut response = plain(AnswerBody::Text(Full::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A successful answer without a body.
pub(super) fn nothing() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Text(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// A successful answer that is a log.
pub(super) fn log(reader: LogStream) -> Response<AnswerBody> {
    pieces(Pieces::Log(reader))
}

/// A deploy's events as they happen.
pub(super) fn progress(reader: ProgressReader) -> Response<AnswerBody> {
    pieces(Pieces::Progress(reader))
}

/// Whether a header that lists media types names this one.
pub(super) fn names(headers: &HeaderMap, header: HeaderName, media: &str) -> bool {
    headers.get_all(header).iter().any(|value| {
        String::from_utf8_lossy(value.as_bytes()).split(',').any(|range| {
            let named = range.split(';').next().unwrap_or_default().trim();
            named.eq_ignore_ascii_case(media)
        })
    })
}

fn pieces(pieces: Pieces) -> Response<AnswerBody> {
    plain(AnswerBody::Pieces(PiecesBody(read(pieces))))
}

fn plain(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What functions print is theirs: no browser shall take it for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn read(mut pieces: Pieces) -> NextPiece {
    Box::pin(async move {
        let piece = match &mut pieces {
            Pieces::Log(reader) => reader.next().await,
            Pieces::Progress(reader) => reader.next().await,
        };
        (pieces, piece)
    })
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Pieces(PiecesBody(reading)) => {
                let Poll::Ready((pieces, piece)) = reading.as_mut().poll(cx) else {
                    return Poll::Pending;
                };
                *reading = read(pieces);
                Poll::Ready(piece.map(|piece| piece.map(Frame::data)).transpose())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}
