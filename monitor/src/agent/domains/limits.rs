//! Which cgroups have limits, as that changes: a cgroup around a worker becomes a domain when it gets one, and is none
//! any more when it loses it or is removed. A few are looked at each tick.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Domains};
use crate::agent::turn::Turn;
use crate::engine::{DomainId, Event};
use crate::memory::limit::{LimitBuffer, LimitReader};
use crate::memory::{CgroupPath, Limit, ReadError};
use crate::worker::WorkerId;

/// How many limits are looked at in a tick. Each costs a read of an open file: about 1 µs.
const A_TICK: usize = 256;

/// The cgroups around the registered workers.
#[derive(Default)]
pub(super) struct LimitWatch {
    around: BTreeMap<CgroupPath, Watched>,
    /// The cgroups that each worker's processes charge, when they were last looked at (`workers/recheck.rs`).
    of_workers: BTreeMap<WorkerId, BTreeSet<CgroupPath>>,
    /// The one that was looked at last.
    last: Option<CgroupPath>,
    buffer: LimitBuffer,
    /// How many readers are kept, and may be.
    kept: usize,
    most: usize,
}

#[derive(Default)]
struct Watched {
    /// How many workers are in it or below it.
    workers: usize,
    /// The user of the first of them.
    uid: u32,
    /// `None`: not opened yet, it was removed, or there are as many as may be kept: then it is opened for each look.
    reader: Option<LimitReader>,
    /// It was said that it cannot be guarded.
    said: bool,
}

impl LimitWatch {
    /// Keeps so many readers open at most, two descriptors each.
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// A worker of this user charges this cgroup from now on.
    fn enter(&mut self, cgroup: &CgroupPath, uid: u32) {
        for path in cgroup.ancestors().filter(|path| !path.is_root()) {
            let watched = self.around.entry(path).or_default();
            if watched.workers == 0 {
                watched.uid = uid;
            }
            watched.workers += 1;
        }
    }

    /// It does so no longer.
    fn leave(&mut self, cgroup: &CgroupPath) {
        for path in cgroup.ancestors().filter(|path| !path.is_root()) {
            let Some(watched) = self.around.get_mut(&path) else { continue };
            watched.workers = watched.workers.saturating_sub(1);
            if watched.workers == 0 {
                let held = self.around.remove(&path).and_then(|watched| watched.reader);
                self.kept -= usize::from(held.is_some());
            }
        }
    }

    /// Whether one worker alone is in it or below it.
    fn is_of_one(&self, cgroup: &CgroupPath) -> bool {
        self.around.get(cgroup).is_some_and(|watched| watched.workers == 1)
    }

    /// The next few to look at, those around others first.
    fn next(&mut self, most: usize) -> Vec<CgroupPath> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let after = self.last.as_ref().map_or(Unbounded, Excluded);
        let before = self.last.as_ref().map(|last| self.around.range((Unbounded, Included(last))));
        let rest = before.into_iter().flatten();
        let next = self.around.range((after, Unbounded)).chain(rest).take(most);
        let next: Vec<CgroupPath> = next.map(|(path, _)| path.clone()).collect();
        self.last = next.last().cloned();
        next
    }
}

impl Domains {
    /// A worker of this user charges this cgroup too from now on.
    pub(in crate::agent) fn enter(&mut self, worker: WorkerId, cgroup: CgroupPath, uid: u32) {
        if !self.is_in(worker, &cgroup) {
            self.limits.enter(&cgroup, uid);
            self.limits.of_workers.entry(worker).or_default().insert(cgroup);
        }
    }

    /// It charges none any more.
    pub(in crate::agent) fn leave(&mut self, worker: WorkerId) {
        for cgroup in self.limits.of_workers.remove(&worker).into_iter().flatten() {
            self.limits.leave(&cgroup);
        }
    }

    /// It charges these only. False: that is no change.
    pub(in crate::agent) fn stay_in(&mut self, worker: WorkerId, only: &BTreeSet<CgroupPath>) -> bool {
        let Some(known) = self.limits.of_workers.get_mut(&worker) else { return false };
        let left: Vec<CgroupPath> = known.difference(only).cloned().collect();
        known.retain(|cgroup| only.contains(cgroup));
        left.iter().for_each(|cgroup| self.limits.leave(cgroup));
        !left.is_empty()
    }

