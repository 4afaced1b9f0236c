//! The bounds of what is remembered, and what a call goes through.

use std::time::SystemTime;

use proptest::prelude::*;
use tinyfaas_model::Reply;

use super::super::result;
use super::*;
use crate::held::{HeldBytes, Share};

const KEEP: Duration = Duration::from_secs(100);

fn function(name: &str) -> FunctionName {
    FunctionName::parse(name).expect("it follows the rules")
}

fn at(start: Instant, secs: u64) -> Moment {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
    Moment { wall, steady: start + Duration::from_secs(secs) }
}

fn memory(ended_max: usize, calls: u64) -> (Memory, Vec<CallId>, Instant) {
    let (mut memory, start) = (Memory::new(KEEP, ended_max), Instant::now());
    let ids: Vec<_> = (0..calls).map(|_| CallId::random()).collect();
    for (id, secs) in ids.iter().zip(0..) {
        memory.accept(*id, function(if secs % 2 == 0 { "even" } else { "odd" }), at(start, secs));
    }
    (memory, ids, start)
}

/// A reply with a body of so many bytes; it is read at once.
fn replied(
    budget: &Arc<HeldBytes>,
    bytes: usize,
    bytes_max: usize,
    grow: impl Fn(&Share, usize) -> bool,
) -> Ending {
    let reply = Reply::from_bytes(vec![b'x'; bytes]);
    let mut read = std::pin::pin!(result::read(reply, budget.share(), bytes_max, grow));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match read.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(replied) => Ending::Replied(replied.expect("it is whole")),
        std::task::Poll::Pending => panic!("all of it is there"),
    }
}

#[test]
fn a_call_goes_from_state_to_state_and_ends_once() {
    let (mut memory, ids, start) = memory(8, 1);
    let id = ids[0];
    let state = |memory: &Memory| memory.get(id).expect("it is known").state;
    assert_eq!(state(&memory), CallState::Waiting);
    memory.start(id, at(start, 2));
    assert_eq!(state(&memory), CallState::Running);
    memory.put_back(id);
    assert_eq!(state(&memory), CallState::Waiting);
    memory.start(id, at(start, 3));
    memory.end(id, Ending::Cancelled, at(start, 7));
    memory.end(id, Ending::Lost("too late"), at(start, 8));
    memory.start(id, at(start, 9));
    let record = memory.get(id).expect("it is known");
    assert_eq!((record.state, &record.problem), (CallState::Cancelled, &None));
    assert_eq!(record.waited(), Some(Duration::from_secs(3)));
    assert_eq!(record.ran(), Some(Duration::from_secs(4)));
    assert!(memory.outcome(id).is_none());
}

#[test]
fn a_call_without_a_reply_says_why() {
    let (mut memory, ids, start) = memory(8, 3);
    memory.end(ids[2], Ending::NoReply(InvokeError::Stopping), at(start, 1));
    let record = memory.get(ids[2]).expect("it is known");
    assert!(record.state == CallState::Lost && record.problem.is_some(), "{record:?}");
    let deleted = InvokeError::NotFound { name: "even".to_owned() };
    memory.end(ids[0], Ending::NoReply(deleted), at(start, 1));
    let record = memory.get(ids[0]).expect("it is known");
    assert_eq!(record.state, CallState::Failed);
    let problem = record.problem.as_deref().expect("it has one");
    assert_eq!(problem, "function even was deleted before it could run the call");
    // However much a function has to say.
    let how = "ä".repeat(10_000);
    memory.end(ids[1], Ending::NoReply(InvokeError::Crashed { how }), at(start, 2));
    let problem = memory.get(ids[1]).and_then(|record| record.problem.as_deref());
    assert!(problem.is_some_and(|problem| problem.len() < 1200), "{problem:?}");
}

#[test]
fn pages_are_bounded_and_filtered_and_newest_first() {
    let (mut memory, ids, start) = memory(8, 5);
    memory.end(ids[4], Ending::Cancelled, at(start, 9));
    let list = |memory: &Memory, query: CallQuery| {
        let page = memory.list(&query);
        (page.calls.iter().map(|call| call.number).collect::<Vec<_>>(), page.next)
    };
    let all = CallQuery { limit: 100, ..CallQuery::default() };
    assert_eq!(list(&memory, all.clone()), (vec![4, 3, 2, 1, 0], None));
    let two = CallQuery { limit: 2, ..all.clone() };
    assert_eq!(list(&memory, two.clone()), (vec![4, 3], Some(3)));
    assert_eq!(list(&memory, CallQuery { before: Some(3), ..two }), (vec![2, 1], Some(1)));
    let even = CallQuery { function: Some(function("even")), limit: 3, ..all.clone() };
    assert_eq!(list(&memory, even.clone()), (vec![4, 2, 0], None));
    let waiting = CallQuery { state: Some(CallState::Waiting), ..even };
    assert_eq!(list(&memory, waiting), (vec![2, 0], None));
    assert_eq!(list(&memory, CallQuery { limit: 0, ..all }), (vec![], None));
}

