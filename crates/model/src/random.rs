//! Random bytes, at a cost that a call does not feel.
//!
//! Owns a small stock for each thread, refilled by getrandom(2): a system call
//! for each id costs more than all else that is done to make it. Must not know
//! what the bytes are for.
//!
//! No process forks once it has threads that draw here, so nothing is drawn
//! twice; what has been drawn is wiped, so that the stock tells nothing of the
//! past.

use std::cell::RefCell;

/// Bytes that a thread draws from the system at a time: enough for 64 ids.
const STOCK_BYTES: usize = 1024;

struct Stock {
    bytes: [u8; STOCK_BYTES],
    left: usize,
}

thread_local! {
    static STOCK: RefCell<Stock> =
        const { RefCell::new(Stock { bytes: [0; STOCK_BYTES], left: 0 }) };
}

/// So many bytes that nobody can guess; at most 1024, which the compiler
/// checks.
///
/// # Panics
/// Where the system has no random source at all, which Linux has from boot.
#[must_use]
pub fn draw<const N: usize>() -> [u8; N] {
    const { assert!(N <= STOCK_BYTES, "more than a stock holds") };
    STOCK.with_borrow_mut(|stock| {
        if stock.left < N {
            getrandom::fill(&mut stock.bytes)
                .expect("getrandom(2) works on every Linux that we support");
            stock.left = STOCK_BYTES;
        }
        let start = stock.left - N;
        let mut drawn = [0; N];
        let taken = &mut stock.bytes[start..stock.left];
        drawn.copy_from_slice(taken);
        taken.fill(0);
        stock.left = start;
        drawn
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_drawn_twice_across_refills_and_threads() {
        let draw = || (0..300).map(|_| draw::<16>()).collect::<Vec<_>>();
        let other = std::thread::spawn(draw);
        let mut all = draw();
        all.extend(other.join().expect("it only draws"));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 600);
    }

    #[test]
    fn what_was_drawn_is_wiped() {
        let drawn = draw::<24>();
        assert_ne!(drawn, [0; 24]);
        STOCK.with_borrow(|stock| {
            assert_eq!(stock.bytes[stock.left..stock.left + 24], [0; 24]);
        });
    }
}
