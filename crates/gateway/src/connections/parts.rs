//! What is replied, in parts that HTTP/2 can carry.
//!
//! Owns the rest of a part that was too large. Must not know what is replied.

use bytes::Bytes;
use http_body::Frame;

/// Cuts data: HTTP/2 keeps what it was handed, however little of it the caller takes.
pub(crate) struct Parts {
    rest: Bytes,
    bytes_max: usize,
}

impl Parts {
    /// Parts of so many bytes at most.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { rest: Bytes::new(), bytes_max }
    }

    /// Whether nothing is left of what was cut.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next part of what was cut before; None where nothing is left of it.
    pub(crate) fn next(&mut self) -> Option<Frame<Bytes>> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| self.cut(rest))
    }

    /// The first part of this data; the rest is kept for [`Self::next`].
    pub(crate) fn cut(&mut self, mut data: Bytes) -> Frame<Bytes> {
        if data.len() > self.bytes_max {
            self.rest = data.split_off(self.bytes_max);
        }
        Frame::data(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &'static str, bytes_max: usize, expected: &[&str]) {
        let mut parts = Parts::new(bytes_max);
        let mut found = vec![parts.cut(Bytes::from_static(data.as_bytes()))];
        found.extend(std::iter::from_fn(|| parts.next()));
        let found: Vec<Bytes> =
            found.into_iter().filter_map(|part| part.into_data().ok()).collect();
        assert_eq!(found, expected, "{data} by {bytes_max}");
        assert!(parts.is_empty());
    }

    #[test]
    fn data_is_cut_into_parts() {
        check("", 2, &[""]);
        check("ab", 2, &["ab"]);
        check("abcde", 2, &["ab", "cd", "e"]);
    }
}
