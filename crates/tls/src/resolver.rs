//! Which certificate is served.
//!
//! Owns the two places where handshakes look: the server's certificate, swapped
//! while it serves, and those by which a name's holder is proven to an ACME server.
//! Must not know where they come from.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::acme::challenges::Challenges;
use crate::certificate::Certificate;

/// The protocol by which an ACME server asks for a challenge's certificate
/// (RFC 8737, section 4).
pub(crate) const ACME_ALPN: &[u8] = b"acme-tls/1";

/// The server's certificate. A client that asks for another name gets it as well:
/// there is one only, and the client judges.
#[derive(Debug, Default)]
pub(crate) struct Served {
    current: ArcSwapOption<Certificate>,
}

impl Served {
    /// Handshakes that begin from now on get this one. Connections stay.
    pub(crate) fn set(&self, certificate: Certificate) {
        self.current.store(Some(Arc::new(certificate)));
    }

    /// None where there has not been one yet.
    pub(crate) fn get(&self) -> Option<Arc<Certificate>> {
        self.current.load_full()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|it| Arc::clone(&it.certified))
    }
}

impl Challenges {
    /// Whether this is an ACME server that asks about a name which is being proven.
    pub(crate) fn concern(&self, hello: &ClientHello<'_>) -> bool {
        // It offers this one and no other (RFC 8737, section 3).
        let asks = hello.alpn().is_some_and(|mut offered| {
            offered.next() == Some(ACME_ALPN) && offered.next().is_none()
        });
        asks && hello.server_name().is_some_and(|name| self.certificate(name).is_some())
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certificate(hello.server_name()?)
    }
}
