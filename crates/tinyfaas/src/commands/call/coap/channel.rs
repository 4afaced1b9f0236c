//! The way to a CoAP server: a socket for datagrams, or a connection.
//!
//! Owns finding an address of the server that answers, carrying datagrams and time
//! to the state machine that does the rest, and what its errors mean to a user. A
//! connection's bytes are carried by `connection.rs`. Must not know what is called.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tinyfaas_coap::client::{Call, CallError, Client, ClientLimits, Output, Progress};
use tinyfaas_coap::exchange::{DATAGRAM_BYTES_MAX, Response};
use tinyfaas_coap::message::{Kind, Message, MessageId};
use tokio::net::UdpSocket;
use tokio::time::{sleep_until, timeout};

use super::connection::Connection;
use super::place::{Place, Transport};
use crate::failure::{Code, Failure};

/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;
/// How long finding the addresses of a name may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long each address has to answer a ping, where there are several.
const PING_TIMEOUT: Duration = Duration::from_secs(1);

/// The way to one server.
pub(super) enum Channel {
    /// Over UDP.
    Datagrams(Box<Datagrams>),
    /// Over TCP.
    Connection(Box<Connection>),
}

impl Channel {
    /// Finds the server.
    ///
    /// # Errors
    /// Where the name has no address, or no address can be reached.
    pub(super) async fn open(place: Place) -> Result<Self, Failure> {
        Ok(match place.transport() {
            Transport::Udp => Self::Datagrams(Box::new(Datagrams::open(place).await?)),
            Transport::Tcp => Self::Connection(Box::new(Connection::open(place).await?)),
        })
    }

    /// Makes a call. `told` hears how far it is. None: no reply was wanted.
    ///
    /// # Errors
    /// Where no reply comes, or one that cannot be understood.
    pub(super) async fn call(
        &mut self,
        call: Call,
        told: impl Fn(&Progress),
    ) -> Result<Option<Response>, Failure> {
        match self {
            Self::Datagrams(datagrams) => datagrams.call(call, told).await,
            Self::Connection(connection) => connection.call(call, told).await,
        }
    }
}

/// A socket that speaks to one server.
pub(super) struct Datagrams {
    socket: UdpSocket,
    client: Client,
    place: Place,
    buffer: Vec<u8>,
}

impl Datagrams {
    /// Where the server's name has several addresses, the first one is
    /// taken that answers a ping: a call is never sent to two of them, where it
    /// would run twice.
    async fn open(place: Place) -> Result<Self, Failure> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let addresses = addresses(&place).await?;
        let mut found = None;
        let mut refused = None;
        for address in &addresses {
            let socket = match connect(*address).await {
                Ok(socket) => socket,
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            if addresses.len() == 1 {
                found = Some(socket);
                break;
            }
            match timeout(PING_TIMEOUT, ping(&socket, &mut buffer)).await {
                Ok(Ok(())) => {
                    found = Some(socket);
                    break;
                }
                Ok(Err(error)) => {
                    refused.get_or_insert(error);
                }
                Err(_) => {
                    found.get_or_insert(socket);
                }
            }
        }
        match (found, refused) {
            (Some(socket), _) => {
                let client = Client::new(ClientLimits::default(), secret()?);
                Ok(Self { socket, client, place, buffer })
            }
            (None, Some(error)) => Err(unreachable(&place, &error)),
            (None, None) => Err(no_address(&place, "the name has no address")),
        }
    }

