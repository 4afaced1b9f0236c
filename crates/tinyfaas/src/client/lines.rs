//! A body that is read line by line as it comes.
//!
//! Owns the cutting into lines, within a bound. Must not know what they say.

use reqwest::Response;

use super::{Address, broke_off};
use crate::failure::Failure;

/// The longest line that is taken from a server, in bytes.
const LINE_BYTES_MAX: usize = 4 << 20;

/// The lines of an answer that is still coming.
pub(crate) struct Lines {
    response: Response,
    address: Address,
    waiting: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// The lines of this answer.
    pub(crate) fn of(response: Response, address: &Address) -> Self {
        Self { response, address: address.clone(), waiting: Vec::new(), ended: false }
    }

    /// The next line without its end; the last need not have one.
    ///
    /// # Errors
    /// Where the answer breaks off, or a line is too long.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(line) = take_line(&mut self.waiting) {
                return Ok(Some(line));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.waiting);
                return Ok((!rest.is_empty()).then(|| text(&rest)));
            }
            if self.waiting.len() > LINE_BYTES_MAX {
                let message = format!("{} sent a line that is too long", self.address);
                return Err(Failure::failed(message));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.waiting.extend_from_slice(&chunk),
                Ok(None) => self.ended = true,
                Err(error) => return Err(broke_off(&self.address, error)),
            }
        }
    }
}

fn take_line(waiting: &mut Vec<u8>) -> Option<String> {
    let end = waiting.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = waiting.drain(..=end).collect();
    Some(text(line[..end].strip_suffix(b"\r").unwrap_or(&line[..end])))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_off_one_by_one() {
        let mut waiting = b"one\r\n\ntw".to_vec();
        assert_eq!(take_line(&mut waiting).as_deref(), Some("one"));
        assert_eq!(take_line(&mut waiting).as_deref(), Some(""));
        assert_eq!(take_line(&mut waiting), None);
        waiting.extend_from_slice(b"o\n");
        assert_eq!(take_line(&mut waiting).as_deref(), Some("two"));
        assert!(waiting.is_empty());
    }
}
