//! Replies over HTTP/2 whose caller takes nothing.
//!
//! Owns the patience with one stream: its flow control may stop it while the
//! connection is alive, so the sweeper, which sees the socket only, does not
//! notice. Must not know what is replied.
//!
//! hyper does not ask for the next part of a reply while the caller takes none.
//! So a stream whose task rests, though nobody has said that it waits for the
//! function, waits for its caller.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// What the stream that this thread polls has been doing.
    static DOING: Cell<Doing> = const { Cell::new(Doing::Nothing) };
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

/// Runs the streams of HTTP/2 connections.
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
        tokio::spawn(run(stream, self.stall_timeout));
    }
}

/// Runs a stream to its end, or until its caller has taken nothing for so long:
/// dropping it resets it.
async fn run(stream: impl Future<Output = ()>, stall_timeout: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        DOING.set(Doing::Nothing);
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match DOING.get() {
            Doing::WaitingForFunction => {
                timer = None;
                return Poll::Pending;
            }
            Doing::Replying => timer = None,
            Doing::Nothing => (),
        }
        let until = || Box::pin(sleep_until(Instant::now() + stall_timeout));
        timer.get_or_insert_with(until).as_mut().poll(cx)
    })
    .await;
}
