//! One call over CoAP, outside of any load: what a load must know beforehand, and
//! how long a body in blocks takes.
//!
//! Owns a call's socket and its clock. Must not know what is asked, nor blocks:
//! the client of `tinyfaas_coap` does.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use tinyfaas_coap::client::{Call, Client, ClientLimits, Output};
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::Message;

use super::DATAGRAM_BYTES_MAX;

/// A reply, and how it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Response,
    /// Of its last datagram, with all that stands around the payload.
    pub(crate) datagram_bytes: usize,
    /// Until the server had the whole body.
    pub(crate) up: Duration,
    /// From then until the whole reply was here.
    pub(crate) down: Duration,
}

/// Asks once, from a socket of its own; long bodies go in blocks of 1,024 bytes.
///
/// # Errors
/// Where nobody answers, or what comes is no reply.
pub(crate) fn ask(address: SocketAddr, request: &Message) -> anyhow::Result<Reply> {
    exchange(address, request).with_context(|| format!("{} over CoAP to {address}", request.code))
}

fn exchange(address: SocketAddr, request: &Message) -> anyhow::Result<Reply> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(address)?;
    let mut client = Client::new(ClientLimits::default(), random());
    let begun = Instant::now();
    let call = Call {
        code: request.code,
        confirmable: true,
        wants_reply: true,
        options: request.options.clone(),
        payload: request.payload.clone(),
    };
    client.call(begun, call);
    let (mut buffer, mut datagram_bytes, mut up) = ([0; DATAGRAM_BYTES_MAX], 0, None);
    loop {
        while let Some(output) = client.poll() {
            match output {
                Output::Send(datagram) => drop(socket.send(&datagram)?),
                Output::Ended(outcome) => {
                    let took = begun.elapsed();
                    let up = up.unwrap_or(took);
                    let response = outcome?.context("no reply")?;
                    return Ok(Reply { response, datagram_bytes, up, down: took - up });
                }
            }
        }
        let wait = client.deadline().map(|it| it.saturating_duration_since(Instant::now()));
        // Zero would wait for ever.
        socket.set_read_timeout(wait.map(|it| it.max(Duration::from_millis(1))))?;
        match socket.recv(&mut buffer) {
            Ok(read) => {
                datagram_bytes = read;
                client.receive(Instant::now(), &Bytes::copy_from_slice(&buffer[..read]));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => client.expire(Instant::now()),
            Err(error) => return Err(error.into()),
        }
        let taken = client.progress().is_some_and(|it| it.sent == it.to_send);
        if taken && up.is_none() {
            up = Some(begun.elapsed());
        }
    }
}

fn random() -> u128 {
    let random = RandomState::new();
    u128::from(random.hash_one(0_u8)) << 64 | u128::from(random.hash_one(1_u8))
}

#[cfg(test)]
mod tests {
    use tinyfaas_coap::Peer;
    use tinyfaas_coap::block::BlockLimits;
    use tinyfaas_coap::exchange::{self, Limits};
    use tinyfaas_coap::message::Code;
    use tinyfaas_coap::server::Server;

    use super::super::request;
    use super::*;

    /// An echo on a port of the kernel's choice; it ends with the test's process.
    fn echo() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut server =
                Server::new(Limits::default(), BlockLimits::default(), 1, Instant::now());
            let mut buffer = [0; DATAGRAM_BYTES_MAX];
            loop {
                let (read, from) = socket.recv_from(&mut buffer).expect("receives");
                let datagram = Bytes::copy_from_slice(&buffer[..read]);
                let now = Instant::now();
                if let Some(request) = server.receive(now, Peer::at(from), &datagram) {
                    let payload = request.message.payload;
                    let response = Response { payload, ..Response::new(Code::CONTENT) };
                    server.reply(now, request.owed, response);
                }
                while let Some(exchange::Output::Send(to, datagram)) = server.poll() {
                    socket.send_to(&datagram, to.remote).expect("sends");
                }
            }
        });
        address
    }

    #[test]
    fn short_and_long_bodies_come_back() {
        let address = echo();
        for bytes in [0, 5, 100_000] {
            let payload = Bytes::from(vec![b'x'; bytes]);
            let post = Message { payload: payload.clone(), ..request(Code::POST, &["any"]) };
            let reply = ask(address, &post).expect("answered");
            assert_eq!(reply.response.payload, payload);
            assert!(reply.datagram_bytes > bytes % 1024);
            assert_eq!(reply.down > Duration::ZERO, bytes > 1024, "{bytes}: {:?}", reply.down);
        }
    }

    #[test]
    fn a_port_without_a_server_is_told() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
        let address = socket.local_addr().expect("bound");
        drop(socket);
        let error = format!("{:#}", ask(address, &request(Code::GET, &["x"])).expect_err("gone"));
        assert!(
            error.contains("0.01 over CoAP to 127.0.0.1") && error.contains("refused"),
            "{error}"
        );
    }
}
