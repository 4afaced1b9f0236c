//! A connection against a worker that the test plays, frame by frame.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tinyfaas_model::{
    Admission, Body, CallId, CallTarget, HandlerSet, InvokeError, Patience, WaitingRoom,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::wire::{
    CREDIT_BYTES, CREDIT_STEP_BYTES, Flags, Frame, Load, ReplyHead, parse_cancel, parse_credit,
};

const GRACE: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<Reply, HandlerError>;

/// The worker's end of the socket.
struct Worker {
    socket: UnixStream,
    buffer: BytesMut,
}

impl Worker {
    async fn frame(&mut self) -> Frame {
        tokio::time::timeout(PATIENCE, self.next()).await.expect("a frame")
    }

    async fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = wire::decode(&mut self.buffer).unwrap() {
                return frame;
            }
            self.socket.readable().await.unwrap();
            self.buffer.reserve(1 << 16);
            match self.socket.try_read_buf(&mut self.buffer) {
                Ok(bytes) => assert_ne!(bytes, 0, "the server closed the socket"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    async fn expect(&mut self, kind: Kind) -> Frame {
        let frame = self.frame().await;
        assert_eq!(frame.kind, kind, "{frame:?}");
        frame
    }

    /// The number and first body part of the next CALL.
    async fn call(&mut self) -> (u32, Bytes) {
        let frame = self.expect(Kind::Call).await;
        let (_, _, body) = wire::parse_call(&frame.payload).unwrap();
        (frame.call, body)
    }

    async fn send(&mut self, kind: Kind, flags: Flags, call: u32, payload: &[u8]) {
        let mut out = BytesMut::new();
        wire::encode(&mut out, kind, flags, call, payload);
        self.write(&out).await;
    }

    async fn reply(&mut self, call: u32, body: &[u8], flags: Flags) {
        let head = ReplyHead { status: None, headers: HeaderMap::new() };
        self.reply_with(call, &head, body, flags).await;
    }

    async fn reply_with(&mut self, call: u32, head: &ReplyHead, body: &[u8], flags: Flags) {
        let mut out = BytesMut::new();
        wire::encode_reply(&mut out, call, head, body, flags).unwrap();
        self.write(&out).await;
    }

    async fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.socket.writable().await.unwrap();
            match self.socket.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }
}

/// A connection in a set with so many places, what serves it, and its worker.
struct Bench {
    set: Arc<HandlerSet>,
    connection: Arc<Connection>,
    serving: JoinHandle<Ending>,
    worker: Worker,
}

fn bench(places: usize) -> Bench {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let connection = Connection::new(HandlerId::new("test-0"), ours, GRACE);
    let set = HandlerSet::new(16);
    set.add(Arc::clone(&connection) as Arc<dyn Handler>, places);
    let serving = tokio::spawn({
        let connection = Arc::clone(&connection);
        async move { connection.serve().await }
    });
    let worker = Worker { socket: theirs, buffer: BytesMut::new() };
    Bench { set, connection, serving, worker }
}

impl Bench {
    fn held(&self) -> usize {
        self.set.load().0
    }

    async fn start_with(&self, invocation: Invocation) -> JoinHandle<Outcome> {
        let room = WaitingRoom::new(16);
        let Admission { handler, place } =
            self.set.admit(Patience::Caller, &room).await.expect("a free place");
        tokio::spawn(handler.invoke(invocation, place))
    }

    async fn start(&self, body: Body) -> JoinHandle<Outcome> {
        self.start_with(invocation(body)).await
    }

