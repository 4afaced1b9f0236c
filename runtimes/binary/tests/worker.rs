//! The worker as a process, spoken to in real frames.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use tinyfaas_handlers::wire::{
    CREDIT_BYTES, CallHead, CancelReason, Flags, Frame, Kind, Load, PROTOCOL, Ready, decode,
    encode, encode_call, encode_cancel, encode_credit, encode_json, parse_credit, parse_json,
    parse_reply,
};

/// How long anything here may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

const ID: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A worker with a folder of its own.
struct Worker {
    process: Child,
    socket: UnixStream,
    buffer: BytesMut,
    folder: tempfile::TempDir,
}

/// A reply, put together.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    status: Option<u16>,
    failed: bool,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How the call ended, where it was not with the reply's END.
    broken: Option<(Kind, String)>,
}

impl Worker {
    /// Starts a worker whose folder holds this script, without the executable
    /// bit.
    fn start(script: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if let Some(script) = script {
            fs::write(folder.path().join("fn.sh"), script).unwrap();
        }
        Self::start_in(folder, false)
    }

    fn start_in(folder: tempfile::TempDir, cgi: bool) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let process = Command::new("/bin/sh")
            .args([
                "-c",
                "exec \"$0\" 3<&0 </dev/null",
                env!("CARGO_BIN_EXE_tinyfaas-binary-worker"),
            ])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("GREETING", "hello")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut worker = Self { process, socket, buffer: BytesMut::new(), folder };
        let load = Load {
            protocol: PROTOCOL,
            function: "echo".into(),
            handler: "echo-0".into(),
            folder: worker.folder.path().to_owned(),
            dependencies: None,
            concurrency: 16,
            cgi,
        };
        worker.send(|out| encode_json(out, Kind::Load, &load));
        worker
    }

    /// Starts one and sees it ready.
    fn ready(script: &str) -> Self {
        let mut worker = Self::start(Some(script));
        let frame = worker.next();
        assert_eq!(frame.kind, Kind::Ready, "{frame:?}");
        assert_eq!(parse_json::<Ready>(Kind::Ready, &frame.payload).unwrap().protocol, PROTOCOL);
        worker
    }

    /// Starts one whose script prints header lines.
    fn cgi(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fn.sh"), script).unwrap();
        let mut worker = Self::start_in(folder, true);
        assert_eq!(worker.next().kind, Kind::Ready);
        worker
    }

    fn send(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        write(&mut out);
        self.socket.write_all(&out).unwrap();
    }

    fn call(&mut self, number: u32, headers: &[(&str, &[u8])], body: &[u8], flags: Flags) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap())
            })
            .collect();
        let head = CallHead {
            id: ID,
            method: b"PATCH",
            path: b"/a/%62",
            query: b"c=d&%65",
            remaining: PATIENCE,
        };
        self.send(|out| encode_call(out, number, &head, &headers, body, flags).unwrap());
    }

    fn body(&mut self, number: u32, part: &[u8], flags: Flags) {
        self.send(|out| encode(out, Kind::Body, flags, number, part));
    }

    fn try_next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = decode(&mut self.buffer).unwrap() {
                return Some(frame);
            }
            let mut part = [0; 64 << 10];
            match self.socket.read(&mut part).expect("the worker says nothing for too long") {
                0 => return None,
                count => self.buffer.extend_from_slice(&part[..count]),
            }
        }
    }

    fn next(&mut self) -> Frame {
        self.try_next().expect("the worker closed its socket")
    }

    /// Reads one call's reply to its end, granting credit for what comes.
    fn reply(&mut self, number: u32) -> Reply {
        let mut reply = said("");
        loop {
            let frame = self.next();
            assert_eq!(frame.call, number, "{frame:?}");
            let part = match frame.kind {
                Kind::Reply => {
                    let (head, part) = parse_reply(&frame.payload).unwrap();
                    let headers = head.headers.iter();
                    reply.headers = headers
                        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
                        .collect();
                    reply.status = head.status.map(|status| status.as_u16());
                    reply.failed = frame.flags.has(Flags::FAILURE);
                    part
                }
                Kind::Body => frame.payload,
                Kind::Credit => continue,
                kind => {
                    let text = String::from_utf8(frame.payload.to_vec()).unwrap();
                    reply.broken = Some((kind, text));
                    return reply;
                }
            };
            reply.body.extend_from_slice(&part);
            if frame.flags.has(Flags::END) {
                return reply;
            }
            let grant = u32::try_from(part.len()).unwrap();
            self.send(|out| encode_credit(out, number, grant));
        }
    }

    /// Calls with a small body and waits for the reply.
    fn answer(&mut self, body: &[u8]) -> Reply {
        self.call(7, &[], body, Flags::END);
        self.reply(7)
    }

    /// Closes the socket and says how the worker ended and what it logged.
    fn finish(mut self) -> (ExitStatus, String) {
        self.socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut log = String::new();
        let status = self.process.wait().unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status, log)
    }
}

