//! The engine: a state machine that is told what happens and says what to do. `handle(event, now)` → actions.
//!
//! Invariants: no I/O, no clock, no threads, so that a recorded run can be replayed. Only a reading (a memory check)
//! over the threshold leads to a kill. Never two kills in flight in domains that overlap. Only workers are ever
//! victims: registered ones, and those of rules in mode enforce. Every kill ends confirmed or timed out.

mod action;
mod blocking;
mod brake;
mod by_rule;
mod confirm;
mod decision;
mod domain;
mod event;
mod executors_line;
mod facts;
mod flight;
mod follow_up;
mod foresight;
mod gear;
mod grown;
mod growth;
mod hierarchy;
mod in_a_row;
mod kernel_kills;
mod kills;
mod kin;
mod learning;
mod left;
mod memory_return;
mod memory_wait;
mod near;
mod note;
mod owned;
mod patience;
mod pending;
mod rate;
mod readings;
mod refused_backoff;
mod row;
mod settings;
mod starts;
#[cfg(test)]
mod tests;
mod unhelpful;
mod view;
mod views;
mod watchdog_kill;
mod worker;
mod workers;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::time::Duration;

pub use self::action::Action;
use self::brake::Brake;
pub use self::decision::{Decision, Input, Like, RANKING, Rest};
use self::domain::Domain;
pub use self::event::Event;
pub use self::facts::{
    Chosen, DomainId, ExecutorId, Freed, Gear, Gears, HeldView, KillId, Measured, Release, Remains, Sample,
    Seen, Start, Trigger, UnhelpfulKills, Verdict,
};
use self::flight::{Flight, Spare};
use self::gear::Shift;
pub use self::grown::Grown;
pub use self::note::Note;
use self::patience::Patience;
pub use self::settings::Settings;
use self::starts::Starts;
pub use self::unhelpful::Unhelpful;
pub use self::view::{
    Counters, DomainView, Explanation, KillRecord, LeftTo, Times, VictimRecord, WaitView, WorkerState,
    WorkerView,
};
use self::worker::Worker;
use crate::learn::Learned;
use crate::prelude::*;
use crate::threshold::Threshold;
use crate::units::Nanos;
use crate::worker::{Activity, LastTask, WorkerId};

/// How many past kills are kept for `kills`: about 2 KiB each.
const HISTORY: usize = 256;

/// The most time between two refreshes while there is no worker to kill, unless more is set.
const UNHURRIED: Duration = Duration::from_secs(1);

/// The state machine. See the module.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    domains: BTreeMap<DomainId, Domain>,
    workers: BTreeMap<WorkerId, Worker>,
    kin: kin::Kin,
    /// Workers that could not be signaled for now, by the time at which each is a candidate again.
    refused: BTreeSet<(Nanos, WorkerId)>,
    /// At most one for each family of domains: a handful.
    flights: Vec<Flight>,
    spare: Spare,
    history: VecDeque<KillRecord>,
    last_kill: KillId,
    next_refresh: Nanos,
    /// Nothing is killed before this time: workers of a previous agent are coming back.
    settle_until: Nanos,
    brake: Brake,
    gear: Shift,
    near: near::Budget,
    patience: Patience,
    /// Executors that kills can be left to, each with the time until which it is not asked.
    executors: BTreeMap<ExecutorId, Nanos>,
    /// Starts that wait for room.
    starts: Starts,
    learned: Learned,
    counters: Counters,
}