    /// Waits until so many places are held.
    async fn until_held(&self, places: usize) {
        until(|| self.held() == places).await;
    }
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the condition to come true");
}

fn invocation(body: Body) -> Invocation {
    let (_, target) = CallTarget::split(&PathAndQuery::from_static("/echo/a?b"));
    let mut headers = HeaderMap::new();
    headers.append("lab", HeaderValue::from_static("x"));
    headers.append("lab", HeaderValue::from_static("y"));
    let deadline = Instant::now() + Duration::from_secs(60);
    Invocation { id: CallId::random(), method: Method::PUT, target, headers, body, deadline }
}

/// A body whose parts the test sends one by one.
fn streamed() -> (mpsc::Sender<Result<Bytes, BodyError>>, Body) {
    struct Parts(mpsc::Receiver<Result<Bytes, BodyError>>);
    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
            self.0.poll_recv(cx).map(|part| part.map(|part| part.map(http_body::Frame::data)))
        }
    }
    let (sender, receiver) = mpsc::channel(16);
    (sender, Body::Stream(Box::pin(Parts(receiver))))
}

async fn outcome(call: JoinHandle<Outcome>) -> Outcome {
    tokio::time::timeout(PATIENCE, call).await.expect("an outcome").unwrap()
}

async fn text(body: Body) -> Result<String, BodyError> {
    let bytes = tokio::time::timeout(PATIENCE, body.collect()).await.expect("the body's end");
    bytes.map(|bytes| String::from_utf8(bytes.to_bytes().to_vec()).unwrap())
}

fn failure(outcome: Outcome) -> InvokeError {
    match outcome {
        Err(HandlerError::Failed(error)) => error,
        other => panic!("a failure was expected, not {other:?}"),
    }
}

#[tokio::test]
async fn a_call_carries_everything_and_so_does_its_reply() {
    let mut bench = bench(1);
    let asked = invocation(Body::from_bytes("body"));
    let (id, headers) = (asked.id, asked.headers.clone());
    let call = bench.start_with(asked).await;
    let frame = bench.worker.expect(Kind::Call).await;
    assert!(frame.flags.has(Flags::END));
    let (head, got, body) = wire::parse_call(&frame.payload).unwrap();
    assert_eq!(head.id, id.to_string().as_bytes());
    assert_eq!((head.method, head.path, head.query), (&b"PUT"[..], &b"/a"[..], &b"b"[..]));
    assert!(head.remaining > Duration::from_secs(50));
    assert_eq!((got, &body[..]), (headers.clone(), &b"body"[..]));
    let head = ReplyHead { status: Some(StatusCode::IM_A_TEAPOT), headers };
    bench.worker.reply_with(frame.call, &head, b"tea", Flags::END.and(Flags::FAILURE)).await;
    let reply = outcome(call).await.unwrap();
    assert_eq!((reply.status, reply.failed), (Some(StatusCode::IM_A_TEAPOT), true));
    assert_eq!(reply.headers, head.headers);
    assert!(matches!(reply.body, Body::Full(bytes) if bytes == "tea"));
    assert_eq!(bench.held(), 0);
}

