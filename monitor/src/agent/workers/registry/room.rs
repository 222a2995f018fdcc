//! How many workers, how many of their processes' descriptors, and how many processes that the kernel side follows,
//! there may be: in all, and of one user. Pure.

use std::collections::{BTreeSet, HashMap};

use monitor_common::MAX_WORKER_PROCESSES;
use serde::Serialize;

/// See the module.
#[derive(Debug)]
pub(super) struct Room {
    /// How many descriptors there may be.
    most: usize,
    /// How many processes the kernel side can follow.
    followed: usize,
    all: Taken,
    /// By the users of the workers.
    by_uid: HashMap<u32, Taken>,
    /// Users who have so many processes that their forks are not followed.
    crowds: BTreeSet<u32>,
}

impl Default for Room {
    fn default() -> Self {
        Self::new(0)
    }
}

/// What workers have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Taken {
    pub(super) workers: usize,
    /// Processes with a descriptor.
    pub(super) held: usize,
    /// Processes without.
    pub(super) unheld: usize,
}

impl Taken {
    fn processes(self) -> usize {
        self.held + self.unheld
    }
}

/// The processes of workers in `status`.
#[derive(Debug, Serialize)]
pub(in crate::agent) struct ProcessesView {
    /// Those with a descriptor.
    held: usize,
    /// Those beyond what there are descriptors for: they are opened when they are killed.
    unheld: usize,
    /// How many descriptors there may be.
    most: usize,
    /// Users whose workers' forks are looked for at each tick, because they have as many processes as the kernel side
    /// may follow for them.
    crowds: usize,
}

impl Room {
    /// For so many descriptors.
    pub(super) fn new(most: usize) -> Self {
        Self::following(most, MAX_WORKER_PROCESSES as usize)
    }

    /// The same with a map of so many processes.
    pub(super) fn following(most: usize, followed: usize) -> Self {
        let (all, by_uid) = (Taken::default(), HashMap::new());
        Self { most, followed, all, by_uid, crowds: BTreeSet::new() }
    }

    fn of(&self, uid: u32) -> Taken {
        self.by_uid.get(&uid).copied().unwrap_or_default()
    }

    /// Whether one more worker of a user has room: a quarter of all is the most for one user, root is bound by all.
    ///
    /// # Errors
    /// Why not, for the user.
    pub(super) fn for_worker(&self, uid: u32) -> Result<(), String> {
        let mine = self.of(uid).workers;
        if uid != 0 && mine >= (self.most / 4).max(1) {
            return Err(format!("uid {uid} has {mine} workers, its limit"));
        }
        if self.all.held >= self.most {
            return Err(format!("the agent holds {} processes of workers, its limit", self.all.held));
        }
        Ok(())
    }

    /// Whether a descriptor of one more process may be kept. An eighth stays for workers to come; a user gets no more
    /// than what is then left for others.
    pub(super) fn for_member(&self, uid: u32) -> bool {
        let left = (self.most - self.most / 8).saturating_sub(self.all.held);
        let mine = self.of(uid).held;
        left > 0 && (uid == 0 || mine < left)
    }

    /// Whether a user has become a crowd: of the processes that the kernel side can follow an eighth stays for workers to
    /// come, and a user has no more than what is then left for others. True once, until it has thinned.
    pub(super) fn crowds(&mut self, uid: u32) -> bool {
        let left = self.unfollowed();
        let full = left == 0 || (uid != 0 && self.of(uid).processes() >= left);
        full && self.crowds.insert(uid)
    }

    pub(super) fn is_crowd(&self, uid: u32) -> bool {
        self.crowds.contains(&uid)
    }

    /// Crowds that have half of their share at most again; they are none any more.
    pub(super) fn thinned(&mut self) -> Vec<u32> {
        let left = self.unfollowed();
        let thin = |uid: &u32| self.of(*uid).processes() < left / 2;
        let thinned: Vec<u32> = self.crowds.iter().copied().filter(thin).collect();
        self.crowds.retain(|uid| !thinned.contains(uid));
        thinned
    }

    fn unfollowed(&self) -> usize {
        (self.followed - self.followed / 8).saturating_sub(self.all.processes())
    }

    pub(super) fn view(&self) -> ProcessesView {
        let Taken { held, unheld, .. } = self.all;
        ProcessesView { held, unheld, most: self.most, crowds: self.crowds.len() }
    }

    /// A user has so many more.
    pub(super) fn take(&mut self, uid: u32, more: Taken) {
        for taken in [&mut self.all, self.by_uid.entry(uid).or_default()] {
            taken.workers += more.workers;
            taken.held += more.held;
            taken.unheld += more.unheld;
        }
    }

    /// A user has so many less.
    pub(super) fn give_back(&mut self, uid: u32, less: Taken) {
        let Some(mine) = self.by_uid.get_mut(&uid) else { return };
        for taken in [&mut self.all, &mut *mine] {
            taken.workers = taken.workers.saturating_sub(less.workers);
            taken.held = taken.held.saturating_sub(less.held);
            taken.unheld = taken.unheld.saturating_sub(less.unheld);
        }
        if *mine == Taken::default() {
            self.by_uid.remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: u32 = 7;
    const BOB: u32 = 8;

    fn processes(held: usize, unheld: usize) -> Taken {
        Taken { workers: 0, held, unheld }
    }

    #[test]
    fn a_user_who_forks_without_end_leaves_half_of_the_map_to_others() {
        let mut room = Room::following(10, 800);
        room.take(ANN, processes(10, 339));
        assert!(!room.crowds(ANN));
        room.take(ANN, processes(0, 1));
        assert!(room.crowds(ANN), "350 of 700");
        assert!(!room.crowds(ANN) && room.is_crowd(ANN), "said once");
        assert!(!room.crowds(BOB) && !room.crowds(0));
        room.take(BOB, processes(0, 175));
        assert!(room.crowds(BOB), "half of what is left");
        assert!(!room.crowds(0), "root may have the rest");
        assert_eq!(room.view().crowds, 2);
        room.take(0, processes(0, 175));
        assert!(room.crowds(0), "but for the eighth");
    }

    #[test]
    fn a_crowd_that_has_thinned_is_followed_again() {
        let mut room = Room::following(10, 800);
        room.take(ANN, processes(0, 400));
        assert!(room.crowds(ANN));
        room.give_back(ANN, processes(0, 100));
        assert_eq!(room.thinned(), Vec::<u32>::new(), "300 with 400 left: it would be one again at once");
        room.give_back(ANN, processes(0, 100));
        assert_eq!(room.thinned(), [ANN]);
        assert!(!room.is_crowd(ANN) && room.thinned().is_empty());
        room.give_back(ANN, processes(0, 200));
        assert_eq!((room.all, room.by_uid.len()), (Taken::default(), 0));
    }
}
