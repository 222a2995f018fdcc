//! A registered worker as the engine knows it.

use alloc::collections::BTreeMap;

use super::facts::{DomainId, ExecutorId, KillId, Sample, Seen};
use super::growth::Growth;
use super::pending::{Pending, Process};
use super::view::{VictimRecord, WorkerState, WorkerView};
use crate::prelude::*;
use crate::rules::Mode;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::{Activity, Candidate, MemoryFacts, WorkerId};

/// Its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    BeingKilled(KillId),
    Stuck(KillId),
    /// A process of it could not be signaled: no candidate, otherwise as running.
    Refused {
        /// When it is one again; none: it may not be signaled, and never is.
        again: Option<Nanos>,
    },
}

/// The rule that has a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OfRule {
    /// Its name.
    pub(super) name: String,
    /// Whether the worker may be killed.
    pub(super) mode: Mode,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) candidate: Candidate,
    pub(super) pid: Pid,
    pub(super) name: Option<String>,
    /// The rule that made it; none: it was registered.
    pub(super) rule: Option<OfRule>,
    pub(super) attempt: u32,
    /// The last measurement of its memory.
    pub(super) sample: Option<Sample>,
    /// When it was last measured in full: an estimate proves nothing of shared memory.
    pub(super) measured_at: Option<Nanos>,
    /// The most that it held at once, as far as it was measured.
    pub(super) peak: Option<Bytes>,
    pub(super) growth: Growth,
    /// What it said that it needs, what workloads of its name needed before, and what it was known to need when it began.
    pub(super) declared: Option<Bytes>,
    pub(super) learned: Option<Bytes>,
    pub(super) reached: Option<Bytes>,
    /// The domains it charges, innermost first.
    pub(super) domains: Vec<DomainId>,
    pub(super) life: Life,
    /// The executor that ends it in place of the engine.
    pub(super) executor: Option<ExecutorId>,
    processes: BTreeMap<Pid, Process>,
    pending: Pending,
    /// wait(2) status of the registered process, once seen.
    pub(super) status: Option<u32>,
    /// When the last living process was seen dying.
    dead_at: Option<Nanos>,
    /// A signal to it was denied for good.
    denied: bool,
    /// How often a kill of it ended because it could not be signaled for the moment.
    pub(super) backoffs: u32,
    /// The worker that it ends with.
    pub(super) owned_by: Option<WorkerId>,
    /// Its owner is gone, and it is being ended: neither a victim nor a candidate.
    pub(super) ends: bool,
    /// Each of its processes that live was seen in a state in which it cannot die.
    immovable: bool,
    /// The process of it that the kernel's own killer chose first, and when.
    pub(super) oom_victim: Option<(Pid, Nanos)>,
    /// As which kill its death by the kernel is listed.
    pub(super) killed_by_kernel: Option<KillId>,
}

impl Worker {
    pub(super) fn new(candidate: Candidate, pid: Pid, domains: Vec<DomainId>) -> Self {
        let mut new = Self {
            peak: None,
            growth: Growth::default(),
            declared: candidate.declared,
            learned: None,
            reached: None,
            candidate,
            pid,
            name: None,
            rule: None,
            attempt: 0,
            sample: None,
            measured_at: None,
            domains,
            life: Life::Running,
            executor: None,
            processes: BTreeMap::new(),
            pending: Pending::default(),
            status: None,
            dead_at: None,
            denied: false,
            backoffs: 0,
            owned_by: None,
            ends: false,
            immovable: false,
            oom_victim: None,
            killed_by_kernel: None,
        };
        new.add(pid);
        new
    }

    pub(super) fn id(&self) -> WorkerId {
        self.candidate.id
    }

    /// As a victim in a record.
    pub(super) fn described(&self, (should_retry, waits): (bool, bool), why: String) -> VictimRecord {
        VictimRecord {
            worker: self.id(),
            pid: self.pid,
            uid: Some(self.candidate.uid),
            name: self.name.clone(),
            owner: self.candidate.owner.as_deref().map(str::to_owned),
            kind: self.candidate.kind.name().to_owned(),
            should_retry,
            waits,
            why,
            memory: self.memory(),
            sample: self.sample,
            peak: self.peak,
            facts: self.facts(),
            rule: self.rule.as_ref().map(|rule| rule.name.clone()),
            observed: self.observed(),
        }
    }