    /// Whether a worker's process was seen to charge this cgroup.
    pub(in crate::agent) fn is_in(&self, worker: WorkerId, cgroup: &CgroupPath) -> bool {
        self.limits.of_workers.get(&worker).is_some_and(|known| known.contains(cgroup))
    }

    /// The cgroup that a worker charges; `None`: its processes charge several, or there is no memory hierarchy.
    pub(in crate::agent) fn cgroup_of_worker(&self, worker: WorkerId) -> Option<&CgroupPath> {
        let known = self.limits.of_workers.get(&worker)?;
        known.first().filter(|_| known.len() == 1)
    }

    /// The same, if no other worker charges it or a cgroup in it.
    pub(in crate::agent) fn cgroup_of_this_worker_alone(&self, worker: WorkerId) -> Option<&CgroupPath> {
        self.cgroup_of_worker(worker).filter(|cgroup| self.limits.is_of_one(cgroup))
    }

    /// The guarded domains that a worker's processes charge, innermost first.
    pub(in crate::agent) fn charged_by_worker(&self, worker: WorkerId) -> Vec<DomainId> {
        self.charged_by_all(self.limits.of_workers.get(&worker).into_iter().flatten())
    }

    /// Guards a cgroup that the user named, or waits for it: the rest is guarded meanwhile.
    ///
    /// # Errors
    /// Nothing can be guarded: there is no memory hierarchy, and the node is not asked for.
    pub(in crate::agent) fn guard_named(
        &mut self,
        turn: &mut Turn<'_>,
        path: &CgroupPath,
    ) -> Result<(), ReadError> {
        self.scope.name(path);
        match self.guard(turn, path, Asked::ByName) {
            Ok(()) => self.scope.found(path),
            Err(error @ ReadError::NoController { .. }) if !self.scope.has_node() => return Err(error),
            Err(error) => {
                let why = match error {
                    missing if missing.is_missing_file() => "there is no such cgroup".to_owned(),
                    other => other.to_string(),
                };
                if self.scope.wait_for(path, why.clone()) {
                    tracing::warn!(%why, cgroup = %path, "this cgroup cannot be guarded yet: the agent waits for it");
                }
            }
        }
        Ok(())
    }

    /// Looks for the named cgroups that were not there.
    fn look_for_awaited(&mut self, turn: &mut Turn<'_>) {
        for path in self.scope.awaited() {
            // Without a hierarchy the agent has not started, or it has a node to guard.
            if self.guard_named(turn, &path).is_ok() && self.is_guarded(&path) {
                tracing::info!(cgroup = %path, "this cgroup exists now, and is guarded");
            }
        }
    }

    /// Guards the cgroups with limits from this one up, if that is asked for, because of a user's worker: all of them, or
    /// none that is not guarded already.
    ///
    /// # Errors
    /// Why there is no room for them.
    pub(in crate::agent) fn guard_around(
        &mut self,
        turn: &mut Turn<'_>,
        cgroup: Option<&CgroupPath>,
        uid: u32,
    ) -> Result<(), String> {
        let Some(cgroup) = cgroup else { return Ok(()) };
        let mut limited = self.limited_around(cgroup);
        limited.retain(|path| self.scope.covers(path));
        let new = limited.iter().filter(|path| !self.is_guarded(path)).count();
        self.find_room(turn, uid, new)?;
        for path in limited {
            if let Err(error) = self.guard(turn, &path, Asked::ByLimit(uid)) {
                tracing::warn!(%error, cgroup = %path, "cannot guard this cgroup");
            }
        }
        Ok(())
    }

    fn find_room(&mut self, turn: &mut Turn<'_>, uid: u32, more: usize) -> Result<(), String> {
        self.room_for(uid, more).or_else(|_| {
            self.make_room(turn);
            self.room_for(uid, more)
        })
    }

    /// What changed about limits since they were last looked at.
    pub(in crate::agent) fn recheck(&mut self, turn: &mut Turn<'_>) {
        self.reopen();
        for domain in self.without_limit() {
            // While a kill is in flight there it is needed still.
            if !turn.engine.kill_in(domain) {
                self.unguard(turn, domain);
            }
        }
        self.look_for_awaited(turn);
        for path in self.limits.next(A_TICK) {
            if self.scope.covers(&path) && !self.is_guarded(&path) && self.has_limit(&path) {
                self.guard_found(turn, &path);
            }
        }
    }

