//! How many bytes of bodies the gateway holds whole, and how many it may.
//!
//! Owns the shared budget. Must not know whose bodies they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A budget of bytes, shared by all who hold bodies whole.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    max: usize,
    taken: AtomicUsize,
}

/// A share of the budget; dropping it gives the bytes back.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<HeldBytes>,
    /// Who takes more need not be who holds it.
    bytes: AtomicUsize,
}

impl HeldBytes {
    /// A budget of so many bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicUsize::new(0) })
    }

    /// Bytes that are taken now.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Bytes that there are.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: AtomicUsize::new(0) }
    }
}

impl Share {
    /// Takes so many bytes more. False, and nothing taken, where there are not
    /// so many left.
    pub(crate) fn grow(&self, bytes: usize) -> bool {
        let taken = self.budget.taken.fetch_add(bytes, Ordering::Relaxed);
        let fits = taken.checked_add(bytes).is_some_and(|taken| taken <= self.budget.max);
        if fits {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            self.budget.taken.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    /// All of it, as a share of its own; nothing is left of this one.
    pub(crate) fn take(&self) -> Self {
        let bytes = AtomicUsize::new(self.bytes.swap(0, Ordering::Relaxed));
        Self { budget: Arc::clone(&self.budget), bytes }
    }

    /// Gives back what is more than so many bytes.
    pub(crate) fn shrink_to(&self, bytes: usize) {
        let before = self.bytes.fetch_min(bytes, Ordering::Relaxed);
        self.budget.taken.fetch_sub(before.saturating_sub(bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_never_exceeds_the_budget_and_comes_back() {
        let budget = HeldBytes::new(10);
        let (one, other) = (budget.share(), budget.share());
        assert!(one.grow(6));
        assert!(!other.grow(5));
        assert!(other.grow(4));
        assert!(!one.grow(1));
        drop(one);
        assert!(other.grow(6));
        other.shrink_to(12);
        other.shrink_to(3);
        assert_eq!(budget.taken(), 3);
        let taken = other.take();
        drop(other);
        assert_eq!(budget.taken(), 3);
        drop(taken);
        assert_eq!(budget.taken(), 0);
    }
}