impl Engine {
    /// An engine without domains and workers.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            domains: BTreeMap::new(),
            workers: BTreeMap::new(),
            kin: kin::Kin::default(),
            refused: BTreeSet::new(),
            flights: Vec::new(),
            spare: Spare::new(),
            history: VecDeque::new(),
            last_kill: KillId(0),
            next_refresh: Nanos(0),
            settle_until: Nanos(0),
            brake: Brake::default(),
            gear: Shift::default(),
            near: near::Budget::default(),
            patience: Patience::default(),
            executors: BTreeMap::new(),
            starts: Starts::default(),
            learned: Learned::default(),
            counters: Counters::default(),
        }
    }

    /// Takes note of what happened at `now` and appends what is to be done to `todo`.
    pub fn handle(&mut self, event: Event, now: Nanos, todo: &mut VecDeque<Action>) {
        match event {
            Event::Settings(settings) => {
                if self.settings.gears == Gears::None {
                    // A hot hook that comes now is not attached yet.
                    self.gear = Shift::default();
                }
                self.adopt(settings, now);
                self.read_all(todo);
            }
            Event::Resumed { last_kill } => self.last_kill = self.last_kill.max(last_kill),
            Event::DomainAdded { domain, name, parent } => {
                self.domains.insert(domain, Domain::new(name, parent, self.settings.roster()));
                // There is never more than one kill in each.
                self.flights.reserve(self.domains.len());
                todo.push_back(Action::Read(domain));
            }
            Event::Reparented { domain, parent } => self.reparent(domain, parent),
            Event::DomainRemoved { domain } => self.remove_domain(domain, now, todo),
            Event::Reading { domain, measured, counter } => self.read(domain, measured, counter, now, todo),
            Event::Delta { domain, counter, pushed } => self.delta(domain, counter, pushed, todo),
            Event::Crossing { domain, counter, pushed } => self.crossing(domain, counter, pushed, todo),
            Event::Lost { records } => self.lost(records, now, todo),
            Event::Registered {
                worker,
                pid,
                uid,
                kind,
                owner,
                name,
                attempt,
                domains,
                priority,
                memory_declared,
            } => {
                let candidate = crate::worker::Candidate {
                    id: worker,
                    kind,
                    uid,
                    owner: owner.map(Into::into),
                    started: now,
                    activity: Activity::Busy,
                    memory: None,
                    priority,
                    declared: memory_declared,
                    last_task: LastTask::Fail,
                };
                let mut new = Worker::new(candidate, pid, domains);
                (new.name, new.attempt) = (name, attempt);
                self.register(new, now, todo);
            }
            Event::LastTask { worker, last_task } => {
                if let Some(found) = self.workers.get_mut(&worker) {
                    found.candidate.last_task = last_task;
                    self.rank_again(worker);
                }
            }
            Event::Owned { worker, by } => self.owned_by(worker, by, todo),
            Event::ByRule { worker, rule, mode, name } => {
                self.by_rule(worker, self::worker::OfRule { name: rule, mode }, name, todo);
            }
            Event::Unregistered { worker } => self.unregister(worker, now, todo),
            Event::Forked { worker, pid } => self.forked(worker, pid, todo),
            Event::Stopped { worker, pid, at } => self.stopped(worker, pid, at, now, todo),
            Event::OomVictim { worker, pid, at } => self.oom_victim(worker, pid, at, now, todo),
            Event::Ended { worker, pid, seen, status, at } => {
                self.held_ends(pid, at, todo);
                if let Some(found) = self.workers.get_mut(&worker) {
                    found.end(pid, seen, status, at);
                    self.taken_by_executor(worker, (pid, seen), at, now, todo);
                    self.count_kernel_kill(worker, pid, at, now, todo);
                    self.after_an_end(worker, now, todo);
                }
            }
            Event::Signalled { kill, worker, at, refused, cgroup } => {
                if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == kill) {
                    flight.record.cgroup_kill = cgroup.or(flight.record.cgroup_kill.take());
                }
                self.signalled(kill, worker, at, refused, now, todo);
            }
            Event::WatchdogKilled { domain, worker, at, used, total } => {
                self.killed_by_watchdog(domain, worker, (used, total), at, now, todo);
            }
            Event::Memory { worker, memory, measured } => {
                let sample = memory.map(|bytes| Sample { bytes, measured, at: now });
                self.measured(worker, sample);
            }
            Event::Peak { worker, peak } => self.reached(worker, peak),
            Event::WantsToStart(start) => self.wants_to_start(start, now, todo),
            Event::StartWithdrawn { worker } => self.start_withdrawn(worker, todo),
            Event::Learned { names } => self.remember_learned(names, now),
            Event::ForgetLearned { uid, name } => self.forget_learned(uid, &name, now),
            Event::Others { domain, memory } => self.weighed(domain, memory, now, todo),
            Event::Gauged { domain, held } => self.gauged(domain, held, now, todo),
            Event::Refused { kill, worker, pid, at, for_now } => {
                self.refused(kill, worker, (pid, for_now), at, now, todo);
            }
            Event::Examined { kill, worker, remains } => self.examined(kill, worker, remains, now, todo),
            Event::Moved { worker, domains } => self.moved(worker, domains, todo),
            Event::Idle { worker, ever_leased } => {
                self.set_activity(worker, Activity::Idle { ever_leased }, now)
            }
            Event::Leased { worker } => self.set_activity(worker, Activity::Busy, now),
            Event::Started { worker, at } => self.started(worker, at),
            Event::Executor { worker, executor } => self.set_executor(worker, executor),
            Event::ExecutorLost { executor } => self.lose_executor(executor, now, todo),
            Event::ExecutorsLine { executor, domain, line } => {
                self.set_executors_line(executor, domain, line, todo);
            }
            Event::Asked { kill, refused } => self.asked(kill, refused, now, todo),
            Event::Heard { kill, at } => self.heard(kill, at),
            Event::Settle { until } => self.settle_until = until,
            Event::Tick => self.tick(now, todo),
        }
    }

    /// When the engine wants to be ticked next.
    #[must_use]
    pub fn next_deadline(&self) -> Nanos {
        let flights = self.flights.iter().map(Flight::next_deadline);
        flights
            .chain(self.brake_deadline())
            .chain(self.next_after_backoff())
            .chain(self.next_near_reading())
            .chain(self.starts.deadline())
            .chain(self.next_gauge_deadline())
            .fold(self.next_refresh, Nanos::min)
    }

    /// The most time between two refreshes. Without a registered worker there is none to kill, so nothing is late:
    /// four times as long, at most a second.
    #[must_use]
    pub fn pace(&self) -> Duration {
        let refresh = self.settings.refresh();
        if self.workers.is_empty() { refresh.max((4 * refresh).min(UNHURRIED)) } else { refresh }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn tick(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        self.check_deadlines(now, todo);
        self.free_whom_it_may(now, todo);
        self.end_backoffs(now, todo);
        self.let_begin(now, todo);
        self.give_up_gauges(now, todo);
        let next = now.after(self.pace());
        // Further away than that it can only be if the clock went back.
        if now >= self.next_refresh || self.next_refresh > next {
            self.next_refresh = next;
            self.near.forget_the_idle(now);
            self.read_all(todo);
        } else {
            todo.extend(self.near_and_due(now).map(Action::Read));
        }
    }

    /// Other settings are in force: the order of the candidates and the thresholds follow them.
    fn adopt(&mut self, settings: Settings, now: Nanos) {
        let old = core::mem::replace(&mut self.settings, settings);
        let new = &self.settings;
        let reorder = old.policy() != new.policy() || old.min_victim_memory != new.min_victim_memory;
        for domain in self.domains.values_mut() {
            domain.forget_threshold();
            if reorder {
                let before = core::mem::replace(&mut domain.roster, new.roster());
                before.iter().cloned().for_each(|candidate| drop(domain.roster.insert(candidate)));
            }
        }
        if reorder {
            self.spare.reserve(self.workers.len());
        }
        self.next_refresh = self.next_refresh.min(now.after(self.pace()));
    }

    fn threshold(&self) -> Threshold {
        self.settings.threshold()
    }
}
