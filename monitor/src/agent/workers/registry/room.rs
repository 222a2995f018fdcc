//! How many workers, how many of their processes' descriptors, and how many processes that the kernel side follows,
//! there may be: in all, and of one user. Pure.

use std::collections::{BTreeSet, HashMap};

use monitor_common::MAX_WORKER_PROCESSES;

use crate::control::answers::ProcessesView;

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
    /// Users with so many processes that their forks are not followed.
    fork_limited: BTreeSet<u32>,
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
    pub(super) with_pidfd: usize,
    /// Processes without.
    pub(super) without_pidfd: usize,
}

impl Taken {
    fn processes(self) -> usize {
        self.with_pidfd + self.without_pidfd
    }
}

impl Room {
    /// For so many descriptors.
    pub(super) fn new(most: usize) -> Self {
        Self::following(most, MAX_WORKER_PROCESSES as usize)
    }

    /// The same with a map of so many processes.
    pub(super) fn following(most: usize, followed: usize) -> Self {
        let (all, by_uid) = (Taken::default(), HashMap::new());
        Self { most, followed, all, by_uid, fork_limited: BTreeSet::new() }
    }

    fn of(&self, uid: u32) -> Taken {
        self.by_uid.get(&uid).copied().unwrap_or_default()
    }

    /// Whether one more worker of a user has room: a quarter of all is the most for one user, root is bound by all.
    /// `freed`: what a user is about to give back.
    ///
    /// # Errors
    /// Why not, for the user.
    pub(super) fn for_worker(&self, uid: u32, freed: Option<(u32, Taken)>) -> Result<(), String> {
        let (whose, freed) = freed.unwrap_or_default();
        let mine = self.of(uid).workers.saturating_sub(if whose == uid { freed.workers } else { 0 });
        if uid != 0 && mine >= (self.most / 4).max(1) {
            return Err(format!("uid {uid} has {mine} workers, its limit"));
        }
        let held = self.all.with_pidfd.saturating_sub(freed.with_pidfd);
        if held >= self.most {
            return Err(format!("the agent holds {held} processes of workers, its limit"));
        }
        Ok(())
    }

    /// Whether a descriptor of one more process may be kept. An eighth stays for workers to come; a user gets no more
    /// than what is then left for others.
    pub(super) fn for_member(&self, uid: u32) -> bool {
        let left = (self.most - self.most / 8).saturating_sub(self.all.with_pidfd);
        let mine = self.of(uid).with_pidfd;
        left > 0 && (uid == 0 || mine < left)
    }

    /// Whether a user has reached its fork limit: of the processes that the kernel side can follow an eighth stays for workers to
    /// come, and a user has no more than what is then left for others. True once, until it is below half of it.
    pub(super) fn reaches_fork_limit(&mut self, uid: u32) -> bool {
        let left = self.unfollowed();
        let full = left == 0 || (uid != 0 && self.of(uid).processes() >= left);
        full && self.fork_limited.insert(uid)
    }

    pub(super) fn is_fork_limited(&self, uid: u32) -> bool {
        self.fork_limited.contains(&uid)
    }

    /// Users with at most half of their share again: their forks are followed again.
    pub(super) fn below_fork_limit_again(&mut self) -> Vec<u32> {
        let left = self.unfollowed();
        let thin = |uid: &u32| self.of(*uid).processes() < left / 2;
        let below: Vec<u32> = self.fork_limited.iter().copied().filter(thin).collect();
        self.fork_limited.retain(|uid| !below.contains(uid));
        below
    }

    fn unfollowed(&self) -> usize {
        (self.followed - self.followed / 8).saturating_sub(self.all.processes())
    }

    pub(super) fn view(&self) -> ProcessesView {
        let Taken { with_pidfd, without_pidfd, .. } = self.all;
        let fork_limited_users = self.fork_limited.len();
        ProcessesView { with_pidfd, without_pidfd, most: self.most, fork_limited_users }
    }

    /// A user has so many more.
    pub(super) fn take(&mut self, uid: u32, more: Taken) {
        for taken in [&mut self.all, self.by_uid.entry(uid).or_default()] {
            taken.workers += more.workers;
            taken.with_pidfd += more.with_pidfd;
            taken.without_pidfd += more.without_pidfd;
        }
    }

    /// A user has so many less.
    pub(super) fn give_back(&mut self, uid: u32, less: Taken) {
        let Some(mine) = self.by_uid.get_mut(&uid) else { return };
        for taken in [&mut self.all, &mut *mine] {
            taken.workers = taken.workers.saturating_sub(less.workers);
            taken.with_pidfd = taken.with_pidfd.saturating_sub(less.with_pidfd);
            taken.without_pidfd = taken.without_pidfd.saturating_sub(less.without_pidfd);
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

    fn processes(with_pidfd: usize, without_pidfd: usize) -> Taken {
        Taken { workers: 0, with_pidfd, without_pidfd }
    }

    #[test]
    fn a_user_who_forks_without_end_leaves_half_of_the_map_to_others() {
        let mut room = Room::following(10, 800);
        room.take(ANN, processes(10, 339));
        assert!(!room.reaches_fork_limit(ANN));
        room.take(ANN, processes(0, 1));
        assert!(room.reaches_fork_limit(ANN), "350 of 700");
        assert!(!room.reaches_fork_limit(ANN) && room.is_fork_limited(ANN), "said once");
        assert!(!room.reaches_fork_limit(BOB) && !room.reaches_fork_limit(0));
        room.take(BOB, processes(0, 175));
        assert!(room.reaches_fork_limit(BOB), "half of what is left");
        assert!(!room.reaches_fork_limit(0), "root may have the rest");
        assert_eq!(room.view().fork_limited_users, 2);
        room.take(0, processes(0, 175));
        assert!(room.reaches_fork_limit(0), "but for the eighth");
    }

    #[test]
    fn a_worker_that_takes_anothers_place_needs_no_more_room() {
        let mut room = Room::following(4, 800);
        let one = Taken { workers: 1, with_pidfd: 1, without_pidfd: 0 };
        room.take(ANN, one);
        assert!(room.for_worker(ANN, None).is_err() && room.for_worker(ANN, Some((ANN, one))).is_ok());
        assert!(room.for_worker(ANN, Some((BOB, one))).is_err(), "it is not hers");
        room.take(BOB, processes(3, 0));
        assert!(room.for_worker(0, None).is_err() && room.for_worker(0, Some((ANN, one))).is_ok());
    }

    #[test]
    fn a_user_whose_processes_are_few_again_is_followed_again() {
        let mut room = Room::following(10, 800);
        room.take(ANN, processes(0, 400));
        assert!(room.reaches_fork_limit(ANN));
        room.give_back(ANN, processes(0, 100));
        assert_eq!(
            room.below_fork_limit_again(),
            Vec::<u32>::new(),
            "300 with 400 left: it would reach it again at once"
        );
        room.give_back(ANN, processes(0, 100));
        assert_eq!(room.below_fork_limit_again(), [ANN]);
        assert!(!room.is_fork_limited(ANN) && room.below_fork_limit_again().is_empty());
        room.give_back(ANN, processes(0, 200));
        assert_eq!((room.all, room.by_uid.len()), (Taken::default(), 0));
    }
}
