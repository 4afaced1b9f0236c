//! What Prometheus is told of the server and of each function.
//!
//! Owns the way from one [`Sample`] of what was counted elsewhere to the text
//! that a scraper reads. Must not know where the numbers come from, nor how they
//! are asked for.

mod families;
mod format;
mod process;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::registry::Registry;
use tinyfaas_model::counters::BOUNDS_US;
use tinyfaas_model::{
    FunctionCounters, FunctionName, GatewayLoad, Health, HistogramSnapshot, Usage,
};

use self::families::{Family, Value};
pub(crate) use self::format::Format;
pub(crate) use self::process::OwnProcess;

/// All that is shown, at one moment.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The functions that are deployed.
    pub(crate) functions: Vec<FunctionSample>,
    /// How busy the gateway is.
    pub(crate) gateway: GatewayLoad,
    /// The server's own process.
    pub(crate) process: OwnProcess,
}

/// A function at one moment, with the deployments that it replaced and that still
/// have calls to end.
#[derive(Debug)]
pub(crate) struct FunctionSample {
    pub(crate) name: FunctionName,
    pub(crate) counters: Arc<FunctionCounters>,
    /// Of its newest deployment.
    pub(crate) health: Health,
    /// Calls that hold a place.
    pub(crate) running: usize,
    /// Calls that wait for one.
    pub(crate) waiting: usize,
    /// What it takes of the machine; none where that could not be told in time.
    pub(crate) usage: Option<Usage>,
}

/// The text that a scraper gets.
pub(crate) fn render(sample: Sample, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sample));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to memory does not fail");
    format.finish(text)
}

impl Collector for Sample {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let described = families::of(self);
        // What has no value has nothing to be described.
        for family in described.iter().filter(|family| !family.values.is_empty()) {
            let Family { name, help, kind, values } = family;
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for (labels, value) in values {
                match labels.as_slice() {
                    [] => encode_value(&mut metric, value)?,
                    labels => encode_value(&mut metric.encode_family(&labels)?, value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode_value(metric: &mut MetricEncoder<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Count(count) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Seconds(time) => {
            metric.encode_counter::<NoLabelSet, _, u64>(&time.as_secs_f64(), None)
        }
        Value::Number(number) => metric.encode_gauge(number),
        Value::Times(times) => metric.encode_histogram::<NoLabelSet>(
            times.sum.as_secs_f64(),
            times.count(),
            &buckets(times),
            None,
        ),
    }
}

/// The buckets' bounds in seconds, the last one endless.
#[expect(clippy::cast_precision_loss, reason = "the bounds are whole numbers below 2^52")]
fn buckets(times: &HistogramSnapshot) -> Vec<(f64, u64)> {
    let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    bounds.zip(times.buckets).collect()
}

#[cfg(test)]
mod tests;
