//! A connection with TLS.
//!
//! Owns nothing but what is known of the client beside rustls' own state: reading
//! and writing are tokio-rustls'.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server;

use crate::client::Client;

/// A connection whose handshake is done.
///
/// Its end is the client's `close_notify`; a connection that ends without one gives
/// [`io::ErrorKind::UnexpectedEof`], so that who cuts it cannot make a part of a
/// message pass for the whole (RFC 8446, section 6.1). A shutdown sends ours and
/// ends what is written only: what the client still sends can be read.
#[derive(Debug)]
pub struct TlsStream<S> {
    inner: server::TlsStream<S>,
    client: Option<Arc<Client>>,
}

impl<S> TlsStream<S> {
    pub(crate) fn new(inner: server::TlsStream<S>, client: Option<Arc<Client>>) -> Self {
        Self { inner, client }
    }

    /// Whose certificate the client has shown, if it has shown one. It was found good.
    pub fn client(&self) -> Option<&Arc<Client>> {
        self.client.as_ref()
    }

    /// The protocol that was agreed on (ALPN, RFC 7301), e.g. `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.inner.get_ref().1.alpn_protocol()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        // What came may have been an attempt to renegotiate, whose refusal is sent by
        // writing; who reads only would leave the client waiting for it.
        if read.is_pending() && self.inner.get_ref().1.wants_write() {
            let _ = Pin::new(&mut self.inner).poll_flush(cx);
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    /// It is: pieces are put into one record.
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
