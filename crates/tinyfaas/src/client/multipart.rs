//! A deploy's body: the settings and the archive, as `multipart/form-data`
//! (RFC 7578).
//!
//! Owns the form. The archive is read from its file piece by piece while it is
//! sent, never held whole.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// What is read from the file at a time, in bytes.
const PIECE_BYTES: usize = 64 << 10;

/// A body of several parts, the last of them a file.
pub(crate) struct Multipart {
    boundary: String,
    head: Vec<u8>,
    file: File,
    file_bytes: u64,
}

/// A file as a body of its own.
pub(super) fn of_file(file: File, bytes: u64) -> reqwest::Body {
    let (head, tail) = (Bytes::new(), Bytes::new());
    reqwest::Body::wrap(Sending { head, file, file_left: bytes, tail, sent: Arc::default() })
}

/// The same on its way.
struct Sending {
    head: Bytes,
    file: File,
    file_left: u64,
    tail: Bytes,
    sent: Arc<AtomicU64>,
}

impl Multipart {
    /// A form with a field `settings` that is JSON, and one `archive` that is this
    /// zip.
    ///
    /// # Errors
    /// Where the file cannot be read, or there is no randomness.
    pub(crate) fn new(settings: &serde_json::Value, mut file: File) -> io::Result<Self> {
        file.rewind()?;
        let file_bytes = file.metadata()?.len();
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let boundary = format!("tinyfaas-{:032x}", u128::from_ne_bytes(random));
        let head = format!(
            "--{boundary}\r\n\
             Content-Disposition: form-data; name=\"settings\"\r\n\
             Content-Type: application/json\r\n\r\n\
             {settings}\r\n\
             --{boundary}\r\n\
             Content-Disposition: form-data; name=\"archive\"; filename=\"function.zip\"\r\n\
             Content-Type: application/zip\r\n\r\n"
        );
        Ok(Self { boundary, head: head.into_bytes(), file, file_bytes })
    }

    /// The request's content type.
    pub(crate) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The body; `sent` counts the archive's bytes.
    pub(crate) fn into_body(self, sent: Arc<AtomicU64>) -> reqwest::Body {
        let tail = format!("\r\n--{}--\r\n", self.boundary);
        reqwest::Body::wrap(Sending {
            head: self.head.into(),
            file: self.file,
            file_left: self.file_bytes,
            tail: tail.into(),
            sent,
        })
    }
}

impl Sending {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if !self.head.is_empty() {
            return Ok(Some(std::mem::take(&mut self.head)));
        }
        if self.file_left > 0 {
            let piece = usize::try_from(self.file_left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let mut buffer = vec![0; piece];
            self.file.read_exact(&mut buffer)?;
            self.file_left -= piece as u64;
            self.sent.fetch_add(piece as u64, Ordering::Relaxed);
            return Ok(Some(buffer.into()));
        }
        let tail = std::mem::take(&mut self.tail);
        Ok((!tail.is_empty()).then_some(tail))
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // Reading a file that was just written blocks for no time that matters.
        Poll::Ready(self.get_mut().next().map(|piece| piece.map(Frame::data)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.head.is_empty() && self.file_left == 0 && self.tail.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.head.len() as u64 + self.file_left + self.tail.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(archive: &[u8]) {
        let mut file = tempfile::tempfile().expect("room for a file");
        file.write_all(archive).expect("writable");
        let form = Multipart::new(&serde_json::json!({"env": "binary"}), file).expect("readable");
        let boundary = form.boundary.clone();
        assert_eq!(form.content_type(), format!("multipart/form-data; boundary={boundary}"));
        let mut sending = Sending {
            head: form.head.into(),
            file: form.file,
            file_left: form.file_bytes,
            tail: format!("\r\n--{boundary}--\r\n").into(),
            sent: Arc::default(),
        };
        let told = sending.size_hint().exact().expect("exact");
        let mut whole = Vec::new();
        while let Some(piece) = sending.next().expect("readable") {
            whole.extend_from_slice(&piece);
        }
        assert!(sending.is_end_stream());
        assert_eq!(told, whole.len() as u64);
        assert_eq!(sending.sent.load(Ordering::Relaxed), archive.len() as u64);
        let split =
            whole.windows(4).rposition(|four| four == b"\r\n\r\n").filter(|_| archive.is_empty());
        let start =
            split.map_or_else(|| whole.len() - archive.len() - boundary.len() - 8, |at| at + 4);
        assert_eq!(&whole[start..start + archive.len()], archive);
        assert!(whole.starts_with(format!("--{boundary}\r\n").as_bytes()));
        assert!(whole.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()));
    }

    #[test]
    fn the_form_holds_settings_and_archive() {
        check(b"");
        check(b"PK");
        check(&vec![7; 200_000]);
    }
}
