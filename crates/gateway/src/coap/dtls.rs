//! DTLS 1.2 with pre-shared keys for CoAP (RFC 7252 section 9.1.3.1): datagrams in,
//! messages of proven clients out, and the other way. No I/O.
//!
//! Owns which associations there are, and which of them a record belongs to. Must
//! not know what the messages hold. The protocol itself is the library's (dimpl);
//! what it does not do is here: nothing is kept of an address before it has shown a
//! cookie, and there are bounds on all that is kept.
//!
//! A client has at most two associations on one path: the session that it uses, and
//! the handshake by which it starts anew. The session stays as it is until the
//! client has proven in that handshake that it has the key (RFC 6347 section 4.2.8),
//! so that nobody else can end it.

mod association;
mod config;
mod cookie;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handshakes;
mod idle;
mod library;
mod record;
mod refusals;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dimpl::{Config, Error};
use tinyfaas_coap::Peer;

use self::association::{Association, Event};
pub use self::config::DtlsConfig;
use self::cookie::Cookies;
use self::handshakes::{Handshake, Handshakes, verdict};
use self::idle::Idle;
use self::library::AskedKeys;
use self::record::{
    ClientHello, Kind, Message, PLAINTEXT_BYTES_MAX, Record, fatal_alert, hello_verify_request,
    records,
};
use self::refusals::{Reason, Refusals};
use super::keys::{PskKeys, shown};

/// Between where and where datagrams go.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Path {
    remote: SocketAddr,
    local: Option<IpAddr>,
}

/// What is to be done next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// Send a datagram from this address of ours.
    Send(SocketAddr, Option<IpAddr>, Bytes),
    /// A client has sent a message. Its session has a number that is never used
    /// again.
    Received(Peer, Bytes),
    /// A session that messages had come by is over.
    Ended(Peer),
}

/// A client that has proven that it has a key.
struct Session {
    path: Path,
    association: Association,
    identity: Box<[u8]>,
    /// When it last sent something.
    heard: Instant,
}

/// All associations. After each call do what [`Sessions::poll`] tells.
pub(crate) struct Sessions {
    config: DtlsConfig,
    library: Arc<Config>,
    keys: Arc<AskedKeys>,
    cookies: Cookies,
    /// The session of each path.
    paths: HashMap<Path, u64>,
    sessions: HashMap<u64, Session>,
    idle: Idle,
    handshakes: Handshakes,
    next: u64,
    refusals: Refusals,
    outputs: VecDeque<Output>,
}

impl Sessions {
    /// No sessions yet. `secret` must be random.
    pub(crate) fn new(
        config: DtlsConfig,
        keys: Arc<PskKeys>,
        secret: [u8; 32],
        now: Instant,
    ) -> Sessions {
        let keys = Arc::new(AskedKeys::new(keys));
        Sessions {
            cookies: Cookies::new(secret, config.cookie_lifetime, now),
            refusals: Refusals::new(config.refusals_told_every),
            library: library::settings(&config, &keys),
            config,
            keys,
            paths: HashMap::new(),
            sessions: HashMap::new(),
            idle: Idle::default(),
            handshakes: Handshakes::default(),
            next: 1,
            outputs: VecDeque::new(),
        }
    }

