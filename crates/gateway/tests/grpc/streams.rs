//! Calls whose input and reply come piece by piece.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_grpc::v2::invoke_stream_request::Part;
use tinyfaas_grpc::v2::invoke_stream_response::Part as ReplyPart;
use tinyfaas_grpc::v2::{InvokeRequest, InvokeResponse, InvokeStreamRequest, InvokeStreamResponse};
use tinyfaas_model::{BodyError, CallOutcome, Reply};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

use crate::support::{Function, Server, echo, handler, streamed, until, whole};
use crate::v2::head;

fn part(part: Part) -> InvokeStreamRequest {
    InvokeStreamRequest { part: Some(part) }
}

fn piece(bytes: &'static [u8]) -> InvokeStreamRequest {
    part(Part::Body(bytes.into()))
}

async fn open(
    server: &Server,
    parts: Vec<InvokeStreamRequest>,
) -> Result<Streaming<InvokeStreamResponse>, Status> {
    let parts = Request::new(stream::iter(parts));
    server.v2().await.invoke_stream(parts).await.map(tonic::Response::into_inner)
}

async fn head_of(replies: &mut Streaming<InvokeStreamResponse>) -> InvokeResponse {
    match replies.message().await.unwrap().unwrap().part {
        Some(ReplyPart::Head(head)) => head,
        other => panic!("{other:?} instead of a head"),
    }
}

async fn next(replies: &mut Streaming<InvokeStreamResponse>) -> Result<Option<Bytes>, Status> {
    Ok(match replies.message().await?.map(|message| message.part) {
        None => None,
        Some(Some(ReplyPart::Body(body))) => Some(body),
        Some(other) => panic!("{other:?} instead of a piece"),
    })
}

#[tokio::test]
async fn pieces_go_in_and_come_out() {
    let server = Server::with(echo()).await;
    let parts = vec![part(Part::Head(head(b"one "))), piece(b""), piece(b"two "), piece(b"three")];
    let mut replies = open(&server, parts).await.unwrap();
    let first = head_of(&mut replies).await;
    assert_eq!((first.status, first.call_id.len(), first.body.len()), (200, 32, 0));
    let mut whole = Vec::new();
    while let Some(piece) = next(&mut replies).await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    assert_eq!(whole, b"one two three");
    let counters = server.counters();
    until(|| counters.calls.count(CallOutcome::Succeeded) == 1).await;
}