    /// What is known of its memory beside what it holds.
    pub(super) fn facts(&self) -> MemoryFacts {
        MemoryFacts {
            memory_declared: self.declared,
            memory_learned: self.learned,
            memory_peak: self.peak,
            growth: self.growth.now(),
            growth_minute: self.growth.over_a_minute(),
        }
    }

    /// A process belongs to it from now on. False: it did already.
    pub(super) fn add(&mut self, pid: Pid) -> bool {
        if self.processes.contains_key(&pid) {
            return false;
        }
        let new = Process::default();
        self.pending.add(new.pending());
        self.processes.insert(pid, new);
        self.immovable = false;
        self.dead_at = None;
        true
    }

    /// A process of it ends. Unknown ones are ignored: they were gone before.
    pub(super) fn end(&mut self, pid: Pid, seen: Seen, status: Option<u32>, at: Nanos) {
        if pid == self.pid && self.status.is_none() {
            self.status = status;
        }
        match seen {
            Seen::Gone => {
                if let Some(gone) = self.processes.remove(&pid) {
                    self.pending.remove(gone.pending());
                }
            }
            Seen::Exit => self.change(pid, |process| process.dying = true),
            Seen::Released => self.change(pid, |process| process.released = true),
        }
        self.settle(at);
    }

    /// The signal to a process of it was refused, for good or `for_now`.
    pub(super) fn refuse(&mut self, pid: Pid, for_now: bool, at: Nanos) {
        self.denied |= !for_now;
        self.change(pid, |process| process.refused = true);
        self.settle(at);
    }

