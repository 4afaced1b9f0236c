//! Who may run a call now, and who has to wait for it.
//!
//! Owns the places of a function's handlers: a backend adds and retires
//! handlers, the gateway asks for a place for each call, and calls that find
//! none wait in the order in which they came. Must not know what a handler is
//! made of, nor time: who waits too long drops its wait.
//!
//! A place is given to the next who waits without being free in between, so
//! nobody is overtaken.

mod waiting_room;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::seams::{Handler, HandlerId};

pub use self::waiting_room::WaitingRoom;

/// The handlers of one deployment and the places in them.
pub struct HandlerSet {
    waiting_max: usize,
    state: Mutex<State>,
    quiet: Notify,
}

#[derive(Default)]
struct State {
    members: Vec<Member>,
    next_key: u64,
    waiters: VecDeque<Waiter>,
    next_waiter: u64,
    /// Of the waiters, those that count against `waiting_max`.
    impatient: usize,
    /// Places held, in retired handlers too.
    held: usize,
    phase: Phase,
    /// Set while no handler can be had.
    unavailable: Option<(String, Duration)>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// Another deployment has the route: newcomers go there.
    Draining,
    /// Nobody is served any more.
    Closed,
}

struct Member {
    key: u64,
    handler: Arc<dyn Handler>,
    places: usize,
    used: usize,
    /// How many doubt that it does anything: meanwhile it gets no new calls.
    suspended: usize,
}

struct Waiter {
    id: u64,
    impatient: bool,
    ready: oneshot::Sender<Result<Admission, Refusal>>,
}

/// How a call waits for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Somebody waits for the answer: the function's own queue is bounded.
    Caller,
    /// The call is accepted already and is bounded elsewhere (asynchronous).
    Accepted,
}

/// A place, and the handler that it is in.
pub struct Admission {
    /// Who runs the call.
    pub handler: Arc<dyn Handler>,
    /// Held until the call has ended.
    pub place: Place,
}

/// The right to run one call in one handler. Dropping it gives it to the next
/// who waits.
pub struct Place {
    set: Arc<HandlerSet>,
    key: u64,
}

/// Keeps new calls from one handler; those that it has go on. Dropping it lets
/// them come again.
pub struct Suspension {
    set: Arc<HandlerSet>,
    key: u64,
}

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The function's queue is full.
    FunctionFull {
        /// How many may wait.
        limit: usize,
    },
    /// The server's waiting room is full.
    ServerFull,
    /// No handler can be had now.
    Unavailable {
        /// Why.
        reason: String,
        /// When the next one is tried.
        retry_after: Duration,
    },
    /// This deployment takes no more calls: look the route up again.
    Gone,
}

impl HandlerSet {
    /// An empty set, in whose queue `waiting_max` callers may wait.
    #[must_use]
    pub fn new(waiting_max: usize) -> Arc<Self> {
        Arc::new(Self { waiting_max, state: Mutex::default(), quiet: Notify::new() })
    }

    /// Adds a handler that takes `places` calls at a time. Whoever waits is
    /// served at once.
    pub fn add(self: &Arc<Self>, handler: Arc<dyn Handler>, places: usize) {
        let key = {
            let mut state = self.state.lock();
            let key = state.next_key;
            state.next_key += 1;
            state.unavailable = None;
            state.members.push(Member { key, handler, places, used: 0, suspended: 0 });
            key
        };
        self.serve_all(key);
    }

    /// Gives no more calls to this handler. Its places are gone with it; those
    /// that are held are given back to nobody.
    pub fn retire(&self, id: &HandlerId) {
        self.state.lock().members.retain(|member| member.handler.id() != id);
    }

    /// Says that no handler can be had for now: callers, those who wait too, are
    /// told so instead of waiting. The next [`HandlerSet::add`] ends it.
    pub fn set_unavailable(&self, reason: &str, retry_after: Duration) {
        let waiters = {
            let mut state = self.state.lock();
            if !state.members.is_empty() {
                return;
            }
            state.unavailable = Some((reason.to_owned(), retry_after));
            state.take_waiters(|waiter| waiter.impatient)
        };
        let refusal = Refusal::Unavailable { reason: reason.to_owned(), retry_after };
        self.refuse(waiters, &refusal);
    }

