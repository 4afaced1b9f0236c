//! The whole program against a running server: what it writes, and what it says of
//! its own earlier figures.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// An echo on a port of the kernel's choice; it ends with the test's process.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || converse(&stream));
        }
    });
    port
}

fn converse(stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        reply.extend_from_slice(&body);
        let mut to = stream;
        to.write_all(&reply).ok()?;
    }
}

fn bench(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tinyfaas-bench"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("starts")
}

fn figure<'a>(report: &'a Value, title: &str, name: &str) -> &'a Value {
    let named = |value: &&Value, key: &str, name: &str| value[key] == name;
    let mut subjects = report["subjects"].as_array().expect("a list").iter();
    let subject = subjects.find(|subject| named(subject, "title", title)).expect(title);
    let mut figures = subject["figures"].as_array().expect("a list").iter();
    figures.find(|figure| named(figure, "name", name)).expect(name)
}

#[test]
fn a_peer_is_measured_kept_drawn_and_compared() {
    let folder = tempfile::tempdir().expect("a directory");
    let peer = format!("--peer=it=127.0.0.1:{}/any", echo());
    let plan = ["--no-server", &*peer, "--rounds=1", "--seconds=1"];
    let loads = ["--connections=2", "--bodies=64,100k", "--rates=50"];
    let files = ["--json=figures.json", "--plot=figures.svg"];
    let output = bench(folder.path(), &[&plan[..], &loads, &files].concat());
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("it, 2 connections, 100 kB"), "{told}");
    assert!(told.contains("it, 2 connections, 64 B, 50/s"), "{told}");

    let text = std::fs::read_to_string(folder.path().join("figures.json")).expect("written");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["failed"], false, "{text}");
    assert!(report["setting"]["machine"]["cores"].as_u64() > Some(0), "{text}");
    for title in ["bare hyper, 2 connections, 64 B", "it, 2 connections, 100 kB"] {
        let rate = figure(&report, title, "requests")["median"].as_f64().expect(title);
        assert!(rate > 0.0, "{title}: {rate}");
    }
    let cpu = figure(&report, "bare hyper, 2 connections, 64 B", "CPU a request");
    assert!(cpu["median"].as_f64() > Some(0.0), "{cpu}");
    let picture = std::fs::read_to_string(folder.path().join("figures.svg")).expect("written");
    assert!(picture.contains("open loop, 50/s") && picture.ends_with("</svg>\n"), "{picture}");

    let loads = ["--connections=2", "--bodies=64", "--rates=none"];
    let output = bench(folder.path(), &[&plan[..], &loads, &["--against=figures.json"]].concat());
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("against figures.json: commit"), "{told}");
    assert!(told.contains("only before: bare hyper, 2 connections, 100 kB"), "{told}");
    assert!(told.contains("figures compared"), "{told}");
    assert!(!told.contains("ANOTHER MACHINE"), "{told}");
}

#[test]
fn what_is_not_there_is_said_before_anything_is_measured() {
    let folder = tempfile::tempdir().expect("a directory");
    let refused = |arguments: &[&str], words: &str| {
        let output = bench(folder.path(), arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(words), "{told}");
    };
    // Nobody listens on a port that was only just free.
    let free = TcpListener::bind("127.0.0.1:0").expect("binds");
    let peer = format!("--peer=127.0.0.1:{}", free.local_addr().expect("bound").port());
    drop(free);
    refused(&["--no-server", &peer], "the peer: POST http://127.0.0.1");
    refused(&["--against=missing.json", "--no-server", &peer], "cannot read missing.json");
}