#[tokio::test]
async fn replies_may_come_in_any_order() {
    let mut bench = bench(8);
    let mut calls = Vec::new();
    for number in 0..8 {
        let call = bench.start(Body::from_bytes(format!("{number}"))).await;
        calls.push((call, bench.worker.call().await));
    }
    for (_, (number, body)) in calls.iter().rev() {
        bench.worker.reply(*number, body, Flags::END).await;
    }
    for (expected, (call, _)) in calls.into_iter().enumerate() {
        let reply = outcome(call).await.unwrap();
        assert_eq!((reply.status, reply.failed), (None, false));
        assert_eq!(text(reply.body).await.unwrap(), expected.to_string());
    }
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_no_more_than_the_credit() {
    let mut bench = bench(2);
    let slow = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.reply(number, &[b's'; CREDIT_BYTES / 2], Flags::NONE).await;
    bench.worker.send(Kind::Body, Flags::NONE, number, &[b's'; CREDIT_BYTES / 2]).await;
    let mut slow = outcome(slow).await.unwrap().body;

    let other = bench.start(Body::from_bytes("other")).await;
    let (other_number, _) = bench.worker.call().await;
    bench.worker.reply(other_number, b"quick", Flags::END).await;
    assert_eq!(text(outcome(other).await.unwrap().body).await.unwrap(), "quick");

    let part = slow.frame().await.unwrap().unwrap().into_data().unwrap();
    let granted = bench.worker.expect(Kind::Credit).await;
    assert_eq!(granted.call, number);
    assert_eq!(parse_credit(&granted.payload).unwrap() as usize, part.len());
    bench.worker.send(Kind::Body, Flags::END, number, b"end").await;
    let rest = text(slow).await.unwrap();
    assert_eq!(rest.len(), CREDIT_BYTES / 2 + 3);
    assert_eq!(bench.held(), 0);
}

#[tokio::test]
async fn a_worker_that_ignores_its_credit_breaks_the_protocol() {
    let mut bench = bench(1);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.reply(number, &[0; CREDIT_BYTES], Flags::NONE).await;
    let body = outcome(call).await.unwrap().body;
    bench.worker.send(Kind::Body, Flags::NONE, number, b"x").await;
    assert_eq!(bench.serving.await.unwrap(), Ending::Broke(Violation::CreditExceeded));
    bench.connection.fail("killed by signal 9");
    assert_eq!(text(body).await, Err(BodyError::Broken("killed by signal 9".into())));
}

#[tokio::test]
async fn a_large_request_goes_as_credit_comes() {
    let mut bench = bench(2);
    let sent = Bytes::from(vec![b'u'; CREDIT_BYTES * 2]);
    let call = bench.start(Body::from_bytes(sent.clone())).await;
    let (number, first) = bench.worker.call().await;
    assert_eq!(first.len(), CREDIT_BYTES);

    // It waits for credit, and another call does not wait for it.
    let other = bench.start(Body::from_bytes("other")).await;
    let (other_number, _) = bench.worker.call().await;
    bench.worker.reply(other_number, b"quick", Flags::END).await;
    assert_eq!(text(outcome(other).await.unwrap().body).await.unwrap(), "quick");

    let (mut got, mut ended) = (first.len(), false);
    while !ended {
        let credit = u32::try_from(CREDIT_STEP_BYTES).unwrap().to_le_bytes();
        bench.worker.send(Kind::Credit, Flags::NONE, number, &credit).await;
        let (mut granted, step) = (0, CREDIT_STEP_BYTES);
        while granted < step && !ended {
            let frame = bench.worker.expect(Kind::Body).await;
            assert_eq!(frame.call, number);
            granted += frame.payload.len();
            ended = frame.flags.has(Flags::END);
        }
        got += granted;
    }
    assert_eq!(got, sent.len());
    bench.worker.reply(number, b"done", Flags::END).await;
    assert_eq!(text(outcome(call).await.unwrap().body).await.unwrap(), "done");
}

#[tokio::test]
async fn a_request_goes_on_while_its_reply_is_read() {
    let mut bench = bench(1);
    let (sender, body) = streamed();
    sender.send(Ok(Bytes::from("one"))).await.unwrap();
    let call = bench.start(body).await;
    let (number, first) = bench.worker.call().await;
    assert_eq!(first, "one");
    bench.worker.reply(number, b"1", Flags::NONE).await;
    let mut body = outcome(call).await.unwrap().body;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "1");
    sender.send(Ok(Bytes::from("two"))).await.unwrap();
    assert_eq!(bench.worker.expect(Kind::Body).await.payload, "two");
    bench.worker.send(Kind::Body, Flags::NONE, number, b"2").await;
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "2");
    drop(sender);
    let last = bench.worker.expect(Kind::Body).await;
    assert!(last.flags.has(Flags::END) && last.payload.is_empty());
    bench.worker.send(Kind::Body, Flags::END, number, b"").await;
    assert_eq!(text(body).await.unwrap(), "");
    assert_eq!(bench.held(), 0);
}

#[tokio::test]
async fn a_request_that_breaks_cancels_its_call() {
    let mut bench = bench(1);
    let (sender, body) = streamed();
    let call = bench.start(body).await;
    let (number, _) = bench.worker.call().await;
    sender.send(Err(BodyError::TimedOut)).await.unwrap();
    assert_eq!(failure(outcome(call).await), InvokeError::Request(BodyError::TimedOut));
    let cancel = bench.worker.expect(Kind::Cancel).await;
    assert_eq!(parse_cancel(&cancel.payload), Ok(CancelReason::CallerLeft));
    assert_eq!(bench.held(), 1);
    bench.worker.send(Kind::Ended, Flags::NONE, number, b"").await;
    bench.until_held(0).await;
}

