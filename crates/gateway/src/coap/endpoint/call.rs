//! A call that runs for a datagram.
//!
//! Owns what is to be done with its reply. Must not know what it calls.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::{Abortable, Aborted};
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::Code;
use tinyfaas_coap::server::Owed;

use super::super::answer::Reply;

/// A call that runs, in one allocation with its place among the others.
pub(super) struct Call {
    /// None once it has ended.
    pub(super) owed: Option<Owed>,
    pub(super) run: Run,
}

/// How it runs.
pub(super) enum Run {
    /// Of one that is never given up.
    Plain(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// Of one whose endpoint may be forgotten.
    Abortable(Abortable<Pin<Box<dyn Future<Output = Reply> + Send>>>),
}

impl Future for Call {
    type Output = (Owed, Result<Reply, Aborted>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // A panic, were there one, costs its call: in this task it would cost the
        // whole endpoint. What panicked is polled no more, only dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| match &mut self.run {
            Run::Plain(call) => call.as_mut().poll(cx).map(Ok),
            Run::Abortable(call) => call.poll_unpin(cx),
        }));
        let outcome = match polled {
            Ok(poll) => ready!(poll),
            Err(_) => Ok(Reply::new(mistake())),
        };
        let owed = self.owed.take().expect("what has ended is polled no more");
        Poll::Ready((owed, outcome))
    }
}

/// What is told of a panic; where it was, the server's standard error says.
fn mistake() -> Response {
    let payload = "a mistake of the server's own ended the call; its log says where".into();
    Response { payload, ..Response::new(Code::INTERNAL_SERVER_ERROR) }
}