    async fn call(
        &mut self,
        call: Call,
        told: impl Fn(&Progress),
    ) -> Result<Option<Response>, Failure> {
        self.client.call(Instant::now(), call);
        loop {
            while let Some(output) = self.client.poll() {
                match output {
                    Output::Ended(outcome) => {
                        return outcome.map_err(|error| failure(&self.place, &error));
                    }
                    Output::Send(datagram) => {
                        let sent = self.socket.send(&datagram).await;
                        self.lasting(sent)?;
                    }
                }
            }
            if let Some(progress) = self.client.progress() {
                told(&progress);
            }
            let due = self.client.deadline().expect("a call that has not ended waits");
            tokio::select! {
                received = self.socket.recv(&mut self.buffer) => {
                    if let Some(length) = self.lasting(received)? {
                        let datagram = Bytes::copy_from_slice(&self.buffer[..length]);
                        self.client.receive(Instant::now(), &datagram);
                    }
                }
                () = sleep_until(due.into()) => self.client.expire(Instant::now()),
            }
        }
    }

    /// What passes, as a full queue does, is a lost datagram. None: it was one.
    fn lasting(&self, outcome: io::Result<usize>) -> Result<Option<usize>, Failure> {
        match outcome {
            Ok(length) => Ok(Some(length)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::HostUnreachable
                        | io::ErrorKind::NetworkUnreachable
                        | io::ErrorKind::NetworkDown
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                Err(unreachable(&self.place, &error))
            }
            Err(_) => Ok(None),
        }
    }
}

/// All addresses of the host, in the order in which the system prefers them.
pub(super) async fn addresses(place: &Place) -> Result<Vec<SocketAddr>, Failure> {
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(place.host_and_port())).await;
    match found {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = Vec::new();
            for address in found {
                if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        }
        Ok(Err(error)) => Err(no_address(place, &error.to_string())),
        Err(_) => Err(no_address(place, "no name server answers")),
    }
}

async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Asks whether anybody is there (RFC 7252 section 4.3): whatever comes back says
/// so.
async fn ping(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<()> {
    let ping = Message::empty(Kind::Confirmable, MessageId(0)).encode();
    socket.send(&ping).await?;
    socket.recv(buffer).await.map(drop)
}

pub(super) fn secret() -> Result<u128, Failure> {
    let mut secret = [0; 16];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::failed(format!("the system gives no random bytes: {error}")))?;
    Ok(u128::from_ne_bytes(secret))
}

pub(super) fn no_address(place: &Place, why: &str) -> Failure {
    let (host, _) = place.host_and_port();
    Failure::new(Code::Unreachable, format!("{host} cannot be found: {why}"))
}

pub(super) fn unreachable(place: &Place, error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => match place.transport() {
            Transport::Udp => "nobody listens on that UDP port".to_owned(),
            Transport::Tcp => "nobody listens on that TCP port".to_owned(),
        },
        _ => error.to_string(),
    };
    let variables = match place.transport() {
        Transport::Udp => "COAP_PORT, COAP_ADDRESS",
        Transport::Tcp => "COAP_TCP_PORT, COAP_TCP_ADDRESS",
    };
    Failure::new(Code::Unreachable, format!("no server answers at {place}: {why}"))
        .tip(format!("is it running, and is its CoAP endpoint on ({variables})?"))
}

/// What a call that has no reply means to a user.
pub(super) fn failure(place: &Place, error: &CallError) -> Failure {
    let said = |code| Failure::new(code, format!("{place}: {error}"));
    match error {
        CallError::Unanswered { copies: 1, .. } => said(Code::Unreachable)
            .tip("a datagram may have been lost: leave --non out, and it is sent again"),
        CallError::Unanswered { .. } => {
            Failure::new(Code::Unreachable, format!("no server answers at {place}: {error}"))
                .tip("is it running, and does a firewall let UDP through to that port?")
        }
        CallError::NoReply(_) => said(Code::TimedOut)
            .tip("for a call that takes so long: --async, with --wait for its result"),
        CallError::Closed | CallError::Aborted(_) | CallError::NoGreeting(_) => {
            said(Code::Unreachable)
        }
        CallError::Reset
        | CallError::NotCoap(_)
        | CallError::UnknownOption(_)
        | CallError::FirstBlockOnly(_)
        | CallError::Block(_)
        | CallError::ReplyTooLong(_)
        | CallError::BodyTooLong(_)
        | CallError::Changed => said(Code::Failed),
    }
}
