//! Users with so many worker processes that the kernel side's map of all workers' processes would have no place for
//! others'. Their forks are not followed any more: their descendants are looked for at each tick, as without the
//! fork hook.

use super::Workers;
use crate::worker::WorkerId;

impl Workers {
    /// A worker has one more process. If its user's share of the map is full: from now on the kernel enters no child of
    /// that user's workers.
    pub(super) fn mind_the_fork_limit(&mut self, worker: WorkerId) {
        let Some(uid) = self.registry.get(worker).map(|entry| entry.uid) else { return };
        if self.map.is_none() || !self.registry.reaches_fork_limit(uid) {
            return;
        }
        tracing::warn!(
            uid,
            "a user's workers have more processes than kernel tracing may follow: the agent searches for the others at each check"
        );
        for worker in self.registry.workers_of(uid) {
            self.stop_following(worker);
        }
    }

    /// The same for a new worker of such a user.
    pub(super) fn stop_following_if_limited(&mut self, worker: WorkerId) {
        if self.registry.get(worker).is_some_and(|entry| self.registry.is_fork_limited(entry.uid)) {
            self.stop_following(worker);
        }
    }

    fn stop_following(&mut self, worker: WorkerId) {
        // A child forked from now on is not in the map, nor are its children when it is followed again.
        self.look_after(worker);
        if let Some(map) = &mut self.map
            && let Err(error) = map.stop_following(worker)
        {
            tracing::warn!(%error, %worker, "kernel tracing follows all forks of a user's workers again");
        }
    }

    /// At each tick: users with few processes again. Their new workers are followed from the start, and what is
    /// forked by those of their old ones' processes that are in the map.
    pub(in crate::agent) fn follow_again(&mut self) {
        for uid in self.registry.below_fork_limit_again() {
            for worker in self.registry.workers_of(uid) {
                if let Some(map) = &mut self.map {
                    map.follow_again(worker);
                }
            }
        }
    }
}
