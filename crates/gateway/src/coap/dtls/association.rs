//! One association with a client: the library's state machine, and what makes it
//! keep to the letter of RFC 6347.
//!
//! Must not know other associations, nor which records it should not be given.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dimpl::{Config, Dtls, Error, Output};

use super::library::{contained, taking_for_good};
use super::record::{
    COOKIE_BYTES, ClientHello, RANDOM_BYTES, Record, bare_hello, shift_clear_numbers,
};

/// How often a client may have been asked for a cookie in one handshake, as it
/// counts.
const ASKED_MAX: u16 = 8;

/// What an association wants done, or tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Send(Bytes),
    /// The client has proven that it has the key.
    Connected,
    Received(Bytes),
    /// The client has said goodbye.
    Closed,
}

/// The association.
pub(super) struct Association {
    dtls: Dtls,
    random: [u8; RANDOM_BYTES],
    /// Added to the numbers of records in the clear.
    shift: u64,
    next_clear_number: u64,
    wake: Option<Instant>,
}

impl Association {
    /// Begins with a hello whose cookie is good. None where the library cannot read
    /// it.
    ///
    /// # Errors
    /// Where the two have nothing in common.
    pub(super) fn accept(
        now: Instant,
        config: &Arc<Config>,
        record: &Record<'_>,
        hello: &ClientHello<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Option<Association>, Error> {
        let Ok(cookie) = <[u8; COOKIE_BYTES]>::try_from(hello.cookie) else { return Ok(None) };
        if hello.sequence > ASKED_MAX {
            return Ok(None);
        }
        let dtls = contained(|| {
            let mut dtls = Dtls::new_12_psk(Arc::clone(config), now);
            dtls.handle_timeout(now)?;
            // To number its messages as the client expects, the library must have
            // asked for cookies as often as we did.
            taking_for_good(cookie, || {
                for sequence in 0..hello.sequence {
                    dtls.handle_packet(&bare_hello(sequence, &hello.random))?;
                    forget_output(&mut dtls);
                }
                dtls.handle_packet(record.bytes)
            })?;
            Ok(dtls)
        })?;
        let mut association = Association {
            dtls,
            random: hello.random,
            // The first record answers the hello by its number (RFC 6347 section
            // 4.2.1); the library has used one for each cookie.
            shift: record.number.wrapping_sub(u64::from(hello.sequence)),
            next_clear_number: record.number,
            wake: None,
        };
        association.call(events, |_| Ok(()))?;
        Ok((!events.is_empty()).then_some(association))
    }

    /// Whether it began with this hello.
    pub(super) fn began_with(&self, random: &[u8; RANDOM_BYTES]) -> bool {
        self.random == *random
    }

    /// A number for a record in the clear that is sent beside the library.
    pub(super) fn next_clear_number(&self) -> u64 {
        self.next_clear_number
    }

    /// When [`Association::expire`] has something to do.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Takes a record.
    ///
    /// # Errors
    /// Where the association has come to its end.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        record: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        self.call(events, |dtls| {
            dtls.handle_timeout(now)?;
            dtls.handle_packet(record)
        })
    }

    /// Sends plaintext.
    ///
    /// # Errors
    /// Where the association has come to its end.
    pub(super) fn send(
        &mut self,
        now: Instant,
        plaintext: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Error> {
        self.call(events, |dtls| {
            dtls.handle_timeout(now)?;
            dtls.send_application_data(plaintext).map(drop)
        })
    }

    /// Does what has come due.
    ///
    /// # Errors
    /// Where the client has not answered for too long.
    pub(super) fn expire(&mut self, now: Instant, events: &mut Vec<Event>) -> Result<(), Error> {
        self.call(events, |dtls| dtls.handle_timeout(now))
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, events: &mut Vec<Event>) {
        // It fails where the association has come to its end already.
        let _ = self.call(events, Dtls::close);
    }

    /// Calls the library, and takes what it has to say whether or not that fails.
    fn call(
        &mut self,
        events: &mut Vec<Event>,
        call: impl FnOnce(&mut Dtls) -> Result<(), Error>,
    ) -> Result<(), Error> {
        contained(|| {
            let outcome = call(&mut self.dtls);
            self.drain(events);
            outcome
        })
    }

    fn drain(&mut self, events: &mut Vec<Event>) {
        let mut buffer = vec![0; 2048];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    let mut packet = packet.to_vec();
                    if let Some(number) = shift_clear_numbers(&mut packet, self.shift) {
                        self.next_clear_number = number + 1;
                    }
                    events.push(Event::Send(packet.into()));
                }
                Output::ApplicationData(data) => {
                    events.push(Event::Received(Bytes::copy_from_slice(data)));
                }
                Output::Connected => events.push(Event::Connected),
                Output::CloseNotify => events.push(Event::Closed),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(wake) => {
                    self.wake = Some(wake);
                    return;
                }
                // Of certificates and of media, which there are none of.
                _ => {}
            }
        }
    }
}

fn forget_output(dtls: &mut Dtls) {
    let mut buffer = [0; 512];
    loop {
        match dtls.poll_output(&mut buffer) {
            // A request for a cookie has 60 bytes.
            Output::Timeout(_) | Output::BufferTooSmall { .. } => return,
            _ => {}
        }
    }
}
