//! The streams of HTTP/2 connections, and replies whose caller takes nothing.
//!
//! Owns running them, and the patience with one: its flow control may stop it while
//! the connection is alive, so the sweeper, which sees the socket only, does not
//! notice. Must not know what is replied.
//!
//! hyper does not ask for the next part of a reply while the caller takes none.
//! So a stream that rests, though nobody has said that it waits for the
//! function, waits for its caller.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// What the stream that this thread polls has been doing.
    static DOING: Cell<Doing> = const { Cell::new(Doing::Nothing) };
    /// Streams that have begun in the connection that this thread polls.
    static BEGUN: RefCell<Vec<Stream>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Replying,
    WaitingForFunction,
}

/// Notes whether the function had to be waited for.
pub(crate) fn note<T>(poll: Poll<T>) -> Poll<T> {
    DOING.set(if poll.is_pending() { Doing::WaitingForFunction } else { Doing::Replying });
    poll
}

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes the streams of HTTP/2 connections, which [`with_streams`] runs.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    /// How long a caller may take nothing of a reply.
    pub(crate) stall_timeout: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let stream = Box::pin(run(stream, self.stall_timeout));
        BEGUN.with_borrow_mut(|begun| begun.push(stream));
    }
}

/// Runs a connection and its streams in one task: to hand each stream to another,
/// and its frames back, costs more than all else of a call over HTTP/2. Streams that
/// are left when the connection ends are dropped, and their calls with them.
pub(crate) async fn with_streams<T>(connection: impl Future<Output = T>) -> T {
    let mut connection = pin!(connection);
    let mut streams = FuturesUnordered::new();
    poll_fn(|cx| {
        // First what goes out: the connection then writes it at once.
        while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
        let polled = connection.as_mut().poll(cx);
        let before = streams.len();
        BEGUN.with_borrow_mut(|begun| streams.extend(begun.drain(..)));
        if streams.len() > before {
            while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {}
        }
        polled
    })
    .await
}

/// Runs a stream to its end, or until its caller has taken nothing for so long:
/// dropping it resets it. A panic costs this stream only.
async fn run(stream: impl Future<Output = ()>, stall_timeout: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        DOING.set(Doing::Nothing);
        let polled = catch_unwind(AssertUnwindSafe(|| stream.as_mut().poll(cx)));
        // The panic has been told where it came about.
        if polled.is_ok_and(|polled| polled.is_pending()) {
            poll_patience(&mut timer, stall_timeout, cx)
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

/// Comes when the stream has rested for too long though it does not wait for its
/// function.
fn poll_patience(
    timer: &mut Option<Pin<Box<Sleep>>>,
    stall_timeout: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    match DOING.get() {
        Doing::WaitingForFunction => {
            *timer = None;
            return Poll::Pending;
        }
        Doing::Replying => *timer = None,
        Doing::Nothing => (),
    }
    let until = || Box::pin(sleep_until(Instant::now() + stall_timeout));
    timer.get_or_insert_with(until).as_mut().poll(cx)
}
