//! Kills that are left to an executor: a raylet kills one of its own workers when the agent asks it to, and chooses
//! which. The engine decides that memory is short, asks, and confirms: a death of one of that executor's workers makes
//! that worker the kill's victim, and everything after that (the rest of its processes, the memory, the next reading)
//! is as in any other kill. If no worker dies in time, or the executor is lost, the next reading leads to a kill by the
//! engine itself.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::flight::{Flight, Left};
use super::worker::{Life, Worker};
use super::{Action, Chosen, DomainId, Engine, ExecutorId, KillId, LeftTo, Note, Seen};
use crate::policy::{Choice, Why};
use crate::prelude::*;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// An executor that let its time pass is not asked again for so long.
const DISTRUST: Duration = Duration::from_secs(5);

/// The signals that executors end workers with: SIGKILL, and SIGTERM where they ask first.
const ENDING: [u32; 2] = [9, 15];

impl Engine {
    /// Kills of a worker are left to an executor from now on, or to the engine again.
    pub(super) fn set_executor(&mut self, worker: WorkerId, executor: Option<ExecutorId>) {
        if let Some(executor) = executor {
            self.executors.entry(executor).or_insert(Nanos(0));
        }
        if let Some(found) = self.workers.get_mut(&worker) {
            found.executor = executor;
        }
    }

    /// An executor does not answer any more. What was left to it is the engine's.
    pub(super) fn lose_executor(&mut self, lost: ExecutorId, now: Nanos, todo: &mut VecDeque<Action>) {
        self.executors.remove(&lost);
        self.forget_executors_line(lost);
        for worker in self.workers.values_mut().filter(|worker| worker.executor == Some(lost)) {
            worker.executor = None;
        }
        let its = |flight: &Flight| flight.left.as_ref().is_some_and(|left| left.executor == lost);
        while let Some(index) = self.flights.iter().position(its) {
            self.land(index, false, now, todo);
        }
    }

    /// The executor that carries out a kill in place of the engine: that of the first victim. It chooses among all of
    /// its workers, so each of them must count towards the domain: the death of another one is of no use there.
    pub(super) fn executor_for(&self, flight: &Flight, now: Nanos) -> Option<ExecutorId> {
        let executor = self.workers.get(flight.victims.first()?)?.executor?;
        let outside = |worker: &Worker| {
            worker.executor == Some(executor)
                && worker.life == Life::Running
                && !worker.domains.contains(&flight.domain)
        };
        if self.workers.values().any(outside) {
            return None;
        }
        self.executors.get(&executor).is_some_and(|quiet_until| *quiet_until <= now).then_some(executor)
    }

    /// Asks for a kill. Allocates nothing: what is to be said of it waits until the executor was asked.
    pub(super) fn leave(
        &mut self,
        mut flight: Flight,
        executor: ExecutorId,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        self.counters.left += 1;
        let until = now.after(Duration::from_millis(self.settings.ray_timeout_ms));
        let ours = core::mem::take(&mut flight.chosen);
        let first = flight.victims.first().copied();
        flight.victims.clear();
        flight.grace_until = None;
        flight.deadline = until;
        flight.left = Some(Left { executor, until, heard: None, ours, booked: false });
        Action::Ask { kill: flight.id, executor, ours: first }.first(todo);
        self.flights.push(flight);
    }

    /// The executor was asked, or cannot be.
    pub(super) fn asked(
        &mut self,
        kill: KillId,
        refused: Option<String>,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(index) = self.flights.iter().position(|flight| flight.id == kill) else { return };
        let Some(executor) = self.flights[index].left.as_ref().map(|left| left.executor) else { return };
        self.book_left(index, now, todo);
        if refused.is_some() {
            self.flights[index].record.refused = refused;
            self.distrust(executor, now);
            self.land(index, false, now, todo);
        }
    }

