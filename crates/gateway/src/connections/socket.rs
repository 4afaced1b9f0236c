//! The stream beneath a connection, as hyper reads and writes it.
//!
//! Owns the notes of what comes in for the sweeper, and the closing of a connection
//! whose input was not read whole. Must not know HTTP beyond the first bytes that
//! tell its versions apart, nor whether there is TLS beneath.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusal::{self, HeadLimits};
use super::watch::Activity;

/// How an HTTP/2 connection starts (RFC 9113, section 3.4). Until all of it has
/// come, a connection is held to the patience that a head of HTTP/1 gets.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes thrown away at a time while a connection lingers.
const DISCARD_BYTES: usize = 4096;

pub(super) struct Socket<S> {
    stream: S,
    activity: Arc<Activity>,
    /// What of the HTTP/2 preface must still come; None once that is decided.
    preface: Option<&'static [u8]>,
    limits: HeadLimits,
    /// What is to be written in the place of hyper's own words.
    instead: Vec<u8>,
    shut: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>, limits: HeadLimits) -> Self {
        let instead = Vec::new();
        Self { stream, activity, preface: Some(H2_PREFACE), limits, instead, shut: false }
    }

    /// Whether these bytes are a refusal of hyper's, which is then told in words.
    fn is_refusal(&mut self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(b"HTTP/1.1 4") || !self.activity.reads_a_head() {
            return false;
        }
        match refusal::in_words(bytes, self.limits) {
            Some(words) => {
                self.instead = words;
                true
            }
            None => false,
        }
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.instead.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.instead))?;
            self.instead.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn note(&mut self, bytes: &[u8]) {
        if let Some(missing) = self.preface {
            let (expected, later) = missing.split_at(missing.len().min(bytes.len()));
            let matches = bytes.starts_with(expected);
            self.preface = (matches && !later.is_empty()).then_some(later);
            if matches && later.is_empty() {
                self.activity.set_h2();
            }
        }
        self.activity.read(bytes);
    }

    /// Reads and forgets until the peer has closed its side. The sweeper ends
    /// it where the peer does not.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [MaybeUninit::uninit(); DISCARD_BYTES];
        loop {
            let mut buf = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.note(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_refusal(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs
            && self.is_refusal(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends the reply, and where the caller may still be sending, takes that off
    /// the wire: closing a socket with unread input resets it, and the reset may
    /// overtake the reply (RFC 9112, section 9.6).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_instead(cx))?;
        if !this.shut {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.shut = true;
        }
        if !this.activity.has_unread_input() {
            return Poll::Ready(Ok(()));
        }
        this.activity.linger();
        this.poll_discard(cx).map(Ok)
    }
}
