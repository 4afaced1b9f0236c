//! The library (dimpl): how it is set up, and made to fit.
//!
//! It keeps a state for each address from the first datagram on, and makes its
//! cookie of a secret that belongs to that state. So that nothing need be kept, the
//! cookie is made and judged outside (`cookie.rs`); the library gets to see a hello
//! only when its cookie is good, and is made here to take it for its own.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use dimpl::crypto::{
    CryptoProvider, Dtls12CipherSuite, HashAlgorithm, HmacProvider, SupportedDtls12CipherSuite,
    rust_crypto,
};
use dimpl::{Config, CryptoError, Error, PskResolver};

use super::DtlsConfig;
use super::record::COOKIE_BYTES;
use crate::coap::keys::{IDENTITY_BYTES_MAX, PskKeys};

/// What every CoAP server with pre-shared keys speaks (RFC 7252 section 9.1.3.1).
pub(super) const SUITE: Dtls12CipherSuite = Dtls12CipherSuite::PSK_AES128_CCM_8;

/// Bytes of a datagram of a handshake at most: what every network carries. Ours
/// have up to 200.
const FLIGHT_BYTES_MAX: usize = 1152;

/// Datagrams of one handshake that may wait for those before them.
const EARLY_DATAGRAMS_MAX: usize = 8;

/// The library's settings for a server with these keys.
pub(super) fn settings(config: &DtlsConfig, keys: &Arc<AskedKeys>) -> Arc<Config> {
    let settings = Config::builder()
        .with_crypto_provider(cryptography())
        .dtls12_cipher_suites(&[SUITE])
        .dtls13_cipher_suites(&[])
        .with_psk_server(None, Arc::clone(keys) as _)
        .use_server_cookie(true)
        .mtu(FLIGHT_BYTES_MAX)
        .max_queue_rx(EARLY_DATAGRAMS_MAX)
        .flight_start_rto(config.retransmit)
        .flight_retries(config.retransmits_max)
        .handshake_timeout(config.handshake_timeout)
        .build()
        .expect("the library takes its own cryptography, and times that are not zero");
    Arc::new(settings)
}

/// The keys, and for whom the library asked last.
pub(super) struct AskedKeys {
    keys: Arc<PskKeys>,
    asked: Mutex<Option<Box<[u8]>>>,
}

impl AskedKeys {
    pub(super) fn new(keys: Arc<PskKeys>) -> AskedKeys {
        AskedKeys { keys, asked: Mutex::new(None) }
    }

    /// Whom the library asked for since this was called last.
    pub(super) fn take_asked(&self) -> Option<Box<[u8]>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether there is a key for this identity.
    pub(super) fn has(&self, identity: &[u8]) -> bool {
        self.keys.get(identity).is_some()
    }
}

impl PskResolver for AskedKeys {
    fn resolve(&self, identity: &[u8]) -> Option<Vec<u8>> {
        // One byte more tells that there was more.
        let cut = &identity[..identity.len().min(IDENTITY_BYTES_MAX + 1)];
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut.into());
        self.keys.get(identity).map(<[u8]>::to_vec)
    }
}

/// HMAC with SHA-256.
pub(super) fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    plain().hmac_sha256(key, data).expect("HMAC with SHA-256 takes keys and data of any length")
}

fn plain() -> &'static dyn HmacProvider {
    rust_crypto::default_provider().hmac_provider
}

thread_local! {
    /// The cookie that was found to be good, while the library looks at its hello.
    static GOOD: Cell<Option<[u8; COOKIE_BYTES]>> = const { Cell::new(None) };
}

/// What the library computes its cookie by: HMAC with SHA-256 by the name
/// `hmac_sha256`, which it uses for nothing else in DTLS 1.2.
#[derive(Debug)]
struct GoodCookie;

impl HmacProvider for GoodCookie {
    fn hmac_sha256(&self, key: &[u8], data: &[u8]) -> Result<[u8; 32], CryptoError> {
        GOOD.get().map_or_else(|| plain().hmac_sha256(key, data), Ok)
    }

    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        plain().hmac(hash, key, data, out)
    }
}

/// The library's cryptography, as far as it is needed (it proves at the start that
/// all of it works, which takes time), which takes a cookie for its own within
/// [`taking_for_good`].
pub(super) fn cryptography() -> CryptoProvider {
    let provider = rust_crypto::default_provider();
    let is_ours = |found: &&dyn SupportedDtls12CipherSuite| found.suite() == SUITE;
    let at = provider.cipher_suites.iter().position(is_ours);
    let at = at.expect("the library has the suite that CoAP demands");
    CryptoProvider {
        hmac_provider: &GoodCookie,
        cipher_suites: &provider.cipher_suites[at..=at],
        // Nothing but the key is agreed on.
        kx_groups: &[],
        ..provider
    }
}

/// Lets the library look at hellos that carry this cookie.
pub(super) fn taking_for_good<T>(
    cookie: [u8; COOKIE_BYTES],
    look: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    /// Forgets the cookie however the look ends.
    struct Looking;
    impl Drop for Looking {
        fn drop(&mut self) {
            GOOD.set(None);
        }
    }
    GOOD.set(Some(cookie));
    let _looking = Looking;
    look()
}

/// Calls the library so that a panic in it, were there input that leads to one, costs
/// the association that the input came by and not all of CoAP: who sends it need not
/// have a key.
pub(super) fn contained<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // What it was about is thrown away with the association.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(Error::ConnectionClosed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_cookie_is_forgotten_when_its_hello_was_looked_at() {
        let hmac = || cryptography().hmac_provider.hmac_sha256(b"key", b"data").unwrap();
        let plain = hmac();
        assert_eq!(taking_for_good([9; 32], || Ok(hmac())).unwrap(), [9; 32]);
        assert_eq!(hmac(), plain);
        let failed: Result<(), _> = taking_for_good([9; 32], || Err(Error::ReceiveQueueFull));
        assert!(failed.is_err());
        assert_eq!(hmac(), plain);
        let panicked: Result<(), _> =
            contained(|| taking_for_good([9; 32], || panic!("as a library would")));
        assert_eq!(panicked, Err(Error::ConnectionClosed));
        assert_eq!(hmac(), plain);
    }
}
