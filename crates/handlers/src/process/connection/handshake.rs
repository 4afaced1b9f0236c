//! The first words on a worker's socket: LOAD, then READY or FAILED.
//!
//! Must not know what happens to a worker that says anything else.

use std::io;

use bytes::BytesMut;
use tokio::net::UnixStream;

use super::{Ending, Violation};
use crate::wire::{self, Kind, Load, PROTOCOL, Ready};

/// Why a worker is not ready.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::process) enum LoadError {
    /// It says that it cannot load the function, and why.
    Failed(String),
    /// Nothing more comes from it.
    Ended(Ending),
}

/// Tells a worker what to load and waits until it has. The caller bounds the
/// wait.
///
/// # Errors
/// If the worker cannot load the function, or ends.
pub(in crate::process) async fn load(socket: &UnixStream, load: &Load) -> Result<Ready, LoadError> {
    let mut buffer = BytesMut::new();
    wire::encode_json(&mut buffer, Kind::Load, load);
    if write_all(socket, &buffer).await.is_err() {
        return Err(LoadError::Ended(Ending::Closed));
    }
    buffer.clear();
    let frame = loop {
        match wire::decode(&mut buffer).map_err(broke)? {
            Some(frame) => break frame,
            None => read_some(socket, &mut buffer).await?,
        }
    };
    match frame.kind {
        Kind::Ready if buffer.is_empty() => {
            let ready: Ready = wire::parse_json(Kind::Ready, &frame.payload).map_err(broke)?;
            if ready.protocol == PROTOCOL {
                return Ok(ready);
            }
            Err(broke(Violation::Version(ready.protocol)))
        }
        Kind::Failed => {
            Err(LoadError::Failed(String::from_utf8_lossy(&frame.payload).into_owned()))
        }
        kind => Err(broke(Violation::Unexpected(kind))),
    }
}

fn broke(violation: impl Into<Violation>) -> LoadError {
    LoadError::Ended(Ending::Broke(violation.into()))
}

async fn write_all(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn read_some(socket: &UnixStream, buffer: &mut BytesMut) -> Result<(), LoadError> {
    loop {
        let ready = socket.readable().await;
        buffer.reserve(4 << 10);
        match ready.and_then(|()| socket.try_read_buf(buffer)) {
            Ok(1..) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return Err(LoadError::Ended(Ending::Closed)),
        }
    }
}
