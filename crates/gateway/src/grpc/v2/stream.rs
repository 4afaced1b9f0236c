//! A call whose input and reply come piece by piece.
//!
//! Owns the pieces: no more of them is asked for than the other side takes. Must
//! not know how a call is run.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::http::HeaderMap;
use bytes::Bytes;
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame};
use tinyfaas_grpc::v2::invoke_stream_request::Part;
use tinyfaas_grpc::v2::invoke_stream_response::Part as ReplyPart;
use tinyfaas_grpc::v2::{InvokeResponse, InvokeStreamRequest, InvokeStreamResponse};
use tinyfaas_model::{Body, BodyError, CallOutcome, InvokeError, Reply};
use tonic::{Status, Streaming};

use super::{request, response};
use crate::dispatch::now;
use crate::grpc::Grpc;
use crate::grpc::call::{Call, raised};
use crate::grpc::error::{CallError, Refused};
use crate::tally::Tally;

/// Bytes of a reply's piece: clients take messages of 4 MiB unless they are told
/// otherwise.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Runs a call up to its reply's head.
pub(super) async fn open(
    call: &Call,
    metadata: HeaderMap,
    mut parts: Streaming<InvokeStreamRequest>,
) -> Result<ReplyStream, Status> {
    let first = parts.message().await?.and_then(|message| message.part);
    let Some(Part::Head(mut head)) = first else {
        return Err(call.status(&Refused::NoHead.into()));
    };
    let first = std::mem::take(&mut head.body);
    let (route, mut asked) =
        request::read(call, metadata, head).map_err(|error| call.status(&error))?;
    asked.body = Body::Stream(Box::pin(Pieces { first, parts: Some(parts) }));
    let (mut tally, invocation, after) = call.begin(route, asked);
    match head_of(call, &mut tally, invocation, after).await {
        Ok(reply) => {
            call.note(&tally);
            let head = response::head(reply.status, reply.headers, call.id);
            let (body, grpc) = (reply.body, Arc::clone(&call.grpc));
            let ending = Some(Ending { tally, after });
            Ok(ReplyStream { head: Some(head), body, rest: Bytes::new(), ending, grpc })
        }
        Err(error) => {
            call.end(tally, error.outcome());
            // Where its input broke, it is known better why.
            let broke = call.broke.get().filter(|_| is_the_callers(&error)).cloned();
            Err(broke.unwrap_or_else(|| call.status(&error)))
        }
    }
}

fn is_the_callers(error: &CallError) -> bool {
    matches!(error, CallError::Invoke(InvokeError::Request(_)))
}

async fn head_of(
    call: &Call,
    tally: &mut Tally,
    invocation: tinyfaas_model::Invocation,
    after: Duration,
) -> Result<Reply, CallError> {
    let reply = call.dispatch(tally, invocation, after).await?;
    if !reply.failed {
        return Ok(reply);
    }
    let text = call.collect(reply.body, &call.grpc.held.share()).await?;
    Err(raised(&text, &tally.route).into())
}

/// A function's input, as its pieces come.
struct Pieces {
    /// What stood in the head.
    first: Bytes,
    /// None once it has ended.
    parts: Option<Streaming<InvokeStreamRequest>>,
}

impl Pieces {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        loop {
            let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
            let broken = match ready!(Pin::new(parts).poll_next(cx)) {
                Some(Ok(InvokeStreamRequest { part: Some(Part::Body(piece)) })) => {
                    if piece.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(piece)));
                }
                Some(Ok(InvokeStreamRequest { part: None })) => continue,
                Some(Ok(InvokeStreamRequest { part: Some(Part::Head(_)) })) => {
                    BodyError::Broken(Refused::SecondHead.to_string())
                }
                Some(Err(status)) => BodyError::Broken(status.message().to_owned()),
                None => {
                    self.parts = None;
                    return Poll::Ready(None);
                }
            };
            self.parts = None;
            return Poll::Ready(Some(Err(broken)));
        }
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.parts.is_none()
    }
}

/// A reply as its pieces come: the head, then the body.
pub(in crate::grpc) struct ReplyStream {
    head: Option<InvokeResponse>,
    body: Body,
    /// What is left of a piece that was larger than a message should be.
    rest: Bytes,
    ending: Option<Ending>,
    grpc: Arc<Grpc>,
}

/// The end of a call whose reply streams; dropped before, it was cancelled.
struct Ending {
    tally: Tally,
    after: Duration,
}

impl Ending {
    fn came(self) {
        self.tally.end(CallOutcome::Succeeded, now());
    }

    fn broke(self, error: &BodyError) -> CallError {
        let at = now();
        let error: CallError = match self.tally.is_late(at) {
            true => InvokeError::DeadlineExceeded { after: self.after }.into(),
            false => InvokeError::ReplyBroken { how: error.to_string() }.into(),
        };
        self.tally.end(error.outcome(), at);
        error
    }
}

impl ReplyStream {
    fn piece(&mut self, mut data: Bytes) -> InvokeStreamResponse {
        let bytes_max = PIECE_BYTES_MAX.min(self.grpc.config.grpc.message_bytes_max).max(1);
        if data.len() > bytes_max {
            self.rest = data.split_off(bytes_max);
        }
        InvokeStreamResponse { part: Some(ReplyPart::Body(data)) }
    }
}

impl Stream for ReplyStream {
    type Item = Result<InvokeStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(head) = this.head.take() {
            return Poll::Ready(Some(Ok(InvokeStreamResponse {
                part: Some(ReplyPart::Head(head)),
            })));
        }
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.piece(rest))));
        }
        loop {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => {
                    this.ending.take().into_iter().for_each(Ending::came);
                    return Poll::Ready(None);
                }
                Some(Ok(frame)) => {
                    // A function's trailers are dropped, as they are over HTTP.
                    let data = frame.into_data().unwrap_or_default();
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(this.piece(data))));
                    }
                }
                Some(Err(error)) => {
                    this.body = Body::Empty;
                    let Some(ending) = this.ending.take() else { return Poll::Ready(None) };
                    let error = ending.broke(&error);
                    return Poll::Ready(Some(Err(error.status(this.grpc.config.retry_after))));
                }
            }
        }
    }
}
