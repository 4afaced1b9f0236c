//! Hashes that nobody can foresee who does not know the key: for tables that
//! strangers fill, and for what they must send back.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};

/// Makes hashers of one secret key.
#[derive(Clone)]
pub(crate) struct Keyed(DefaultHasher);

impl Keyed {
    pub(crate) fn new(key: u128) -> Keyed {
        let mut hasher = DefaultHasher::new();
        hasher.write_u128(key);
        Keyed(hasher)
    }

    pub(crate) fn hash(&self, value: impl Hash) -> u64 {
        self.hash_one(value)
    }
}

impl BuildHasher for Keyed {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.clone()
    }
}

/// For keys that are such hashes already.
#[derive(Clone, Copy, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}
