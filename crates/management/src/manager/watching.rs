//! What is deployed, for who watches it run.
//!
//! Owns gathering one function's numbers from all of its deployments: the live
//! one, and those that it replaced and that still have calls to end. Must not
//! know how they are shown.

use std::sync::Arc;

use tinyfaas_model::{BoxFuture, FunctionName, Usage};
use tokio::time::{Instant, timeout_at};

use crate::metrics::FunctionSample;

use super::{Live, Manager};

/// A function whose deployments have not been asked yet what they take.
struct Unasked {
    sample: FunctionSample,
    usages: Vec<BoxFuture<'static, Usage>>,
}

impl Manager {
    /// Every function as it is now, in the order of names. Asking what they take
    /// of the machine ends after the configured time: the rest is not told.
    pub(crate) async fn samples(&self) -> Vec<FunctionSample> {
        let until = Instant::now() + self.config.usage_timeout;
        let mut samples = Vec::new();
        for Unasked { mut sample, usages } in self.unasked() {
            sample.usage = timeout_at(until, all(usages)).await.ok();
            samples.push(sample);
        }
        samples
    }

    fn unasked(&self) -> Vec<Unasked> {
        let state = self.state.lock();
        let of = |(name, live): (&FunctionName, &Live)| {
            let (mut running, mut waiting) = live.deployment.handlers().load();
            let mut usages = vec![live.deployment.usage()];
            let older = state.retiring.values().filter(|(of, _)| of == name);
            for ((runs, waits), usage) in older.filter_map(|(_, retirement)| retirement.watch()) {
                running += runs;
                waiting += waits;
                usages.push(usage);
            }
            let (name, counters) = (name.clone(), Arc::clone(&live.counters));
            let health = live.deployment.health();
            let sample = FunctionSample { name, counters, health, running, waiting, usage: None };
            Unasked { sample, usages }
        };
        state.live.iter().map(of).collect()
    }
}

async fn all(usages: Vec<BoxFuture<'static, Usage>>) -> Usage {
    let mut sum = Usage::default();
    for usage in usages {
        let Usage { processes, memory_bytes } = usage.await;
        sum.processes += processes;
        sum.memory_bytes += memory_bytes;
    }
    sum
}
