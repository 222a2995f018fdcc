//! A kill that the watchdog carried out while the loop hung: recorded as if the engine had ordered it, and never
//! ordered twice.

use alloc::collections::VecDeque;

use super::worker::Life;
use super::{Action, DomainId, Engine, KillId, Note, Trigger};
use crate::policy::Choice;
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

impl Engine {
    /// The workers that it would kill next in a domain, in order and at most so many, for a thread that has to act
    /// without asking. Empty: there is none, or none now.
    #[must_use]
    pub fn next_victims(&mut self, id: DomainId, most: usize, now: Nanos) -> Vec<WorkerId> {
        let Some(domain) = self.domains.get(&id) else { return Vec::new() };
        let waits = now < domain.quiet_until.max(self.settle_until) || self.must_wait(id, now);
        let Some(usage) = domain.usage().filter(|_| !waits && self.settings.may_be_stood_in_for()) else {
            return Vec::new();
        };
        self.domains.get_mut(&id).map(|domain| domain.roster.front(usage, most)).unwrap_or_default()
    }

    /// The watchdog struck. The order that follows strikes again, which does no harm: it is for the processes that the
    /// watchdog did not know of, and for all that comes after a signal.
    pub(super) fn killed_by_watchdog(
        &mut self,
        id: DomainId,
        victim: WorkerId,
        (used, total): (Bytes, Bytes),
        at: Nanos,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        if let Some(Life::BeingKilled(kill)) = self.workers.get(&victim).map(|worker| worker.life) {
            // It hung between the order and the signal.
            self.counters.watchdog_kills += 1;
            self.sent_by_the_watchdog(kill, at);
            return;
        }
        let Some((choice, threshold, crossed)) = self.watchdog_candidate(id, victim, (used, total), at)
        else {
            // It ended, was given up on, or is charged elsewhere: the watchdog's nomination was out of date.
            self.counters.watchdog_strays += 1;
            todo.push_back(Action::Note(Note::Stray { at, worker: victim, used, total }));
            return;
        };
        self.counters.watchdog_kills += 1;
        self.make_way(id, now, todo);
        let flying = self.flights.iter().position(|flight| self.holds_up(flight, id, now));
        if let Some(index) = flying {
            self.book_left(index, now, todo);
        }
        let kill = match flying {
            // It hung between the order to kill another worker and that signal, which was not sent: this is the kill.
            Some(index) if self.flights[index].record.times.signal.is_none() => {
                self.takes_the_place(index, choice, todo)
            }
            // It hung on after the watchdog's first: they are one kill.
            Some(index) => self.joins(index, choice),
            None => {
                self.counters.kills += 1;
                self.last_kill = KillId(self.last_kill.0 + 1);
                let usage = Usage { total, used, threshold };
                let mut flight = self.flight(id, usage, crossed, vec![choice], now);
                flight.grace_until = None;
                flight.record.times.decision = Some(at);
                self.flights.push(flight);
                self.last_kill
            }
        };
        self.sent_by_the_watchdog(kill, at);
        if let Some(worker) = self.workers.get_mut(&victim) {
            worker.be_killed(kill);
        }
        Action::Kill { kill, worker: victim }.first(todo);
    }

    /// A candidate of a domain, the domain's threshold, and since when it is above.
    fn watchdog_candidate(
        &mut self,
        id: DomainId,
        victim: WorkerId,
        (used, total): (Bytes, Bytes),
        at: Nanos,
    ) -> Option<(Choice, Bytes, (Nanos, Trigger))> {
        let line = self.threshold();
        let domain = self.domains.get_mut(&id)?;
        let threshold = domain.threshold(total, line).ok()?;
        let crossed = (domain.crossed.map_or(at, |(crossed, _)| crossed), Trigger::Watchdog);
        let choice = domain
            .roster
            .ranking(Usage { total, used, threshold })
            .into_iter()
            .find(|choice| choice.id == victim)?;
        Some((choice, threshold, crossed))
    }

    /// A kill whose orders were not carried out gets another victim; its former victims are as before. They are still
    /// on the rosters: it is not booked.
    fn takes_the_place(&mut self, index: usize, choice: Choice, todo: &mut VecDeque<Action>) -> KillId {
        let flight = &mut self.flights[index];
        flight.left = None;
        let id = flight.id;
        for victim in flight.victims.drain(..) {
            if let Some(worker) = self.workers.get_mut(&victim) {
                worker.life = Life::Running;
            }
        }
        flight.victims.push(choice.id);
        flight.chosen.clear();
        flight.chosen.push(choice);
        flight.grace_until = None;
        // Their children too, which were found on the way to the signal.
        todo.retain(|action| action.signals_for() != Some(id));
        id
    }

    fn joins(&mut self, index: usize, choice: Choice) -> KillId {
        let mut flight = self.flights.remove(index);
        flight.left = None;
        let kill = flight.id;
        flight.victims.push(choice.id);
        if flight.chosen.is_empty() {
            // Booked already.
            flight.record.victims.extend(self.described(&choice));
            self.take_off(&mut flight);
        } else {
            flight.chosen.push(choice);
        }
        self.flights.insert(index, flight);
        kill
    }

    fn sent_by_the_watchdog(&mut self, kill: KillId, at: Nanos) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.id == kill) {
            flight.record.trigger = Trigger::Watchdog;
            flight.record.times.signal.get_or_insert(at);
        }
    }
}
