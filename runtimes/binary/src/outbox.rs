//! Frames on their way to the server.
//!
//! Owns the order and the bound of what is written. Must not know what the
//! frames say.

use std::cell::RefCell;
use std::io;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::Notify;

/// Calls wait before they add to this many bytes that the server has not taken.
const BYTES_MAX: usize = 256 << 10;

/// What is to be written, for all calls together.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: RefCell<BytesMut>,
    added: Notify,
    written: Notify,
}

impl Outbox {
    /// Adds a frame that answers a frame of the server, whatever waits already.
    pub(crate) fn add(&self, encode: impl FnOnce(&mut BytesMut)) {
        encode(&mut self.frames.borrow_mut());
        self.added.notify_one();
    }

    /// Waits until there is room for another part of a body.
    pub(crate) async fn room(&self) {
        loop {
            let written = self.written.notified();
            if self.frames.borrow().len() < BYTES_MAX {
                return;
            }
            written.await;
        }
    }

    /// Writes what is added, for ever.
    pub(crate) async fn write_to(&self, mut socket: OwnedWriteHalf) -> io::Result<()> {
        loop {
            let frames = self.frames.borrow_mut().split();
            if frames.is_empty() {
                self.added.notified().await;
                continue;
            }
            self.written.notify_waiters();
            socket.write_all(&frames).await?;
        }
    }

    /// Writes what is left and no more.
    pub(crate) async fn flush_to(&self, socket: &mut OwnedWriteHalf) -> io::Result<()> {
        let frames = self.frames.borrow_mut().split();
        socket.write_all(&frames).await
    }
}