#[tokio::test]
async fn a_request_that_breaks_behind_the_replys_head_breaks_the_reply() {
    let mut bench = bench(1);
    let (sender, body) = streamed();
    let call = bench.start(body).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.reply(number, b"", Flags::NONE).await;
    let body = outcome(call).await.unwrap().body;
    sender.send(Err(BodyError::TimedOut)).await.unwrap();
    assert_eq!(text(body).await, Err(BodyError::TimedOut));
    bench.worker.expect(Kind::Cancel).await;
}

#[tokio::test]
async fn a_caller_that_leaves_cancels_its_call_and_its_place_stays_taken() {
    let mut bench = bench(1);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    call.abort();
    let cancel = bench.worker.expect(Kind::Cancel).await;
    assert_eq!(cancel.call, number);
    assert_eq!(parse_cancel(&cancel.payload), Ok(CancelReason::CallerLeft));
    assert_eq!(bench.held(), 1);
    // A reply was under way: it ends the call as well.
    bench.worker.reply(number, b"late", Flags::NONE).await;
    bench.worker.send(Kind::Body, Flags::END, number, b"").await;
    bench.until_held(0).await;
    assert!(!bench.serving.is_finished());
}

#[tokio::test]
async fn dropping_a_reply_before_its_end_cancels_its_call() {
    let mut bench = bench(1);
    let mut asked = invocation(Body::Empty);
    asked.deadline = Instant::now();
    let call = bench.start_with(asked).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.reply(number, b"some", Flags::NONE).await;
    drop(outcome(call).await.unwrap());
    let cancel = bench.worker.expect(Kind::Cancel).await;
    assert_eq!(parse_cancel(&cancel.payload), Ok(CancelReason::DeadlinePassed));
    bench.worker.send(Kind::Ended, Flags::NONE, number, b"").await;
    bench.until_held(0).await;
}

#[tokio::test]
async fn when_the_worker_is_gone_every_call_is_told_how() {
    let mut bench = bench(3);
    let waiting = bench.start(Body::Empty).await;
    bench.worker.call().await;
    let replying = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.reply(number, b"half", Flags::NONE).await;
    let body = outcome(replying).await.unwrap().body;
    // Replies that were sent before the end still count.
    let last = bench.start(Body::Empty).await;
    let (last_number, _) = bench.worker.call().await;
    bench.worker.reply(last_number, b"last", Flags::END).await;
    drop(bench.worker);
    assert_eq!(bench.serving.await.unwrap(), Ending::Closed);
    assert_eq!(text(outcome(last).await.unwrap().body).await.unwrap(), "last");

    bench.connection.fail("exited with code 1");
    let crashed = InvokeError::Crashed { how: "exited with code 1".into() };
    assert_eq!(failure(outcome(waiting).await), crashed);
    assert_eq!(text(body).await, Err(BodyError::Broken("exited with code 1".into())));
    until(|| bench.set.load() == (0, 0)).await;
}

#[tokio::test]
async fn a_call_that_was_never_written_is_handed_back_whole() {
    let mut bench = bench(5);
    // Large calls fill the socket, so the next one stays behind.
    let large = Bytes::from(vec![b'l'; CREDIT_BYTES]);
    let first = bench.start(Body::from_bytes(large.clone())).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(bench.start(Body::from_bytes(large.clone())).await);
    }
    let (sender, body) = streamed();
    sender.send(Ok(Bytes::from("begin"))).await.unwrap();
    let stays = bench.start(body).await;
    bench.until_held(5).await;
    bench.worker.call().await;
    drop(bench.worker);
    bench.serving.await.unwrap();
    bench.connection.fail("killed by signal 9");
    let crashed = InvokeError::Crashed { how: "killed by signal 9".into() };
    assert_eq!(failure(outcome(first).await), crashed);
    drop(others);
    sender.send(Ok(Bytes::from(" and end"))).await.unwrap();
    drop(sender);
    let Err(HandlerError::NotStarted(back)) = outcome(stays).await else {
        panic!("the call was never written");
    };
    assert_eq!(text(back.body).await.unwrap(), "begin and end");
    assert_eq!(back.headers, invocation(Body::Empty).headers);
}

