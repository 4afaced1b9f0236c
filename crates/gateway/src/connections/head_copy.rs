//! A copy of the head that is being read, as it came.
//!
//! Owns the one question that hyper cannot answer: whether a request had both a
//! Transfer-Encoding and a Content-Length (RFC 9112, section 6.1). hyper drops
//! the latter, follows the former and closes the connection, which is allowed;
//! we refuse the request. So this may miss a conflict (in requests sent ahead),
//! but must never see one that is not there.

use ::http::HeaderName;

/// Bytes of a head that are kept at most.
const COPY_BYTES_MAX: usize = 64 << 10;
/// Room that is kept for the next head.
const KEPT_BYTES: usize = 1 << 10;

#[derive(Default)]
pub(super) struct HeadCopy {
    bytes: Vec<u8>,
    /// Heads in `bytes` that have become calls.
    taken: usize,
}

impl HeadCopy {
    /// These bytes came in while no call was there.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.taken = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
        }
        let room = COPY_BYTES_MAX.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// A head has become a call.
    pub(super) fn taken(&mut self) {
        self.taken += 1;
    }

    /// Whether bytes came of which no call has become.
    pub(super) fn is_partial(&self) -> bool {
        self.taken == 0 && !self.bytes.is_empty()
    }

    /// Whether the head taken last has a line of this name. False where its
    /// request line does not start with these parts, one space between them:
    /// then it is not the one that is meant.
    pub(super) fn has_line(&self, request_line: &[&[u8]], name: &HeaderName) -> bool {
        let mut lines = self.bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        for _ in 1..self.taken {
            if !lines.by_ref().skip_while(|line| line.is_empty()).any(<[u8]>::is_empty) {
                return false;
            }
        }
        let Some(first) = lines.by_ref().find(|line| !line.is_empty()) else { return false };
        let wanted = request_line.join(&b' ');
        first.starts_with(&wanted)
            && lines.take_while(|line| !line.is_empty()).any(|line| names(line, name))
    }
}

fn names(line: &[u8], name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        && line.get(name.len()) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use ::http::header::CONTENT_LENGTH;

    use super::*;

    fn check(reads: &[&str], taken: usize, line: &[&str], expected: bool) {
        let mut copy = HeadCopy::default();
        for read in reads {
            copy.extend(read.as_bytes());
        }
        for _ in 0..taken {
            copy.taken();
        }
        let line: Vec<_> = line.iter().map(|part| part.as_bytes()).collect();
        assert_eq!(copy.has_line(&line, &CONTENT_LENGTH), expected, "{reads:?} {taken}");
    }

    #[test]
    fn a_line_is_found_in_its_own_head_only() {
        let both = "POST /f HTTP/1.1\r\nContent-LENGTH: 5\r\nA: b\r\n\r\nrest";
        let other = "GET /g HTTP/1.1\r\nA: content-length: 5\r\n\r\n";
        let line = ["POST", "/f", "HTTP/1.1"];
        check(&[both], 1, &line, true);
        check(&["\r\n", &both[..10], &both[10..]], 1, &line, true);
        check(&[other, both], 2, &line, true);
        check(&[other, both], 1, &["GET", "/g", "HTTP/1.1"], false);
        check(&[both], 1, &["POST", "/other"], false);
        check(&[other], 2, &line, false);
        check(&["POST /f HTTP/1.1\r\n\r\ncontent-length: 5\r\n\r\n"], 1, &line, false);
        check(&[], 1, &line, false);
    }

    proptest::proptest! {
        /// However the bytes are cut into reads, the same is found, and nothing
        /// that is no line of the head.
        #[test]
        fn it_does_not_matter_how_a_head_is_cut(
            value in "[ -~]{0,40}",
            has in proptest::bool::ANY,
            cuts in proptest::collection::vec(0_usize..200, 0..6),
        ) {
            let line = if has { "content-length: 3\r\n" } else { "" };
            let head = format!("POST /f HTTP/1.1\r\na: {value}\r\n{line}\r\ncontent-length: 3\r\n");
            let mut copy = HeadCopy::default();
            let mut rest = head.as_bytes();
            for cut in cuts {
                let (read, more) = rest.split_at(cut.min(rest.len()));
                copy.extend(read);
                rest = more;
            }
            copy.extend(rest);
            copy.taken();
            let found = copy.has_line(&[b"POST", b"/f", b"HTTP/1.1"], &CONTENT_LENGTH);
            proptest::prop_assert_eq!(found, has);
        }
    }

    #[test]
    fn a_head_that_was_taken_makes_room() {
        let mut copy = HeadCopy::default();
        copy.extend(b"GET / HTTP/1.1\r\ncontent-length: 1\r\n\r\n");
        copy.taken();
        copy.extend(b"GET / HTTP/1.1\r\n\r\n");
        copy.taken();
        assert!(!copy.has_line(&[b"GET"], &CONTENT_LENGTH));
        copy.extend(&vec![b'x'; 2 * COPY_BYTES_MAX]);
        assert_eq!(copy.bytes.len(), COPY_BYTES_MAX);
    }
}