    /// What the request left for later: the decision is told, and what its reading still asks for is done. Once.
    pub(super) fn book_left(&mut self, index: usize, now: Nanos, todo: &mut VecDeque<Action>) {
        let flight = &mut self.flights[index];
        let Some(left) = flight.left.as_mut().filter(|left| !left.booked) else { return };
        left.booked = true;
        let (executor, mut ours) = (left.executor, core::mem::take(&mut left.ours));
        let follow_up = flight.follow_up.take();
        let (kill, domain) = (flight.id, flight.domain);
        let name = self.domains.get(&domain).map(|domain| domain.name.clone()).unwrap_or_default();
        let would = ours.first().map(|choice| Chosen {
            worker: choice.id,
            name: self.workers.get(&choice.id).and_then(|worker| worker.name.clone()),
            should_retry: choice.should_retry,
            why: choice.reason(),
        });
        ours.clear();
        self.spare.chosen = ours;
        let record = &mut self.flights[index].record;
        record.domain.clone_from(&name);
        self.settings.policy.as_str().clone_into(&mut record.policy);
        record.left_to = Some(LeftTo { executor, ours: would.clone() });
        let at = record.times.decision.unwrap_or(now);
        let (used, threshold, total) = (record.used, record.threshold, record.total);
        let note = Note::Left { at, kill, domain: name, executor, ours: would, used, threshold, total };
        match follow_up {
            Some(follow_up) => self.finish_reading(follow_up, Some(note), now, todo),
            None => todo.push_back(Action::Note(note)),
        }
    }

    /// The executor acknowledged the request: a kill will follow.
    pub(super) fn heard(&mut self, kill: KillId, at: Nanos) {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == kill) else { return };
        if let Some(left) = &mut flight.left {
            left.heard.get_or_insert(at);
            flight.record.times.signal.get_or_insert(at);
        }
    }

    /// A worker's first process died: if its executor was asked for a kill, this is the victim. The rest of it is
    /// killed too: a child may hold the memory.
    pub(super) fn taken_by_executor(
        &mut self,
        id: WorkerId,
        (pid, seen): (Pid, Seen),
        at: Nanos,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(worker) = self.workers.get(&id) else { return };
        let Some(executor) = worker.executor else { return };
        let ended = worker.pid == pid && seen != Seen::Released && worker.life == Life::Running;
        // A worker that ended by itself is not a victim.
        if !ended || worker.status.is_some_and(|status| !ENDING.contains(&(status & 0x7f))) {
            return;
        }
        let asked = |flight: &Flight| flight.left.as_ref().is_some_and(|left| left.executor == executor);
        let Some(index) = self.flights.iter().position(asked) else { return };
        self.book_left(index, now, todo);
        let choice = self.choice_of_executor(self.flights[index].domain, id);
        let patience = Duration::from_millis(self.settings.kill_timeout_ms);
        let look_at = self.next_look(&[id], now);
        let flight = &mut self.flights[index];
        // It may have died of something else, and the request is still there to be read: for that one would die later.
        if flight.left.take().is_some_and(|left| left.heard.is_none()) {
            todo.push_back(Action::Withdraw { executor });
        }
        flight.victims.push(id);
        flight.chosen.push(choice);
        (flight.deadline, flight.look_at) = (now.after(patience), look_at);
        // The acknowledgment may be on its way.
        flight.record.times.signal.get_or_insert(at);
        let kill = flight.id;
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.be_killed(kill);
        }
        Action::Kill { kill, worker: id }.first(todo);
    }

    /// The place that the engine's own policy gives to the executor's choice.
    fn choice_of_executor(&self, domain: DomainId, id: WorkerId) -> Choice {
        let domain = self.domains.get(&domain);
        let ranking = domain.and_then(|domain| {
            domain.roster.ranking(domain.usage()?).into_iter().find(|choice| choice.id == id)
        });
        let retriable = self.workers.get(&id).is_some_and(|worker| worker.candidate.kind.retriable());
        let should_retry = ranking.map_or(retriable, |choice| choice.should_retry);
        Choice { id, should_retry, why: Why::Executor, waits: false, priority: None, passed_over: None }
    }

    /// The domain is no longer over its threshold, and the request is not acknowledged yet: it is withdrawn.
    pub(super) fn withdraw_unheard(&mut self, id: DomainId, now: Nanos, todo: &mut VecDeque<Action>) {
        let unheard = |flight: &Flight| {
            flight.domain == id
                && flight.left.as_ref().is_some_and(|left| left.booked && left.heard.is_none())
        };
        if let Some(index) = self.flights.iter().position(unheard) {
            self.counters.left_withdrawn += 1;
            self.land(index, false, now, todo);
        }
    }

    /// A kill ends because its executor ended no worker.
    pub(super) fn leaving_ends(&mut self, flight: &Flight, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(left) = &flight.left else { return };
        let executor = left.executor;
        if left.until <= now {
            self.counters.left_late += 1;
            self.distrust(executor, now);
        }
        todo.push_back(Action::Withdraw { executor });
    }

    /// The next kills are the engine's own, for a while.
    fn distrust(&mut self, executor: ExecutorId, now: Nanos) {
        if let Some(quiet_until) = self.executors.get_mut(&executor) {
            *quiet_until = now.after(DISTRUST);
        }
    }
}
