//! Users whose workers have so many processes that the kernel side's map of all workers' processes would have no place
//! for others'. Their forks are not followed any more: their descendants are looked for at each tick, as without the
//! fork hook.

use crate::agent::shell::Shell;
use crate::worker::WorkerId;

impl Shell {
    /// A worker has one more process. If its user's share of the map is full: from now on the kernel enters no child of
    /// that user's workers.
    pub(in crate::agent) fn mind_the_crowd(&mut self, worker: WorkerId) {
        let Some(uid) = self.registry.get(worker).map(|entry| entry.uid) else { return };
        if self.programs.is_none() || !self.registry.crowds(uid) {
            return;
        }
        tracing::warn!(
            uid,
            "its workers have as many processes as the kernel side may follow for it: others are looked for at each tick"
        );
        for worker in self.registry.workers_of(uid) {
            self.bar(worker);
        }
    }

    /// The same for a new worker of such a user.
    pub(in crate::agent) fn bar_if_crowded(&mut self, worker: WorkerId) {
        if self.registry.get(worker).is_some_and(|entry| self.registry.is_crowd(entry.uid)) {
            self.bar(worker);
        }
    }

    fn bar(&mut self, worker: WorkerId) {
        // Whoever is forked from now on is not in the map, nor are its children when the bar is lifted.
        self.troubles.looked_after.insert(worker);
        if let Some(programs) = &mut self.programs
            && let Err(error) = programs.barred.bar(worker)
        {
            tracing::warn!(%error, %worker, "the kernel side goes on following its forks");
        }
    }

    /// At each tick: users who have few processes again. Their new workers are followed from the start, and what is
    /// forked by those of their old ones' processes that are in the map.
    pub(in crate::agent) fn lift_bars(&mut self) {
        for uid in self.registry.thinned() {
            for worker in self.registry.workers_of(uid) {
                self.lift_bar(worker);
            }
        }
    }

    pub(in crate::agent) fn lift_bar(&mut self, worker: WorkerId) {
        if let Some(programs) = &mut self.programs {
            programs.barred.lift(worker);
        }
    }
}
