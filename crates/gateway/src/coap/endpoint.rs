//! The endpoint for datagrams: one task that owns the sockets, the message layer
//! and the calls that run for it.
//!
//! Owns what waits for what: datagrams, replies, timers, the server's stop. The
//! calls are polled by this task itself: to hand each to another and its reply
//! back costs more than all the rest. Must not know what requests ask for
//! (`answer.rs`) nor the rules of the message layer (`tinyfaas_coap`).

mod call;
mod stopping;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use tinyfaas_coap::Peer;
use tinyfaas_coap::exchange::{CallId, Output, Response};
use tinyfaas_coap::server::{Owed, Server};
use tinyfaas_model::random;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep_until};

use self::call::{Call, Run};
use self::stopping::Stopping;
use super::answer::{Answer, Reply, answer};
use super::dtls::{self, Sessions};
use super::keys::PskKeys;
use super::listening::Listening;
use super::socket::{Arrival, Socket};
use super::{Coap, Stop};
use crate::dispatch::now;

/// The longest datagram that UDP carries, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// How many datagrams of a socket, and how many replies, are dealt with before
/// the others have their turn.
const TURN: usize = 32;

/// How often it is told, while it lasts, that a socket cannot be read.
const TROUBLE_TOLD_EVERY: Duration = Duration::from_secs(60);

/// The endpoint; a future that ends when the server has stopped.
pub(super) struct Endpoint {
    coap: Arc<Coap>,
    sockets: Vec<Socket>,
    secured: Option<Secured>,
    server: Server,
    calls: FuturesUnordered<Call>,
    /// How to give up the calls of endpoints that may be forgotten.
    aborts: HashMap<CallId, AbortHandle>,
    listening: Listening,
    buffer: Box<[u8]>,
    /// Set for when something comes due, or sooner.
    timer: Option<Pin<Box<Sleep>>>,
    stop: Stopping,
    told: Option<Instant>,
}

/// The sockets for datagrams within DTLS, and the sessions on them.
struct Secured {
    sockets: Vec<Socket>,
    sessions: Sessions,
}

/// Which sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Clear,
    Secured,
}

impl Endpoint {
    /// An endpoint on these sockets, the secured ones for who has one of the keys.
    ///
    /// # Errors
    /// Where one of them cannot be used.
    pub(super) fn new(
        coap: Arc<Coap>,
        sockets: Vec<UdpSocket>,
        secured: Vec<UdpSocket>,
        keys: PskKeys,
        stop: watch::Receiver<Stop>,
    ) -> io::Result<Self> {
        let take =
            |all: Vec<UdpSocket>| all.into_iter().map(Socket::new).collect::<io::Result<_>>();
        let (sockets, secured): (_, Vec<_>) = (take(sockets)?, take(secured)?);
        let secured = (!secured.is_empty()).then(|| {
            let config = coap.config.dtls.clone();
            let sessions = Sessions::new(config, Arc::new(keys), random::draw(), now());
            Secured { sockets: secured, sessions }
        });
        let (mut messages, blocks) = (coap.config.messages.clone(), coap.config.blocks.clone());
        // After a restart they go on, as far as the clock does.
        messages.observers.sequence_start = sequence_start();
        let secret = u128::from_ne_bytes(random::draw());
        Ok(Self {
            server: Server::new(messages, blocks, secret, now()),
            coap,
            sockets,
            secured,
            calls: FuturesUnordered::new(),
            aborts: HashMap::new(),
            listening: Listening::default(),
            buffer: vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice(),
            timer: None,
            stop: Stopping::new(stop),
            told: None,
        })
    }

