//! Who may run a call now, and who has to wait for it.
//!
//! Owns the places of a function's handlers: a backend adds and retires
//! handlers, the gateway asks for a place for each call, and calls that find
//! none wait in the order in which they came. Must not know what a handler is
//! made of, nor time: who waits too long drops its wait.
//!
//! A place is given to the next who waits without being free in between, so
//! nobody is overtaken.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::seams::{Handler, HandlerId};

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

/// How many calls wait in the whole server, and how many may.
#[derive(Debug)]
pub struct WaitingRoom {
    seats: usize,
    taken: AtomicUsize,
}

struct Seat<'a>(&'a WaitingRoom);

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

impl WaitingRoom {
    /// A room for so many.
    #[must_use]
    pub fn new(seats: usize) -> Self {
        Self { seats, taken: AtomicUsize::new(0) }
    }

    fn sit(&self) -> Option<Seat<'_>> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self);
        (taken < self.seats).then_some(seat)
    }

    /// How many wait now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
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
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Poll, Wake, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::invocation::{Invocation, Reply};
    use crate::seams::{BoxFuture, HandlerError};

    struct Idle(HandlerId);

    impl Handler for Idle {
        fn id(&self) -> &HandlerId {
            &self.0
        }

        fn invoke(
            self: Arc<Self>,
            _: Invocation,
            _: Place,
        ) -> BoxFuture<'static, Result<Reply, HandlerError>> {
            Box::pin(async { Ok(Reply::from_bytes("")) })
        }
    }

    fn handler(name: &str) -> Arc<dyn Handler> {
        Arc::new(Idle(HandlerId::new(name)))
    }

    type Ask<'a> = std::pin::Pin<Box<dyn Future<Output = Result<Admission, Refusal>> + 'a>>;

    fn ask<'a>(set: &'a Arc<HandlerSet>, room: &'a WaitingRoom) -> Ask<'a> {
        Box::pin(set.admit(Patience::Caller, room))
    }

    fn poll(ask: &mut Ask<'_>) -> Poll<Result<Admission, Refusal>> {
        ask.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn now(mut ask: Ask<'_>) -> Result<Admission, Refusal> {
        match poll(&mut ask) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => panic!("had to wait"),
        }
    }

    #[test]
    fn places_go_to_the_least_used_and_then_in_turn() {
        let (set, room) = (HandlerSet::new(8), WaitingRoom::new(8));
        set.add(handler("a"), 1);
        set.add(handler("b"), 1);
        let one = now(ask(&set, &room)).expect("a place");
        let other = now(ask(&set, &room)).expect("a place");
        assert_ne!(one.handler.id(), other.handler.id());
        let (mut first, mut second) = (ask(&set, &room), ask(&set, &room));
        assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
        drop(one);
        // A newcomer does not overtake those who wait.
        assert!(poll(&mut ask(&set, &room)).is_pending());
        let Poll::Ready(Ok(first)) = poll(&mut first) else { panic!("first in turn") };
        assert_eq!(first.handler.id().as_str(), "a");
        assert!(poll(&mut second).is_pending());
        drop((first, other, second));
        assert_eq!((set.load(), room.taken()), ((0, 0), 0));
    }

    #[test]
    fn queue_and_waiting_room_are_bounded() {
        let (set, room) = (HandlerSet::new(1), WaitingRoom::new(2));
        let (mut first, mut second) = (ask(&set, &room), ask(&set, &room));
        assert!(poll(&mut first).is_pending());
        assert_eq!(now(second).unwrap_err(), Refusal::FunctionFull { limit: 1 });
        let mut patient: Ask<'_> = Box::pin(set.admit(Patience::Accepted, &room));
        assert!(poll(&mut patient).is_pending());
        let third: Ask<'_> = Box::pin(set.admit(Patience::Accepted, &room));
        assert_eq!(now(third).unwrap_err(), Refusal::ServerFull);
        drop(first);
        second = ask(&set, &room);
        assert!(poll(&mut second).is_pending());
    }

    #[test]
    fn a_retired_handler_gives_its_places_to_nobody() {
        let (set, room) = (HandlerSet::new(8), WaitingRoom::new(8));
        set.add(handler("old"), 1);
        let held = now(ask(&set, &room)).expect("a place");
        let mut waiting = ask(&set, &room);
        assert!(poll(&mut waiting).is_pending());
        set.retire(held.handler.id());
        drop(held);
        assert!(poll(&mut waiting).is_pending());
        set.add(handler("new"), 1);
        let Poll::Ready(Ok(admission)) = poll(&mut waiting) else { panic!("served") };
        assert_eq!(admission.handler.id().as_str(), "new");
    }

    #[test]
    fn without_any_handler_callers_are_told_so() {
        let (set, room) = (HandlerSet::new(8), WaitingRoom::new(8));
        let mut waiting = ask(&set, &room);
        assert!(poll(&mut waiting).is_pending());
        set.set_unavailable("it dies", Duration::from_secs(2));
        let told =
            Refusal::Unavailable { reason: "it dies".into(), retry_after: Duration::from_secs(2) };
        assert_eq!(now(waiting).unwrap_err(), told);
        assert_eq!(now(ask(&set, &room)).unwrap_err(), told);
        set.add(handler("a"), 1);
        assert!(now(ask(&set, &room)).is_ok());
    }

    #[test]
    fn draining_serves_who_waits_and_sends_newcomers_on() {
        let (set, room) = (HandlerSet::new(8), WaitingRoom::new(8));
        set.add(handler("a"), 1);
        let held = now(ask(&set, &room)).expect("a place");
        let mut waiting = ask(&set, &room);
        assert!(poll(&mut waiting).is_pending());
        set.start_draining();
        assert_eq!(now(ask(&set, &room)).unwrap_err(), Refusal::Gone);
        let mut cx = Context::from_waker(Waker::noop());
        let mut drained = pin!(set.drained());
        assert!(drained.as_mut().poll(&mut cx).is_pending());
        drop(held);
        let Poll::Ready(Ok(last)) = poll(&mut waiting) else { panic!("served") };
        assert!(drained.as_mut().poll(&mut cx).is_pending());
        drop(last);
        assert!(drained.as_mut().poll(&mut cx).is_ready());
        set.close();
        set.start_draining();
        assert_eq!(now(ask(&set, &room)).unwrap_err(), Refusal::Gone);
    }

    #[test]
    fn accepted_calls_that_wait_are_handed_over_and_callers_served() {
        let (set, room) = (HandlerSet::new(8), WaitingRoom::new(8));
        set.add(handler("a"), 1);
        let held = now(ask(&set, &room)).expect("a place");
        let mut accepted: Ask<'_> = Box::pin(set.admit(Patience::Accepted, &room));
        let mut caller = ask(&set, &room);
        assert!(poll(&mut accepted).is_pending() && poll(&mut caller).is_pending());
        set.hand_over();
        assert_eq!(now(accepted).unwrap_err(), Refusal::Gone);
        assert_eq!(now(ask(&set, &room)).unwrap_err(), Refusal::Gone);
        assert!(poll(&mut caller).is_pending());
        drop(held);
        assert!(matches!(poll(&mut caller), Poll::Ready(Ok(_))));
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_refuses_the_last_who_wait_ends_the_drain() {
        let soon = Duration::from_secs(1);
        let refusals: [fn(&HandlerSet, Duration); 3] = [
            |set, soon| set.set_unavailable("it dies", soon),
            |set, _| set.hand_over(),
            |set, _| set.close(),
        ];
        for (patience, refuse) in
            [Patience::Caller, Patience::Accepted, Patience::Caller].into_iter().zip(refusals)
        {
            let (set, room) = (HandlerSet::new(8), WaitingRoom::new(8));
            let mut waiting: Ask<'_> = Box::pin(set.admit(patience, &room));
            assert!(poll(&mut waiting).is_pending());
            set.start_draining();
            let (woken, mut drained) = (Arc::new(Woken::default()), pin!(set.drained()));
            let waker = Waker::from(Arc::clone(&woken));
            assert!(drained.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            refuse(&set, soon);
            assert!(woken.0.load(Ordering::Relaxed), "{patience:?}");
            assert!(drained.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
            assert!(now(waiting).is_err());
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Ask,
        GiveUp(usize),
        Finish(usize),
        Add,
        Retire(usize),
        Suspend(usize),
        Resume(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Ask),
            1 => (0..8usize).prop_map(Step::GiveUp),
            3 => (0..8usize).prop_map(Step::Finish),
            1 => Just(Step::Add),
            1 => (0..4usize).prop_map(Step::Retire),
            1 => (0..8usize).prop_map(Step::Suspend),
            1 => (0..2usize).prop_map(Step::Resume),
        ]
    }

    #[test]
    fn a_suspended_handler_gets_no_new_calls_until_nobody_doubts_it() {
        let (set, room) = (HandlerSet::new(10), WaitingRoom::new(10));
        set.add(handler("one"), 2);
        let Poll::Ready(Ok(first)) = poll(&mut ask(&set, &room)) else { panic!("it is free") };
        let doubts = [first.place.suspend(), first.place.suspend()];
        let mut waiting = ask(&set, &room);
        assert!(poll(&mut waiting).is_pending());
        let [doubt, other] = doubts;
        drop(doubt);
        assert!(poll(&mut waiting).is_pending());
        drop(other);
        assert!(poll(&mut waiting).is_ready());
    }

    proptest! {
        /// Whatever happens: no handler runs more than its places, nobody waits
        /// while a place is free, and everything held is given back.
        #[test]
        fn places_are_never_lost_nor_doubled(steps in prop::collection::vec(step(), 1..200)) {
            let (set, room) = (HandlerSet::new(1_000), WaitingRoom::new(1_000));
            let mut live: Vec<String> = Vec::new();
            let mut doubts: Vec<(HandlerId, Suspension)> = Vec::new();
            let (mut waiting, mut held): (Vec<Ask<'_>>, Vec<Admission>) = Default::default();
            for (turn, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Ask => waiting.push(ask(&set, &room)),
                    Step::GiveUp(at) if at < waiting.len() => drop(waiting.remove(at)),
                    Step::Finish(at) if at < held.len() => drop(held.remove(at)),
                    Step::Add => {
                        live.push(turn.to_string());
                        set.add(handler(&turn.to_string()), 2);
                    }
                    Step::Retire(at) if at < live.len() => {
                        set.retire(&HandlerId::new(&live.remove(at)));
                    }
                    Step::Suspend(at) if at < held.len() => {
                        doubts.push((held[at].handler.id().clone(), held[at].place.suspend()));
                    }
                    Step::Resume(at) if at < doubts.len() => drop(doubts.remove(at)),
                    _ => {}
                }
                waiting.retain_mut(|ask| match poll(ask) {
                    Poll::Ready(outcome) => {
                        held.push(outcome.expect("nothing is full"));
                        false
                    }
                    Poll::Pending => true,
                });
                let used = |name: &String| {
                    held.iter().filter(|a| a.handler.id().as_str() == name).count()
                };
                prop_assert!(live.iter().all(|name| used(name) <= 2));
                let doubted = |name: &String| doubts.iter().any(|(id, _)| id.as_str() == name);
                let free = live.iter().any(|name| used(name) < 2 && !doubted(name));
                prop_assert!(!free || waiting.is_empty(), "a place is free and somebody waits");
                prop_assert_eq!(set.load(), (held.len(), waiting.len()));
                prop_assert_eq!(room.taken(), waiting.len());
            }
            drop((waiting, held, doubts));
            prop_assert_eq!((set.load(), room.taken()), ((0, 0), 0));
        }
    }
}
