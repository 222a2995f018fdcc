//! From a kill in flight to its end: SIGTERM's grace, the deaths, the memory, the refusals, the deadline. Every kill
//! ends here, confirmed, refused or given up.

use alloc::collections::VecDeque;

use super::flight::Flight;
use super::worker::Life;
use super::{Action, Engine, HISTORY, KillId, KillRecord, Note, Remains, Trigger};
use crate::prelude::*;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

impl Engine {
    /// The result of the order to kill one of the victims. After the last one there is time for everything else.
    pub(super) fn signalled(
        &mut self,
        kill: KillId,
        worker: WorkerId,
        at: Nanos,
        refused: Option<String>,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == kill) else { return };
        flight.record.times.signal.get_or_insert(at);
        if refused.is_some() {
            flight.record.refused = refused;
        }
        if flight.victims.last() == Some(&worker) {
            self.book(kill, now, todo);
        }
    }

    /// A process of a victim could not be signaled. If that was the last that is waited for, the kill is over.
    pub(super) fn refused(
        &mut self,
        kill: KillId,
        worker: WorkerId,
        (pid, for_now): (Pid, bool),
        at: Nanos,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(found) = self.workers.get_mut(&worker) else { return };
        if found.life == Life::BeingKilled(kill) {
            found.refuse(pid, for_now, at);
            self.check_flight(kill, now, todo);
        } else if matches!(found.life, Life::Refused { .. }) && !for_now {
            // The kill was over by what was refused before.
            found.life = Life::Refused { again: None };
        }
    }

    /// What the processes of a victim wait for that lives on: while its kill is in flight, and when that was given up.
    pub(super) fn examined(
        &mut self,
        kill: KillId,
        worker: WorkerId,
        remains: Vec<Remains>,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        if self.flights.iter().any(|flight| flight.id == kill) {
            self.looked_at(kill, worker, &remains);
            return;
        }
        if let Some(record) = self.history.iter_mut().rev().find(|record| record.id == kill) {
            record.stuck.extend(remains.iter().cloned());
        }
        let pids = remains.iter().map(|process| process.pid).collect();
        todo.push_back(Action::Note(Note::Stuck { at: now, kill, worker, pids, remains }));
    }

    /// Whether a kill's victims were only sent SIGTERM so far.
    pub(super) fn in_grace(&self, kill: KillId) -> bool {
        self.flights.iter().any(|flight| flight.id == kill && flight.grace_until.is_some())
    }

    /// They were sent SIGTERM, and did not all end.
    fn end_grace(&mut self, kill: KillId, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == kill) else { return };
        if flight.grace_until.is_none_or(|until| until > now) {
            return;
        }
        flight.grace_until = None;
        for victim in &flight.victims {
            if self.workers.get(victim).is_some_and(|worker| worker.dead_at().is_none()) {
                Action::Kill { kill, worker: *victim }.first(todo);
            }
        }
        if let Some(index) = self.flights.iter().position(|flight| flight.id == kill) {
            let mut flight = self.flights.remove(index);
            self.end_owned_with(&mut flight, todo);
            self.flights.insert(index, flight);
        }
    }

    /// The first reading after a kill completes what is known of it; what is to be said is returned.
    pub(super) fn over(&mut self, kill: KillId, used: Option<Bytes>, now: Nanos) -> Option<Note> {
        let index = self.history.iter().rposition(|record| record.id == kill)?;
        self.history[index].used_after = used;
        self.complete_growth(index);
        if let Some(raised) = self.history[index].raise_reached() {
            self.learn_more(&raised, now);
        }
        Some(Note::Killed(Box::new(self.history[index].clone())))
    }

    /// Is the kill over? Confirmed: every victim died and its memory is back, or the bounded wait for it passed.
    pub(super) fn check_flight(&mut self, kill: KillId, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(index) = self.flights.iter().position(|flight| flight.id == kill) else { return };
        let flight = &mut self.flights[index];
        if flight.left.is_some() {
            return;
        }
        let mut dead_at = Some(Nanos(0));
        let (mut back, mut refused) = (true, false);
        for victim in &flight.victims {
            let Some(worker) = self.workers.get(victim) else { continue };
            dead_at = dead_at.zip(worker.dead_at()).map(|(one, other)| one.max(other));
            back &= worker.memory_is_back();
            refused |= worker.refused();
        }
        let Some(dead) = dead_at else {
            // A process was forked before the signal, and its record came after the last death.
            (flight.memory_deadline, flight.wait) = (None, None);
            return;
        };
        flight.record.times.dead = (!refused).then_some(dead);
        let until = match self.flights[index].memory_deadline {
            Some(until) => until,
            None => dead.after(self.memory_patience(index, now)),
        };
        self.flights[index].memory_deadline = Some(until);
        if now < until && !(back && refused) {
            if back {
                self.ask_for_memory(index, now, todo);
            }
            return;
        }
        self.land(index, !refused, now, todo);
    }

    /// The kill is over, one way or the other: its victims are forgotten or stuck, and the domain is read
    /// again, which may lead to the next victim.
    pub(super) fn land(&mut self, index: usize, confirmed: bool, now: Nanos, todo: &mut VecDeque<Action>) {
        self.book_left(index, now, todo);
        self.book(self.flights[index].id, now, todo);
        let flight = self.flights.remove(index);
        self.leaving_ends(&flight, now, todo);
        self.count_waiting(&flight, now);
        let mut record = flight.record;
        record.confirmed = confirmed;
        record.memory_late = confirmed && record.times.memory_back.is_none();
        self.counters.memory_late += u64::from(record.memory_late);
        if let Some(domain) = self.domains.get_mut(&flight.domain) {
            // What is above after this is a new case.
            domain.crossed = Some((now, Trigger::AfterKill));
            domain.asked = None;
            // Two without a reading between them: the first is told of without one.
            let before = domain.after_kill.replace(flight.id);
            let told = before.and_then(|before| self.over(before, None, now));
            todo.extend(told.map(Action::Note));
        }
        for victim in flight.victims {
            let Some(worker) = self.workers.get_mut(&victim) else { continue };
            let (kill, pids) = (flight.id, worker.pids());
            if worker.dead_at().is_none() {
                self.counters.stuck += 1;
                worker.life = Life::Stuck(kill);
                todo.push_back(Action::Examine { kill, worker: victim, pids });
            } else if worker.refused() {
                self.counters.refused += 1;
                self.back_off(victim, now);
                let why = record.refused.clone().unwrap_or_default();
                todo.push_back(Action::Note(Note::Refused { at: now, kill, worker: victim, pids, why }));
            } else {
                let chosen = record.victims.iter().any(|chosen| chosen.worker == victim);
                record.others_ended |= !chosen;
                let counter = if chosen { &mut self.counters.killed } else { &mut self.counters.owner_died };
                *counter += 1;
                self.end_owned(victim, todo);
                self.forget(victim, now, todo);
            }
        }
        self.remember(record);
        if !self.domains.contains_key(&flight.domain) {
            // With the domain the reading is gone that would tell of the end.
            todo.extend(self.over(flight.id, None, now).map(Action::Note));
        }
        self.begin_row(flight.domain, now, todo);
        todo.push_back(Action::Read(flight.domain));
    }

    /// The victims of kills that are not over.
    #[must_use]
    pub fn victims(&self) -> Vec<WorkerId> {
        self.flights.iter().flat_map(|flight| flight.victims.iter().copied()).collect()
    }

    /// Whether this worker is one of them.
    #[must_use]
    pub fn in_flight(&self, worker: WorkerId) -> bool {
        self.flights.iter().any(|flight| flight.victims.contains(&worker))
    }

    /// Whether this worker was chosen to die and is not dead: its kill is not over, or it is stuck.
    #[must_use]
    pub fn is_victim(&self, worker: WorkerId) -> bool {
        let known = self.workers.get(&worker);
        self.in_flight(worker) || known.is_some_and(|known| matches!(known.life, Life::Stuck(_)))
    }

    /// The victims of kills that have timed out.
    #[must_use]
    pub fn overdue(&self, now: Nanos) -> Vec<WorkerId> {
        let due = self.flights.iter().filter(|flight| flight.next_deadline() <= now);
        due.flat_map(|flight| flight.victims.iter().copied()).collect()
    }

    /// Kills in flight that have timed out.
    pub(super) fn check_deadlines(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        let due: Vec<KillId> = self
            .flights
            .iter()
            .filter(|flight| flight.next_deadline() <= now)
            .map(|flight| flight.id)
            .collect();
        for kill in due {
            self.end_grace(kill, now, todo);
            self.check_flight(kill, now, todo);
            self.look(kill, now, todo);
            let late = |flight: &Flight| {
                flight.id == kill && flight.memory_deadline.is_none() && flight.deadline <= now
            };
            if let Some(index) = self.flights.iter().position(late) {
                self.land(index, false, now, todo);
            }
        }
    }

    pub(super) fn remember(&mut self, record: KillRecord) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(record);
    }
}