    /// Reads a turn of datagrams from each socket. Whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let mut more = false;
        for side in [Side::Clear, Side::Secured] {
            for at in 0..self.side(side).len() {
                more |= self.read_socket(cx, side, at);
            }
        }
        more
    }

    fn side(&mut self, side: Side) -> &mut [Socket] {
        match (side, &mut self.secured) {
            (Side::Clear, _) => &mut self.sockets,
            (Side::Secured, Some(secured)) => &mut secured.sockets,
            (Side::Secured, None) => &mut [],
        }
    }

    fn read_socket(&mut self, cx: &mut Context<'_>, side: Side, at: usize) -> bool {
        for _ in 0..TURN {
            // Taken out, as the sockets cannot be asked for while it is written to.
            let mut buffer = std::mem::take(&mut self.buffer);
            let outcome = self.side(side)[at].poll_receive(cx, &mut buffer);
            self.buffer = buffer;
            match outcome {
                Poll::Pending => return false,
                Poll::Ready(Ok(arrival)) => self.receive(side, &arrival),
                // The next one may be sound: an error belongs to one datagram.
                Poll::Ready(Err(error)) => {
                    let now = now();
                    if self.told.is_none_or(|told| now - told > TROUBLE_TOLD_EVERY) {
                        let address = self.side(side)[at].address();
                        tracing::warn!("a datagram to {address} over CoAP is lost: {error}");
                        self.told = Some(now);
                    }
                }
            }
        }
        true
    }

    fn receive(&mut self, side: Side, arrival: &Arrival) {
        // Groups are not served: who asks many gets many answers, at a victim's cost.
        if arrival.to_many {
            return;
        }
        let (datagram, now) = (&self.buffer[..arrival.bytes], now());
        match (side, &mut self.secured) {
            (Side::Secured, Some(secured)) => {
                secured.sessions.receive(now, arrival.remote, Some(arrival.local), datagram);
            }
            _ => {
                let datagram = Bytes::copy_from_slice(datagram);
                let local = Some(arrival.local);
                self.take(now, Peer { remote: arrival.remote, local, session: None }, &datagram);
            }
        }
        self.send();
    }

    /// Takes a message, and answers it or starts its call.
    fn take(&mut self, now: Instant, peer: Peer, message: &Bytes) {
        let Some(request) = self.server.receive(now, peer, message) else { return };
        if self.stop.has_begun() {
            self.server.reply(now, request.owed, Response::unavailable(1));
            return;
        }
        match answer(&self.coap, request.message) {
            Answer::Now(reply) => self.server.reply(now, request.owed, reply.response),
            Answer::Later(call) => self.start(request.owed, call),
        }
    }

    fn start(&mut self, owed: Owed, call: Pin<Box<dyn Future<Output = Reply> + Send>>) {
        // Who has no session is never forgotten while its call runs.
        if owed.peer().session.is_none() {
            self.calls.push(Call { owed: Some(owed), run: Run::Plain(call) });
            return;
        }
        let (abort, registration) = AbortHandle::new_pair();
        self.aborts.insert(owed.call(), abort);
        let run = Run::Abortable(Abortable::new(call, registration));
        self.calls.push(Call { owed: Some(owed), run });
    }

    /// Takes a turn of replies. Whether there may be more.
    fn reply(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..TURN {
            let Poll::Ready(Some((owed, outcome))) = self.calls.poll_next_unpin(cx) else {
                return false;
            };
            if owed.peer().session.is_some() {
                self.aborts.remove(&owed.call());
            }
            // One that was given up is owed nothing any more.
            if let Ok(reply) = outcome {
                self.answer(owed, reply);
                self.send();
            }
        }
        true
    }

    fn answer(&mut self, mut owed: Owed, reply: Reply) {
        let mut response = reply.response;
        // Who observes is told what is so now: it may have changed since.
        if let Some(mut watch) = reply.watch.filter(|_| !self.stop.has_begun())
            && let Some(state) = watch.latest()
            && self.server.observe(now(), &mut owed, watch.id())
        {
            response = state.response();
            self.listening.begin(watch);
        }
        self.server.reply(now(), owed, response);
    }

    /// Takes a turn of what is to be told to who observes. Whether there may be more.
    fn publish(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..TURN {
            let Poll::Ready((resource, response)) = self.listening.poll_next(cx) else {
                return false;
            };
            self.server.publish(now(), resource, &response);
            self.send();
        }
        true
    }

    /// Tells all who observe that the server stops.
    fn end_observations(&mut self) {
        for resource in self.listening.end_all() {
            self.server.publish(now(), resource, &Response::unavailable(1));
            self.send();
        }
    }

    /// Does all that the message layer and the sessions want done.
    fn send(&mut self) {
        loop {
            while let Some(output) = self.server.poll() {
                match output {
                    Output::Send(peer, datagram) => self.send_to(&peer, &datagram),
                    Output::Unobserved(resource) => self.listening.end(resource),
                    Output::Cancel(call) => {
                        if let Some(abort) = self.aborts.remove(&call) {
                            abort.abort();
                        }
                    }
                }
            }
            let Some(secured) = &mut self.secured else { return };
            match secured.sessions.poll() {
                None => return,
                Some(dtls::Output::Send(remote, local, datagram)) => {
                    depart(&secured.sockets, remote, local, &datagram);
                }
                Some(dtls::Output::Received(peer, message)) => self.take(now(), peer, &message),
                Some(dtls::Output::Ended(peer)) => self.server.forget(&peer),
            }
        }
    }

    fn send_to(&mut self, peer: &Peer, datagram: &[u8]) {
        match (peer.session, &mut self.secured) {
            (Some(session), Some(secured)) => secured.sessions.send(now(), session, datagram),
            _ => depart(&self.sockets, peer.remote, peer.local, datagram),
        }
    }

    /// Tells what was counted so far.
    fn tell(&self) {
        let secured = self.secured.iter().flat_map(|secured| &secured.sockets);
        let all = || self.sockets.iter().chain(secured.clone());
        let told = &self.coap.figures.datagrams;
        told.received.store(all().map(Socket::received).sum(), Ordering::Relaxed);
        told.sent.store(all().map(Socket::sent).sum(), Ordering::Relaxed);
        let exchange = self.server.exchange();
        let counts = exchange.counts();
        told.malformed.store(counts.malformed, Ordering::Relaxed);
        told.copies.store(counts.copies, Ordering::Relaxed);
        told.retransmitted.store(counts.retransmitted, Ordering::Relaxed);
        told.calls.store(exchange.calls(), Ordering::Relaxed);
        told.observers.store(self.server.all_observers().len(), Ordering::Relaxed);
        let sessions = self.secured.as_ref().map_or(0, |secured| secured.sessions.len());
        told.sessions.store(sessions, Ordering::Relaxed);
    }

    /// Does what has come due, and sets the timer for what comes next.
    fn expire(&mut self, cx: &mut Context<'_>) {
        loop {
            let sessions = self.secured.as_ref().and_then(|secured| secured.sessions.deadline());
            let Some(deadline) = self.server.deadline().into_iter().chain(sessions).min() else {
                return;
            };
            let deadline = tokio::time::Instant::from_std(deadline);
            match &mut self.timer {
                Some(timer) if timer.deadline() > deadline => timer.as_mut().reset(deadline),
                // It strikes too early at worst: to set it anew for each datagram
                // would cost more.
                Some(_) => {}
                None => self.timer = Some(Box::pin(sleep_until(deadline))),
            }
            let Some(timer) = &mut self.timer else { return };
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.timer = None;
            self.server.expire(now());
            if let Some(secured) = &mut self.secured {
                secured.sessions.expire(now());
            }
            self.send();
        }
    }

    /// What is said at the end.
    fn say_goodbye(&mut self) {
        if let Some(secured) = &mut self.secured {
            secured.sessions.close();
            self.send();
        }
    }
}

/// What sequence numbers start from: the time on the wall in milliseconds, of which
/// only the lowest bits matter.
fn sequence_start() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u32)
}

/// Sends a datagram from the address of ours that its sender knows.
fn depart(sockets: &[Socket], remote: SocketAddr, local: Option<IpAddr>, datagram: &[u8]) {
    let Some(local) = local else { return };
    if let Some(socket) = sockets.iter().find(|socket| socket.serves(local)) {
        // One that cannot leave now is one that is lost on its way: what matters is
        // sent again, or asked for again.
        let _ = socket.send(remote, local, datagram);
    }
}

impl Future for Endpoint {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.stop.poll(cx).is_ready() {
            this.say_goodbye();
            return Poll::Ready(());
        }
        if this.stop.has_begun() {
            this.end_observations();
        }
        loop {
            let arrived = this.read(cx);
            // Before who asked to observe meanwhile is told the same as its reply.
            let told = this.publish(cx);
            let replied = this.reply(cx);
            if !arrived && !replied && !told {
                break;
            }
        }
        this.expire(cx);
        this.tell();
        if this.stop.has_begun() && this.calls.is_empty() {
            this.say_goodbye();
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