    /// Takes a datagram.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local: Option<IpAddr>,
        datagram: &[u8],
    ) {
        let path = Path { remote, local };
        for record in records(datagram) {
            self.record(now, path, &record);
        }
    }

    /// Sends a message in a session, if there still is one.
    pub(crate) fn send(&mut self, now: Instant, session: u64, plaintext: &[u8]) {
        // A longer one cannot be: a block is cut to 1,024 bytes.
        if plaintext.len() > PLAINTEXT_BYTES_MAX {
            return;
        }
        let Some(found) = self.sessions.get_mut(&session) else { return };
        let mut events = Vec::new();
        let outcome = found.association.send(now, plaintext, &mut events);
        self.after(session, events, outcome);
    }

    /// Does what has come due.
    pub(crate) fn expire(&mut self, now: Instant) {
        for path in self.handshakes.due(now) {
            let Some(handshake) = self.handshakes.get_mut(&path) else { continue };
            let mut events = Vec::new();
            let outcome = handshake.association.expire(now, &mut events);
            self.after_handshake(now, path, events, outcome);
        }
        while let Some((session, heard)) = self.longest_idle() {
            if now.saturating_duration_since(heard) < self.config.idle {
                break;
            }
            self.dismiss(session);
        }
    }

    /// When [`Sessions::expire`] has something to do; none while nothing waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let idle = self.idle.earliest().map(|at| at + self.config.idle);
        self.handshakes.deadline().into_iter().chain(idle).min()
    }

    /// What is to be done next; none when all is done.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many clients have a session.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Says goodbye to every client, so that each starts anew when it next has
    /// something to say, and need not find out by waiting.
    pub(crate) fn close(&mut self) {
        self.handshakes.clear();
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.dismiss(session);
        }
    }

    /// How many sessions and handshakes there are.
    #[cfg(any(test, fuzzing))]
    fn counts(&self) -> (usize, usize) {
        assert_eq!(self.paths.len(), self.sessions.len());
        assert_eq!(self.idle.len(), self.sessions.len());
        (self.sessions.len(), self.handshakes.len())
    }

    /// Gives a record to the association that it belongs to, and to the library only
    /// what cannot do harm: records in the clear prove nothing, and reach a session
    /// only as the client's last flight, which may have to be answered again.
    fn record(&mut self, now: Instant, path: Path, record: &Record<'_>) {
        let session = self.paths.get(&path).copied();
        let shakes = self.handshakes.get(&path).is_some();
        match (record.kind, record.message()) {
            (Kind::Handshake, Some(Message::ClientHello)) => self.hello(now, path, record),
            (Kind::Data, _) if !record.protected => {}
            (Kind::Data, _) => {
                if let Some(session) = session {
                    self.pass(now, session, record);
                }
            }
            (Kind::Alert, _) if record.protected && session.is_some() => {
                self.pass(now, session.unwrap_or_default(), record);
            }
            _ if shakes => self.pass_to_handshake(now, path, record),
            (Kind::Handshake, message) if message != Some(Message::Other) => {
                if let Some(session) = session {
                    self.pass(now, session, record);
                }
            }
            _ => {}
        }
    }

    fn hello(&mut self, now: Instant, path: Path, record: &Record<'_>) {
        let Some(hello) = ClientHello::parse(record) else { return };
        let session = self.paths.get(&path).and_then(|session| self.sessions.get(session));
        if session.is_some_and(|session| session.association.began_with(&hello.random)) {
            // A copy that came late.
            return;
        }
        let handshake = self.handshakes.get(&path);
        if handshake.is_some_and(|found| found.association.began_with(&hello.random)) {
            // Our answer to it may be lost.
            return self.pass_to_handshake(now, path, record);
        }
        if !self.cookies.is_good(now, &path, &hello) {
            let cookie = self.cookies.bake(now, &path, &hello);
            let answer = hello_verify_request(record.number, hello.sequence, &cookie);
            self.outputs.push_back(Output::Send(path.remote, path.local, answer));
            return;
        }
        if !self.has_room(now, path) {
            // It asks again, and there may be room then.
            return self.refusals.tell(now, path.remote, None, Reason::Full);
        }
        self.begin(now, path, record, &hello);
    }

    fn begin(&mut self, now: Instant, path: Path, record: &Record<'_>, hello: &ClientHello<'_>) {
        let mut events = Vec::new();
        match Association::accept(now, &self.library, record, hello, &mut events) {
            Ok(Some(association)) => {
                let handshake = Handshake { association, began: now, identity: None };
                self.handshakes.insert(path, handshake, self.config.handshakes_max);
                self.after_handshake(now, path, events, Ok(()));
            }
            Ok(None) => {}
            Err(error) => self.refuse(now, path, None, record.number, &error),
        }
    }

    fn pass_to_handshake(&mut self, now: Instant, path: Path, record: &Record<'_>) {
        let Some(handshake) = self.handshakes.get_mut(&path) else { return };
        let mut events = Vec::new();
        let outcome = handshake.association.receive(now, record.bytes, &mut events);
        if let Some(identity) = self.keys.take_asked() {
            handshake.identity = Some(identity);
        }
        self.after_handshake(now, path, events, outcome);
    }

    fn after_handshake(
        &mut self,
        now: Instant,
        path: Path,
        events: Vec<Event>,
        outcome: Result<(), Error>,
    ) {
        if let Err(error) = outcome {
            if let Some(handshake) = self.handshakes.remove(&path) {
                let number = handshake.association.next_clear_number();
                self.refuse(now, path, handshake.identity.as_deref(), number, &error);
            }
            return;
        }
        if events.contains(&Event::Connected) {
            return self.establish(now, path, events);
        }
        for event in events {
            if let Event::Send(datagram) = event {
                self.outputs.push_back(Output::Send(path.remote, path.local, datagram));
            }
        }
    }

    /// Ends a handshake. An unknown identity is told by the same words as a wrong
    /// key, so that nobody learns which there are (RFC 4279 section 2).
    fn refuse(
        &mut self,
        now: Instant,
        path: Path,
        identity: Option<&[u8]>,
        record_number: u64,
        error: &Error,
    ) {
        let known = identity.is_some_and(|identity| self.keys.has(identity));
        let Some((alert, reason)) = verdict(error, known) else { return };
        let alert = fatal_alert(record_number, alert);
        self.outputs.push_back(Output::Send(path.remote, path.local, alert));
        self.refusals.tell(now, path.remote, identity, reason);
    }

    /// Makes a session of a handshake in which the client has proven its key.
    fn establish(&mut self, now: Instant, path: Path, mut events: Vec<Event>) {
        let Some(mut handshake) = self.handshakes.remove(&path) else { return };
        let identity = handshake.identity.take().unwrap_or_default();
        if !self.has_room(now, path) {
            handshake.association.close(&mut events);
            self.queue(path, 0, events);
            return self.refusals.tell(now, path.remote, Some(&identity), Reason::Full);
        }
        if let Some(old) = self.paths.get(&path).copied() {
            self.forget(old);
        } else if self.sessions.len() >= self.config.sessions_max
            && let Some((longest, _)) = self.longest_idle()
        {
            self.dismiss(longest);
        }
        let number = self.next;
        self.next += 1;
        let association = handshake.association;
        self.paths.insert(path, number);
        self.sessions.insert(number, Session { path, association, identity, heard: now });
        self.idle.insert(number, now);
        self.after(number, events, Ok(()));
    }

    /// Whether a new client may have a session on this path, be it that another's
    /// goes for it.
    fn has_room(&mut self, now: Instant, path: Path) -> bool {
        self.sessions.len() < self.config.sessions_max
            || self.paths.contains_key(&path)
            || self.longest_idle().is_some_and(|(_, heard)| {
                now.saturating_duration_since(heard) >= self.config.idle_before_giving_way
            })
    }

    /// The session that was not heard of for longest, and when it was.
    fn longest_idle(&mut self) -> Option<(u64, Instant)> {
        self.idle.longest(|session| self.sessions.get(&session).map(|found| found.heard))
    }

    fn pass(&mut self, now: Instant, session: u64, record: &Record<'_>) {
        let Some(found) = self.sessions.get_mut(&session) else { return };
        let mut events = Vec::new();
        let outcome = found.association.receive(now, record.bytes, &mut events);
        if events.iter().any(|event| matches!(event, Event::Received(_))) {
            found.heard = now;
        }
        self.after(session, events, outcome);
    }

    fn after(&mut self, session: u64, events: Vec<Event>, outcome: Result<(), Error>) {
        let Some(found) = self.sessions.get(&session) else { return };
        let (path, closed) = (found.path, events.contains(&Event::Closed));
        if let Err(error) = &outcome {
            let identity = shown(&found.identity);
            tracing::debug!("the session of \"{identity}\" is over: {error}");
        }
        self.queue(path, session, events);
        if closed || outcome.is_err() {
            self.forget(session);
        }
    }

    fn queue(&mut self, path: Path, session: u64, events: Vec<Event>) {
        let peer = Peer { remote: path.remote, local: path.local, session: Some(session) };
        self.outputs.extend(events.into_iter().filter_map(|event| match event {
            Event::Send(datagram) => Some(Output::Send(path.remote, path.local, datagram)),
            Event::Received(plaintext) => Some(Output::Received(peer, plaintext)),
            Event::Connected | Event::Closed => None,
        }));
    }

    /// Says goodbye to a client and forgets its session.
    fn dismiss(&mut self, session: u64) {
        if let Some(found) = self.sessions.get_mut(&session) {
            let (mut events, path) = (Vec::new(), found.path);
            found.association.close(&mut events);
            self.queue(path, session, events);
        }
        self.forget(session);
    }

    fn forget(&mut self, session: u64) {
        self.idle.remove(session);
        let Some(Session { path, .. }) = self.sessions.remove(&session) else { return };
        self.paths.remove(&path);
        let peer = Peer { remote: path.remote, local: path.local, session: Some(session) };
        self.outputs.push_back(Output::Ended(peer));
    }
}

#[cfg(test)]
mod tests;
