//! Which kills in flight the next kill waits for, and which do not delay it. Kills in overlapping domains happen one at
//! a time, but no victim can delay the others by not dying. The engine checks a victim that is still alive after a
//! while, and again. If it cannot die now, or all its memory was freed early and a reading is still over the threshold,
//! its kill gives way. A domain waits for kills inside it only for a short total time.

use alloc::collections::VecDeque;

use super::flight::Flight;
use super::patience::FIRST_LOOK;
use super::worker::{Life, Worker};
use super::{Action, DomainId, Engine, KillId, Remains};
use crate::prelude::*;
use crate::units::Nanos;
use crate::worker::WorkerId;

impl Engine {
    /// Whether a domain that is above has to wait for a kill in flight. Allocates nothing.
    pub(super) fn must_wait(&self, id: DomainId, now: Nanos) -> bool {
        self.flights.iter().any(|flight| self.holds_up(flight, id, now))
    }

    /// Whether this kill holds up the next one in a domain.
    pub(super) fn holds_up(&self, flight: &Flight, id: DomainId, now: Nanos) -> bool {
        if !self.overlap(flight.domain, id) {
            return false;
        }
        // Its victims are on the rosters still.
        if !flight.chosen.is_empty() {
            return true;
        }
        if self.gives_way(flight) {
            return false;
        }
        let inner = flight.domain != id && self.within(flight.domain, id);
        let since = self.domains.get(&id).and_then(|domain| domain.held_up);
        let longest = FIRST_LOOK + self.settings.grace();
        !(inner && since.is_some_and(|since| now.since(since) >= longest))
    }

    /// Every victim that still lives was examined, and cannot die now or has no memory left.
    fn gives_way(&self, flight: &Flight) -> bool {
        let mut living = flight
            .victims
            .iter()
            .filter_map(|id| self.workers.get(id))
            .filter(|worker| worker.dead_at().is_none());
        flight.looked && flight.memory_deadline.is_none() && {
            let mut any = false;
            let all = living.all(|worker| {
                any = true;
                worker.immovable() || worker.memory_is_taken()
            });
            any && all
        }
    }

    /// A domain is over its threshold and must wait: since when. Kills within it are waited for only so long.
    pub(super) fn note_held_up(&mut self, id: DomainId, now: Nanos) {
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.held_up.get_or_insert(now);
        }
    }

    /// A kill of this very domain that gives way is over, as far as the next one is concerned: its victims are stuck.
    pub(super) fn make_way(&mut self, id: DomainId, now: Nanos, todo: &mut VecDeque<Action>) {
        let over = |flight: &Flight| flight.domain == id && !self.holds_up(flight, id, now);
        if let Some(index) = self.flights.iter().position(over) {
            self.land(index, false, now, todo);
        }
    }

    /// When this kill's victims are looked at for the first time, or again.
    pub(super) fn next_look(&self, victims: &[WorkerId], now: Nanos) -> Nanos {
        let uids = self.uids_of(victims);
        let look = uids.map(|uid| self.patience.look(uid, now)).min().unwrap_or(FIRST_LOOK);
        now.after(look)
    }

    /// It is time to examine the victims that still live: what they wait for, and whether that matters.
    pub(super) fn look(&mut self, kill: KillId, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(index) = self.flights.iter().position(|flight| flight.id == kill) else { return };
        let next = self.next_look(&self.flights[index].victims, now);
        let flight = &mut self.flights[index];
        let waits = flight.memory_deadline.is_some() || flight.grace_until.is_some() || flight.left.is_some();
        if waits || now < flight.look_at {
            return;
        }
        flight.look_at = next;
        flight.looked = true;
        for victim in &flight.victims {
            let living = self.workers.get(victim).filter(|worker| worker.dead_at().is_none());
            let Some(living) = living.map(Worker::living) else { continue };
            todo.push_back(Action::Examine { kill, worker: *victim, pids: living });
        }
        todo.push_back(Action::Read(flight.domain));
    }

    /// Takes note of what an examination found.
    pub(super) fn looked_at(&mut self, kill: KillId, worker: WorkerId, remains: &[Remains]) {
        let Some(found) = self.workers.get_mut(&worker) else { return };
        if found.life == Life::BeingKilled(kill) {
            let cannot_die = |pid| remains.iter().any(|process| process.pid == pid && process.cannot_die());
            let immovable = found.living().into_iter().all(cannot_die);
            found.set_immovable(immovable);
        }
    }

    /// The time that others waited for a kill counts against the users of its victims.
    pub(super) fn count_waiting(&mut self, flight: &Flight, now: Nanos) {
        let Some(began) = flight.record.times.decision else { return };
        let waited = now.since(began).saturating_sub(self.settings.grace());
        let uids: Vec<u32> = self.uids_of(&flight.victims).collect();
        for (index, uid) in uids.iter().enumerate() {
            if !uids[..index].contains(uid) {
                self.patience.use_up(*uid, waited, now);
            }
        }
    }

    pub(super) fn uids_of<'a>(&'a self, victims: &'a [WorkerId]) -> impl Iterator<Item = u32> + 'a {
        victims.iter().filter_map(|victim| self.workers.get(victim)).map(|worker| worker.candidate.uid)
    }
}
