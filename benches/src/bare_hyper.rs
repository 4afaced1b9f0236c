//! The ceiling: an HTTP server that echoes by itself, with no function behind.
//!
//! Owns that server. Must not know what it is compared with.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What an echo is asked by default: 64 bytes.
pub(crate) const PAYLOAD: &[u8; 64] =
    b"sixty-four bytes of text that a function gives back unchanged...";
/// What an echo is asked: text of this length.
pub(crate) fn body(bytes: usize) -> Vec<u8> {
    PAYLOAD.iter().copied().cycle().take(bytes).collect()
}

/// Answers whoever connects.
pub(crate) async fn accept(listener: TcpListener) {
    // An accept that breaks leaves the load without a server, which it reports.
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            if stream.set_nodelay(true).is_ok() {
                // A connection's end is no news: the load counts its own errors.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            }
        });
    }
}

/// The body is read whole, as a gateway before most functions has to.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::new(body)))
}
