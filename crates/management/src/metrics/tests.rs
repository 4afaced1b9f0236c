use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tinyfaas_model::{CallOutcome, Share};

use super::*;

fn function(name: &str) -> FunctionSample {
    let counters = Arc::<FunctionCounters>::default();
    counters.calls.ended(CallOutcome::Succeeded, Duration::from_micros(100));
    counters.calls.ended(CallOutcome::Succeeded, Duration::from_millis(3));
    counters.calls.ended(CallOutcome::Crashed, Duration::from_secs(1_000));
    counters.handlers.cpu_us.store(1_500_000, Ordering::Relaxed);
    FunctionSample {
        name: FunctionName::parse(name).unwrap(),
        counters,
        health: Health { ready: 1, wanted: 2, ..Health::default() },
        running: 3,
        waiting: 4,
        usage: Some(Usage { processes: 2, memory_bytes: 5 << 20 }),
    }
}

fn sample(functions: Vec<FunctionSample>) -> Sample {
    let connections = Share { taken: 1, limit: 4096 };
    let gateway = GatewayLoad { connections, ..GatewayLoad::default() };
    Sample { functions, gateway, process: OwnProcess::look() }
}

fn check(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn what_was_counted_is_told() {
    let text = render(sample(vec![function("echo"), function("A-b_c")]), Format::Prometheus);
    check(
        &text,
        &[
            "# TYPE tinyfaas_calls_total counter",
            "# HELP tinyfaas_calls_total Calls that have ended, by how they ended.",
            r#"tinyfaas_calls_total{function="echo",outcome="succeeded"} 2"#,
            r#"tinyfaas_calls_total{function="echo",outcome="crashed"} 1"#,
            r#"tinyfaas_calls_total{function="A-b_c",outcome="busy"} 0"#,
            "# TYPE tinyfaas_call_duration_seconds histogram",
            r#"tinyfaas_call_duration_seconds_bucket{le="0.0001",function="echo"} 1"#,
            r#"tinyfaas_call_duration_seconds_bucket{le="0.0025",function="echo"} 1"#,
            r#"tinyfaas_call_duration_seconds_bucket{le="0.005",function="echo"} 2"#,
            r#"tinyfaas_call_duration_seconds_bucket{le="300.0",function="echo"} 2"#,
            r#"tinyfaas_call_duration_seconds_bucket{le="+Inf",function="echo"} 3"#,
            r#"tinyfaas_call_duration_seconds_count{function="echo"} 3"#,
            r#"tinyfaas_call_duration_seconds_sum{function="echo"} 1000.0031"#,
            r#"tinyfaas_handlers_ready{function="echo"} 1.0"#,
            r#"tinyfaas_function_memory_bytes{function="echo"} 5242880.0"#,
            r#"tinyfaas_function_cpu_seconds_total{function="echo"} 1.5"#,
            "tinyfaas_functions 2.0",
            "tinyfaas_gateway_connections_limit 4096.0",
        ],
    );
    assert!(!text.contains("# EOF") && text.ends_with('\n'));
}

#[test]
fn what_is_not_known_or_not_there_is_not_told() {
    let unknown = FunctionSample { usage: None, ..function("echo") };
    let text = render(sample(vec![unknown]), Format::OpenMetrics);
    assert!(!text.contains("tinyfaas_function_memory_bytes"), "{text}");
    check(&text, &["# TYPE tinyfaas_calls counter"]);
    assert!(text.ends_with("# EOF\n"));
    let text = render(sample(Vec::new()), Format::OpenMetrics);
    assert!(!text.contains("function=") && !text.contains("tinyfaas_calls"), "{text}");
    check(&text, &["tinyfaas_functions 0.0"]);
}

/// `docs/metrics.md` has a row for each metric, with its type, its labels and the
/// sentence that scrapers get, a row for each outcome, and no other.
#[test]
fn every_metric_is_documented_and_nothing_else() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `")).map(str::to_owned);
    let (outcomes, documented): (BTreeSet<_>, BTreeSet<_>) =
        rows.partition(|row| row.matches('|').count() == 3);
    let named = outcomes.iter().map(|row| row.split('`').nth(1).unwrap());
    let named: BTreeSet<_> = named.collect();
    assert_eq!(named, CallOutcome::ALL.map(CallOutcome::name).into_iter().collect());
    let sample = sample(vec![function("echo")]);
    let rows = families::of(&sample).into_iter().map(|family| {
        let Family { name, help, kind, values } = family;
        let (kind, total) = match kind.as_str() {
            "counter" => ("counter", "_total"),
            other => (other, ""),
        };
        let labels: Vec<String> = values[0].0.iter().map(|(key, _)| format!("`{key}`")).collect();
        format!("| `{name}{total}` | {kind} | {} | {help} |", labels.join(", "))
    });
    let rows: BTreeSet<String> = rows.collect();
    let missing: Vec<_> = rows.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&rows).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing {missing:#?}\nunknown {unknown:#?}");
}
