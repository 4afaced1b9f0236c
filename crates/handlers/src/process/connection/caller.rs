//! A call from its caller's side: sent, waited for, given up.
//!
//! Owns what an invocation becomes on the socket and what its caller gets back.
//! Must not know what the worker's frames look like.

use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use tinyfaas_model::{BodyError, HandlerError, Invocation, InvokeError, Place, Reply};
use tokio::sync::oneshot;

use super::Connection;
use super::calls::{Answer, CallEnd, Due, Opened};
use super::upload::{Credit, Parts, Upload};
use crate::wire::{self, CallHead, Flags};

impl Connection {
    /// Runs one call; see [`tinyfaas_model::Handler::invoke`]. Each call's future is
    /// allocated, and quickly so as long as it stays small.
    #[expect(clippy::manual_async_fn, reason = "an async function holds its arguments twice")]
    pub(super) fn call(
        self: Arc<Self>,
        mut invocation: Invocation,
        place: Place,
    ) -> impl Future<Output = Result<Reply, HandlerError>> + Send {
        async move {
            let parts = Parts::of(std::mem::take(&mut invocation.body))
                .await
                .map_err(|error| HandlerError::Failed(error.into()))?;
            let credit = parts.rest.is_some().then(|| Credit::after(parts.first.len()));
            let (answer, answered) = oneshot::channel();
            let due = Due { deadline: invocation.deadline, grace: self.grace };
            let opened = self.calls.lock().open(place, due, answer, credit.clone());
            let Ok(Opened { number, tell_watch }) = opened else {
                invocation.body = parts.whole();
                return Err(HandlerError::NotStarted(Box::new(invocation)));
            };
            if tell_watch {
                self.look.notify_one();
            }
            let deadline = invocation.deadline;
            let mut caller = Caller { connection: self, number, deadline, answered: false };
            let position = caller.send_call(&invocation, &parts)?;
            let mut upload = None;
            let answer = match (parts.rest, credit) {
                (Some(rest), Some(credit)) => {
                    let upload = upload.insert(Upload::new(rest, credit, position));
                    Box::pin(caller.wait_while_uploading(upload, answered)).await?
                }
                _ => caller.wait(answered).await,
            };
            match answer {
                Ok(reply) => {
                    if let Some(upload) = upload.filter(|upload| !upload.is_done()) {
                        caller.upload_beside(upload);
                    }
                    Ok(reply)
                }
                Err(CallEnd::Broken(how)) => {
                    Err(HandlerError::Failed(InvokeError::ReplyBroken { how }))
                }
                Err(CallEnd::Gone(how)) if caller.connection.outbox.may_have_written(position) => {
                    Err(HandlerError::Failed(InvokeError::Crashed { how }))
                }
                Err(CallEnd::Gone(_)) => {
                    let rest = upload.map(Upload::into_rest);
                    invocation.body = Parts { first: parts.first, rest }.whole();
                    Err(HandlerError::NotStarted(Box::new(invocation)))
                }
            }
        }
    }
}

/// Who waits for a call's reply's head. Going away cancels the call.
struct Caller {
    connection: Arc<Connection>,
    number: u32,
    deadline: Instant,
    answered: bool,
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.answered {
            self.connection.cancel(self.number, self.deadline, None);
        }
    }
}

impl Caller {
    fn send_call(&self, invocation: &Invocation, parts: &Parts) -> Result<u64, HandlerError> {
        let id = invocation.id.to_hex();
        let head = CallHead {
            id: id.as_str().as_bytes(),
            method: invocation.method.as_str().as_bytes(),
            path: invocation.target.path().as_bytes(),
            query: invocation.target.query().as_bytes(),
            remaining: self.deadline.saturating_duration_since(Instant::now()),
        };
        let flags = Flags::end_if(parts.rest.is_none());
        let encode = |out: &mut BytesMut| {
            wire::encode_call(out, self.number, &head, &invocation.headers, &parts.first, flags)
        };
        self.connection.outbox.send(&self.connection.socket, encode).map_err(|bytes| {
            drop(self.connection.remove(self.number));
            let how = format!(
                "its headers take {bytes} bytes, more than the {} that reach a function",
                wire::HEAD_BYTES_MAX
            );
            HandlerError::Failed(BodyError::Broken(how).into())
        })
    }

    async fn wait(&mut self, answered: oneshot::Receiver<Answer>) -> Answer {
        let answer = answered.await;
        self.answered = true;
        answer.unwrap_or_else(|_| Err(CallEnd::Gone("it dropped the call".into())))
    }

    async fn wait_while_uploading(
        &mut self,
        upload: &mut Upload,
        answered: oneshot::Receiver<Answer>,
    ) -> Result<Answer, HandlerError> {
        let (connection, number) = (Arc::clone(&self.connection), self.number);
        let answer = self.wait(answered);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => Ok(answer),
            uploaded = upload.run(&connection, number) => match uploaded {
                Ok(()) => Ok(answer.await),
                Err(error) => Err(HandlerError::Failed(error.into())),
            },
        }
    }

    /// The reply's head has come; the rest of the upload goes on beside it.
    fn upload_beside(&self, mut upload: Upload) {
        let (connection, number, deadline) =
            (Arc::clone(&self.connection), self.number, self.deadline);
        tokio::spawn(async move {
            if let Err(error) = upload.run(&connection, number).await {
                connection.cancel(number, deadline, Some(error));
            }
        });
    }
}