fn said(body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref().to_vec();
    Reply { status: None, failed: false, headers: Vec::new(), body, broken: None }
}

fn failed(body: impl AsRef<[u8]>) -> Reply {
    Reply { status: Some(500), failed: true, ..said(body) }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::yield_now();
    }
}

fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

#[test]
fn scripts_of_all_kinds_echo() {
    for script in [
        "cat",
        "#!/bin/sh\nexec cat",
        "#!/usr/bin/env python3\nimport sys; sys.stdout.write(sys.stdin.read())",
        "#!/bin/sh -e\ncat",
    ] {
        let mut worker = Worker::ready(script);
        assert_eq!(worker.answer(b"hello\xff\0"), said(b"hello\xff\0"), "{script}");
        assert_eq!(worker.answer(b""), said(b""), "{script}");
        let (status, log) = worker.finish();
        assert!(status.success() && log.is_empty(), "{status}: {log}");
    }
}

#[test]
fn a_compiled_program_is_executed_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy("/bin/cat", folder.path().join("fn.sh")).unwrap();
    let plain = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(folder.path().join("fn.sh"), plain).unwrap();
    let mut worker = Worker::start_in(folder, false);
    assert_eq!(worker.next().kind, Kind::Ready);
    assert_eq!(worker.answer(b"elf"), said(b"elf"));
}

#[test]
fn a_call_reaches_the_script_as_variables() {
    let mut worker = Worker::ready(
        "env | LC_ALL=C sort | grep -v -e ^PATH= -e ^PWD= -e ^OLDPWD= -e ^SHLVL= -e ^_=; pwd",
    );
    let headers: &[(&str, &[u8])] = &[
        ("content-type", b"text/x"),
        ("lab", b"t\xfc"),
        ("x-twice", b"1"),
        ("x-twice", b"2"),
        ("proxy", b"http://evil"),
        ("user-agent", b"curl"),
    ];
    worker.call(1, headers, b"abc", Flags::END);
    let folder = worker.folder.path().to_str().unwrap().to_owned();
    let mut expected = b"CONTENT_LENGTH=3\nCONTENT_TYPE=text/x\nGREETING=hello\nHTTP_LAB=t\xfc\n\
        HTTP_USER_AGENT=curl\nHTTP_X_TWICE=1, 2\nPATH_INFO=/a/b\nQUERY_STRING=c=d&%65\n\
        REQUEST_METHOD=PATCH\n"
        .to_vec();
    expected.extend_from_slice(b"TINYFAAS_CALL_ID=0123456789abcdef0123456789abcdef\n");
    expected.extend_from_slice(format!("TINYFAAS_FUNCTION=echo\n{folder}\n").as_bytes());
    let reply = worker.reply(1);
    assert_eq!(
        String::from_utf8_lossy(&reply.body),
        String::from_utf8_lossy(&expected),
        "{reply:?}"
    );
    assert_eq!(reply.body, expected);
}

#[test]
fn failures_are_told() {
    let check = |script: &str, expected: Reply| {
        assert_eq!(Worker::ready(script).answer(b""), expected, "{script}");
    };
    check("echo why; exit 3", failed("why\n"));
    let rest = "and printed nothing to its standard output; what it wrote to standard error is in \
                the function's log";
    check("exit 3", failed(format!("fn.sh exited with code 3 {rest}")));
    check("kill -9 $$", failed(format!("fn.sh was ended by signal 9 (SIGKILL) {rest}")));
    check("echo a; kill -TERM $$", failed("a\n"));
}

fn with_head(status: Option<u16>, headers: &[(&str, &str)], reply: Reply) -> Reply {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Reply { status, headers, ..reply }
}

