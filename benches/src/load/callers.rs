//! Callers that ask, wait, and ask again: a task each, on one thread.
//!
//! Owns a run's tasks, and what a caller does when its connection breaks. Must not
//! know which server answers, nor what a request consists of.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::conversation::{Conversation, Verdict};
use super::pace::{Schedule, Starts};
use super::{BREAKS_MAX, Outcome, PATIENCE, Plan, Window, grpc, http};

/// What to ask over a protocol that callers speak.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// On a connection of its own.
    Http(http::Target),
    /// On a connection with others.
    Grpc(grpc::Target, Arc<grpc::Shared>),
}

/// Runs the load; blocks until every caller is done.
///
/// # Errors
/// Where there is no runtime or no timer.
pub(super) fn run(targets: impl Iterator<Item = Target>, plan: Plan) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the load generator's runtime")?;
    runtime.block_on(drive(targets, plan))
}

async fn drive(targets: impl Iterator<Item = Target>, plan: Plan) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let from = begun + plan.warm_up;
    let window = Window { from, until: from + plan.measured };
    let schedule = Arc::new(Schedule::new(plan.pace, begun, window.until));
    let mut callers = JoinSet::new();
    for target in targets.take(plan.connections) {
        callers.spawn(patiently(target, schedule.clone(), window));
    }
    let mut outcome = Outcome::default();
    while let Some(caller) = callers.join_next().await {
        let part = caller.expect("a caller's task neither panics nor is aborted");
        outcome.merge(part?);
    }
    let now = Instant::now();
    for intended in schedule.never_begun().filter(|&intended| window.holds(intended)) {
        outcome.latencies.add(now - intended);
    }
    Ok(outcome)
}

/// One caller's part of the run, ended by force where the server hangs.
async fn patiently(
    target: Target,
    schedule: Arc<Schedule>,
    window: Window,
) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut starts = schedule.starts()?;
    let all = keep_asking(&target, &mut starts, window, &mut outcome);
    if timeout_at((window.until + PATIENCE).into(), all).await.is_err() {
        outcome.fail(|| format!("no reply within {} s of the run's end", PATIENCE.as_secs()));
    }
    Ok(outcome)
}

async fn keep_asking(target: &Target, starts: &mut Starts, window: Window, outcome: &mut Outcome) {
    for _ in 0..=BREAKS_MAX {
        match converse(target, starts, window, outcome).await {
            Ok(()) => return,
            Err(error) => outcome.fail(|| format!("{error:#}")),
        }
    }
}

/// Asks on one connection until the run ends or the connection breaks.
async fn converse(
    target: &Target,
    starts: &mut Starts,
    window: Window,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let mut caller = match target {
        Target::Http(target) => Caller::Http(Conversation::begin(target).await?),
        Target::Grpc(target, shared) => Caller::Grpc(grpc::Calls::begin(target, shared).await?),
    };
    while let Some(begun) = starts.next(&mut outcome.lateness).await? {
        let verdict = match &mut caller {
            Caller::Http(conversation) => conversation.ask().await?,
            Caller::Grpc(calls) => calls.ask().await?,
        };
        match verdict {
            Verdict::Right => outcome.count(begun, Instant::now(), window),
            Verdict::Wrong(what) => outcome.fail(|| what),
        }
    }
    Ok(())
}

/// What is connected and asks.
enum Caller<'a> {
    Http(Conversation<'a>),
    Grpc(grpc::Calls<'a>),
}
