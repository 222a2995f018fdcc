//! How many workers, and how many of their processes' descriptors, there may be: in all, and of one user. Pure.

use std::collections::HashMap;

use serde::Serialize;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// How many descriptors there may be.
    most: usize,
    held: usize,
    /// By the users of the workers.
    by_uid: HashMap<u32, Taken>,
}

/// What a user's workers have taken.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    workers: usize,
    held: usize,
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
}

impl Room {
    /// For so many descriptors.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Whether one more worker of a user has room: a quarter of all is the most for one user, root is bound by all.
    ///
    /// # Errors
    /// Why not, for the user.
    pub(super) fn for_worker(&self, uid: u32) -> Result<(), String> {
        let mine = self.by_uid.get(&uid).map_or(0, |taken| taken.workers);
        if uid != 0 && mine >= (self.most / 4).max(1) {
            return Err(format!("uid {uid} has {mine} workers, its limit"));
        }
        if self.held >= self.most {
            return Err(format!("the agent holds {} processes of workers, its limit", self.held));
        }
        Ok(())
    }

    /// Whether a descriptor of one more process may be kept. An eighth stays for workers to come; a user gets no more
    /// than what is then left for others.
    pub(super) fn for_member(&self, uid: u32) -> bool {
        let left = (self.most - self.most / 8).saturating_sub(self.held);
        let mine = self.by_uid.get(&uid).map_or(0, |taken| taken.held);
        left > 0 && (uid == 0 || mine < left)
    }

    /// With those that are not held.
    pub(super) fn view(&self, unheld: usize) -> ProcessesView {
        ProcessesView { held: self.held, unheld, most: self.most }
    }

    /// A user has so many more.
    pub(super) fn take(&mut self, uid: u32, workers: usize, held: usize) {
        let taken = self.by_uid.entry(uid).or_default();
        taken.workers += workers;
        taken.held += held;
        self.held += held;
    }

    /// A user has so many less.
    pub(super) fn give_back(&mut self, uid: u32, workers: usize, held: usize) {
        self.held = self.held.saturating_sub(held);
        let Some(taken) = self.by_uid.get_mut(&uid) else { return };
        taken.workers = taken.workers.saturating_sub(workers);
        taken.held = taken.held.saturating_sub(held);
        if taken.workers == 0 && taken.held == 0 {
            self.by_uid.remove(&uid);
        }
    }
}