#[test]
fn header_lines_are_taken_where_the_function_prints_them() {
    let check = |script: &str, expected: Reply| {
        assert_eq!(Worker::cgi(script).answer(b"in"), expected, "{script}");
    };
    let text = [("content-type", "text/x")];
    check(
        "printf 'Status: 404 No\\r\\nContent-Type: text/x\\r\\n\\r\\n'; cat",
        with_head(Some(404), &text, said("in")),
    );
    check("echo 'Location: /x'; echo", with_head(Some(302), &[("location", "/x")], said("")));
    check("echo; echo 'Status: 404'", said("Status: 404\n"));
    // A script that fails is a failure, with its headers where it has a body.
    check(
        "echo 'Content-Type: text/x'; echo; echo why; exit 3",
        with_head(Some(500), &text, failed("why\n")),
    );
    check("echo why; exit 3", failed("why\n"));
    let reply = Worker::cgi("echo 'Content-Type: text/x'; echo; exit 3").answer(b"");
    assert!(reply.failed && reply.headers.is_empty() && reply.body.starts_with(b"fn.sh exited"));
    // Without the setting they are nothing special.
    assert_eq!(Worker::ready("echo 'Status: 404'; echo").answer(b""), said("Status: 404\n\n"));
}

#[test]
fn output_that_is_no_cgi_response_is_a_failure() {
    let check = |script: &str, expected: &str| {
        let reply = Worker::cgi(script).answer(b"");
        let words = String::from_utf8(reply.body.clone()).unwrap();
        assert_eq!((reply.status, reply.failed), (Some(500), true), "{script}: {reply:?}");
        assert!(words.contains(expected), "{script}: {words}");
    };
    check("echo hello", "line 1, \"hello\", has no colon");
    check("echo 'A: b'", "fn.sh ended without a blank line");
    check("true", "fn.sh ended without a blank line");
    check("echo 'Status: no'; echo", "as its Status");
    // A script that never stops is not waited for.
    check("yes 'A: b'", "no blank line within 65536 bytes");
}

#[test]
fn a_long_cgi_body_streams_after_its_head() {
    let script = "echo 'Status: 201'; echo 'X-A: 1'; echo; head -c 3000000 /dev/zero";
    let expected = with_head(Some(201), &[("x-a", "1")], said(vec![0; 3_000_000]));
    assert!(Worker::cgi(script).answer(b"") == expected);
}

#[test]
fn standard_error_is_the_log() {
    let mut worker = Worker::ready("echo reply; echo log >&2");
    assert_eq!(worker.answer(b""), said("reply\n"));
    assert_eq!(worker.finish().1, "log\n");
}

#[test]
fn what_runs_on_in_the_background_is_not_waited_for() {
    let mut worker = Worker::ready("echo early; sleep 1000 & echo $! >pid; echo late");
    assert_eq!(worker.answer(b""), said("early\nlate\n"));
    let pid = fs::read_to_string(worker.folder.path().join("pid")).unwrap();
    assert!(is_alive(&pid));
    // The shell's own: a small system has no program of that name.
    Command::new("sh").args(["-c", &format!("kill {pid}")]).status().unwrap();
    // Nor is what never stops writing.
    let mut worker = Worker::ready("yes & echo $! >pid; exit 0");
    assert_eq!(worker.answer(b"").broken, None);
    let pid = fs::read_to_string(worker.folder.path().join("pid")).unwrap();
    eventually("yes has lost its reader", || !is_alive(&pid));
}

#[test]
fn a_body_that_nobody_reads_is_no_error() {
    let mut worker = Worker::ready("exec <&-; echo done");
    assert_eq!(worker.answer(&vec![b'x'; 200 << 10]), said("done\n"));
    // It comes in parts, and the script is over before the last.
    worker.call(9, &[], &[b'x'; 100_000], Flags::NONE);
    assert_eq!(worker.reply(9), said("done\n"));
    worker.body(9, b"late", Flags::END);
    assert_eq!(worker.answer(b""), said("done\n"));
    // Its credit is given back while the script runs on.
    let mut worker = Worker::ready("exec <&-; while ! [ -e go ]; do sleep 0.01; done; echo done");
    worker.call(9, &[], &[b'x'; CREDIT_BYTES], Flags::NONE);
    let mut granted = 0;
    while granted < CREDIT_BYTES {
        let frame = worker.next();
        assert_eq!(frame.kind, Kind::Credit);
        granted += parse_credit(&frame.payload).unwrap() as usize;
    }
    assert_eq!(granted, CREDIT_BYTES);
    worker.body(9, b"rest", Flags::END);
    fs::write(worker.folder.path().join("go"), "").unwrap();
    assert_eq!(worker.reply(9), said("done\n"));
}

