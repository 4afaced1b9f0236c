//! Reading a request's body, within bounds of size and time.
//!
//! Owns patience: how long a client may be silent, how slow it may be, and how
//! much is read of a body that nobody wants any more.

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout};

use crate::config::ManagementConfig;
use crate::form_body::{FormError, FormSplitter};
use crate::spool::{SpoolError, SpoolFile, Spooled};
use crate::upload_body::{BodyFormError, UploadFilter, UploadRest};

use super::form::{Form, FormReader};
use super::server::Stop;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyReadError {
    /// It is larger than allowed.
    #[error("the body is larger than the {limit_bytes} bytes that are allowed")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// Its sender was silent.
    #[error("no part of the body came for {after:?}")]
    Silent {
        /// For how long.
        after: Duration,
    },
    /// Its sender was slow.
    #[error("the body came more slowly than {bytes_per_second} bytes a second")]
    Slow {
        /// The least that is asked for.
        bytes_per_second: u64,
    },
    /// Its sender said that it was longer, and sends no more.
    #[error("the body broke off: fewer bytes came than were announced; send it again")]
    CutOff,
    /// The connection broke, or its framing did.
    #[error("the body broke off: {0}")]
    Broken(String),
    /// It is not what an upload looks like.
    #[error(transparent)]
    Form(#[from] BodyFormError),
    /// It is not what a form looks like.
    #[error(transparent)]
    Parts(#[from] FormError),
    /// The archive in it could not be spooled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// A request's body on its way in.
pub(super) struct BodyReader {
    body: Incoming,
    config: ManagementConfig,
    stop: Stop,
    began: Instant,
    bytes: u64,
    /// The client waits to be told that its body is wanted.
    asks_first: bool,
}

impl BodyReader {
    pub(super) fn new(head: &Parts, body: Incoming, config: &ManagementConfig, stop: Stop) -> Self {
        let asks_first = head.headers.contains_key(EXPECT);
        Self { body, config: config.clone(), stop, began: Instant::now(), bytes: 0, asks_first }
    }

    /// All of it, if it is small.
    pub(super) async fn whole(&mut self) -> Result<Vec<u8>, BodyReadError> {
        let limit_bytes = self.config.request_bytes_max;
        let mut whole = Vec::new();
        while let Some(part) = self.next().await? {
            if whole.len() + part.len() > limit_bytes {
                return Err(BodyReadError::TooLarge { limit_bytes });
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    /// An upload, its zip spooled.
    pub(super) async fn upload(&mut self) -> Result<(UploadRest, Spooled), BodyReadError> {
        let bytes_max = self.config.archive.packed_bytes_max;
        let mut spool = SpoolFile::create(&self.config.spool_dir, bytes_max).await?;
        let mut filter = UploadFilter::new(self.config.request_bytes_max);
        let mut zip = Vec::new();
        while let Some(part) = self.next().await? {
            filter.feed(&part, &mut zip)?;
            spool.write(&zip).await?;
            zip.clear();
        }
        Ok((filter.finish()?, spool.finish().await?))
    }

    /// An archive, spooled as it comes.
    pub(super) async fn archive(&mut self) -> Result<Spooled, BodyReadError> {
        let bytes_max = self.config.archive.packed_bytes_max;
        let mut spool = SpoolFile::create(&self.config.spool_dir, bytes_max).await?;
        while let Some(part) = self.next().await? {
            spool.write(&part).await?;
        }
        Ok(spool.finish().await?)
    }

    /// A form, its archive spooled as it comes.
    pub(super) async fn form(&mut self, content_type: &str) -> Result<Form, BodyReadError> {
        let mut splitter = FormSplitter::new(content_type)?;
        let mut form = FormReader::new(&self.config);
        let mut pieces = Vec::new();
        while let Some(part) = self.next().await? {
            splitter.feed(&part, &mut pieces)?;
            for piece in pieces.drain(..) {
                form.take(piece).await?;
            }
        }
        splitter.finish()?;
        form.finish().await
    }

    /// Reads what nobody wants, for a while and in the background: a client that
    /// is still sending would lose the answer if the connection were closed.
    pub(super) fn leave(self) {
        // Reading would tell a client that asks first to send.
        let untouched = self.asks_first && self.bytes == 0;
        if untouched || self.body.is_end_stream() {
            return;
        }
        let (bytes_max, time_max) = (self.config.unwanted_bytes_max, self.config.unwanted_time_max);
        let Self { mut body, mut stop, .. } = self;
        tokio::spawn(async move {
            let mut bytes = 0;
            let reading = async {
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if bytes > bytes_max {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = timeout(time_max, reading) => {}
                () = stop.stopped() => {}
            }
        });
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyReadError> {
        let idle = self.config.idle_timeout;
        loop {
            let frame = tokio::select! {
                frame = timeout(idle, self.body.frame()) => frame,
                () = self.stop.stopped() => return Err(BodyReadError::Stopping),
            };
            let frame = frame.map_err(|_| BodyReadError::Silent { after: idle })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| broken(&error))?;
            // Trailers are of no interest.
            if let Ok(data) = frame.into_data() {
                self.count(data.len())?;
                return Ok(Some(data));
            }
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), BodyReadError> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let bytes_per_second = self.config.body_rate_min;
        let late = self.began.elapsed().saturating_sub(self.config.idle_timeout);
        if self.bytes < late.as_secs().saturating_mul(bytes_per_second) {
            return Err(BodyReadError::Slow { bytes_per_second });
        }
        Ok(())
    }
}

/// hyper tells apart in the cause only what was announced and what was no HTTP.
fn broken(error: &hyper::Error) -> BodyReadError {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => BodyReadError::CutOff,
        Some(cause) => BodyReadError::Broken(cause.to_string()),
        None => BodyReadError::Broken(error.to_string()),
    }
}
