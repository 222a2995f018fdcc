//! How workers belong together, by what they say about themselves: which worker owns which, and which have which name.
//! It is looked up whenever a worker ends, so the look-up must not become slower with more workers.

use alloc::collections::{BTreeMap, BTreeSet};

use super::worker::Worker;
use crate::prelude::*;
use crate::worker::WorkerId;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kin {
    owned: BTreeMap<WorkerId, BTreeSet<WorkerId>>,
    /// Of users, without the workers that rules made: nothing is learned of those.
    named: BTreeMap<(u32, String), BTreeSet<WorkerId>>,
}

impl Kin {
    /// The workers that a worker owns.
    pub(super) fn owned_by(&self, owner: WorkerId) -> impl Iterator<Item = WorkerId> + '_ {
        self.owned.get(&owner).into_iter().flatten().copied()
    }

    /// The registered workers of a user with this name.
    pub(super) fn named(&self, uid: u32, name: &str) -> impl Iterator<Item = WorkerId> + '_ {
        self.named.get(&(uid, name.to_owned())).into_iter().flatten().copied()
    }

    /// As the worker is now; before it is changed it is taken out.
    pub(super) fn put_in(&mut self, worker: &Worker) {
        if let Some(owner) = worker.owned_by {
            self.owned.entry(owner).or_default().insert(worker.id());
        }
        if let Some(key) = name_of(worker) {
            self.named.entry(key).or_default().insert(worker.id());
        }
    }

    pub(super) fn take_out(&mut self, worker: &Worker) {
        if let Some(owner) = worker.owned_by {
            take(&mut self.owned, owner, worker.id());
        }
        if let Some(key) = name_of(worker) {
            take(&mut self.named, key, worker.id());
        }
    }
}

fn name_of(worker: &Worker) -> Option<(u32, String)> {
    let name = worker.name.as_ref().filter(|_| worker.rule.is_none())?;
    Some((worker.candidate.uid, name.clone()))
}

fn take<Key: Ord>(from: &mut BTreeMap<Key, BTreeSet<WorkerId>>, key: Key, id: WorkerId) {
    if let Some(ids) = from.get_mut(&key) {
        ids.remove(&id);
        if ids.is_empty() {
            from.remove(&key);
        }
    }
}
