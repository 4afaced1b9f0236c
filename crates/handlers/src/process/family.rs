//! The processes of one deployment, and what they take of the machine.
//!
//! Owns which children belong to it and how much of their processor time is
//! counted already: time is counted once, whether a look found it or the child's
//! end told it. Must not know what the children do.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tinyfaas_model::{FunctionCounters, Usage};

use super::census::{Census, Recent};
use super::spawner::{Child, Sight};
use super::worker::blocking;

/// One deployment's children.
pub(super) struct Family {
    counters: Arc<FunctionCounters>,
    members: Mutex<Members>,
    usage: Recent<Usage>,
    /// Processes whose memory is looked at page by page.
    measured_max: usize,
}

struct Members {
    all: Vec<Member>,
    next_number: u64,
    /// When the youngest came.
    grown: Instant,
}

struct Member {
    number: u64,
    sight: Sight,
    /// Processor time that is counted already, in microseconds.
    counted_us: u64,
}

impl Family {
    pub(super) fn new(
        counters: Arc<FunctionCounters>,
        age_max: Duration,
        measured_max: usize,
    ) -> Arc<Self> {
        let members = Members { all: Vec::new(), next_number: 0, grown: Instant::now() };
        let usage = Recent::new(age_max);
        Arc::new(Self { counters, members: Mutex::new(members), usage, measured_max })
    }

    /// One more child belongs to it, for as long as it lives.
    pub(super) fn add(&self, child: &Child) {
        let mut members = self.members.lock();
        self.settle_ended(&mut members);
        let number = members.next_number;
        members.next_number += 1;
        members.grown = Instant::now();
        members.all.push(Member { number, sight: child.sight(), counted_us: 0 });
    }

    /// Counts what those took that have ended.
    pub(super) fn settle(&self) {
        self.settle_ended(&mut self.members.lock());
    }

    /// What all of them take now, or took a moment ago.
    pub(super) async fn usage(self: Arc<Self>, machine: Arc<Recent<Arc<Census>>>) -> Usage {
        let (family, since) = (Arc::clone(&self), self.members.lock().grown);
        self.usage
            .get(since, async move {
                let census = machine.census(since).await;
                let looked = blocking(move || Ok::<_, io::Error>(family.look(&census))).await;
                // It fails only where the look has panicked, and that was told.
                looked.unwrap_or_default()
            })
            .await
    }

    fn look(&self, census: &Census) -> Usage {
        let roots: Vec<(u64, u32)> = {
            let mut members = self.members.lock();
            self.settle_ended(&mut members);
            members.all.iter().map(|member| (member.number, member.sight.guard())).collect()
        };
        let mut usage = Usage::default();
        let mut measurable = self.measured_max;
        for (number, root) in roots {
            let tree = census.tree(root);
            for process in &tree {
                usage.processes += 1;
                let memory = match measurable.checked_sub(1) {
                    Some(left) => {
                        measurable = left;
                        process.memory_bytes()
                    }
                    None => process.resident_bytes(),
                };
                usage.memory_bytes = usage.memory_bytes.saturating_add(memory);
            }
            self.took(number, tree.iter().map(|process| process.cpu_us).sum());
        }
        usage
    }

    /// So much has a child taken by now.
    fn took(&self, number: u64, cpu_us: u64) {
        let mut members = self.members.lock();
        // One that has ended meanwhile has told the whole.
        if let Some(member) = members.all.iter_mut().find(|member| member.number == number) {
            self.count(member, cpu_us);
        }
    }

    fn settle_ended(&self, members: &mut Members) {
        members.all.retain_mut(|member| match member.sight.ended_cpu_us() {
            Some(cpu_us) => {
                self.count(member, cpu_us);
                false
            }
            None => true,
        });
    }

    /// Counts what is new of it. There may be less than was counted: of children
    /// that nobody waits for the system keeps no account.
    fn count(&self, member: &mut Member, cpu_us: u64) {
        let new = cpu_us.saturating_sub(member.counted_us);
        member.counted_us += new;
        self.counters.handlers.cpu_us.fetch_add(new, Ordering::Relaxed);
    }
}
