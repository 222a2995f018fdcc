//! Workers come, fork, and end.

use alloc::collections::VecDeque;

use super::worker::{Life, Worker};
use super::{Action, DomainId, Engine, KillRecord, Note, Sample};
use crate::policy::PolicyName;
use crate::prelude::*;
use crate::units::{Bytes, MemoryKind, Nanos, Pid};
use crate::worker::{Activity, WorkerId};

impl Engine {
    /// A new worker is a candidate in every domain it charges.
    pub(super) fn register(&mut self, mut worker: Worker, at: Nanos, todo: &mut VecDeque<Action>) {
        worker.reached = self.starts.became(worker.id());
        let name = worker.name.as_deref();
        worker.learned = name.and_then(|name| self.learned.need(worker.candidate.uid, name, at));
        worker.candidate.declared = worker.declared.or(worker.learned);
        for domain in &worker.domains {
            if let Some(domain) = self.domains.get_mut(domain) {
                domain.admit(worker.candidate.clone(), worker.observed());
            }
        }
        self.counters.registered += 1;
        todo.push_back(Action::Note(Note::Registered {
            at,
            worker: worker.id(),
            pid: worker.pid,
            kind: worker.candidate.kind.name().to_owned(),
            owner: worker.candidate.owner.as_deref().map(str::to_owned),
            name: worker.name.clone(),
        }));
        // There was no hurry so far.
        let first = self.workers.is_empty();
        if first {
            self.next_refresh = self.next_refresh.min(at.after(self.settings.refresh()));
        }
        // A domain that is over its threshold and had no worker to kill has one now.
        for id in &worker.domains {
            if first || self.domains.get(id).is_some_and(super::Domain::above) {
                todo.push_back(Action::Read(*id));
            }
        }
        self.kin.put_in(&worker);
        self.workers.insert(worker.id(), worker);
        if self.settings.policy == PolicyName::ByTime {
            self.spare.reserve(self.workers.len());
        }
        self.shift(at, todo);
    }

    /// The worker is to be forgotten. One that is being killed stays until that is over.
    pub(super) fn unregister(&mut self, id: WorkerId, now: Nanos, todo: &mut VecDeque<Action>) {
        let idle = |worker: &Worker| matches!(worker.life, Life::Running | Life::Refused { .. });
        if self.workers.get(&id).is_some_and(idle) {
            self.counters.unregistered += 1;
            self.forget(id, now, todo);
        }
    }

    /// A process belongs to a worker. If that is being killed, it must die too.
    pub(super) fn forked(&mut self, id: WorkerId, pid: Pid, todo: &mut VecDeque<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !worker.add(pid) {
            return;
        }
        match worker.life {
            Life::Running | Life::Refused { .. } => {
                if let (true, Some(owner)) = (worker.ends, worker.owned_by) {
                    todo.push_back(Action::EndOwned { worker: id, owner, kill: None });
                }
            }
            Life::BeingKilled(kill) | Life::Stuck(kill) => {
                // Asked to end, it may need a helper to do so; if it does not end, both are killed.
                if !self.in_grace(kill) {
                    Action::KillProcess { kill, worker: id, pid }.first(todo);
                }
            }
        }
    }

    /// What a worker holds was measured.
    pub(super) fn measured(&mut self, id: WorkerId, sample: Option<Sample>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let memory = sample.map(|sample| sample.bytes);
        worker.sample = sample;
        worker.candidate.memory = memory;
        if sample.is_none_or(|sample| sample.measured != Some(MemoryKind::Estimate)) {
            worker.measured_at = sample.map(|sample| sample.at);
        }
        if let Some(Sample { bytes, at, .. }) = sample {
            worker.peak = worker.peak.max(Some(bytes));
            worker.growth.note(at, bytes);
        }
        for domain in &worker.domains {
            if let Some(domain) = self.domains.get_mut(domain) {
                domain.set_memory(id, memory);
            }
        }
    }

