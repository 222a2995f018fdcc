//! Which cgroups have limits, as that changes: a cgroup around a worker becomes a domain when it gets one, and is none
//! any more when it loses it or is removed (SPEC 2). A few are looked at each tick.

use std::collections::BTreeMap;

use super::core::{DomainView, Event};
use super::domains::Asked;
use super::shell::Shell;
use crate::memory::limit::{LimitBuffer, LimitReader};
use crate::memory::{CgroupPath, Limit, ReadError};

/// How many limits are looked at in a tick. Each costs a read of an open file: about 1 µs.
const A_TICK: usize = 256;

/// The cgroups around the registered workers.
#[derive(Default)]
pub(super) struct Limits {
    around: BTreeMap<CgroupPath, Watched>,
    /// The one that was looked at last.
    last: Option<CgroupPath>,
    buffer: LimitBuffer,
}

#[derive(Default)]
struct Watched {
    /// How many workers are in it or below it.
    workers: usize,
    /// `None`: not opened yet, or it was removed.
    reader: Option<LimitReader>,
    /// It was said that it cannot be guarded.
    said: bool,
}

impl Limits {
    /// A worker charges this cgroup from now on.
    pub(super) fn enter(&mut self, cgroup: &CgroupPath) {
        for path in cgroup.ancestors().filter(|path| !path.is_root()) {
            self.around.entry(path).or_default().workers += 1;
        }
    }

    /// It does so no longer.
    pub(super) fn leave(&mut self, cgroup: &CgroupPath) {
        for path in cgroup.ancestors().filter(|path| !path.is_root()) {
            let Some(watched) = self.around.get_mut(&path) else { continue };
            watched.workers = watched.workers.saturating_sub(1);
            if watched.workers == 0 {
                self.around.remove(&path);
            }
        }
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

impl Shell {
    /// Guards a cgroup that the user named.
    ///
    /// # Errors
    /// If there is no memory hierarchy, or no such cgroup in it.
    pub(super) fn guard_named(&mut self, path: &CgroupPath) -> Result<(), ReadError> {
        self.guard(path, Asked::ByName)
    }

    /// Guards the cgroups with limits from this one up, if that is asked for.
    pub(super) fn guard_around(&mut self, cgroup: Option<&CgroupPath>) {
        let Some(cgroup) = cgroup.filter(|_| self.guards_ancestors) else { return };
        for path in self.domains.limited_around(cgroup) {
            if let Err(error) = self.guard(&path, Asked::ByLimit) {
                tracing::warn!(%error, cgroup = %path, "cannot guard");
            }
        }
    }

    /// What changed about limits since they were last looked at.
    pub(super) fn recheck_domains(&mut self) {
        self.domains.reopen(self.programs.as_mut());
        for domain in self.domains.without_limit() {
            // While a kill is in flight there it is needed still.
            if !self.core.kill_in(domain) {
                self.unguard(domain);
            }
        }
        if !self.guards_ancestors {
            return;
        }
        for path in self.limits.next(A_TICK) {
            if !self.domains.is_guarded(&path) && self.has_limit(&path) {
                let guarded = self.guard(&path, Asked::ByLimit);
                let Some(watched) = self.limits.around.get_mut(&path) else { continue };
                match guarded {
                    Ok(()) => watched.said = false,
                    Err(error) if watched.said || error.is_gone() || error.is_missing_file() => {}
                    Err(error) => {
                        watched.said = true;
                        tracing::warn!(%error, cgroup = %path, "cannot guard");
                    }
                }
            }
        }
    }

    /// What cannot be read has none: it is looked at again.
    fn has_limit(&mut self, path: &CgroupPath) -> bool {
        let Limits { around, buffer, .. } = &mut self.limits;
        let (Some(hierarchy), Some(watched)) = (self.domains.hierarchy(), around.get_mut(path)) else {
            return false;
        };
        if watched.reader.is_none() {
            watched.reader = LimitReader::open(hierarchy, path).ok();
        }
        match watched.reader.as_mut().map(|reader| reader.look(buffer)) {
            Some(Ok(limit)) => limit != Limit::Unlimited,
            Some(Err(_)) | None => {
                watched.reader = None;
                false
            }
        }
    }

    /// The core is told of a new domain, of what lies in it and of who charges it, before it orders anything.
    fn guard(&mut self, path: &CgroupPath, asked: Asked) -> Result<(), ReadError> {
        if self.domains.is_full() && !self.domains.is_guarded(path) {
            self.make_room();
        }
        for event in self.domains.add_cgroup(path, asked, self.programs.as_mut())? {
            self.tell(event);
        }
        for worker in self.registry.ids() {
            let cgroup = self.registry.get(worker).and_then(|entry| entry.cgroup.as_ref());
            if let Some(cgroup) = cgroup.filter(|cgroup| path.contains(cgroup)) {
                let domains = self.domains.charged_by(Some(cgroup));
                if self.core.charged_by(worker).is_some_and(|known| known != domains) {
                    self.tell(Event::Moved { worker, domains });
                }
            }
        }
        self.carry_out();
        Ok(())
    }

    fn unguard(&mut self, domain: super::core::DomainId) {
        if let Some(removed) = self.domains.remove(domain, self.programs.as_mut()) {
            self.happen(removed);
        }
    }

    /// All cells are taken: lets those domains go that no worker charges any more.
    fn make_room(&mut self) {
        for domain in self.domains.unnamed() {
            if !self.core.is_charged(domain) && !self.core.kill_in(domain) {
                self.unguard(domain);
            }
        }
    }

    /// The domains as `status` shows them.
    pub(super) fn domain_views(&self) -> Vec<DomainView> {
        let mut views = self.core.domains();
        if self.programs.is_some() {
            for view in &mut views {
                view.uncounted = self.domains.uncounted(&view.domain);
            }
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_around_the_workers_are_looked_at_in_turn_and_nobody_else() {
        let mut limits = Limits::default();
        let path = |text: &str| text.parse::<CgroupPath>().unwrap();
        limits.enter(&path("/a/b"));
        limits.enter(&path("/a/c"));
        limits.enter(&CgroupPath::root());
        let all = ["/a", "/a/b", "/a/c"].map(path);
        assert_eq!(limits.next(5), all, "each once, the root never");
        assert_eq!(limits.next(2), all[..2]);
        assert_eq!(limits.next(2), [all[2].clone(), all[0].clone()]);
        limits.leave(&path("/a/b"));
        assert_eq!(limits.next(5), [all[2].clone(), all[0].clone()]);
        limits.leave(&path("/a/c"));
        assert_eq!(limits.next(5), []);
    }
}
