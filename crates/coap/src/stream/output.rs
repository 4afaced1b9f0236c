//! What waits to be written on a stream: messages in order, their payloads not
//! copied.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::frame::Frame;

/// The bytes to be written, as a [`Buf`]: advancing it takes off what was written.
#[derive(Default)]
pub struct StreamOutput {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl StreamOutput {
    pub(crate) fn push(&mut self, frame: Frame) {
        for part in [frame.encode_head(), frame.payload] {
            if !part.is_empty() {
                self.bytes += part.len();
                self.parts.push_back(part);
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        *self = StreamOutput::default();
    }
}

impl Buf for StreamOutput {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], Bytes::as_ref)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.parts);
        filled.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "no more is written than was there");
        self.bytes -= count;
        while let Some(part) = self.parts.front_mut() {
            if count < part.len() {
                part.advance(count);
                return;
            }
            count -= part.len();
            self.parts.pop_front();
        }
    }
}