    /// Asks for a place for one call. Dropping the future gives up the wait.
    ///
    /// # Errors
    /// Says why there is none to wait for.
    pub async fn admit(
        self: &Arc<Self>,
        patience: Patience,
        room: &WaitingRoom,
    ) -> Result<Admission, Refusal> {
        let (mut wait, _seat) = {
            let mut state = self.state.lock();
            if state.phase != Phase::Open {
                return Err(Refusal::Gone);
            }
            if let Some(member) = state.least_used() {
                let admission = self.admission(member);
                state.held += 1;
                return Ok(admission);
            }
            if patience == Patience::Caller {
                if let Some((reason, retry_after)) = state.unavailable.clone() {
                    return Err(Refusal::Unavailable { reason, retry_after });
                }
                if state.impatient >= self.waiting_max {
                    return Err(Refusal::FunctionFull { limit: self.waiting_max });
                }
            }
            let seat = room.sit().ok_or(Refusal::ServerFull)?;
            (self.enqueue(&mut state, patience), seat)
        };
        wait.answer().await
    }

    fn admission(self: &Arc<Self>, member: &mut Member) -> Admission {
        member.used += 1;
        let place = Place { set: Arc::clone(self), key: member.key };
        Admission { handler: Arc::clone(&member.handler), place }
    }

    fn enqueue<'a>(&'a self, state: &mut State, patience: Patience) -> Wait<'a> {
        let (ready, answer) = oneshot::channel();
        let id = state.next_waiter;
        state.next_waiter += 1;
        let impatient = patience == Patience::Caller;
        state.impatient += usize::from(impatient);
        state.waiters.push_back(Waiter { id, impatient, ready });
        Wait { set: self, id, answer }
    }

    /// Takes no more calls but serves those that wait. Newcomers are told to
    /// look the route up again.
    pub fn start_draining(&self) {
        let mut state = self.state.lock();
        state.phase = state.phase.max(Phase::Draining);
    }

    /// As [`HandlerSet::start_draining`], for a deployment that another one has
    /// replaced: accepted calls that wait are sent there too. Their time starts
    /// when they run, which may be too late here to end.
    pub fn hand_over(&self) {
        let waiters = {
            let mut state = self.state.lock();
            state.phase = state.phase.max(Phase::Draining);
            state.take_waiters(|waiter| !waiter.impatient)
        };
        self.refuse(waiters, &Refusal::Gone);
    }

    /// Serves nobody any more; those who wait are told so.
    pub fn close(&self) {
        let waiters = {
            let mut state = self.state.lock();
            state.phase = Phase::Closed;
            state.take_waiters(|_| true)
        };
        self.refuse(waiters, &Refusal::Gone);
    }

    /// Tells those who were taken out of the queue, and those who wait for its
    /// end.
    fn refuse(&self, waiters: Vec<Waiter>, refusal: &Refusal) {
        for waiter in waiters {
            drop(waiter.ready.send(Err(refusal.clone())));
        }
        self.quiet.notify_waiters();
    }

    /// Waits until no place is held and nobody waits.
    pub async fn drained(&self) {
        loop {
            let quiet = self.quiet.notified();
            tokio::pin!(quiet);
            quiet.as_mut().enable();
            {
                let state = self.state.lock();
                if state.held == 0 && state.waiters.is_empty() {
                    return;
                }
            }
            quiet.await;
        }
    }

    /// How many calls hold a place, and how many wait for one.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.held, state.waiters.len())
    }

    /// Gives the free places of the member to those who wait.
    fn serve_all(self: &Arc<Self>, key: u64) {
        while self.serve_one(key) {}
    }

    /// Gives one free place of the member to the first who waits.
    fn serve_one(self: &Arc<Self>, key: u64) -> bool {
        let mut state = self.state.lock();
        let Some(at) = state.members.iter().position(|m| m.key == key && m.is_free()) else {
            return false;
        };
        let Some(waiter) = state.next_waiter() else { return false };
        let admission = self.admission(&mut state.members[at]);
        state.held += 1;
        drop(state);
        // Who has stopped waiting drops the admission, and that serves the next.
        drop(waiter.ready.send(Ok(admission)));
        true
    }

    fn count_suspended(&self, key: u64, change: impl FnOnce(&mut usize)) {
        let mut state = self.state.lock();
        // One that is retired gets no calls anyway.
        if let Some(member) = state.members.iter_mut().find(|member| member.key == key) {
            change(&mut member.suspended);
        }
    }

    fn give_back(self: &Arc<Self>, key: u64) {
        let mut state = self.state.lock();
        state.held -= 1;
        let member = state.members.iter_mut().find(|member| member.key == key);
        let freed = member.map(|member| member.used -= 1).is_some();
        let waiting = !state.waiters.is_empty();
        let quiet = state.held == 0 && !waiting;
        drop(state);
        if freed && waiting {
            self.serve_one(key);
        }
        if quiet {
            self.quiet.notify_waiters();
        }
    }
}

