//! What workers of a name reached, learned when they end.

use super::Engine;
use super::view::Raised;
use super::worker::Worker;
use crate::learn::{Kept, LearnedView, Peak};
use crate::prelude::*;
use crate::units::Nanos;
use crate::worker::WorkerId;

impl Engine {
    /// A worker is gone: by itself with exit code 0 it needed what it reached, otherwise at least that.
    pub(super) fn learn_from(&mut self, worker: &Worker, now: Nanos) {
        let (Some(name), Some(bytes), None) = (&worker.name, worker.peak, &worker.rule) else { return };
        let whole = worker.came_to_its_end();
        let uid = worker.candidate.uid;
        let peak = Peak { bytes, cut_short: !whole };
        let before = self.learned.need(uid, name, now);
        self.learned.note((uid, name), peak, worker.attempt > 0, now);
        if before != self.learned.need(uid, name, now) {
            self.know(uid, name, now);
        }
    }

    /// A run that was killed had reached more than was known when it ended.
    pub(super) fn learn_more(&mut self, raised: &Raised, now: Nanos) {
        let Raised { uid, name, before, bytes } = raised;
        let (uid, bytes) = (*uid, *bytes);
        self.starts.raise_reached(uid, name, bytes);
        let need = self.learned.need(uid, name, now);
        match before {
            Some(before) => self.learned.raise((uid, name), (*before, bytes)),
            // It was never measured, so that nothing was learned from it.
            None => self.learned.note((uid, name), Peak { bytes, cut_short: true }, false, now),
        }
        if need != self.learned.need(uid, name, now) {
            self.know(uid, name, now);
        }
    }

    /// What is known of a name changed: workers and starts of that name follow it.
    fn know(&mut self, uid: u32, name: &str, now: Nanos) {
        let need = self.learned.need(uid, name, now);
        self.starts.learned(uid, name, need);
        let ids: Vec<WorkerId> = self.kin.named(uid, name).collect();
        for id in ids {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            worker.learned = need;
            let declared = worker.declared.or(need);
            if worker.candidate.declared != declared {
                worker.candidate.declared = declared;
                self.rank_again(id);
            }
        }
    }

    /// What an agent before this one had learned.
    pub(super) fn remember_learned(&mut self, kept: Vec<Kept>, now: Nanos) {
        self.learned.remember(kept, now);
    }

    /// Somebody wants a name to be forgotten: of this user's workloads, or of everybody's.
    pub(super) fn forget_learned(&mut self, uid: Option<u32>, name: &str, now: Nanos) {
        let users: Vec<u32> =
            self.learned.views(now).filter(|view| view.name == name).map(|view| view.uid).collect();
        self.learned.forget(uid, name);
        users.into_iter().for_each(|uid| self.know(uid, name, now));
    }

    /// What was learned, for people and programs.
    pub fn learned(&self, now: Nanos) -> impl Iterator<Item = LearnedView> + '_ {
        self.learned.views(now)
    }

    /// What was learned, to be kept, and the number that rises with every change.
    pub fn learned_to_keep(&self, now: Nanos) -> impl Iterator<Item = Kept> + '_ {
        self.learned.kept(now)
    }

    /// See [`Engine::learned_to_keep`].
    #[must_use]
    pub fn learned_changes(&self) -> u64 {
        self.learned.changes()
    }
}
