//! The brake as the core sees it: whom the kernel stopped at the line, and when and why each is let go. The rules:
//! a worker is held while a domain that it charges is above and something is done about it, `brake_max_ms` at most;
//! a victim is never let go before it dies, except when that takes too long. Stopping itself is the kernel's.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::worker::Life;
use super::{Action, Core, DomainId, Note};
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// Why a process that the brake stopped was continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freed {
    /// By authoritative readings no domain that it charges is above (any more).
    Room,
    /// A domain is above, but nobody can be killed: to hold it would help nobody.
    NobodyToKill,
    /// It was held for `brake_max_ms`.
    TooLong,
    /// It is no worker any more.
    Unregistered,
    /// The brake was switched off.
    SwitchedOff,
}

/// A process that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    /// Whose.
    pub worker: WorkerId,
    /// The process.
    pub pid: Pid,
    /// When the kernel stopped it.
    pub since: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    worker: WorkerId,
    since: Nanos,
    /// When the core was told: readings from then on decide.
    told: Nanos,
}

/// Who is held.
#[derive(Debug, Default)]
pub(super) struct Brake {
    held: BTreeMap<Pid, Held>,
}

impl Core {
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
        self.brake.held.insert(pid, Held { worker, since, told: now });
        if let Some(found) = self.workers.get(&worker) {
            todo.extend(found.domains.iter().map(|domain| Action::Read(*domain)));
        }
        todo.push_back(Action::Note(Note::Stopped { at: since, worker, pid }));
        self.free_whom_it_may(now, todo);
    }

    /// A process is dying or gone: it is not held any more.
    pub(super) fn held_ends(&mut self, pid: Pid, now: Nanos) {
        if let Some(held) = self.brake.held.remove(&pid) {
            self.count_held(held.since, now);
        }
    }

    /// Continues everyone who need not be held any more. Called whenever that may have changed; cheap if nobody is.
    pub(super) fn free_whom_it_may(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        if self.brake.held.is_empty() {
            return;
        }
        let free: Vec<(Pid, Held, Freed)> = self
            .brake
            .held
            .iter()
            .filter_map(|(pid, held)| Some((*pid, *held, self.may_go(held, now)?)))
            .collect();
        for (pid, held, why) in free {
            if why == Freed::TooLong {
                self.let_go_around(held.worker, todo);
            }
            self.free(pid, held, why, now, todo);
        }
    }

    /// Continues all processes of a worker that leaves the books alive.
    pub(super) fn free_all_of(&mut self, worker: WorkerId, now: Nanos, todo: &mut VecDeque<Action>) {
        let its = self.brake.held.iter().filter(|(_, held)| held.worker == worker);
        for (pid, held) in its.map(|(pid, held)| (*pid, *held)).collect::<Vec<_>>() {
            self.free(pid, held, Freed::Unregistered, now, todo);
        }
    }

    /// Nobody can be killed in this domain: nobody is stopped there until it was below its threshold again.
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

    /// When the first of the held has been held for too long.
    pub(super) fn brake_deadline(&self) -> Option<Nanos> {
        self.brake.held.values().map(|held| self.too_long_at(held)).min()
    }

    /// Who is held now.
    #[must_use]
    pub fn held(&self) -> Vec<HeldView> {
        let held = self.brake.held.iter();
        held.map(|(pid, held)| HeldView { worker: held.worker, pid: *pid, since: held.since }).collect()
    }

    fn too_long_at(&self, held: &Held) -> Nanos {
        held.since.after(Duration::from_millis(self.settings.brake_max_ms))
    }

    fn may_go(&self, held: &Held, now: Nanos) -> Option<Freed> {
        if now >= self.too_long_at(held) {
            return Some(Freed::TooLong);
        }
        let Some(worker) = self.workers.get(&held.worker) else { return Some(Freed::Unregistered) };
        match worker.life {
            // SIGKILL ends a stopped process too.
            Life::BeingKilled(_) => return None,
            Life::Running | Life::Stuck(_) | Life::Refused => {}
        }
        if !self.settings.brakes() {
            return Some(Freed::SwitchedOff);
        }
        let mut why = Freed::Room;
        for domain in worker.domains.iter().filter_map(|id| self.domains.get(id)) {
            if domain.read_at.is_none_or(|read| read < held.told) {
                // Its reading is on its way.
                return None;
            }
            if domain.above() {
                if !domain.let_go {
                    return None;
                }
                why = Freed::NobodyToKill;
            }
        }
        Some(why)
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
        let held_ns = self.count_held(held.since, now);
        todo.push_back(Action::Continue { worker: held.worker, pid });
        todo.push_back(Action::Note(Note::Continued { at: now, worker: held.worker, pid, held_ns, why }));
    }

    fn count_held(&mut self, since: Nanos, now: Nanos) -> u64 {
        let held = now.0.saturating_sub(since.0);
        self.counters.held_ns = self.counters.held_ns.saturating_add(held);
        self.counters.longest_held_ns = self.counters.longest_held_ns.max(held);
        held
    }
}

#[cfg(test)]
mod tests;
