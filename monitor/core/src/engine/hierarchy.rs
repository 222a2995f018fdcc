//! Which domains lie in which, as cgroups get limits and lose them. Kills in domains that overlap wait for each other.

use alloc::collections::VecDeque;

use super::{Action, DomainId, Engine};
use crate::units::Nanos;

impl Engine {
    /// Whether two domains share memory: one lies within the other.
    pub(super) fn overlap(&self, one: DomainId, other: DomainId) -> bool {
        self.within(one, other) || self.within(other, one)
    }

    /// Whether `inner` is `outer` or lies in it.
    pub(super) fn within(&self, inner: DomainId, outer: DomainId) -> bool {
        let mut at = Some(inner);
        while let Some(domain) = at {
            if domain == outer {
                return true;
            }
            at = self.domains.get(&domain).and_then(|domain| domain.parent);
        }
        false
    }

    /// There is another domain between this one and what was around it.
    pub(super) fn reparent(&mut self, id: DomainId, parent: Option<DomainId>) {
        if let Some(domain) = self.domains.get_mut(&id) {
            domain.parent = parent;
        }
    }

    /// A domain is none any more. What lies in it lies in its parent, and its workers charge one domain less.
    pub(super) fn remove_domain(&mut self, id: DomainId, now: Nanos, todo: &mut VecDeque<Action>) {
        let Some(removed) = self.domains.remove(&id) else { return };
        for domain in self.domains.values_mut().filter(|domain| domain.parent == Some(id)) {
            domain.parent = removed.parent;
        }
        for worker in self.workers.values_mut() {
            worker.domains.retain(|charged| *charged != id);
        }
        self.starts.domain_removed(id);
        // No reading follows that would tell of its last kill.
        todo.extend(removed.after_kill.and_then(|kill| self.over(kill, None, now)).map(Action::Note));
        // It held workers at its line no longer, and needs no hook.
        self.free_whom_it_may(now, todo);
        self.shift(now, todo);
    }

    /// Whether a kill is in flight in this domain: it cannot be removed then.
    #[must_use]
    pub fn kill_in(&self, id: DomainId) -> bool {
        self.flights.iter().any(|flight| flight.domain == id)
    }
}
