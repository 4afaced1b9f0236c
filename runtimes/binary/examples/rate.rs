//! How many scripts a second the worker runs, against the bare rate at which
//! this machine starts the same script, 8 at a time; and the worker's memory.
//!
//! `cargo run --release -p tinyfaas-binary-worker --example rate`

#![allow(clippy::unwrap_used, reason = "a measurement that fails shows nothing")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::HeaderMap;
use tinyfaas_handlers::wire::{
    CallHead, Flags, Kind, Load, PROTOCOL, decode, encode_call, encode_json, parse_reply,
};

const SCRIPTS: [(&str, &str); 2] =
    [("sh and cat", "#!/bin/sh\ncat\n"), ("sh alone", "#!/bin/sh\nread line; echo \"$line\"\n")];
const BODY: &[u8; 64] = &[b'x'; 64];
const AT_A_TIME: u32 = 8;
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        return tinyfaas_binary_worker::main();
    }
    for (name, script) in SCRIPTS {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fn.sh"), script).unwrap();
        let mut worker = Worker::start(folder.path());
        let mut rounds: Vec<(f64, f64)> =
            (0..ROUNDS).map(|_| (bare(folder.path()), worker.rate())).collect();
        rounds.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
        let (bare, through) = rounds[ROUNDS / 2];
        println!(
            "{name}: bare {bare:.0}/s, through the worker {through:.0}/s, ratio {:.2}",
            through / bare
        );
        println!("worker: {}", memory(worker.process.id()));
    }
    ExitCode::SUCCESS
}

/// Threads that start the script one after the other and wait for its output.
fn bare(folder: &Path) -> f64 {
    let end = Instant::now() + ROUND;
    let runs = || {
        let mut count = 0;
        while Instant::now() < end {
            let mut child = Command::new("/bin/sh")
                .arg(folder.join("fn.sh"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(BODY).unwrap();
            assert_eq!(child.wait_with_output().unwrap().stdout.trim_ascii(), BODY);
            count += 1;
        }
        count
    };
    let total: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(runs)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    f64::from(total) / ROUND.as_secs_f64()
}

struct Worker {
    socket: UnixStream,
    buffer: BytesMut,
    process: Child,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Worker {
    fn start(folder: &Path) -> Self {
        let own = std::env::current_exe().unwrap();
        let (socket, theirs) = UnixStream::pair().unwrap();
        let process = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" worker 3<&0 </dev/null"])
            .arg(own)
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        let mut worker = Self { socket, buffer: BytesMut::new(), process };
        let load = Load {
            protocol: PROTOCOL,
            function: "echo".into(),
            handler: "echo-0".into(),
            folder: folder.to_owned(),
            dependencies: None,
            concurrency: 16,
            cgi: false,
        };
        let mut out = BytesMut::new();
        encode_json(&mut out, Kind::Load, &load);
        worker.socket.write_all(&out).unwrap();
        assert_eq!(worker.next().0, Kind::Ready);
        println!("worker before its first call: {}", memory(worker.process.id()));
        worker
    }

    fn call(&mut self, number: u32) {
        let head = CallHead {
            id: &[b'0'; 32],
            method: b"POST",
            path: b"/",
            query: b"",
            remaining: Duration::from_secs(60),
        };
        let mut out = BytesMut::new();
        encode_call(&mut out, number, &head, &HeaderMap::new(), BODY, Flags::END).unwrap();
        self.socket.write_all(&out).unwrap();
    }

    /// The next frame: its kind, its call and its reply's body.
    fn next(&mut self) -> (Kind, u32, Vec<u8>) {
        loop {
            if let Some(frame) = decode(&mut self.buffer).unwrap() {
                let body = match frame.kind {
                    Kind::Reply => parse_reply(&frame.payload).unwrap().1.to_vec(),
                    _ => Vec::new(),
                };
                return (frame.kind, frame.call, body);
            }
            let mut part = [0; 4096];
            let count = self.socket.read(&mut part).unwrap();
            assert!(count > 0, "the worker is gone");
            self.buffer.extend_from_slice(&part[..count]);
        }
    }

    fn rate(&mut self) -> f64 {
        let end = Instant::now() + ROUND;
        (1..=AT_A_TIME).for_each(|number| self.call(number));
        let (mut count, mut open) = (0, AT_A_TIME);
        while open > 0 {
            let (kind, number, body) = self.next();
            assert_eq!((kind, body.trim_ascii()), (Kind::Reply, &BODY[..]));
            count += 1;
            open -= 1;
            if Instant::now() < end {
                self.call(number);
                open += 1;
            }
        }
        f64::from(count) / ROUND.as_secs_f64()
    }
}

fn memory(pid: u32) -> String {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or("?").to_owned()
    };
    format!("{} kB resident, {} kB its own", field("Rss:"), field("Private_Dirty:"))
}
