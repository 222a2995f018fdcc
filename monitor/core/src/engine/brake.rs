//! The brake as the engine sees it: which processes the kernel paused at the line, and when and why each resumes. The
//! rules: a worker stays paused while a domain that it counts towards is over its threshold and the engine acts on it,
//! for `brake_max_ms` at most. A victim never resumes before it dies, except when that takes too long. The kernel does
//! the pausing.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use super::worker::Life;
use super::{Action, DomainId, Engine, Freed, HeldView, Note, Release};
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// With less room than this for each processor (four times what one keeps to itself) no process resumes at once: it
/// would be stopped again some pages later.
const LEAST_ROOM: Bytes = Bytes(256 << 10);

/// How long paused processes wait for more room. Not for ever: below the threshold nothing is killed, so it may never
/// come.
const LITTLE_ROOM: Duration = Duration::from_millis(100);

/// What becomes of a paused process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes(Freed),
    Stays,
    /// There is little room: it goes at this time if nothing else is against it.
    StaysUntil(Nanos),
}

#[derive(Debug, Clone, Copy)]
struct Held {
    worker: WorkerId,
    since: Nanos,
    /// When the engine was told: readings from then on decide.
    told: Nanos,
    /// It waits for more room, until then.
    cramped: Option<Nanos>,
}

/// The paused processes.
#[derive(Debug, Default)]
pub(super) struct Brake {
    held: BTreeMap<Pid, Held>,
}

impl Engine {
    /// The kernel stopped a worker's process at the line. Told twice, it counts once.
    pub(super) fn stopped(
        &mut self,
        worker: WorkerId,
        pid: Pid,
        since: Nanos,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        if self.brake.held.contains_key(&pid) {
            return;
        }
        self.counters.stopped += 1;
        self.brake.held.insert(pid, Held { worker, since, told: now, cramped: None });
        if let Some(found) = self.workers.get(&worker) {
            todo.extend(found.domains.iter().map(|domain| Action::Read(*domain)));
        }
        todo.push_back(Action::Note(Note::Stopped { at: since, worker, pid }));
        self.free_whom_it_may(now, todo);
    }

    /// A process is dying or gone: it is not held any more.
    pub(super) fn held_ends(&mut self, pid: Pid, now: Nanos, todo: &mut VecDeque<Action>) {
        if let Some(held) = self.brake.held.remove(&pid) {
            todo.push_back(self.release(pid, held, Freed::Ended, now));
        }
    }

    /// Resumes every process that need not stay paused. Called whenever that may have changed; cheap if none is paused.
    pub(super) fn free_whom_it_may(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        if self.brake.held.is_empty() {
            return;
        }
        let fates: Vec<(Pid, Held, Fate)> =
            self.brake.held.iter().map(|(pid, held)| (*pid, *held, self.fate_of(held, now))).collect();
        for (pid, held, fate) in fates {
            let cramped = match fate {
                Fate::Goes(why) => {
                    if why == Freed::TooLong {
                        self.let_go_around(held.worker, todo);
                    }
                    self.free(pid, held, why, now, todo);
                    continue;
                }
                Fate::StaysUntil(time) => Some(time),
                Fate::Stays => None,
            };
            if let Some(held) = self.brake.held.get_mut(&pid) {
                held.cramped = cramped;
            }
        }
    }

    /// Resumes all processes of a worker that is forgotten while it lives.
    pub(super) fn free_all_of(&mut self, worker: WorkerId, now: Nanos, todo: &mut VecDeque<Action>) {
        let its = self.brake.held.iter().filter(|(_, held)| held.worker == worker);
        for (pid, held) in its.map(|(pid, held)| (*pid, *held)).collect::<Vec<_>>() {
            self.free(pid, held, Freed::Unregistered, now, todo);
        }
    }

