//! The server's stop as the endpoint for datagrams sees it.
//!
//! Owns waiting for it and for its end. Must not know what is to be done then.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio::time::{Sleep, sleep_until};

use super::super::Stop;

/// The server's stop as this endpoint sees it.
pub(super) struct Stopping {
    changed: Pin<Box<dyn Future<Output = Stop> + Send>>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Stopping {
    /// None yet.
    pub(super) fn new(mut stop: watch::Receiver<Stop>) -> Self {
        let changed = async move {
            match stop.wait_for(Option::is_some).await {
                Ok(until) => *until,
                // Who could stop it is gone, so it is over.
                Err(_) => Some(tokio::time::Instant::now()),
            }
        };
        Self { changed: Box::pin(changed), until: None }
    }

    /// Ready when the time is over. From the first look after the stop on,
    /// [`Stopping::has_begun`].
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.until.is_none() {
            let Poll::Ready(until) = self.changed.as_mut().poll(cx) else { return Poll::Pending };
            let until = until.unwrap_or_else(tokio::time::Instant::now);
            self.until = Some(Box::pin(sleep_until(until)));
        }
        self.until.as_mut().map_or(Poll::Pending, |until| until.as_mut().poll(cx))
    }

    /// Whether no new calls are to run.
    pub(super) fn has_begun(&self) -> bool {
        self.until.is_some()
    }
}