    /// A cgroup around a worker got a limit. Why it cannot be guarded is said once.
    fn guard_found(&mut self, turn: &mut Turn<'_>, path: &CgroupPath) {
        let Some(uid) = self.limits.around.get(path).map(|watched| watched.uid) else { return };
        let why = match self.find_room(turn, uid, 1) {
            Err(why) => Some(why),
            Ok(()) => match self.guard(turn, path, Asked::ByLimit(uid)) {
                Ok(()) => None,
                Err(error) if error.is_gone() || error.is_missing_file() => return,
                Err(error) => Some(error.to_string()),
            },
        };
        let Some(watched) = self.limits.around.get_mut(path) else { return };
        let said = std::mem::replace(&mut watched.said, why.is_some());
        if let Some(why) = why.filter(|_| !said) {
            tracing::warn!(%why, cgroup = %path, "cannot guard this cgroup");
        }
    }

    /// What cannot be read has none: a later round reads it again.
    fn has_limit(&mut self, path: &CgroupPath) -> bool {
        let Self { limits, hierarchy, .. } = self;
        let LimitWatch { around, buffer, kept, most, .. } = limits;
        let (Ok(hierarchy), Some(watched)) = (&*hierarchy, around.get_mut(path)) else {
            return false;
        };
        let held = watched.reader.take();
        *kept -= usize::from(held.is_some());
        let Some(mut reader) = held.or_else(|| LimitReader::open(hierarchy, path).ok()) else { return false };
        let Ok(limit) = reader.look(buffer) else { return false };
        if *kept < *most {
            *kept += 1;
            watched.reader = Some(reader);
        }
        limit != Limit::Unlimited
    }

    /// The engine is told of a new domain, of what lies in it and which workers charge it, before it orders anything.
    fn guard(&mut self, turn: &mut Turn<'_>, path: &CgroupPath, asked: Asked) -> Result<(), ReadError> {
        if self.is_full() && !self.is_guarded(path) {
            self.make_room(turn);
        }
        let new = self.add_cgroup(path, asked)?;
        if new.is_empty() {
            return Ok(());
        }
        for event in new {
            turn.tell(event);
        }
        let inside = |cgroups: &BTreeSet<CgroupPath>| cgroups.iter().any(|cgroup| path.contains(cgroup));
        for (worker, _) in self.limits.of_workers.iter().filter(|(_, cgroups)| inside(cgroups)) {
            let domains = self.charged_by_worker(*worker);
            if turn.engine.charged_by(*worker).is_some_and(|known| known != domains) {
                turn.tell(Event::Moved { worker: *worker, domains });
            }
        }
        Ok(())
    }

    fn unguard(&mut self, turn: &mut Turn<'_>, domain: DomainId) {
        if let Some(removed) = self.remove(domain) {
            turn.tell(removed);
        }
    }

    /// All cells are taken: lets those domains go that no worker charges any more.
    fn make_room(&mut self, turn: &mut Turn<'_>) {
        for domain in self.unnamed() {
            if self.charged_by_nobody(domain) && !turn.engine.kill_in(domain) {
                self.unguard(turn, domain);
            }
        }
    }

    /// By our own books, which are ahead of the engine's within a turn.
    fn charged_by_nobody(&self, domain: DomainId) -> bool {
        let path = self.entries.get(&domain).and_then(|entry| entry.cgroup.as_ref());
        path.is_some_and(|path| !path.is_root() && !self.limits.around.contains_key(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_around_the_workers_are_looked_at_in_turn_and_nobody_else() {
        let mut limits = LimitWatch::default();
        let path = |text: &str| text.parse::<CgroupPath>().unwrap();
        limits.enter(&path("/a/b"), 7);
        limits.enter(&path("/a/c"), 8);
        limits.enter(&CgroupPath::root(), 0);
        let all = ["/a", "/a/b", "/a/c"].map(path);
        assert_eq!(limits.next(5), all, "each once, the root never");
        assert_eq!(limits.next(2), all[..2]);
        assert_eq!(limits.next(2), [all[2].clone(), all[0].clone()]);
        assert_eq!(limits.around[&all[0]].uid, 7, "the first");
        assert_eq!([0, 1, 2].map(|at: usize| limits.is_of_one(&all[at])), [false, true, true]);
        limits.leave(&path("/a/b"));
        assert_eq!(limits.next(5), [all[2].clone(), all[0].clone()]);
        limits.leave(&path("/a/c"));
        assert_eq!(limits.next(5), []);
    }
}
