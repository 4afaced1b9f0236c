use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
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
