//! Who may change a function now: one at a time, in order of arrival.
//!
//! Owns a queue for each name that somebody wants to change. Must not know what
//! they do in their turn.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Poll;

use parking_lot::Mutex;
use tinyfaas_model::FunctionName;
use tokio::sync::OwnedMutexGuard;

/// The queues. A name that nobody waits for takes no room.
#[derive(Debug, Default)]
pub(super) struct Turns {
    by_name: Mutex<HashMap<FunctionName, Weak<tokio::sync::Mutex<()>>>>,
}

/// A place in a queue that becomes the turn. Dropping either lets the next on.
pub(super) type QueuedTurn = Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>;

impl Turns {
    /// Joins the queue of this name, behind all who have joined before. Does not
    /// wait for the turn.
    pub(super) async fn queue(&self, name: &FunctionName) -> QueuedTurn {
        let mut turn: QueuedTurn = Box::pin(self.mutex(name).lock_owned());
        // Tokio's mutex is fair and knows of a waiter from its first poll on.
        match poll_fn(|cx| Poll::Ready(turn.as_mut().poll(cx))).await {
            Poll::Ready(guard) => Box::pin(std::future::ready(guard)),
            Poll::Pending => turn,
        }
    }

    /// The names that are being changed.
    pub(super) fn names(&self) -> Vec<FunctionName> {
        let by_name = self.by_name.lock();
        by_name.iter().filter(|(_, turn)| turn.strong_count() > 0).map(|(n, _)| n.clone()).collect()
    }

    fn mutex(&self, name: &FunctionName) -> Arc<tokio::sync::Mutex<()>> {
        let mut by_name = self.by_name.lock();
        by_name.retain(|_, turn| turn.strong_count() > 0);
        if let Some(known) = by_name.get(name).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(tokio::sync::Mutex::new(()));
        by_name.insert(name.clone(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_come_in_order_and_leave_nothing() {
        let turns = Turns::default();
        let name = FunctionName::parse("echo").unwrap();
        let first = turns.queue(&name).await;
        let second = turns.queue(&name).await;
        let third = turns.queue(&name).await;
        let (order, mut seen) = tokio::sync::mpsc::channel(3);
        // The third is waited for before the second, and comes after it still.
        for (number, turn) in [(3, third), (2, second)] {
            let order = order.clone();
            tokio::spawn(async move {
                let _turn = turn.await;
                order.send(number).await.unwrap();
            });
        }
        let guard = first.await;
        assert_eq!(turns.names(), std::slice::from_ref(&name));
        drop(guard);
        assert_eq!(seen.recv().await, Some(2));
        assert_eq!(seen.recv().await, Some(3));
        drop(turns.queue(&FunctionName::parse("other").unwrap()).await);
        while !turns.names().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_leaves_lets_the_next_on() {
        let turns = Turns::default();
        let name = FunctionName::parse("echo").unwrap();
        let first = turns.queue(&name).await;
        let second = turns.queue(&name).await;
        let third = turns.queue(&name).await;
        drop(second);
        drop(first);
        drop(third.await);
    }
}
