//! The end of a deployment: its running calls, then its handlers.
//!
//! Owns one background task for each deployment that has lost its route. How long
//! it may take can be shortened at any time: a deletion or the server's stop is
//! less patient than a redeploy.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tinyfaas_model::{BoxFuture, Deployment, FunctionName, HandlerSet, Usage};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// A deployment on its way out.
pub(super) struct Retirement {
    /// Until when its calls may run. The task holds the one receiver.
    until: watch::Sender<Instant>,
    deployment: Shared,
}

/// The deployment, until it is being destroyed.
type Shared = Arc<Mutex<Option<Box<dyn Deployment>>>>;

impl Retirement {
    /// Takes no new call from now on, and begins to drain. `forget` is called
    /// when the deployment is gone.
    pub(super) fn begin(
        name: &FunctionName,
        deployment: Box<dyn Deployment>,
        patience: Duration,
        forget: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        let handlers = deployment.handlers();
        handlers.start_draining();
        let (until, mut told) = watch::channel(Instant::now() + patience);
        let name = name.clone();
        let deployment: Shared = Arc::new(Mutex::new(Some(deployment)));
        let held = Arc::clone(&deployment);
        tokio::spawn(async move {
            drain(&handlers, &mut told).await;
            handlers.close();
            let (running, waiting) = handlers.load();
            if running + waiting > 0 {
                tracing::warn!(function = %name, running, waiting, "calls are cut off: their time is over");
            }
            let deployment = held.lock().take();
            if let Some(deployment) = deployment {
                deployment.destroy().await;
            }
            forget();
            drop(told);
        });
        Arc::new(Self { until, deployment })
    }

    /// How many of its calls run and wait, and what it takes of the machine; none
    /// once it is being destroyed.
    pub(super) fn watch(&self) -> Option<((usize, usize), BoxFuture<'static, Usage>)> {
        let deployment = self.deployment.lock();
        deployment.as_ref().map(|running| (running.handlers().load(), running.usage()))
    }

    /// Lets the calls run no longer than this.
    pub(super) fn hurry(&self, until: Instant) {
        self.until.send_if_modified(|now| {
            let sooner = until < *now;
            if sooner {
                *now = until;
            }
            sooner
        });
    }

    /// Waits until nothing of the deployment is left.
    pub(super) async fn gone(&self) {
        self.until.closed().await;
    }
}

async fn drain(handlers: &HandlerSet, until: &mut watch::Receiver<Instant>) {
    loop {
        let deadline = *until.borrow_and_update();
        tokio::select! {
            biased;
            () = handlers.drained() => return,
            () = sleep_until(deadline) => return,
            // A new deadline; nothing more comes once the manager is gone.
            Ok(()) = until.changed() => {}
        }
    }
}