    fn change(&mut self, pid: Pid, change: impl FnOnce(&mut Process)) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        self.pending.remove(process.pending());
        change(process);
        self.pending.add(process.pending());
    }

    fn settle(&mut self, at: Nanos) {
        if self.dead_at.is_none() && self.pending.deaths == 0 {
            self.dead_at = Some(at);
        }
    }

    /// Whether a process that is left could not be signaled.
    pub(super) fn refused(&self) -> bool {
        self.pending.refused > 0
    }

    /// Whether one of them may not be signaled.
    pub(super) fn denied(&self) -> bool {
        self.denied
    }

    /// It is a candidate again: the processes that the signal did not reach must die with the others.
    pub(super) fn try_again(&mut self) {
        self.life = Life::Running;
        self.processes.values_mut().for_each(|process| process.refused = false);
        self.pending = Pending::default();
        self.processes.values().for_each(|process| self.pending.add(process.pending()));
        self.dead_at = self.dead_at.filter(|_| self.pending.deaths == 0);
    }

    /// When the last of its processes was seen dying; none while one lives that could be signaled.
    pub(super) fn dead_at(&self) -> Option<Nanos> {
        self.dead_at
    }

    /// Whether all that it held is given back.
    pub(super) fn memory_is_back(&self) -> bool {
        self.dead_at.is_some() && self.pending.memory == 0
    }

    /// Whether all that its processes held was taken, dead or not.
    pub(super) fn memory_is_taken(&self) -> bool {
        self.pending.memory == 0
    }

    /// Its processes that must still die.
    pub(super) fn living(&self) -> Vec<Pid> {
        let living = self.processes.iter().filter(|(_, process)| process.pending().deaths > 0);
        living.map(|(pid, _)| *pid).collect()
    }

    /// Whether none of them can die now, as far as is known.
    pub(super) fn immovable(&self) -> bool {
        self.immovable
    }

    /// Takes note of what an examination found.
    pub(super) fn set_immovable(&mut self, immovable: bool) {
        self.immovable = immovable;
    }

    /// It is a victim from now on.
    pub(super) fn be_killed(&mut self, kill: KillId) {
        (self.life, self.immovable) = (Life::BeingKilled(kill), false);
    }

    /// Whether none of its processes is left.
    pub(super) fn gone(&self) -> bool {
        self.processes.is_empty()
    }

    /// It ended by itself, and well, as far as is known.
    pub(super) fn came_to_its_end(&self) -> bool {
        let by_itself = matches!(self.life, Life::Running | Life::Refused { .. });
        by_itself && !self.ends && self.killed_by_kernel.is_none() && matches!(self.status, None | Some(0))
    }

    /// Its processes that are not gone, by number.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.processes.keys().copied().collect()
    }

    pub(super) fn memory(&self) -> Option<Bytes> {
        self.candidate.memory
    }

    pub(super) fn view(&self, domain_name: impl Fn(DomainId) -> String) -> WorkerView {
        WorkerView {
            id: self.id(),
            kind: self.candidate.kind.name().to_owned(),
            owner: self.candidate.owner.as_deref().map(str::to_owned),
            name: self.name.clone(),
            pid: self.pid,
            processes: self.pids(),
            uid: self.candidate.uid,
            attempt: self.attempt,
            state: match self.life {
                Life::Running => match self.candidate.activity {
                    Activity::Busy => WorkerState::Running,
                    Activity::Idle { .. } => WorkerState::Idle,
                },
                Life::BeingKilled(_) => WorkerState::BeingKilled,
                Life::Stuck(_) => WorkerState::Stuck,
                Life::Refused { .. } => WorkerState::Refused,
            },
            ever_leased: self.candidate.activity != Activity::Idle { ever_leased: false },
            retriable: self.candidate.kind.retriable(),
            started: self.candidate.started,
            memory: self.candidate.memory,
            sample: self.sample,
            domains: self.domains.iter().map(|domain| domain_name(*domain)).collect(),
            priority: self.candidate.priority,
            memory_declared: self.declared,
            memory_learned: self.learned,
            memory_peak: self.peak,
            growth: self.growth.now(),
            growth_minute: self.growth.over_a_minute(),
            waits_for: None,
            rule: self.rule.as_ref().map(|rule| rule.name.clone()),
            mode: self.rule.as_ref().map(|rule| rule.mode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Kind, Times};

    /// The same by looking at every process.
    fn counted(worker: &Worker) -> Pending {
        let mut all = Pending::default();
        worker.processes.values().for_each(|process| all.add(process.pending()));
        all
    }

    #[test]
    fn a_storm_of_forks_costs_each_process_the_same() {
        const PROCESSES: u32 = 16_000;
        let candidate = Candidate {
            id: WorkerId(1),
            kind: Kind::Task { max_retries: Times::Unlimited },
            uid: 0,
            owner: None,
            started: Nanos(0),
            activity: Activity::Busy,
            memory: None,
            priority: 0,
            declared: None,
            last_task: crate::worker::LastTask::Fail,
        };
        let mut worker = Worker::new(candidate, Pid(1), Vec::new());
        // Newest first, as a list that is searched from its front likes least.
        let pids = || (1..=PROCESSES).rev().map(Pid);
        assert_eq!(pids().filter(|pid| worker.add(*pid)).count(), 15_999, "the first was there");
        assert_eq!(worker.pids()[..3], [Pid(1), Pid(2), Pid(3)], "in the order of their numbers");
        worker.refuse(Pid(7), true, Nanos(1));
        for (at, pid) in (2..).map(Nanos).zip(pids()) {
            assert_eq!((worker.dead_at(), worker.refused()), (None, pid.0 >= 7), "before {pid:?}");
            worker.end(pid, Seen::Exit, None, at);
            worker.end(pid, Seen::Exit, None, at);
        }
        assert_eq!(counted(&worker), worker.pending);
        assert!(worker.dead_at().is_some() && !worker.memory_is_back() && !worker.gone());
        for pid in pids() {
            let seen = if pid.0 % 2 == 0 { Seen::Released } else { Seen::Gone };
            worker.end(pid, seen, None, Nanos(9));
        }
        assert!(worker.memory_is_back() && !worker.gone(), "released is not gone");
        assert_eq!(counted(&worker), worker.pending);
        pids().for_each(|pid| worker.end(pid, Seen::Gone, None, Nanos(10)));
        assert!(worker.gone() && worker.pending == Pending::default());
    }
}
