//! The metrics: their names, types, meanings and values.
//!
//! Owns what each is called, after Prometheus' conventions: base units, which
//! their names tell. Must not know how they are written. Labels are bounded: the
//! name of a function, as long as it is deployed, and how a call ended; nothing
//! that callers choose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::MetricType;
use tinyfaas_model::{CallOutcome, CoapLoad, GatewayLoad, Histogram, HistogramSnapshot, Share};

use super::{FunctionSample, OwnProcess, Sample};

/// One metric, with a value for each set of labels.
pub(super) struct Family<'a> {
    /// Less the suffix that its type adds (`_total` for a counter).
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) values: Vec<(Vec<(&'static str, &'a str)>, Value)>,
}

/// What a metric says.
pub(super) enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a counter of time.
    Seconds(Duration),
    /// Of a gauge.
    Number(f64),
    /// Of a histogram.
    Times(HistogramSnapshot),
}

/// All metrics, those without a value included.
pub(super) fn of(sample: &Sample) -> Vec<Family<'_>> {
    let functions = &sample.functions;
    let mut all = server(functions.len(), &sample.process);
    all.extend(gateway(&sample.gateway));
    all.extend(coap(&sample.gateway.coap));
    all.extend(calls(functions));
    all.extend(handlers(functions));
    all.extend(machine(functions));
    all.extend(builds(functions));
    all
}

fn server(functions: usize, process: &OwnProcess) -> Vec<Family<'static>> {
    let started = process.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    vec![
        Family {
            name: "tinyfaas_build_info",
            help: "The version of the server; the value is always 1.",
            kind: MetricType::Gauge,
            values: vec![(vec![("version", env!("CARGO_PKG_VERSION"))], Value::Number(1.0))],
        },
        gauge("tinyfaas_functions", "Functions that are deployed.", functions as u64),
        Family {
            name: "process_cpu_seconds",
            help: "Processor time that the server itself has taken.",
            kind: MetricType::Counter,
            values: vec![(Vec::new(), Value::Seconds(process.cpu))],
        },
        gauge(
            "process_resident_memory_bytes",
            "Memory that the server itself has resident.",
            process.resident_bytes,
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Address space of the server itself.",
            process.virtual_bytes,
        ),
        gauge("process_threads", "Threads of the server.", process.threads),
        gauge("process_open_fds", "Files and sockets that the server has open.", process.open_fds),
        gauge("process_max_fds", "Files and sockets that it may have open.", process.max_fds),
        Family {
            name: "process_start_time_seconds",
            help: "When the server was started, in seconds since 1970.",
            kind: MetricType::Gauge,
            values: vec![(Vec::new(), Value::Number(started.as_secs_f64()))],
        },
    ]
}

fn gateway(load: &GatewayLoad) -> Vec<Family<'static>> {
    let GatewayLoad {
        connections,
        waiting,
        accepted_waiting,
        held_bytes,
        result_bytes,
        connections_refused,
        unknown_functions,
        coap: _,
    } = load;
    let shares = [
        share(
            ["tinyfaas_gateway_connections", "tinyfaas_gateway_connections_limit"],
            ["Connections of callers that are open.", "Connections of callers that may be open."],
            connections,
        ),
        share(
            ["tinyfaas_gateway_waiting_calls", "tinyfaas_gateway_waiting_calls_limit"],
            [
                "Calls of all functions whose callers wait for a place.",
                "Calls whose callers may wait for a place.",
            ],
            waiting,
        ),
        share(
            ["tinyfaas_gateway_waiting_async_calls", "tinyfaas_gateway_waiting_async_calls_limit"],
            [
                "Accepted asynchronous calls that wait for a place.",
                "Asynchronous calls that may be accepted and not have ended.",
            ],
            accepted_waiting,
        ),
        share(
            ["tinyfaas_gateway_held_bytes", "tinyfaas_gateway_held_bytes_limit"],
            [
                "Bytes of request bodies that are held whole.",
                "Bytes of request bodies that may be held whole.",
            ],
            held_bytes,
        ),
        share(
            ["tinyfaas_gateway_result_bytes", "tinyfaas_gateway_result_bytes_limit"],
            [
                "Bytes of asynchronous calls' results that are kept.",
                "Bytes of asynchronous calls' results that may be kept.",
            ],
            result_bytes,
        ),
    ];
    let mut all: Vec<_> = shares.into_iter().flatten().collect();
    all.push(counter(
        "tinyfaas_gateway_connections_refused",
        "Connections that were turned away because there were too many.",
        *connections_refused,
    ));
    all.push(counter(
        "tinyfaas_gateway_unknown_function_calls",
        "Calls to names that no function has.",
        *unknown_functions,
    ));
    all
}

