//! Workers that a worker owns end with it, as Ray's tasks end with their owner: when it is killed, and when the last of
//! its processes is gone. They are not victims: there is no decision about them, and no launcher retries them.

use alloc::collections::VecDeque;

use super::flight::Flight;
use super::worker::{Life, Worker};
use super::{Action, Engine};
use crate::prelude::*;
use crate::worker::WorkerId;

impl Engine {
    /// A worker has an owner from now on. If that owner is being killed already, it ends at once.
    pub(super) fn owned_by(&mut self, id: WorkerId, owner: WorkerId, todo: &mut VecDeque<Action>) {
        // An observed worker takes no other with it.
        if id == owner || self.workers.get(&owner).is_some_and(Worker::observed) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        self.kin.take_out(worker);
        worker.owned_by = Some(owner);
        self.kin.put_in(worker);
        let ends = match self.workers.get(&owner).map(|owner| owner.life) {
            Some(Life::BeingKilled(kill)) => !self.in_grace(kill),
            Some(Life::Stuck(_)) | None => true,
            Some(Life::Running | Life::Refused { .. }) => false,
        };
        if ends {
            self.end_owned(owner, todo);
        }
    }

    /// A worker is gone: those that it owns end, and those that they own. Not where killing is off.
    pub(super) fn end_owned(&mut self, owner: WorkerId, todo: &mut VecDeque<Action>) {
        for (id, owner) in self.claim_owned(owner) {
            // It is dying: choosing it would not help.
            self.leave_rosters(id);
            todo.push_back(Action::EndOwned { worker: id, owner, kill: None });
        }
    }

    /// A kill's victims are signaled: those that they own are part of it from now on, so that no other worker dies for
    /// what they give back.
    pub(super) fn end_owned_with(&mut self, flight: &mut Flight, todo: &mut VecDeque<Action>) {
        for index in 0..flight.victims.len() {
            for (id, owner) in self.claim_owned(flight.victims[index]) {
                self.leave_rosters(id);
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.be_killed(flight.id);
                    flight.victims.push(id);
                }
                todo.push_back(Action::EndOwned { worker: id, owner, kill: Some(flight.id) });
            }
        }
    }

    /// Those that a worker owns, and that these own, with their owners; each once, without victims.
    fn claim_owned(&mut self, owner: WorkerId) -> Vec<(WorkerId, WorkerId)> {
        let (mut owners, mut claimed) = (vec![owner], Vec::new());
        if !self.settings.enforces() {
            owners.clear();
        }
        while let Some(owner) = owners.pop() {
            for id in self.kin.owned_by(owner) {
                let Some(worker) = self.workers.get_mut(&id) else { continue };
                if core::mem::replace(&mut worker.ends, true) {
                    continue;
                }
                owners.push(worker.id());
                if matches!(worker.life, Life::Running | Life::Refused { .. }) {
                    claimed.push((worker.id(), owner));
                }
            }
        }
        claimed
    }

    fn leave_rosters(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        for charged in &worker.domains {
            if let Some(domain) = self.domains.get_mut(charged) {
                domain.dismiss(id);
            }
        }
    }
}