    /// The most that a worker held at once.
    pub(super) fn reached(&mut self, id: WorkerId, peak: Bytes) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.peak = worker.peak.max(Some(peak));
        }
    }

    /// After a process of a worker ended: is the worker at its end, or a kill?
    pub(super) fn after_an_end(&mut self, id: WorkerId, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.life {
            Life::Running | Life::Refused { .. } if worker.gone() => {
                let (status, by_kernel) = (worker.status, worker.killed_by_kernel);
                match status {
                    _ if by_kernel.is_some() => {}
                    _ if worker.ends => self.counters.owner_died += 1,
                    None | Some(0) => self.counters.exited += 1,
                    Some(status) if asked_to_end(status) => self.counters.exited += 1,
                    Some(_) => self.counters.crashed += 1,
                }
                // Sent while it is still known which worker it belonged to.
                todo.push_back(Action::Note(Note::Ended { at: now, worker: id, status }));
                self.forget(id, now, todo);
            }
            Life::Running | Life::Refused { .. } => {}
            Life::BeingKilled(kill) => self.check_flight(kill, now, todo),
            // It had been given up on, and died after all.
            Life::Stuck(kill) if worker.gone() => {
                let status = worker.status;
                self.counters.died_late += 1;
                todo.push_back(Action::Note(Note::DiedLate { at: now, kill, worker: id, status }));
                self.forget(id, now, todo);
            }
            Life::Stuck(_) => {}
        }
    }

    /// A worker of a pool got work, or has none any more. Time counts from when it got it (docs/behavior.md#policies).
    pub(super) fn set_activity(&mut self, id: WorkerId, activity: Activity, now: Nanos) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.candidate.activity = activity;
        if activity == Activity::Busy {
            worker.candidate.started = now;
        }
        let since = worker.candidate.started;
        for domain in &worker.domains {
            if let Some(domain) = self.domains.get_mut(domain) {
                domain.set_activity(id, activity, since);
            }
        }
    }

    /// A worker is older than its registration: its place among the candidates is by its age.
    pub(super) fn started(&mut self, id: WorkerId, at: Nanos) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.candidate.started = at;
        self.rank_again(id);
    }

    /// A fact that it is ranked by changed.
    pub(super) fn rank_again(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.life == Life::Running) else {
            return;
        };
        for domain in &worker.domains {
            if let Some(domain) = self.domains.get_mut(domain) {
                domain.dismiss(id);
                domain.admit(worker.candidate.clone(), worker.observed());
            }
        }
    }

    /// A worker charges other domains. Their readings were taken with its memory in them all along.
    pub(super) fn moved(&mut self, id: WorkerId, domains: Vec<DomainId>, todo: &mut VecDeque<Action>) {
        if self.starts.moved(id, &domains) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        for domain in &worker.domains {
            if let Some(domain) = self.domains.get_mut(domain) {
                domain.dismiss(id);
            }
        }
        worker.domains = domains;
        if worker.life != Life::Running {
            return;
        }
        for charged in &worker.domains {
            let Some(domain) = self.domains.get_mut(charged) else { continue };
            domain.admit(worker.candidate.clone(), worker.observed());
            // One that is above and had nobody to kill has somebody now.
            if domain.above() {
                todo.push_back(Action::Read(*charged));
            }
        }
    }

    /// Forgets a worker.
    pub(super) fn forget(&mut self, id: WorkerId, now: Nanos, todo: &mut VecDeque<Action>) {
        self.free_all_of(id, now, todo);
        if self.workers.get(&id).is_some_and(Worker::gone) {
            self.end_owned(id, todo);
        }
        if let Some(worker) = self.workers.remove(&id) {
            self.kin.take_out(&worker);
            for domain in &worker.domains {
                if let Some(domain) = self.domains.get_mut(domain) {
                    domain.dismiss(id);
                }
            }
            todo.push_back(Action::Forget(id));
            if worker.gone() {
                self.ended_beside_kills(&worker);
                self.learn_from(&worker, now);
            }
            self.look_for_room(todo);
        }
    }

    /// Its memory comes back too, and not by the kills in its domains that are under way.
    fn ended_beside_kills(&mut self, worker: &Worker) {
        let of_other = |record: &KillRecord| record.victims.iter().all(|victim| victim.worker != worker.id());
        for flight in self.flights.iter_mut().filter(|flight| worker.domains.contains(&flight.domain)) {
            flight.record.others_ended |= of_other(&flight.record);
        }
        for domain in worker.domains.iter().filter_map(|id| self.domains.get(id)) {
            let record = domain
                .after_kill
                .and_then(|kill| self.history.iter_mut().rev().find(|record| record.id == kill));
            if let Some(record) = record {
                record.others_ended |= of_other(record);
            }
        }
    }
}

/// Whether an end by this wait(2) status is what somebody asked for: SIGHUP, SIGINT or SIGTERM, or the exit code that
/// says so.
fn asked_to_end(status: u32) -> bool {
    const ASKS: [u32; 3] = [1, 2, 15];
    match status & 0x7f {
        0 => ((status >> 8) & 0xff).checked_sub(128).is_some_and(|signal| ASKS.contains(&signal)),
        signal => ASKS.contains(&signal),
    }
}

#[cfg(test)]
mod tests {
    use super::asked_to_end;

    #[test]
    fn a_signal_that_asks_for_an_end_makes_no_crash() {
        assert!([15, 2, 1, 143 << 8, 130 << 8].into_iter().all(asked_to_end));
        assert!(![9, 11, 6, 1 << 8, 15 << 8, 137 << 8, 0x8b].into_iter().any(asked_to_end));
    }
}