fn coap(load: &CoapLoad) -> Vec<Family<'static>> {
    let CoapLoad {
        datagrams_received,
        datagrams_sent,
        malformed,
        copies,
        retransmitted,
        calls,
        observers,
        sessions,
        connections,
        connections_refused,
    } = load;
    let mut all = vec![
        counter(
            "tinyfaas_coap_datagrams_received",
            "Datagrams that came, those within DTLS included.",
            *datagrams_received,
        ),
        counter("tinyfaas_coap_datagrams_sent", "Datagrams that left.", *datagrams_sent),
        counter(
            "tinyfaas_coap_malformed_messages",
            "Messages in datagrams that could not be read.",
            *malformed,
        ),
        counter(
            "tinyfaas_coap_repeated_requests",
            "Requests that came again, and so were not run again.",
            *copies,
        ),
        counter(
            "tinyfaas_coap_retransmissions",
            "Messages that were sent again because nobody had acknowledged them.",
            *retransmitted,
        ),
        counter(
            "tinyfaas_coap_connections_refused",
            "TCP connections that were turned away because there were too many.",
            *connections_refused,
        ),
    ];
    all.extend(share(
        ["tinyfaas_coap_running_requests", "tinyfaas_coap_running_requests_limit"],
        ["Requests in datagrams that run.", "Requests in datagrams that may run."],
        calls,
    ));
    all.extend(share(
        ["tinyfaas_coap_sessions", "tinyfaas_coap_sessions_limit"],
        ["DTLS sessions that are open.", "DTLS sessions that may be open."],
        sessions,
    ));
    all.extend(share(
        ["tinyfaas_coap_connections", "tinyfaas_coap_connections_limit"],
        ["TCP connections that are open.", "TCP connections that may be open."],
        connections,
    ));
    all.extend(share(
        ["tinyfaas_coap_observers", "tinyfaas_coap_observers_limit"],
        ["Observers over datagrams.", "Observers over datagrams that there may be."],
        observers,
    ));
    all
}

fn calls(functions: &[FunctionSample]) -> Vec<Family<'_>> {
    let by_outcome = functions.iter().flat_map(|function| {
        CallOutcome::ALL.map(|outcome| {
            let labels = vec![("function", function.name.as_str()), ("outcome", outcome.name())];
            (labels, Value::Count(function.counters.calls.count(outcome)))
        })
    });
    vec![
        Family {
            name: "tinyfaas_calls",
            help: "Calls that have ended, by how they ended.",
            kind: MetricType::Counter,
            values: by_outcome.collect(),
        },
        histogram(
            functions,
            "tinyfaas_call_duration_seconds",
            "How long calls took, from their arrival to the end of their reply, however they ended.",
            |function| &function.counters.calls.duration,
        ),
        histogram(
            functions,
            "tinyfaas_call_queue_seconds",
            "How long calls waited for a place in a handler, of those that got one.",
            |function| &function.counters.calls.queued,
        ),
        gauges(functions, "tinyfaas_calls_running", "Calls that are being run.", |function| {
            Some(function.running as u64)
        }),
        gauges(
            functions,
            "tinyfaas_calls_waiting",
            "Calls that wait for a place in a handler.",
            |function| Some(function.waiting as u64),
        ),
    ]
}