#[test]
fn large_bodies_stream_both_ways() {
    const BYTES: usize = 5 << 20;
    let mut worker = Worker::ready("cat");
    let body: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
    worker.call(3, &[], &body[..CREDIT_BYTES], Flags::NONE);
    let (mut sent, mut credit) = (CREDIT_BYTES, 0);
    let mut got: Vec<u8> = Vec::new();
    let mut most_unasked = CREDIT_BYTES;
    loop {
        let frame = worker.next();
        let part = match frame.kind {
            Kind::Credit => {
                credit += parse_credit(&frame.payload).unwrap() as usize;
                Bytes::new()
            }
            Kind::Reply => parse_reply(&frame.payload).unwrap().1,
            Kind::Body => frame.payload,
            kind => panic!("{kind:?}"),
        };
        got.extend_from_slice(&part);
        most_unasked = most_unasked.checked_sub(part.len()).expect("more than there is credit for");
        if frame.flags.has(Flags::END) {
            break;
        }
        if !part.is_empty() {
            most_unasked += part.len();
            worker.send(|out| encode_credit(out, 3, part.len().try_into().unwrap()));
        }
        let next = credit.min(BYTES - sent);
        if next > 0 {
            let end = Flags::end_if(sent + next == BYTES);
            worker.body(3, &body[sent..sent + next], end);
            sent += next;
            credit -= next;
        }
    }
    assert!(got == body, "{} of {BYTES} bytes came back, or others", got.len());
}

#[test]
fn output_waits_for_credit_and_breaks_off_on_failure() {
    let mut worker = Worker::ready("head -c 3000000 /dev/zero; exit 4");
    worker.call(5, &[], b"", Flags::END);
    let first = worker.next();
    let (head, part) = parse_reply(&first.payload).unwrap();
    assert_eq!((head.status, part.len()), (None, CREDIT_BYTES));
    // Other calls are answered while this one waits, and nothing of it comes.
    worker.send(|out| encode(out, Kind::Ping, Flags::NONE, 0, &[]));
    assert_eq!(worker.next().kind, Kind::Pong);
    worker.send(|out| encode_credit(out, 5, 1 << 20));
    let reply = worker.reply(5);
    let (kind, text) = reply.broken.unwrap();
    assert_eq!(kind, Kind::Error);
    assert!(text.starts_with("fn.sh exited with code 4"), "{text}");
    // Less than 1 MiB is held, and told as a failure whole.
    let mut worker = Worker::ready("head -c 1000000 /dev/zero; exit 4");
    assert_eq!(worker.answer(b""), failed(vec![0; 1_000_000]));
}

#[test]
fn a_script_that_is_gone_is_told_before_the_last_frame_and_once() {
    let mut worker = Worker::ready("[ -e fn.sh ] && mv fn.sh old; printf done");
    worker.call(1, &[], b"", Flags::END);
    let frame = worker.next();
    assert_eq!((frame.kind, frame.call), (Kind::Leaving, 0));
    assert!(frame.payload.starts_with(b"lost its fn.sh"), "{frame:?}");
    assert_eq!(worker.reply(1), said("done"));
    worker.call(2, &[], b"", Flags::END);
    assert_eq!(worker.reply(2).status, Some(500));
}

#[test]
fn cancel_kills_the_script_and_its_group() {
    let mut worker = Worker::ready("sleep 1000 & echo $! >child; echo $$ >own; wait");
    let pid = |worker: &Worker, file: &str| {
        fs::read_to_string(worker.folder.path().join(file)).unwrap_or_default()
    };
    for reason in [CancelReason::CallerLeft, CancelReason::DeadlinePassed] {
        worker.call(2, &[], b"", Flags::NONE);
        eventually("the script runs", || pid(&worker, "own").ends_with('\n'));
        let (own, child) = (pid(&worker, "own"), pid(&worker, "child"));
        worker.send(|out| encode_cancel(out, 2, reason));
        let frame = worker.next();
        assert_eq!((frame.kind, frame.call), (Kind::Ended, 2));
        assert!(!is_alive(&own), "the script outlived its call");
        eventually("its child is gone", || !is_alive(&child));
        fs::remove_file(worker.folder.path().join("own")).unwrap();
    }
    // While it waits for credit, too.
    let mut worker = Worker::ready("head -c 3000000 /dev/zero");
    worker.call(2, &[], b"", Flags::END);
    assert_eq!(worker.next().kind, Kind::Reply);
    worker.send(|out| encode_cancel(out, 2, CancelReason::CallerLeft));
    assert_eq!(worker.next().kind, Kind::Ended);
    worker.send(|out| encode_cancel(out, 2, CancelReason::CallerLeft));
    worker.call(2, &[], b"", Flags::END);
    assert_eq!(worker.next().kind, Kind::Reply);
}