#[derive(Debug, Clone)]
enum Step {
    Accept,
    Start(usize),
    End(usize, usize),
    Cancel(usize),
    Sleep(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Accept),
        2 => (0_usize..50).prop_map(Step::Start),
        4 => (0_usize..50, 0_usize..600).prop_map(|(call, bytes)| Step::End(call, bytes)),
        1 => (0_usize..50).prop_map(Step::Cancel),
        2 => (0_u64..60).prop_map(Step::Sleep),
    ];
    prop::collection::vec(step, 0..120)
}

/// What `check_bounds` compares the memory with: each ended call, in the order
/// of ending, with when, and the bytes of its result.
type Ended = Vec<(CallId, u64, Option<usize>)>;

fn check_bounds(memory: &Memory, open: &[CallId], ended: &Ended, ended_max: usize, now: u64) {
    for id in open {
        assert!(memory.get(*id).is_some_and(|call| !call.state.has_ended()), "an open one is kept");
    }
    // The newest of those whose time is not over, and no others.
    let due = ended.iter().filter(|(_, at, _)| at + KEEP.as_secs() > now).count().min(ended_max);
    let (forgotten, kept) = ended.split_at(ended.len() - due);
    assert!(forgotten.iter().all(|(id, ..)| memory.get(*id).is_none()), "forgotten in time");
    assert!(kept.iter().all(|(id, ..)| memory.get(*id).is_some()), "not forgotten early");
    assert_eq!(memory.calls.len(), open.len() + due);
    assert_eq!((memory.numbers.len(), memory.ended.len()), (memory.calls.len(), due));
    // Results go from the oldest on: behind one that is kept, all are that fit.
    let has = |id: &CallId| memory.outcome(*id).is_some();
    let fitting: Vec<_> = kept.iter().filter(|(.., bytes)| bytes.is_some()).collect();
    let first = fitting.iter().position(|(id, ..)| has(id)).unwrap_or(fitting.len());
    assert!(fitting[first..].iter().all(|(id, ..)| has(id)), "a gap in what is kept");
    assert_eq!(memory.results.len(), fitting.len() - first);
    if let Some((newest, ..)) = fitting.last() {
        assert!(has(newest), "the newest is kept");
    }
}

proptest! {
    /// Whatever happens: no bound is exceeded, nothing that has not ended is
    /// forgotten, and of what has ended the newest stays.
    #[test]
    fn bounds_hold(steps in steps(), ended_max in 1_usize..6) {
        const BUDGET: usize = 2_000;
        const RESULT_MAX: usize = 500;
        let budget = HeldBytes::new(BUDGET);
        let start = Instant::now();
        let memory = std::cell::RefCell::new(Memory::new(KEEP, ended_max));
        let (mut open, mut ended, mut now) = (Vec::<CallId>::new(), Ended::new(), 0);
        for step in steps {
            let pick = |open: &Vec<CallId>, at: usize| (!open.is_empty()).then(|| at % open.len());
            match step {
                Step::Accept => {
                    open.push(CallId::random());
                    memory.borrow_mut().accept(open[open.len() - 1], function("f"), at(start, now));
                }
                Step::Start(call) => if let Some(call) = pick(&open, call) {
                    memory.borrow_mut().start(open[call], at(start, now));
                },
                Step::End(call, bytes) => if let Some(call) = pick(&open, call) {
                    let id = open.swap_remove(call);
                    let grow = |share: &Share, bytes| loop {
                        if share.grow(bytes) {
                            return true;
                        }
                        if !memory.borrow_mut().drop_oldest_result() {
                            return false;
                        }
                    };
                    let ending = replied(&budget, bytes, RESULT_MAX, grow);
                    memory.borrow_mut().end(id, ending, at(start, now));
                    ended.push((id, now, (bytes <= RESULT_MAX).then_some(bytes)));
                },
                Step::Cancel(call) => if let Some(call) = pick(&open, call) {
                    let id = open.swap_remove(call);
                    memory.borrow_mut().end(id, Ending::Cancelled, at(start, now));
                    ended.push((id, now, None));
                },
                Step::Sleep(secs) => now += secs,
            }
            let next = memory.borrow_mut().forget_old(at(start, now).steady);
            let memory = memory.borrow();
            prop_assert_eq!(next.is_some(), !memory.ended.is_empty());
            check_bounds(&memory, &open, &ended, ended_max, now);
            let kept = memory.results.iter().map(|number| match memory.calls[number].record.result {
                CallResult::Kept { body_bytes, .. } => body_bytes + result::OVERHEAD_BYTES,
                other => panic!("{other:?} among the results"),
            });
            prop_assert_eq!(kept.sum::<usize>(), budget.taken());
            prop_assert!(budget.taken() <= BUDGET);
        }
    }
}