impl State {
    fn least_used(&mut self) -> Option<&mut Member> {
        if !self.waiters.is_empty() {
            return None;
        }
        self.members.iter_mut().filter(|m| m.is_free()).min_by_key(|m| m.used)
    }

    fn next_waiter(&mut self) -> Option<Waiter> {
        let waiter = self.waiters.pop_front()?;
        self.impatient -= usize::from(waiter.impatient);
        Some(waiter)
    }

    fn take_waiters(&mut self, which: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let (taken, kept): (Vec<_>, VecDeque<_>) = {
            let (taken, kept): (Vec<_>, Vec<_>) = self.waiters.drain(..).partition(which);
            (taken, kept.into())
        };
        self.waiters = kept;
        self.impatient = self.waiters.iter().filter(|waiter| waiter.impatient).count();
        taken
    }
}

impl Member {
    fn is_free(&self) -> bool {
        self.suspended == 0 && self.used < self.places
    }
}

impl Phase {
    fn max(self, other: Self) -> Self {
        if self == Self::Closed { self } else { other }
    }
}

/// One wait in the queue; dropping it leaves the queue.
struct Wait<'a> {
    set: &'a HandlerSet,
    id: u64,
    answer: oneshot::Receiver<Result<Admission, Refusal>>,
}

impl Wait<'_> {
    async fn answer(&mut self) -> Result<Admission, Refusal> {
        (&mut self.answer).await.unwrap_or(Err(Refusal::Gone))
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut state = self.set.state.lock();
        let Some(at) = state.waiters.iter().position(|waiter| waiter.id == self.id) else {
            return;
        };
        let gone = state.waiters.remove(at);
        state.impatient -= usize::from(gone.is_some_and(|waiter| waiter.impatient));
        let quiet = state.held == 0 && state.waiters.is_empty();
        drop(state);
        if quiet {
            self.set.quiet.notify_waiters();
        }
    }
}

impl Place {
    /// Gives the place's handler no new calls while this is held: there is reason
    /// to doubt that it would run them.
    #[must_use]
    pub fn suspend(&self) -> Suspension {
        self.set.count_suspended(self.key, |count| *count += 1);
        Suspension { set: Arc::clone(&self.set), key: self.key }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.set.give_back(self.key);
    }
}

impl Drop for Suspension {
    fn drop(&mut self) {
        self.set.count_suspended(self.key, |count| *count -= 1);
        self.set.serve_all(self.key);
    }
}

impl fmt::Debug for HandlerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, waiting) = self.load();
        write!(f, "HandlerSet {{ held: {held}, waiting: {waiting} }}")
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admission({})", self.handler.id())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.key)
    }
}

#[cfg(test)]
mod tests;
