//! Workers come, fork, and end.

use std::collections::VecDeque;

use super::worker::{Life, Worker};
use super::{Action, Core, Note, Sample};
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

impl Core {
    /// A new worker is a candidate in every domain it charges.
    pub(super) fn register(&mut self, worker: Worker, at: Nanos, todo: &mut VecDeque<Action>) {
        for domain in &worker.domains {
            if let Some(domain) = self.domains.get_mut(domain) {
                domain.roster.insert(worker.candidate.clone());
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
        // A domain that is above and had nobody to kill has somebody now.
        for id in &worker.domains {
            if self.domains.get(id).is_some_and(super::Domain::above) {
                todo.push_back(Action::Read(*id));
            }
        }
        self.workers.insert(worker.id(), worker);
    }

    /// The worker is nobody's business any more. One that is being killed stays until that is over.
    pub(super) fn unregister(&mut self, id: WorkerId, todo: &mut VecDeque<Action>) {
        if self.workers.get(&id).is_some_and(|worker| worker.life == Life::Running) {
            self.counters.unregistered += 1;
            self.forget(id, todo);
        }
    }

    /// A process belongs to a worker. If that is being killed, it must die too.
    pub(super) fn forked(&mut self, id: WorkerId, pid: Pid, todo: &mut VecDeque<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !worker.add(pid) {
            return;
        }
        match worker.life {
            Life::Running => {}
            Life::BeingKilled(kill) | Life::Stuck(kill) => {
                todo.push_back(Action::KillProcess { kill, worker: id, pid });
            }
        }
    }

    /// What a worker holds was measured.
    pub(super) fn measured(&mut self, id: WorkerId, sample: Option<Sample>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let memory = sample.map(|sample| sample.bytes);
        worker.sample = sample;
        worker.candidate.memory = memory;
        for domain in &worker.domains {
            if let Some(domain) = self.domains.get_mut(domain) {
                domain.roster.set_memory(id, memory);
            }
        }
    }

    /// After a process of a worker ended: is the worker at its end, or a kill?
    pub(super) fn after_an_end(&mut self, id: WorkerId, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(worker) = self.workers.get(&id) else { return };
        match worker.life {
            Life::Running if worker.gone() => {
                let status = worker.status;
                match status {
                    None | Some(0) => self.counters.exited += 1,
                    Some(_) => self.counters.crashed += 1,
                }
                self.forget(id, todo);
                todo.push_back(Action::Note(Note::Ended { at: now, worker: id, status }));
            }
            Life::Running => {}
            Life::BeingKilled(kill) => self.check_flight(kill, now, todo),
            // It had been given up on, and died after all.
            Life::Stuck(_) if worker.gone() => {
                let status = worker.status;
                self.forget(id, todo);
                todo.push_back(Action::Note(Note::Ended { at: now, worker: id, status }));
            }
            Life::Stuck(_) => {}
        }
    }

    /// Takes a worker off the books.
    pub(super) fn forget(&mut self, id: WorkerId, todo: &mut VecDeque<Action>) {
        if let Some(worker) = self.workers.remove(&id) {
            for domain in &worker.domains {
                if let Some(domain) = self.domains.get_mut(domain) {
                    domain.roster.remove(id);
                }
            }
            todo.push_back(Action::Forget(id));
        }
    }
}