fn handlers(functions: &[FunctionSample]) -> Vec<Family<'_>> {
    vec![
        gauges(functions, "tinyfaas_handlers_ready", "Handlers that take calls.", |function| {
            Some(function.health.ready as u64)
        }),
        gauges(
            functions,
            "tinyfaas_handlers_wanted",
            "Handlers that there should be: the function's threads.",
            |function| Some(function.health.wanted as u64),
        ),
        histogram(
            functions,
            "tinyfaas_handler_start_seconds",
            "How long handlers took from their start until they were ready: the cold starts.",
            |function| &function.counters.handlers.starts,
        ),
        counters(
            functions,
            "tinyfaas_handler_start_failures",
            "Starts of handlers that came to nothing.",
            |function| &function.counters.handlers.failed_starts,
        ),
        counters(
            functions,
            "tinyfaas_handler_restarts",
            "Handlers that were started in place of one that died or did not end a call.",
            |function| &function.counters.handlers.replaced,
        ),
    ]
}

fn machine(functions: &[FunctionSample]) -> Vec<Family<'_>> {
    let cpu = functions.iter().map(|function| {
        let us = function.counters.handlers.cpu_us.load(Ordering::Relaxed);
        (of_function(function), Value::Seconds(Duration::from_micros(us)))
    });
    vec![
        gauges(
            functions,
            "tinyfaas_function_processes",
            "Processes of the function, those that guard its handlers included.",
            |function| Some(function.usage?.processes),
        ),
        gauges(
            functions,
            "tinyfaas_function_memory_bytes",
            "Memory of these processes; what they share with others counts in part.",
            |function| Some(function.usage?.memory_bytes),
        ),
        Family {
            name: "tinyfaas_function_cpu_seconds",
            help: "Processor time of the function's processes, those that have ended included.",
            kind: MetricType::Counter,
            values: cpu.collect(),
        },
    ]
}

fn builds(functions: &[FunctionSample]) -> Vec<Family<'_>> {
    vec![
        histogram(
            functions,
            "tinyfaas_function_build_seconds",
            "How long builds of the function took that succeeded.",
            |function| &function.counters.builds.succeeded,
        ),
        counters(
            functions,
            "tinyfaas_function_build_failures",
            "Builds of the function that failed.",
            |function| &function.counters.builds.failed,
        ),
    ]
}

fn of_function(function: &FunctionSample) -> Vec<(&'static str, &str)> {
    vec![("function", function.name.as_str())]
}

fn share(
    names: [&'static str; 2],
    helps: [&'static str; 2],
    share: &Share,
) -> [Family<'static>; 2] {
    [gauge(names[0], helps[0], share.taken), gauge(names[1], helps[1], share.limit)]
}

fn gauge(name: &'static str, help: &'static str, number: u64) -> Family<'static> {
    let values = vec![(Vec::new(), Value::Number(real(number)))];
    Family { name, help, kind: MetricType::Gauge, values }
}

fn counter(name: &'static str, help: &'static str, count: u64) -> Family<'static> {
    let values = vec![(Vec::new(), Value::Count(count))];
    Family { name, help, kind: MetricType::Counter, values }
}

fn gauges<'a>(
    functions: &'a [FunctionSample],
    name: &'static str,
    help: &'static str,
    number: impl Fn(&FunctionSample) -> Option<u64>,
) -> Family<'a> {
    let value = |function| Some((of_function(function), Value::Number(real(number(function)?))));
    let values = functions.iter().filter_map(value).collect();
    Family { name, help, kind: MetricType::Gauge, values }
}

fn counters<'a>(
    functions: &'a [FunctionSample],
    name: &'static str,
    help: &'static str,
    count: impl Fn(&'a FunctionSample) -> &'a AtomicU64,
) -> Family<'a> {
    let value = |function: &'a FunctionSample| {
        (of_function(function), Value::Count(count(function).load(Ordering::Relaxed)))
    };
    let values = functions.iter().map(value).collect();
    Family { name, help, kind: MetricType::Counter, values }
}

fn histogram<'a>(
    functions: &'a [FunctionSample],
    name: &'static str,
    help: &'static str,
    times: impl Fn(&'a FunctionSample) -> &'a Histogram,
) -> Family<'a> {
    let value = |function: &'a FunctionSample| {
        (of_function(function), Value::Times(times(function).snapshot()))
    };
    let values = functions.iter().map(value).collect();
    Family { name, help, kind: MetricType::Histogram, values }
}

/// Gauges are floating-point numbers to those who read them.
#[expect(clippy::cast_precision_loss, reason = "2^53 bytes are more than there will be")]
fn real(number: u64) -> f64 {
    number as f64
}