    /// No worker of this domain can be killed: none is paused there until it was below its threshold again.
    pub(super) fn let_go(&mut self, id: DomainId, todo: &mut VecDeque<Action>) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        if self.settings.brakes() && !domain.let_go {
            domain.let_go = true;
            let line = domain.line().unwrap_or(i64::MAX);
            todo.push_back(Action::SetLine { domain: id, line, rearm: false, brake: false });
        }
    }

    /// Whether the kernel is to stop workers that allocate past this domain's line.
    pub(super) fn brakes_in(&self, id: DomainId) -> bool {
        self.settings.brakes() && self.domains.get(&id).is_some_and(|domain| !domain.let_go)
    }

    /// When the first paused process has been paused for too long, or has waited for more room long enough.
    pub(super) fn brake_deadline(&self) -> Option<Nanos> {
        let too_long = |held: &Held| self.too_long_at(held);
        self.brake.held.values().map(|held| held.cramped.unwrap_or(Nanos(u64::MAX)).min(too_long(held))).min()
    }

    /// The processes that are paused now.
    #[must_use]
    pub fn held(&self) -> Vec<HeldView> {
        let held = self.brake.held.iter();
        held.map(|(pid, held)| HeldView { worker: held.worker, pid: *pid, since: held.since }).collect()
    }

    fn too_long_at(&self, held: &Held) -> Nanos {
        held.since.after(Duration::from_millis(self.settings.brake_max_ms))
    }

    fn fate_of(&self, held: &Held, now: Nanos) -> Fate {
        if now >= self.too_long_at(held) {
            return Fate::Goes(Freed::TooLong);
        }
        let Some(worker) = self.workers.get(&held.worker) else {
            return Fate::Goes(Freed::Unregistered);
        };
        match worker.life {
            // SIGKILL ends a stopped process too.
            Life::BeingKilled(_) => return Fate::Stays,
            Life::Running | Life::Stuck(_) | Life::Refused { .. } => {}
        }
        if !self.settings.brakes() {
            return Fate::Goes(Freed::SwitchedOff);
        }
        let (mut why, mut cramped) = (Freed::Room, false);
        for domain in worker.domains.iter().filter_map(|id| self.domains.get(id)) {
            if domain.read_at.is_none_or(|read| read < held.told) {
                // Its reading is on its way.
                return Fate::Stays;
            }
            if domain.above() {
                if !domain.let_go {
                    return Fate::Stays;
                }
                why = Freed::NobodyToKill;
            } else {
                cramped |= self.is_cramped(domain);
            }
        }
        let until = held.since.after(LITTLE_ROOM);
        if cramped && now < until { Fate::StaysUntil(until) } else { Fate::Goes(why) }
    }

    /// Below its threshold by next to nothing, where going on means to be stopped again.
    fn is_cramped(&self, domain: &super::Domain) -> bool {
        let least = LEAST_ROOM.0.saturating_mul(u64::from(self.settings.cpus.max(1)));
        let room = |usage: Usage| usage.threshold.saturating_sub(usage.used);
        !domain.let_go && domain.usage().is_some_and(|usage| room(usage) < Bytes(least))
    }

    fn let_go_around(&mut self, worker: WorkerId, todo: &mut VecDeque<Action>) {
        let domains = self.workers.get(&worker).map(|worker| worker.domains.clone()).unwrap_or_default();
        for id in domains {
            if self.domains.get(&id).is_some_and(super::Domain::above) {
                self.let_go(id, todo);
            }
        }
    }

    fn free(&mut self, pid: Pid, held: Held, why: Freed, now: Nanos, todo: &mut VecDeque<Action>) {
        self.brake.held.remove(&pid);
        todo.push_back(Action::Continue { worker: held.worker, pid });
        todo.push_back(self.release(pid, held, why, now));
    }

    /// Counts how long it was paused; returns the note about it.
    fn release(&mut self, pid: Pid, held: Held, why: Freed, at: Nanos) -> Action {
        let held_ns = at.0.saturating_sub(held.since.0);
        self.counters.held_ns = self.counters.held_ns.saturating_add(held_ns);
        self.counters.longest_held_ns = self.counters.longest_held_ns.max(held_ns);
        Action::Note(Note::Continued(Release { at, worker: held.worker, pid, held_ns, why }))
    }
}

#[cfg(test)]
mod tests;
