//! One connection: a task that owns the stream and the calls that run for it.
//!
//! Owns what waits for what: bytes either way, replies, timers, the server's stop.
//! Must not know the rules of a stream (`tinyfaas_coap`), nor what requests ask
//! for (`answer.rs`), nor what carries it beyond that it can be read and written.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tinyfaas_coap::Peer;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::observe::ResourceId;
use tinyfaas_coap::stream::{Connection, Owed, Request};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep_until, timeout};

use super::super::Stop;
use super::super::answer::{Answer, Reply, answer};
use super::super::listening::Listening;
use super::patience::{Limit, Patience};
use super::{Tcp, discard, stopped};
use crate::dispatch::now;
use crate::held::Share;

/// How long the last words may take when the server stops.
const STOP_GRACE: Duration = Duration::from_millis(250);

type Call = Pin<Box<dyn Future<Output = (Owed, Reply)> + Send>>;

/// Serves a connection until either end has had enough. Dropping this cancels its
/// calls.
pub(super) async fn serve<S>(tcp: &Tcp, stream: S, peer: Peer, stop: watch::Receiver<Stop>)
where
    S: AsyncRead + AsyncWrite,
{
    let (reader, writer) = tokio::io::split(stream);
    let config = &tcp.coap.config.tcp;
    let mut served = Served {
        tcp,
        connection: Connection::new(config.stream.clone(), peer, now()),
        reader,
        writer,
        input: BytesMut::new(),
        input_open: true,
        calls: FuturesUnordered::new(),
        listening: Listening::default(),
        patience: Patience::new(now()),
        unwritten: Unwritten::default(),
        stopping: false,
    };
    let end = served.run(stop).await;
    served.connection.forget(&mut tcp.blocks.lock());
    match end {
        End::CutOff => {}
        End::Orderly if served.stopping => served.close(STOP_GRACE).await,
        End::Orderly => served.close(config.linger_timeout).await,
    }
}

struct Served<'a, S> {
    tcp: &'a Tcp,
    connection: Connection,
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    /// Whether more may come from the client.
    input_open: bool,
    calls: FuturesUnordered<Call>,
    listening: Listening,
    patience: Patience,
    unwritten: Unwritten,
    /// Whether the server stops.
    stopping: bool,
}

/// What replies that are still to be written take of the budget for bodies.
#[derive(Default)]
struct Unwritten {
    /// Each until so many bytes in all are written.
    shares: VecDeque<(u64, Share)>,
    written_bytes: u64,
}

impl Unwritten {
    /// Of the last of these bytes that are to be written.
    fn push(&mut self, output_bytes: usize, share: Share) {
        if output_bytes > 0 {
            self.shares.push_back((self.written_bytes + output_bytes as u64, share));
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.written_bytes += bytes as u64;
        while self.shares.front().is_some_and(|(until, _)| *until <= self.written_bytes) {
            self.shares.pop_front();
        }
    }
}

/// How a connection ends.
enum End {
    /// All is said.
    Orderly,
    /// Nobody takes what is said.
    CutOff,
}

/// What is the matter next.
#[expect(clippy::large_enum_variant, reason = "it is handed on once, and not kept")]
enum Event {
    Read(io::Result<usize>),
    Wrote(io::Result<usize>),
    Replied(Owed, Reply),
    /// What this resource now is, for who observes it.
    Changed(ResourceId, Response),
    /// The time is over that [`Patience`] named, or nearly.
    Due,
    /// The server stops, at this time at the latest.
    Stop(Instant),
}

impl<S: AsyncRead + AsyncWrite> Served<'_, S> {
    async fn run(&mut self, stop: watch::Receiver<Stop>) -> End {
        let mut stop = pin!(stopped(stop));
        let mut timer = pin!(None::<Sleep>);
        while !self.connection.is_over() {
            let limit = self.patience.next(&self.tcp.coap.config.tcp, &self.connection);
            if let Some((due, _)) = limit {
                set(timer.as_mut(), due);
            }
            match self.next(stop.as_mut(), timer.as_mut()).await {
                Event::Read(Ok(count)) if count > 0 => {
                    self.patience.heard(now());
                    self.advance();
                }
                Event::Read(_) => {
                    self.input_open = false;
                    self.connection.input_ended();
                }
                Event::Wrote(Ok(count)) if count > 0 => {
                    self.patience.wrote();
                    self.unwritten.wrote(count);
                    self.advance();
                }
                Event::Wrote(_) => return End::CutOff,
                Event::Replied(owed, reply) => {
                    self.patience.replied(now());
                    self.reply(owed, reply);
                    self.advance();
                }
                Event::Changed(resource, response) => self.publish(resource, &response),
                Event::Due => {
                    timer.set(None);
                    let now = now();
                    if let Some((due, limit)) = limit
                        && due <= now
                        && self.come_due(now, limit)
                    {
                        return End::CutOff;
                    }
                }
                Event::Stop(until) => {
                    self.stopping = true;
                    self.patience.until = Some(until);
                    self.connection.release();
                    for resource in self.listening.end_all() {
                        self.publish(resource, &Response::unavailable(1));
                    }
                }
            }
            if self.connection.has_ended() {
                self.calls.clear();
                self.listening.end_all();
            }
            while let Some(resource) = self.connection.unobserved() {
                self.listening.end(resource);
            }
            self.patience.note(now(), &self.connection, self.input.len());
        }
        End::Orderly
    }