#[tokio::test]
async fn a_connection_that_is_over_starts_no_call() {
    let bench = bench(1);
    drop(bench.worker);
    bench.serving.await.unwrap();
    let Admission { handler, place } =
        bench.set.admit(Patience::Caller, &WaitingRoom::new(1)).await.unwrap();
    let Err(HandlerError::NotStarted(back)) =
        handler.invoke(invocation(Body::from_bytes("body")), place).await
    else {
        panic!("nobody could have run the call");
    };
    assert_eq!(text(back.body).await.unwrap(), "body");
    assert_eq!(bench.set.load(), (0, 0));
}

/// The worker sends this while a call waits; the connection must end so, and
/// the call must fail.
async fn check_broken(bytes: impl FnOnce(u32) -> BytesMut, expected: Violation) {
    let mut bench = bench(1);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.write(&bytes(number)).await;
    assert_eq!(bench.serving.await.unwrap(), Ending::Broke(expected));
    bench.connection.fail("broke the worker protocol");
    assert!(matches!(failure(outcome(call).await), InvokeError::Crashed { .. }));
    assert_eq!(bench.set.load(), (0, 0));
}

fn frame(kind: Kind, flags: Flags, call: u32, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    wire::encode(&mut out, kind, flags, call, payload);
    out
}

#[tokio::test]
async fn what_a_worker_must_not_send_ends_the_connection() {
    let unexpected = Violation::Unexpected;
    let garbage = |_| BytesMut::from("GET / HTTP/1.1\r\n\r\n");
    check_broken(garbage, WireError::UnknownKind(b'/').into()).await;
    let end = |call| frame(Kind::Body, Flags::END, call, b"");
    check_broken(end, unexpected(Kind::Body)).await;
    let part = |call| frame(Kind::Body, Flags::NONE, call, b"x");
    check_broken(part, unexpected(Kind::Body)).await;
    let ended = |call| frame(Kind::Ended, Flags::NONE, call, b"");
    check_broken(ended, unexpected(Kind::Ended)).await;
    let stranger = |call| frame(Kind::Error, Flags::NONE, call + 1, b"");
    check_broken(stranger, unexpected(Kind::Error)).await;
    let ready = |_| frame(Kind::Ready, Flags::NONE, 0, b"{}");
    check_broken(ready, unexpected(Kind::Ready)).await;
    let headless = |call| frame(Kind::Reply, Flags::END, call, b"x");
    let no_head = WireError::BadPayload(Kind::Reply, "no length of a head");
    check_broken(headless, no_head.into()).await;
    let credit = |call| frame(Kind::Credit, Flags::NONE, call, b"x");
    check_broken(credit, WireError::BadPayload(Kind::Credit, "not a u32").into()).await;
    let twice = |call| {
        let mut out = BytesMut::new();
        let head = ReplyHead { status: None, headers: HeaderMap::new() };
        wire::encode_reply(&mut out, call, &head, b"", Flags::NONE).unwrap();
        out.extend_from_slice(&out.clone());
        out
    };
    let mut bench = bench(1);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.write(&twice(number)).await;
    assert_eq!(bench.serving.await.unwrap(), Ending::Broke(unexpected(Kind::Reply)));
    drop(call);
}

