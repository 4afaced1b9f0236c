//! How many calls wait in the whole server.
//!
//! Owns the seats, which all functions share. Must not know who sits in them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many calls wait in the whole server, and how many may.
#[derive(Debug)]
pub struct WaitingRoom {
    seats: usize,
    taken: AtomicUsize,
}

/// A seat that is taken, for as long as this is held.
pub(super) struct Seat<'a>(&'a WaitingRoom);

impl WaitingRoom {
    /// A room for so many.
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self { seats, taken: AtomicUsize::new(0) }
    }

    /// Takes a seat, if one is free.
    pub(super) fn sit(&self) -> Option<Seat<'_>> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self);
        (taken < self.seats).then_some(seat)
    }

    /// How many wait now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
