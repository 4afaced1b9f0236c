//! One request over CoAP and its reply, outside of any load.
//!
//! Owns nothing that lasts. For what a load must know beforehand.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use tinyfaas_coap::message::{Message, MessageId, Token};

use super::DATAGRAM_BYTES_MAX;
use super::exchange::LOST_AFTER;

/// How often a request is sent before the server counts as gone.
const TRIES: u32 = 4;

/// A reply, and how long it was on the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) message: Message,
    /// Of its whole datagram.
    pub(crate) bytes: usize,
}

/// Asks once, from a socket of its own.
///
/// # Errors
/// Where nobody answers, or with something else than a message.
pub(crate) fn ask(address: SocketAddr, request: &Message) -> anyhow::Result<Reply> {
    exchange(address, request).with_context(|| format!("{} over CoAP to {address}", request.code))
}

fn exchange(address: SocketAddr, request: &Message) -> anyhow::Result<Reply> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(address)?;
    // The port is new to the server, and so is any ID from it.
    let token = Token::new(&address.port().to_be_bytes()).expect("two bytes are a token");
    let request = Message { id: MessageId(1), token, ..request.clone() };
    let datagram = request.encode();
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    for _ in 0..TRIES {
        socket.send(&datagram)?;
        let until = Instant::now() + LOST_AFTER;
        while let Some(left) =
            until.checked_duration_since(Instant::now()).filter(|it| !it.is_zero())
        {
            socket.set_read_timeout(Some(left))?;
            let read = match socket.recv(&mut buffer) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let message = Message::decode(&Bytes::copy_from_slice(&buffer[..read]))?;
            if message.token == token && message.code.is_response() {
                return Ok(Reply { message, bytes: read });
            }
        }
    }
    bail!("no reply to {TRIES} requests");
}
