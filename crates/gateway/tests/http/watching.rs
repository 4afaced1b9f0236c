//! What a call's headers tell who watches: how long it took, and its trace.

use std::time::Duration;

use http::HeaderValue;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{InvokeError, Reply};

use crate::support::{Function, GET, Server, answers, echo, failed, handler, post};

/// The milliseconds of a part.
fn part(timing: &str, name: &str) -> Option<f64> {
    let parts = timing.split(", ").filter_map(|part| part.split_once(";dur="));
    parts.filter(|(part, _)| *part == name).map(|(_, dur)| dur.parse().unwrap()).next()
}

#[tokio::test(start_paused = true)]
async fn a_reply_says_how_long_it_waited_and_ran() {
    let mut server = Server::start(GatewayConfig::default()).await;
    let slow = handler(|_, place| async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(place);
        Ok(Reply::from_bytes(""))
    });
    server.deploy(Function { places: 1, ..Function::default() }, slow);
    let (one, other) = tokio::join!(server.ask(GET), server.ask(GET));
    let mut queues = Vec::new();
    for response in [one, other] {
        let timing = response.header("server-timing").unwrap();
        let (queue, function) = (part(timing, "queue").unwrap(), part(timing, "function").unwrap());
        assert!((2000.0..2100.0).contains(&function), "{timing}");
        queues.push(queue);
    }
    queues.sort_by(f64::total_cmp);
    assert!(queues[0] < 100.0 && (2000.0..2100.0).contains(&queues[1]), "{queues:?}");
}

#[tokio::test]
async fn errors_of_calls_are_timed_and_what_is_no_call_is_not() {
    let crash = || failed(InvokeError::Crashed { how: "signal 9".to_owned() });
    let response = Server::with(answers(crash)).await.ask(GET).await;
    assert_eq!(response.status, 500);
    assert!(part(response.header("server-timing").unwrap(), "function").is_some());

    let mut server = Server::start(GatewayConfig::default()).await;
    server.deploy(Function { places: 0, waiting_max: 0, ..Function::default() }, echo());
    let response = server.ask(GET).await;
    assert_eq!(response.status, 429);
    let timing = response.header("server-timing").unwrap();
    assert!(part(timing, "queue").is_some() && part(timing, "function").is_none(), "{timing}");

    let response = server.ask(GET.replace("/f", "/unknown")).await;
    assert_eq!((response.status, response.header("server-timing")), (404, None));
}

#[tokio::test]
async fn a_functions_own_timing_stands_beside_ours() {
    let reply = || {
        let mut reply = Reply::from_bytes("");
        reply.headers.insert("server-timing", HeaderValue::from_static("db;dur=1"));
        Ok(reply)
    };
    let response = Server::with(answers(reply)).await.ask(GET).await;
    let timings = response.headers.iter().filter(|(name, _)| name == "server-timing");
    assert_eq!(timings.count(), 2);
}

/// The trace headers that the function gets.
async fn handed_on(server: &Server, headers: &str) -> (Vec<String>, Vec<String>) {
    let request = post("x").replace("\r\n\r\n", &format!("\r\n{headers}\r\n"));
    let response = server.ask(request).await;
    let of = |name: &str| {
        let lines = response.text().lines().filter_map(|line| line.strip_prefix(name));
        lines.map(str::to_owned).collect()
    };
    (of("traceparent: "), of("tracestate: "))
}

#[tokio::test]
async fn a_valid_trace_is_handed_on_and_else_one_is_made() {
    let server = Server::with(handler(|call, _place| async move {
        let lines = call.headers.iter().map(|(n, v)| format!("{n}: {}\n", v.to_str().unwrap()));
        Ok(Reply::from_bytes(lines.collect::<String>()))
    }))
    .await;
    let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let state = "tracestate: a=1\r\ntracestate: b=2\r\n";
    let (parent, kept) = handed_on(&server, &format!("traceparent: {valid}\r\n{state}")).await;
    assert_eq!((parent, kept), (vec![valid.to_owned()], vec!["a=1".to_owned(), "b=2".to_owned()]));
    let mut made = Vec::new();
    for headers in [
        String::new(),
        state.to_owned(),
        format!("traceparent: 00-{}-00f067aa0ba902b7-00\r\n{state}", "0".repeat(32)),
        format!("traceparent: {valid}\r\ntraceparent: {valid}\r\n{state}"),
    ] {
        let (parent, kept) = handed_on(&server, &headers).await;
        assert_eq!((parent.len(), parent[0].len(), kept.len()), (1, 55, 0), "{headers}");
        assert_ne!(parent[0], valid);
        made.extend(parent);
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 4);
}