/// The worker's reply cannot be passed on: its call fails, the worker lives.
async fn check_unfit(head: &[u8], flags: Flags, expected: &str) {
    let mut bench = bench(1);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    let mut payload = BytesMut::new();
    payload.extend_from_slice(&u32::try_from(head.len()).unwrap().to_le_bytes());
    payload.extend_from_slice(head);
    bench.worker.send(Kind::Reply, flags, number, &payload).await;
    let InvokeError::ReplyBroken { how } = failure(outcome(call).await) else {
        panic!("the reply cannot be passed on");
    };
    assert!(how.contains(expected), "{how}");
    if !flags.has(Flags::END) {
        bench.worker.expect(Kind::Cancel).await;
        bench.worker.send(Kind::Body, Flags::END, number, b"").await;
    }
    bench.until_held(0).await;
    assert!(!bench.serving.is_finished());
}

#[tokio::test]
async fn a_reply_that_cannot_be_passed_on_costs_its_call_only() {
    check_unfit(b"101", Flags::END, "status 101").await;
    check_unfit(b"999", Flags::NONE, "status 999").await;
    check_unfit(b"200\nx y\nz", Flags::END, "header").await;
    check_unfit(b"200\nx\nz\x01", Flags::NONE, "header").await;
}

#[tokio::test]
async fn an_error_of_the_worker_reaches_the_caller_in_its_words() {
    let mut bench = bench(2);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.send(Kind::Error, Flags::NONE, number, "nö".as_bytes()).await;
    let broken = InvokeError::ReplyBroken { how: "nö".into() };
    assert_eq!(failure(outcome(call).await), broken);

    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.reply(number, b"half", Flags::NONE).await;
    bench.worker.send(Kind::Error, Flags::NONE, number, b"no").await;
    let reply = outcome(call).await.unwrap();
    assert_eq!(text(reply.body).await, Err(BodyError::Broken("no".into())));
    assert_eq!(bench.held(), 0);
}

#[tokio::test]
async fn a_late_credit_does_not_count_for_the_next_call() {
    let mut bench = bench(1);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.reply(number, b"", Flags::END).await;
    outcome(call).await.unwrap();
    let (_sender, body) = streamed();
    let call = bench.start(body).await;
    let (next, _) = bench.worker.call().await;
    assert_ne!(number, next);
    bench.worker.send(Kind::Credit, Flags::NONE, number, &1_u32.to_le_bytes()).await;
    bench.worker.reply(next, b"", Flags::END).await;
    outcome(call).await.unwrap();
    assert!(!bench.serving.is_finished());
}

#[tokio::test]
async fn a_call_past_its_deadline_and_the_grace_is_overdue() {
    let mut bench = bench(2);
    let overdue = tokio::spawn({
        let connection = Arc::clone(&bench.connection);
        async move { connection.overdue().await }
    });
    let patient = bench.start(Body::Empty).await;
    let (patient_number, _) = bench.worker.call().await;
    let mut asked = invocation(Body::Empty);
    let started = Instant::now();
    asked.deadline = started + Duration::from_millis(20);
    let call = bench.start_with(asked).await;
    let (number, _) = bench.worker.call().await;
    tokio::time::timeout(PATIENCE, overdue).await.expect("it is overdue").unwrap();
    assert!(started.elapsed() >= Duration::from_millis(20) + GRACE);

    // The one with time left is waited for, the one without is not.
    let settled = bench.connection.settled();
    tokio::pin!(settled);
    let waits = std::future::poll_fn(|cx| Poll::Ready(settled.as_mut().poll(cx).is_pending()));
    assert!(waits.await);
    bench.worker.reply(patient_number, b"", Flags::END).await;
    tokio::time::timeout(PATIENCE, settled).await.expect("nothing is waited for");
    outcome(patient).await.unwrap();
    // Who got its place before, and comes now, would be killed with the worker.
    let late = outcome(bench.start(Body::Empty).await).await;
    assert!(matches!(late, Err(HandlerError::NotStarted(_))));
    bench.worker.reply(number, b"", Flags::END).await;
    outcome(call).await.unwrap();
}