    async fn next(
        &mut self,
        stop: Pin<&mut impl Future<Output = Instant>>,
        mut timer: Pin<&mut Option<Sleep>>,
    ) -> Event {
        let reads = self.input_open && self.connection.wants_input();
        if reads {
            self.connection.make_room(&mut self.input);
        }
        let told = self.connection.takes_replies();
        let replies = told && !self.calls.is_empty();
        let writes = self.connection.output_bytes() > 0;
        let timed = timer.is_some();
        tokio::select! {
            biased;
            wrote = self.writer.write_buf(self.connection.output()), if writes => {
                Event::Wrote(wrote)
            }
            Some((owed, reply)) = self.calls.next(), if replies => {
                Event::Replied(owed, reply)
            }
            (resource, response) = poll_fn(|cx| self.listening.poll_next(cx)), if told => {
                Event::Changed(resource, response)
            }
            read = self.reader.read_buf(&mut self.input), if reads => Event::Read(read),
            until = stop, if !self.stopping => Event::Stop(until),
            () = async { timer.as_mut().as_pin_mut().expect("it is set").await }, if timed => {
                Event::Due
            }
        }
    }

    /// Starts the calls that what has arrived asks for.
    fn advance(&mut self) {
        let arrived = self.input.len();
        loop {
            let request = {
                let blocks = &mut self.tcp.blocks.lock();
                self.connection.advance(now(), &mut self.input, blocks)
            };
            let Some(Request { owed, message }) = request else { break };
            match answer(&self.tcp.coap, message) {
                Answer::Now(reply) => self.reply(owed, reply),
                Answer::Later(call) => {
                    self.calls.push(Box::pin(async move { (owed, call.await) }));
                }
            }
        }
        if self.input.len() < arrived {
            self.patience.took();
        }
    }

    fn reply(&mut self, mut owed: Owed, reply: Reply) {
        let (now, mut response) = (now(), reply.response);
        // Who observes is told what is so now: it may have changed since.
        if let Some(mut watch) = reply.watch.filter(|_| !self.stopping)
            && let Some(state) = watch.latest()
            && self.connection.observe(now, &mut owed, watch.id())
        {
            response = state.response();
            self.listening.begin(watch);
        }
        self.connection.reply(now, &mut self.tcp.blocks.lock(), owed, response);
        if let Some(share) = reply.held {
            self.unwritten.push(self.connection.output_bytes(), share);
        }
    }

    /// Tells those who observe it what a resource now is.
    fn publish(&mut self, resource: ResourceId, response: &Response) {
        let blocks = &mut self.tcp.blocks.lock();
        self.connection.publish(now(), blocks, resource, response);
    }

    /// Does what is to be done when patience has come to its end. Whether the
    /// connection is to be cut off.
    fn come_due(&mut self, now: Instant, limit: Limit) -> bool {
        let config = &self.tcp.coap.config.tcp;
        let connection = &mut self.connection;
        match limit {
            Limit::Stop => {
                if connection.has_ended() {
                    return true;
                }
                connection.abort("the server stops, and what runs here did not end in time");
                self.patience.until = Some(now + STOP_GRACE);
            }
            Limit::Stall | Limit::Absence => return true,
            Limit::Greeting => connection.abort(format!(
                "no CSM came within {:?}; it is the first message on a connection",
                config.greeting_timeout
            )),
            Limit::Message => connection
                .abort(format!("a message did not come whole within {:?}", config.message_timeout)),
            Limit::Idle => connection.release(),
            Limit::Silence => {
                connection.ping();
                self.patience.asked = Some(now);
            }
        }
        false
    }

    /// Says that nothing more comes, and reads what the client had still to say.
    async fn close(mut self, patience: Duration) {
        drop(self.calls);
        let closed = async {
            self.writer.shutdown().await?;
            if self.input_open { discard(&mut self.reader).await } else { Ok(()) }
        };
        // Closed it is either way.
        let _ = timeout(patience, closed).await;
    }
}

/// Sets the timer to strike then, or before.
fn set(mut timer: Pin<&mut Option<Sleep>>, due: Instant) {
    let due = tokio::time::Instant::from_std(due);
    match timer.as_mut().as_pin_mut() {
        None => timer.set(Some(sleep_until(due))),
        Some(sleep) if sleep.deadline() > due => sleep.reset(due),
        // It strikes too early at worst: to set it anew each time would cost more.
        Some(_) => {}
    }
}
