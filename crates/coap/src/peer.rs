//! Who is at the other end.

use std::net::{IpAddr, SocketAddr};

/// An endpoint as the message layer tells them apart (RFC 7252 section 1.2): where
/// it is, which address of ours it speaks to, and its security association.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    /// Its address and port. One of IPv4 should always come in one form.
    pub remote: SocketAddr,
    /// The address of ours that it sent to, which is where answers leave from;
    /// none if it is not known.
    pub local: Option<IpAddr>,
    /// Its secured session, by a number that is not used again; none without.
    pub session: Option<u64>,
}

impl Peer {
    /// A peer by its address alone.
    #[must_use]
    pub fn at(remote: SocketAddr) -> Peer {
        Peer { remote, local: None, session: None }
    }

    /// Whether nobody can have forged the source: it is this machine, or a secured
    /// session, whose handshake went both ways.
    #[must_use]
    pub fn is_beyond_doubt(&self) -> bool {
        self.session.is_some() || self.remote.ip().to_canonical().is_loopback()
    }
}
