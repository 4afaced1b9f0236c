//! A connection to a CoAP server (RFC 8323).
//!
//! Owns carrying bytes and time to the state machine that does the rest.

use std::io;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tinyfaas_coap::client::{Call, ClientLimits, Progress, StreamClient};
use tinyfaas_coap::exchange::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};

use super::channel::{addresses, failure, no_address, secret, unreachable};
use super::place::Place;
use crate::failure::{Code, Failure};

/// How long connecting to an address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to one server.
pub(super) struct Connection {
    stream: TcpStream,
    client: StreamClient,
    place: Place,
    input: BytesMut,
}

impl Connection {
    /// Connects to the first address that takes it.
    pub(super) async fn open(place: Place) -> Result<Self, Failure> {
        let mut refused = None;
        for address in addresses(&place).await? {
            let error = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // What is asked goes out at once.
                    drop(stream.set_nodelay(true));
                    let client = StreamClient::new(ClientLimits::default(), secret()?);
                    return Ok(Self { stream, client, place, input: BytesMut::new() });
                }
                Ok(Err(error)) => error,
                Err(_) => io::Error::from(io::ErrorKind::TimedOut),
            };
            refused.get_or_insert(error);
        }
        Err(match refused {
            Some(error) => unreachable(&place, &error),
            None => no_address(&place, "the name has no address"),
        })
    }

    /// Makes a call.
    pub(super) async fn call(
        &mut self,
        call: Call,
        told: impl Fn(&Progress),
    ) -> Result<Option<Response>, Failure> {
        self.client.call(Instant::now(), call);
        loop {
            if let Err(error) = self.stream.write_all_buf(self.client.output()).await {
                return Err(self.broke_off(&error));
            }
            if let Some(outcome) = self.client.ended() {
                return outcome.map_err(|error| failure(&self.place, &error));
            }
            if let Some(progress) = self.client.progress() {
                told(&progress);
            }
            let due = self.client.deadline().expect("a call that has not ended waits");
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => match read {
                    Ok(0) => self.client.close(),
                    Ok(_) => self.client.receive(Instant::now(), &mut self.input),
                    Err(error) => return Err(self.broke_off(&error)),
                },
                () = sleep_until(due.into()) => self.client.expire(Instant::now()),
            }
        }
    }

    fn broke_off(&self, error: &io::Error) -> Failure {
        let place = &self.place;
        Failure::new(Code::Unreachable, format!("the connection to {place} broke off: {error}"))
    }
}
