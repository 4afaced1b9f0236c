//! Which HTTP connections there are, and which of them has been slow for too
//! long.
//!
//! Owns the timeouts of connections and the way to tell one to close. One
//! sweeper looks at all of them at intervals, so that a call costs no timer.
//! Must not know what is said on a connection.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::http::HeaderName;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::head_copy::HeadCopy;
use crate::client::Shown;
use crate::config::GatewayConfig;

/// Stands for "not now" in a time of [`Activity`].
const NEVER: u64 = 0;

/// What the sweeper and the shutdown may tell a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing.
    Serve,
    /// End what has begun, begin nothing more.
    Close,
    /// End now.
    CutOff,
}

/// All connections of the gateway's HTTP servers.
pub(crate) struct Connections {
    limits: Limits,
    start: Instant,
    /// Milliseconds since `start`, as of the last sweep or accept.
    clock: Arc<AtomicU64>,
    list: Mutex<List>,
    /// How many were turned away.
    refused: AtomicU64,
    /// Told when a connection comes while there was none, and when the last one
    /// goes.
    changed: Notify,
}

#[derive(Default)]
struct List {
    next_key: u64,
    open: HashMap<u64, Arc<Activity>>,
    closing: bool,
}

/// In milliseconds.
struct Limits {
    connections: usize,
    header: u64,
    idle: u64,
    write_stall: u64,
    linger: u64,
    sweep: Duration,
}

/// What one connection is doing, as its parts note it down.
pub(crate) struct Activity {
    clock: Arc<AtomicU64>,
    order: AtomicU8,
    waker: Mutex<Option<Waker>>,
    /// Calls that have come and whose replies have not been handed over whole.
    calls: AtomicU32,
    /// Since when there is no call.
    quiet_since: AtomicU64,
    /// When the head that is being read has begun.
    head_since: AtomicU64,
    /// Since when the caller takes nothing.
    blocked_since: AtomicU64,
    /// Since when the connection is read only to let its reply arrive.
    lingering_since: AtomicU64,
    /// The head that is being read, or was read last.
    head: Mutex<HeadCopy>,
    /// It speaks HTTP/2.
    h2: AtomicBool,
    /// Part of a request will never be read by anyone.
    unread: AtomicBool,
    /// Who is at its other end, if a certificate has shown it.
    client: OnceLock<Shown>,
}

/// A connection's entry in the list; dropping it takes it off.
pub(crate) struct Entry {
    connections: Arc<Connections>,
    key: u64,
    pub(crate) activity: Arc<Activity>,
}

/// One call of a connection, from its head to its reply's last byte.
pub(crate) struct CallMark(Arc<Activity>);

impl Connections {
    pub(crate) fn new(config: &GatewayConfig) -> Arc<Self> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Arc::new(Self {
            limits: Limits {
                connections: config.connections_max,
                header: millis(config.header_timeout),
                idle: millis(config.idle_timeout),
                write_stall: millis(config.write_stall_timeout),
                linger: millis(config.linger_timeout),
                sweep: config.sweep_interval,
            },
            start: Instant::now(),
            clock: Arc::default(),
            list: Mutex::default(),
            refused: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    /// Notes a new connection down. None where there are as many as may be.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Entry> {
        let now = self.update_clock();
        let mut list = self.list.lock();
        if list.open.len() >= self.limits.connections {
            return None;
        }
        let activity = Arc::new(Activity::new(Arc::clone(&self.clock), now));
        if list.closing {
            activity.order.store(Order::Close as u8, Ordering::Release);
        }
        let key = list.next_key;
        list.next_key += 1;
        list.open.insert(key, Arc::clone(&activity));
        let first = list.open.len() == 1;
        drop(list);
        if first {
            self.changed.notify_waiters();
        }
        Some(Entry { connections: Arc::clone(self), key, activity })
    }

    /// Tells every connection to end, and those that may still come.
    pub(crate) fn end_all(&self, order: Order) {
        let mut list = self.list.lock();
        list.closing = true;
        for activity in list.open.values() {
            activity.tell(order);
        }
    }

    /// Cuts off those that have had no call for so long, and whose last reply is out.
    pub(crate) fn cut_off_quiet(&self, grace: Duration) {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let now = self.update_clock();
        for activity in self.list.lock().open.values() {
            if activity.is_quiet(now, grace) {
                activity.tell(Order::CutOff);
            }
        }
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.list.lock().open.len()
    }

    /// One was turned away.
    pub(crate) fn note_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were turned away.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until there is no connection.
    pub(crate) async fn ended(&self) {
        self.changed_to(|open| open == 0).await;
    }

    /// Looks after the connections for ever.
    pub(crate) async fn sweep(self: Arc<Self>) {
        loop {
            // An idle machine is not woken.
            self.changed_to(|open| open > 0).await;
            let mut ticks = interval(self.limits.sweep);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !self.sweep_once() {
                ticks.tick().await;
            }
        }
    }

    /// True where there was no connection to look at.
    fn sweep_once(&self) -> bool {
        let now = self.update_clock();
        let list = self.list.lock();
        for activity in list.open.values() {
            let order = activity.due(now, &self.limits);
            if order != Order::Serve {
                activity.tell(order);
            }
        }
        list.open.is_empty()
    }

    fn update_clock(&self) -> u64 {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        let now = millis + 1;
        self.clock.fetch_max(now, Ordering::Relaxed).max(now)
    }

    async fn changed_to(&self, wanted: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if wanted(self.list.lock().open.len()) {
                return;
            }
            changed.await;
        }
    }
}

