//! Cookies that prove where a client is before anything is kept of it (RFC 6347
//! section 4.2.1).
//!
//! Owns what a cookie is made of: one secret of the server, the time, the address
//! and what the client offers. Must not know what is done once it is good.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use super::Path;
use super::library::hmac_sha256;
use super::record::{COOKIE_BYTES, ClientHello};

/// Makes and judges cookies.
pub(super) struct Cookies {
    secret: [u8; 32],
    began: Instant,
    lifetime: Duration,
}

impl Cookies {
    /// Cookies that are good for `lifetime` at least, and twice that at most.
    pub(super) fn new(secret: [u8; 32], lifetime: Duration, now: Instant) -> Cookies {
        Cookies { secret, began: now, lifetime: lifetime.max(Duration::from_secs(1)) }
    }

    /// The cookie for a hello.
    pub(super) fn bake(
        &self,
        now: Instant,
        path: &Path,
        hello: &ClientHello<'_>,
    ) -> [u8; COOKIE_BYTES] {
        self.of_period(self.period(now), path, hello)
    }

    /// Whether the hello carries the cookie that was made for it not long ago.
    pub(super) fn is_good(&self, now: Instant, path: &Path, hello: &ClientHello<'_>) -> bool {
        if hello.cookie.len() != COOKIE_BYTES {
            return false;
        }
        let period = self.period(now);
        [Some(period), period.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| self.of_period(period, path, hello).as_slice().ct_eq(hello.cookie).into())
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / self.lifetime.as_secs()
    }

    fn of_period(&self, period: u64, path: &Path, hello: &ClientHello<'_>) -> [u8; COOKIE_BYTES] {
        let mut data = Vec::with_capacity(256);
        data.extend(period.to_be_bytes());
        for address in [Some(path.remote.ip()), path.local] {
            match address {
                Some(IpAddr::V4(address)) => data.extend(address.to_ipv6_mapped().octets()),
                Some(IpAddr::V6(address)) => data.extend(address.octets()),
                None => data.extend([0; 16]),
            }
        }
        data.extend(path.remote.port().to_be_bytes());
        // Its own length stands within each part, so that no two hellos are one.
        data.extend(hello.before);
        data.extend(hello.after);
        hmac_sha256(&self.secret, &data)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{bare_hello, records};
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(60);

    fn path(remote: &str) -> Path {
        Path { remote: remote.parse().unwrap(), local: None }
    }

    /// Whether a cookie made for one hello and path is good for another, later.
    fn check(later: Duration, remote: &str, random: u8, secret: u8) -> bool {
        let now = Instant::now();
        let first = bare_hello(0, &[1; 32]);
        let first = records(&first).next().unwrap();
        let first = ClientHello::parse(&first).unwrap();
        let cookie = Cookies::new([1; 32], LIFETIME, now).bake(now, &path("10.0.0.1:5"), &first);
        let second = bare_hello(1, &[random; 32]);
        let second = records(&second).next().unwrap();
        let second = ClientHello { cookie: &cookie, ..ClientHello::parse(&second).unwrap() };
        Cookies::new([secret; 32], LIFETIME, now).is_good(now + later, &path(remote), &second)
    }

    #[test]
    fn a_cookie_is_good_for_its_address_its_hello_and_its_time() {
        assert!(check(Duration::ZERO, "10.0.0.1:5", 1, 1));
        assert!(check(LIFETIME, "10.0.0.1:5", 1, 1));
        assert!(!check(2 * LIFETIME, "10.0.0.1:5", 1, 1), "too old");
        assert!(!check(Duration::ZERO, "10.0.0.2:5", 1, 1), "another address");
        assert!(!check(Duration::ZERO, "10.0.0.1:6", 1, 1), "another port");
        assert!(!check(Duration::ZERO, "10.0.0.1:5", 2, 1), "another hello");
        assert!(!check(Duration::ZERO, "10.0.0.1:5", 1, 2), "another server");
    }
}
