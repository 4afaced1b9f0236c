//! The first words of a connection.
//!
//! Owns reading the ClientHello, and keeping what came where it is none. Bytes that
//! begin as TLS does go to rustls' buffer and nowhere else. Must not know what is
//! answered.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use tokio::io::{AsyncRead, ReadBuf};

/// The type of a record with a handshake's message (RFC 8446, section 5.1): the
/// first byte of every TLS connection.
const HANDSHAKE: u8 = 22;

/// How a connection that has no good ClientHello began.
pub(crate) enum NoHello {
    /// With something else; these bytes have come.
    NotTls { bytes: Vec<u8>, error: rustls::Error, alert: AcceptedAlert },
    /// With TLS, but none that can go on; the alert tells the client.
    Refused { error: rustls::Error, alert: AcceptedAlert },
    /// It broke or ended.
    Gone(io::Error),
}

/// Waits for the ClientHello.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Accepted, NoHello> {
    let mut acceptor = Acceptor::default();
    let mut began = Began::Unknown;
    loop {
        let count = poll_fn(|cx| poll_once(stream, cx, &mut acceptor, &mut began)).await;
        if count.map_err(NoHello::Gone)? == 0 {
            return Err(NoHello::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) => (),
            Err((error, alert)) => {
                return Err(match began {
                    Began::Otherwise(bytes) => NoHello::NotTls { bytes, error, alert },
                    Began::Unknown | Began::AsTls => NoHello::Refused { error, alert },
                });
            }
        }
    }
}

enum Began {
    Unknown,
    AsTls,
    Otherwise(Vec<u8>),
}

fn poll_once<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    acceptor: &mut Acceptor,
    began: &mut Began,
) -> Poll<io::Result<usize>> {
    match acceptor.read_tls(&mut Reader { stream, cx, began }) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        read => Poll::Ready(read),
    }
}

/// A stream as rustls reads it, a read at a time.
struct Reader<'a, 'cx, S> {
    stream: &'a mut S,
    cx: &'a mut Context<'cx>,
    began: &'a mut Began,
}

impl<S: AsyncRead + Unpin> io::Read for Reader<'_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut self.stream).poll_read(self.cx, &mut buffer) {
            Poll::Pending => return Err(io::ErrorKind::WouldBlock.into()),
            Poll::Ready(read) => read?,
        }
        let read = buffer.filled();
        match (&mut self.began, read.first()) {
            (Began::AsTls, _) | (_, None) => (),
            (Began::Unknown, Some(&HANDSHAKE)) => *self.began = Began::AsTls,
            (Began::Unknown, Some(_)) => *self.began = Began::Otherwise(read.to_vec()),
            (Began::Otherwise(bytes), Some(_)) => bytes.extend_from_slice(read),
        }
        Ok(read.len())
    }
}
