//! The whole server side on datagrams: block-wise transfer on the message layer.
//!
//! Who drives it has the sockets, the clock and the functions: after every
//! [`Server::receive`], [`Server::reply`] and [`Server::expire`] do what
//! [`Server::poll`] tells, then wait for a datagram, a reply or
//! [`Server::deadline`].

use std::time::Instant;

use bytes::Bytes;

use crate::block::{BlockLimits, Blocks, Carrier, Step, Transfer};
use crate::exchange::{CallId, Exchange, Limits, Output, Response};
use crate::message::Message;
use crate::peer::Peer;

/// A request to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// To be handed back with the reply.
    pub owed: Owed,
    /// What is asked, with its whole body as payload. Its Block1 and Block2 options
    /// are done with.
    pub message: Message,
}

/// What a request is owed: one [`Server::reply`].
#[derive(Clone, Debug)]
pub struct Owed {
    call: CallId,
    peer: Peer,
    transfer: Transfer,
}

impl Owed {
    /// What a cancellation names.
    #[must_use]
    pub fn call(&self) -> CallId {
        self.call
    }

    /// Who asks.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// The server's state. See the module.
pub struct Server {
    exchange: Exchange,
    blocks: Blocks,
}

impl Server {
    /// A server that has seen nothing. `secret` must be random.
    #[must_use]
    pub fn new(limits: Limits, blocks: BlockLimits, secret: u128, now: Instant) -> Server {
        Server { exchange: Exchange::new(limits, secret, now), blocks: Blocks::new(blocks, secret) }
    }

    /// Takes a datagram. Returns a request to run, if there now is one.
    pub fn receive(&mut self, now: Instant, peer: Peer, datagram: &Bytes) -> Option<Request> {
        let request = self.exchange.receive(now, peer, datagram)?;
        let proven = self.exchange.is_proven(now, &peer);
        let call = request.call;
        let carrier = Carrier::Datagram { proven };
        match self.blocks.request(now, peer, request.message, carrier) {
            Step::Run(message, transfer) => {
                Some(Request { owed: Owed { call, peer, transfer }, message })
            }
            Step::Answer(response) => {
                self.exchange.reply(now, call, response);
                None
            }
        }
    }

    /// Takes the reply to a request; it has none of the options Block1, Block2 and
    /// Size2. One to a call that was cancelled is dropped.
    pub fn reply(&mut self, now: Instant, owed: Owed, response: Response) {
        if !self.exchange.is_running(owed.call) {
            return;
        }
        let proven = self.exchange.is_proven(now, &owed.peer);
        let response =
            self.blocks.reply(now, &owed.transfer, response, Carrier::Datagram { proven });
        self.exchange.reply(now, owed.call, response);
    }

    /// Does what has come due.
    pub fn expire(&mut self, now: Instant) {
        self.exchange.expire(now);
        self.blocks.expire(now);
    }

    /// When [`Server::expire`] has something to do; none while nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.exchange.deadline(), self.blocks.deadline()].into_iter().flatten().min()
    }

    /// What is to be done next; none when all is done.
    pub fn poll(&mut self) -> Option<Output> {
        self.exchange.poll()
    }

    /// Forgets an endpoint whose session has ended, and cancels its calls.
    pub fn forget(&mut self, peer: &Peer) {
        self.exchange.forget(peer);
        self.blocks.forget(peer);
    }

    /// The message layer, to look at.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// The block-wise transfers, to look at.
    #[must_use]
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }
}