#[test]
fn sixteen_calls_run_at_a_time_and_no_more() {
    let mut worker = Worker::ready("touch at-$$; while ! [ -e go ]; do sleep 0.02; done; cat");
    for number in 1..=16 {
        worker.call(number, &[], number.to_string().as_bytes(), Flags::END);
    }
    let running = || {
        let entries = fs::read_dir(worker.folder.path()).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name() != "fn.sh").count()
    };
    eventually("all sixteen run", || running() == 16);
    fs::write(worker.folder.path().join("go"), "").unwrap();
    let mut replies = HashMap::new();
    for _ in 1..=16 {
        let frame = worker.next();
        assert!(frame.flags.has(Flags::END));
        replies.insert(frame.call, parse_reply(&frame.payload).unwrap().1);
    }
    for number in 1..=16_u32 {
        assert_eq!(replies[&number], number.to_string());
    }
    fs::remove_file(worker.folder.path().join("go")).unwrap();
    for number in 1..=17 {
        worker.call(number, &[], b"", Flags::END);
    }
    assert_eq!(worker.try_next(), None);
    fs::write(worker.folder.path().join("go"), "").unwrap();
    let (status, log) = worker.finish();
    assert_eq!(status.code(), Some(70));
    assert!(log.contains("more than 16 calls came at a time"), "{log}");
}

#[test]
fn what_cannot_be_loaded_is_told() {
    let check = |script: Option<&str>, expected: &str| {
        let mut worker = Worker::start(script);
        let frame = worker.next();
        let text = String::from_utf8(frame.payload.to_vec()).unwrap();
        assert_eq!(frame.kind, Kind::Failed, "{text}");
        assert!(text.contains(expected), "{text}");
        assert_eq!(worker.try_next(), None);
        assert_eq!(worker.finish().0.code(), Some(1));
    };
    check(None, "the function's folder has no fn.sh");
    check(Some("#!/no/such/interpreter\n"), "/no/such/interpreter");
    check(Some("#!/usr/bin/env no-such-interpreter\n"), "no-such-interpreter");
}

#[test]
fn headers_that_no_environment_holds_are_refused_in_words() {
    let mut worker = Worker::ready("cat");
    let long = vec![b'x'; 200 << 10];
    worker.call(1, &[("long", &long)], b"", Flags::END);
    let reply = worker.reply(1);
    assert_eq!((reply.status, reply.failed), (Some(500), true));
    let text = String::from_utf8(reply.body).unwrap();
    assert!(text.contains("more than the system lets a program have"), "{text}");
    assert_eq!(worker.answer(b"still there"), said("still there"));
}

#[test]
fn a_server_that_breaks_the_protocol_is_left() {
    let check = |frame: fn(&mut Worker), expected: &str| {
        let mut worker = Worker::ready("sleep 1000");
        frame(&mut worker);
        assert_eq!(worker.try_next(), None);
        let (status, log) = worker.finish();
        assert_eq!(status.code(), Some(70), "{log}");
        assert!(log.contains(expected) && log.lines().count() == 1, "{log}");
    };
    check(|worker| worker.send(|out| out.extend_from_slice(&[9; 12])), "unknown kind 9");
    check(
        |worker| worker.send(|out| encode(out, Kind::Pong, Flags::NONE, 0, &[])),
        "a Pong frame came",
    );
    check(
        |worker| {
            worker.call(1, &[], &[0; CREDIT_BYTES], Flags::NONE);
            // The script's pipe took 64 KiB, for which there was new credit.
            worker.body(1, &[0; (64 << 10) + 1], Flags::NONE);
        },
        "than there is credit for",
    );
    check(
        |worker| {
            worker.call(1, &[], b"", Flags::END);
            worker.call(1, &[], b"", Flags::END);
        },
        "a second time",
    );
}

#[test]
fn the_end_of_the_socket_ends_worker_and_scripts() {
    let mut worker = Worker::ready("echo $$ >own; exec sleep 1000");
    worker.call(1, &[], b"", Flags::END);
    let own = worker.folder.path().join("own");
    eventually("the script runs", || {
        fs::read_to_string(&own).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid = fs::read_to_string(&own).unwrap();
    let folder = std::mem::replace(&mut worker.folder, tempfile::tempdir().unwrap());
    let (status, _log) = worker.finish();
    assert!(status.success(), "{status}");
    eventually("the script is gone", || !is_alive(&pid));
    drop(folder);
}