/// Whether the next call has to wait for a place now.
async fn must_wait(set: &Arc<HandlerSet>) -> bool {
    let room = WaitingRoom::new(1);
    let admit = set.admit(Patience::Caller, &room);
    tokio::pin!(admit);
    std::future::poll_fn(|cx| Poll::Ready(admit.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn a_call_past_its_deadline_keeps_others_away_until_the_worker_answers() {
    for answer in [Kind::Pong, Kind::Ended] {
        let mut bench = bench(2);
        let late = Invocation { deadline: Instant::now(), ..invocation(Body::Empty) };
        let call = bench.start_with(late).await;
        let (number, _) = bench.worker.call().await;
        assert!(!must_wait(&bench.set).await);
        // As the gateway does at the deadline.
        call.abort();
        let cancel = bench.worker.expect(Kind::Cancel).await;
        assert_eq!(parse_cancel(&cancel.payload), Ok(CancelReason::DeadlinePassed));
        bench.worker.expect(Kind::Ping).await;
        assert!(must_wait(&bench.set).await);
        let of = if answer == Kind::Ended { number } else { 0 };
        bench.worker.send(answer, Flags::NONE, of, b"").await;
        let room = WaitingRoom::new(1);
        let admitted = bench.set.admit(Patience::Caller, &room);
        tokio::time::timeout(PATIENCE, admitted).await.expect("a place").unwrap();
    }
}

#[tokio::test]
async fn a_worker_that_leaves_gets_no_new_calls_and_may_end_those_it_has() {
    let mut bench = bench(2);
    let call = bench.start(Body::Empty).await;
    let (number, _) = bench.worker.call().await;
    bench.worker.send(Kind::Leaving, Flags::NONE, 0, b"lost its script").await;
    let why = tokio::time::timeout(PATIENCE, bench.connection.leaving()).await;
    assert_eq!(why.expect("it leaves"), "lost its script");
    assert!(must_wait(&bench.set).await);
    bench.worker.reply(number, b"done", Flags::END).await;
    assert_eq!(text(outcome(call).await.unwrap().body).await.unwrap(), "done");
    assert!(must_wait(&bench.set).await);
}

/// What `load` says of a worker that answers with this.
async fn check_load(answer: BytesMut, expected: Result<&str, LoadError>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut worker = Worker { socket: theirs, buffer: BytesMut::new() };
    let asked = Load {
        protocol: PROTOCOL,
        function: "echo".into(),
        handler: "echo-0".into(),
        folder: "/x".into(),
        dependencies: None,
        concurrency: 4,
        cgi: true,
    };
    let answering = async {
        let frame = worker.expect(Kind::Load).await;
        assert_eq!(wire::parse_json::<Load>(Kind::Load, &frame.payload).unwrap(), asked);
        worker.write(&answer).await;
        drop(worker);
    };
    let (said, ()) = tokio::join!(load(&ours, &asked), answering);
    assert_eq!(
        said.as_ref().map(|ready| &*ready.runtime),
        expected.as_ref().copied(),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_worker_is_ready_when_it_says_so() {
    let ready = |json: &str| frame(Kind::Ready, Flags::NONE, 0, json.as_bytes());
    let broke = |violation| Err(LoadError::Ended(Ending::Broke(violation)));
    let python = r#"{"protocol": 1, "runtime": "Python 3.11.2"}"#;
    check_load(ready(python), Ok("Python 3.11.2")).await;
    let failed = frame(Kind::Failed, Flags::NONE, 0, b"no fn");
    check_load(failed, Err(LoadError::Failed("no fn".into()))).await;
    check_load(BytesMut::new(), Err(LoadError::Ended(Ending::Closed))).await;
    let other = r#"{"protocol": 2, "runtime": "x"}"#;
    check_load(ready(other), broke(Violation::Version(2))).await;
    let early = frame(Kind::Pong, Flags::NONE, 0, b"");
    check_load(early, broke(Violation::Unexpected(Kind::Pong))).await;
    let nonsense = WireError::BadPayload(Kind::Ready, "not the JSON it is");
    check_load(ready("nonsense"), broke(nonsense.into())).await;
}

/// A worker that echoes every call, part by part, within its credit, and ends
/// cancelled ones.
async fn echo(mut worker: Worker) {
    struct Echo {
        replied: bool,
        waiting: BytesMut,
        ended: bool,
        credit: usize,
    }
    let mut calls = std::collections::HashMap::<u32, Echo>::new();
    loop {
        let mut frame = worker.next().await;
        match frame.kind {
            Kind::Call => {
                let (_, _, body) = wire::parse_call(&frame.payload).unwrap();
                let waiting = BytesMut::from(&body[..]);
                frame.payload = body;
                let echo = Echo { replied: false, waiting, ended: false, credit: CREDIT_BYTES };
                assert!(calls.insert(frame.call, echo).is_none(), "a number that is in use");
            }
            Kind::Body => match calls.get_mut(&frame.call) {
                Some(echo) => echo.waiting.extend_from_slice(&frame.payload),
                None => continue,
            },
            Kind::Credit => match calls.get_mut(&frame.call) {
                Some(echo) => echo.credit += parse_credit(&frame.payload).unwrap() as usize,
                None => continue,
            },
            Kind::Cancel => {
                if calls.remove(&frame.call).is_some() {
                    worker.send(Kind::Ended, Flags::NONE, frame.call, b"").await;
                }
                continue;
            }
            kind => panic!("{kind:?}"),
        }
        let number = frame.call;
        let echo = calls.get_mut(&number).unwrap();
        if matches!(frame.kind, Kind::Call | Kind::Body) {
            echo.ended |= frame.flags.has(Flags::END);
            let bytes = u32::try_from(frame.payload.len()).unwrap();
            if bytes > 0 && !echo.ended {
                worker.send(Kind::Credit, Flags::NONE, number, &bytes.to_le_bytes()).await;
            }
        }
        loop {
            let part = echo.waiting.split_to(echo.waiting.len().min(echo.credit).min(50_000));
            echo.credit -= part.len();
            let last = echo.ended && echo.waiting.is_empty();
            if part.is_empty() && !last {
                break;
            }
            let flags = Flags::end_if(last);
            if echo.replied {
                worker.send(Kind::Body, flags, number, &part).await;
            } else {
                worker.reply(number, &part, flags).await;
                echo.replied = true;
            }
            if last {
                calls.remove(&number);
                break;
            }
        }
    }
}

/// A caller that reads all, or leaves somewhere on the way.
async fn try_one(set: Arc<HandlerSet>, seed: usize) {
    let length = [0, 1, 64, 5_000, 70_000, 300_000, 900_000][seed % 7];
    let sent = Bytes::from(vec![u8::try_from(seed % 251).unwrap(); length]);
    let room = WaitingRoom::new(1024);
    let Admission { handler, place } = set.admit(Patience::Accepted, &room).await.unwrap();
    let body = if seed.is_multiple_of(3) {
        let (sender, body) = streamed();
        let parts = sent.clone();
        tokio::spawn(async move {
            for part in parts.chunks(30_000) {
                if sender.send(Ok(Bytes::copy_from_slice(part))).await.is_err() {
                    break;
                }
            }
        });
        body
    } else {
        Body::from_bytes(sent.clone())
    };
    let running = handler.invoke(invocation(body), place);
    if seed.is_multiple_of(11) {
        // It leaves before the reply, after a turn or two of the others.
        tokio::select! {
            biased;
            _ = running => {}
            () = tokio::task::yield_now() => {}
        }
        return;
    }
    let mut body = running.await.unwrap().body;
    if seed.is_multiple_of(13) {
        drop(body.frame().await);
        return;
    }
    let got = body.collect().await.unwrap().to_bytes();
    assert!(got == sent, "{} bytes came back of {length}", got.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_every_caller_gets_its_own_bytes_and_no_place_is_lost() {
    let Bench { set, connection: _connection, serving, worker } = bench(40);
    let echoing = tokio::spawn(echo(worker));
    let callers: Vec<_> =
        (0..1500).map(|seed| tokio::spawn(try_one(Arc::clone(&set), seed))).collect();
    for caller in callers {
        tokio::time::timeout(PATIENCE * 3, caller).await.expect("an end").unwrap();
    }
    until(|| set.load() == (0, 0)).await;
    assert!(!serving.is_finished());
    echoing.abort();
}
