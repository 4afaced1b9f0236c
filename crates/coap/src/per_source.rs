//! How many of something each machine has, so that none takes all there is room
//! for. Machines are told apart by IP address, as ports cost nothing.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::keyed::Keyed;

/// The counts that are not zero.
pub(crate) struct PerSource(HashMap<IpAddr, usize, Keyed>);

impl PerSource {
    pub(crate) fn new(key: Keyed) -> PerSource {
        PerSource(HashMap::with_hasher(key))
    }

    /// How many this one has.
    pub(crate) fn count(&self, ip: IpAddr) -> usize {
        self.0.get(&ip).copied().unwrap_or(0)
    }

    /// It has one more.
    pub(crate) fn add(&mut self, ip: IpAddr) {
        *self.0.entry(ip).or_default() += 1;
    }

    /// It has one less.
    pub(crate) fn take(&mut self, ip: IpAddr) {
        if let Some(count) = self.0.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_any_is_forgotten() {
        let mut counts = PerSource::new(Keyed::new(1));
        let ip = IpAddr::from([192, 0, 2, 1]);
        counts.add(ip);
        counts.add(ip);
        counts.take(ip);
        assert_eq!(counts.count(ip), 1);
        counts.take(ip);
        counts.take(ip);
        assert_eq!((counts.count(ip), counts.0.len()), (0, 0));
    }
}