#[tokio::test]
async fn each_piece_arrives_as_it_is_produced_while_others_are_still_sent() {
    // It answers at once, and with whatever it is sent.
    let server = Server::with(handler(|call, _| async move {
        Ok(Reply { body: call.body, ..Reply::from_bytes("") })
    }))
    .await;
    let (sender, parts) = mpsc::channel(1);
    let parts = stream::unfold(parts, |mut parts: mpsc::Receiver<_>| async move {
        parts.recv().await.map(|part| (part, parts))
    });
    sender.send(part(Part::Head(head(b"")))).await.unwrap();
    let opened = server.v2().await.invoke_stream(Request::new(parts)).await;
    let mut replies = opened.unwrap().into_inner();
    head_of(&mut replies).await;
    for word in [&b"one"[..], b"two", b"three"] {
        sender.send(piece(word)).await.unwrap();
        assert_eq!(next(&mut replies).await.unwrap().as_deref(), Some(word));
    }
    drop(sender);
    assert_eq!(next(&mut replies).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_may_pause_and_a_message_may_not() {
    let server = Server::with(handler(|call, _| async move {
        Ok(Reply { body: call.body, ..Reply::from_bytes("") })
    }))
    .await;
    let (sender, parts) = mpsc::channel(1);
    let parts = stream::unfold(parts, |mut parts: mpsc::Receiver<_>| async move {
        parts.recv().await.map(|part| (part, parts))
    });
    sender.send(part(Part::Head(head(b"")))).await.unwrap();
    let mut client = server.v2().await;
    let opened = client.invoke_stream(Request::new(parts)).await;
    let mut replies = opened.unwrap().into_inner();
    head_of(&mut replies).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    sender.send(piece(b"late")).await.unwrap();
    assert_eq!(next(&mut replies).await.unwrap().as_deref(), Some(&b"late"[..]));
    // A head that does not come is waited for no longer than a body may stall.
    let status = client.invoke_stream(Request::new(stream::pending())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("sent nothing for too long"), "{status}");
}

#[tokio::test]
async fn a_reply_larger_than_a_message_comes_in_several() {
    let mut config = GatewayConfig::default();
    config.grpc.message_bytes_max = 100_000;
    let mut server = Server::start(config).await;
    let large = crate::support::answers(|| Ok(Reply::from_bytes(vec![7; 1_000_000])));
    server.deploy(Function::default(), large);
    let mut replies = open(&server, vec![part(Part::Head(head(b"")))]).await.unwrap();
    head_of(&mut replies).await;
    let mut bytes = 0;
    while let Some(piece) = next(&mut replies).await.unwrap() {
        assert!(piece.len() <= 100_000);
        bytes += piece.len();
    }
    assert_eq!(bytes, 1_000_000);
}

#[tokio::test]
async fn only_as_much_is_read_as_the_function_takes() {
    let server = Server::with(handler(|call, place| async move {
        let _kept = (call, place);
        std::future::pending().await
    }))
    .await;
    let (counted, mut sent) = mpsc::unbounded_channel();
    let first = vec![part(Part::Head(head(b"")))];
    let rest = stream::repeat_with(move || {
        counted.send(()).unwrap();
        part(Part::Body(vec![0; 64 << 10].into()))
    });
    let parts = futures_util::StreamExt::chain(stream::iter(first), rest);
    let mut client = server.v2().await;
    let asked = tokio::spawn(async move { client.invoke_stream(Request::new(parts)).await });
    let mut pieces = 0;
    while tokio::time::timeout(Duration::from_millis(300), sent.recv()).await.is_ok() {
        pieces += 1;
        assert!(pieces < 1000, "it takes all");
    }
    asked.abort();
}

#[tokio::test]
async fn a_stream_must_begin_with_its_head() {
    let server = Server::with(echo()).await;
    for (parts, words) in [
        (vec![], "no head"),
        (vec![piece(b"x")], "no head"),
        (vec![InvokeStreamRequest::default()], "no head"),
        (vec![part(Part::Head(head(b""))), part(Part::Head(head(b"")))], "a second head"),
    ] {
        let status = open(&server, parts).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    let nobody = InvokeRequest { function: "nobody".into(), ..InvokeRequest::default() };
    let status = open(&server, vec![part(Part::Head(nobody))]).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status}");
}

#[tokio::test]
async fn a_piece_that_is_too_large_is_refused() {
    let mut config = GatewayConfig::default();
    config.grpc.message_bytes_max = 1000;
    let mut server = Server::start(config).await;
    server.deploy(Function::default(), echo());
    let large = part(Part::Body(vec![0; 2000].into()));
    let status = open(&server, vec![part(Part::Head(head(b""))), large]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
}

#[tokio::test]
async fn a_reply_that_breaks_off_ends_with_its_status() {
    for (broken, code, counted) in
        [(BodyError::Broken("it died".into()), Code::Internal, CallOutcome::ReplyBroken)]
    {
        let (sender, body) = streamed();
        let body = std::sync::Mutex::new(Some(body));
        let server = Server::with(handler(move |_, _| {
            let body = body.lock().unwrap().take().unwrap();
            async move { Ok(Reply { body, ..Reply::from_bytes("") }) }
        }))
        .await;
        sender.send(Ok("first".into())).unwrap();
        let mut replies = open(&server, vec![part(Part::Head(head(b"")))]).await.unwrap();
        head_of(&mut replies).await;
        assert_eq!(next(&mut replies).await.unwrap().as_deref(), Some(&b"first"[..]));
        sender.send(Err(broken)).unwrap();
        let status = next(&mut replies).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains("it died"), "{status}");
        assert_eq!(server.counters().calls.count(counted), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_its_deadline() {
    let (_sender, body) = streamed();
    let body = std::sync::Mutex::new(Some(body));
    let server = Server::with(handler(move |_, _| {
        let body = body.lock().unwrap().take().unwrap();
        async move { Ok(Reply { body, ..Reply::from_bytes("") }) }
    }))
    .await;
    let mut request = Request::new(stream::iter(vec![part(Part::Head(head(b"")))]));
    request.metadata_mut().insert("grpc-timeout", "3S".parse().unwrap());
    let mut replies = server.v2().await.invoke_stream(request).await.unwrap().into_inner();
    head_of(&mut replies).await;
    let status = next(&mut replies).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(server.counters().calls.count(CallOutcome::DeadlineExceeded), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_a_reply_cancels_its_call() {
    let (sender, body) = streamed();
    let body = std::sync::Mutex::new(Some(body));
    let server = Server::with(handler(move |call, _| {
        let body = body.lock().unwrap().take().unwrap();
        async move {
            whole(call.body).await?;
            Ok(Reply { body, ..Reply::from_bytes("") })
        }
    }))
    .await;
    let mut replies = open(&server, vec![part(Part::Head(head(b"")))]).await.unwrap();
    head_of(&mut replies).await;
    drop(replies);
    sender.closed().await;
    let counters = server.counters();
    until(|| counters.calls.count(CallOutcome::Cancelled) == 1).await;
}