impl Activity {
    fn new(clock: Arc<AtomicU64>, now: u64) -> Self {
        Self {
            clock,
            order: AtomicU8::new(Order::Serve as u8),
            waker: Mutex::default(),
            calls: AtomicU32::new(0),
            quiet_since: AtomicU64::new(now),
            // Who connects is expected to ask for something.
            head_since: AtomicU64::new(now),
            blocked_since: AtomicU64::new(NEVER),
            lingering_since: AtomicU64::new(NEVER),
            head: Mutex::default(),
            h2: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            client: OnceLock::new(),
        }
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// The connection is being set up, which has a time of its own, until what is
    /// returned is dropped.
    pub(crate) fn setting_up(self: &Arc<Self>) -> CallMark {
        self.head_since.store(NEVER, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        CallMark(Arc::clone(self))
    }

    /// The connection is set up, with a client that has shown this.
    pub(crate) fn set_up(&self, client: Option<Shown>) {
        if let Some(client) = client {
            // It is set up once.
            let _ = self.client.set(client);
        }
        self.head_since.store(self.now(), Ordering::Relaxed);
    }

    /// Who is at its other end, if a certificate has shown it.
    pub(crate) fn client(&self) -> Option<&Shown> {
        self.client.get()
    }

    /// Waits until the connection is told to end, however.
    pub(crate) async fn told(&self) {
        poll_fn(|cx| {
            // In this order: an order that comes in between is not missed.
            self.waker.lock().get_or_insert_with(|| cx.waker().clone()).clone_from(cx.waker());
            match self.order() {
                Order::Serve => Poll::Pending,
                Order::Close | Order::CutOff => Poll::Ready(()),
            }
        })
        .await;
    }

    /// These bytes came in.
    pub(crate) fn read(&self, bytes: &[u8]) {
        if self.calls.load(Ordering::Relaxed) > 0 || self.is_h2() {
            return;
        }
        if self.head_since.load(Ordering::Relaxed) == NEVER {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
        self.head.lock().extend(bytes);
    }

    /// The connection speaks HTTP/2, where what comes in need not be a head.
    pub(crate) fn set_h2(&self) {
        self.h2.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_h2(&self) -> bool {
        self.h2.load(Ordering::Relaxed)
    }

    /// The head of a call was read.
    pub(crate) fn call(self: &Arc<Self>) -> CallMark {
        self.head_since.store(NEVER, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.head.lock().taken();
        CallMark(Arc::clone(self))
    }

    /// Whether the head of the call that has just come, whose request line
    /// starts so, has a line of this name.
    pub(crate) fn head_has_line(&self, request_line: &[&[u8]], name: &HeaderName) -> bool {
        self.head.lock().has_line(request_line, name)
    }

    /// The caller took some bytes, or took none.
    pub(crate) fn wrote(&self, blocked: bool) {
        if !blocked {
            // Mostly it is so already; a load is cheaper than a store.
            if self.blocked_since.load(Ordering::Relaxed) != NEVER {
                self.blocked_since.store(NEVER, Ordering::Relaxed);
            }
        } else if self.blocked_since.load(Ordering::Relaxed) == NEVER {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Part of a request will not be read.
    pub(crate) fn set_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether the peer may be sending what nobody reads: the rest of a body, or
    /// of a head that was refused.
    pub(crate) fn has_unread_input(&self) -> bool {
        !self.is_h2() && (self.unread.load(Ordering::Relaxed) || self.head.lock().is_partial())
    }

    /// Whether bytes of a head have come that has not become a call.
    pub(crate) fn reads_a_head(&self) -> bool {
        !self.is_h2() && self.head.lock().is_partial()
    }

    /// The reply is out; what still comes in is thrown away.
    pub(crate) fn linger(&self) {
        if self.lingering_since.load(Ordering::Relaxed) == NEVER {
            self.lingering_since.store(self.now(), Ordering::Relaxed);
        }
    }

    fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Serve,
            1 => Order::Close,
            _ => Order::CutOff,
        }
    }

    fn tell(&self, order: Order) {
        if self.order.fetch_max(order as u8, Ordering::AcqRel) < order as u8
            && let Some(waker) = &*self.waker.lock()
        {
            waker.wake_by_ref();
        }
    }

    /// Whether there has been no call for so long, and no reply is on its way.
    fn is_quiet(&self, now: u64, grace: u64) -> bool {
        let none = |since: &AtomicU64| since.load(Ordering::Relaxed) == NEVER;
        self.calls.load(Ordering::Relaxed) == 0
            && none(&self.blocked_since)
            && none(&self.lingering_since)
            && now.saturating_sub(self.quiet_since.load(Ordering::Relaxed)) >= grace
    }

    /// What is to be done about the connection now.
    fn due(&self, now: u64, limits: &Limits) -> Order {
        let over = |since: &AtomicU64, limit: u64| {
            let since = since.load(Ordering::Relaxed);
            since != NEVER && now.saturating_sub(since) > limit
        };
        if over(&self.lingering_since, limits.linger)
            || over(&self.blocked_since, limits.write_stall)
        {
            return Order::CutOff;
        }
        if self.calls.load(Ordering::Relaxed) > 0 {
            return Order::Serve;
        }
        if !self.is_h2() && over(&self.head_since, limits.header) {
            return Order::CutOff;
        }
        // Who does not take part in a graceful end has a little longer.
        if over(&self.quiet_since, limits.idle.saturating_add(limits.header)) {
            return Order::CutOff;
        }
        if over(&self.quiet_since, limits.idle) { Order::Close } else { Order::Serve }
    }
}

impl Drop for CallMark {
    fn drop(&mut self) {
        let activity = &self.0;
        activity.quiet_since.store(activity.now(), Ordering::Relaxed);
        activity.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut list = self.connections.list.lock();
        list.open.remove(&self.key);
        let last = list.open.is_empty();
        drop(list);
        if last {
            self.connections.changed.notify_waiters();
        }
    }
}

/// Polls a connection and carries out what it is told.
pub(crate) struct Watched<'a, C, F> {
    connection: Pin<&'a mut C>,
    activity: &'a Activity,
    /// Makes the connection end what has begun and begin nothing more.
    close: F,
    waker: Option<Waker>,
    closing: bool,
}

impl<'a, C, F: Fn(Pin<&mut C>)> Watched<'a, C, F> {
    pub(crate) fn new(connection: Pin<&'a mut C>, activity: &'a Activity, close: F) -> Self {
        Self { connection, activity, close, waker: None, closing: false }
    }
}

impl<C: Future, F: Fn(Pin<&mut C>) + Unpin> Future for Watched<'_, C, F> {
    /// None where it was cut off.
    type Output = Option<C::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            this.waker = Some(cx.waker().clone());
            this.activity.waker.lock().clone_from(&this.waker);
        }
        match this.activity.order() {
            Order::Serve => (),
            Order::Close if this.closing => (),
            Order::Close => {
                this.closing = true;
                (this.close)(this.connection.as_mut());
            }
            Order::CutOff => return Poll::Ready(None),
        }
        this.connection.as_mut().poll(cx).map(Some)
    }
}
