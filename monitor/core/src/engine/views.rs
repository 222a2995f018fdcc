//! The engine's state, shown.

use super::domain::State;
use super::worker::{Life, Worker};
use super::{Counters, DomainId, DomainView, Engine, Explanation, KillRecord, WorkerView};
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::{Activity, MemoryFacts, WorkerId};

impl Engine {
    /// The domains.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainView> {
        self.domains
            .iter()
            .map(|(id, domain)| {
                let shown = domain.for_answer();
                let (gear, gear_why) = self.gear_of(domain).unzip();
                let used = match &domain.state {
                    State::NoLimit(used) => Some(*used),
                    State::Known(_) | State::New | State::Unknown(_) => shown.used,
                };
                DomainView {
                    domain: domain.name.clone(),
                    total: shown.total,
                    used,
                    threshold: shown.threshold,
                    above: shown.usage().map(crate::threshold::Usage::above),
                    estimate: domain.estimate(),
                    read_at: domain.read_at,
                    error: match &domain.state {
                        State::Unknown(why) => Some(why.clone()),
                        State::New => Some("not read yet".to_owned()),
                        State::Known(_) | State::NoLimit(_) => None,
                    },
                    workers: domain.workers(),
                    kill: self.flights.iter().find(|flight| self.overlap(flight.domain, *id)).map(|f| f.id),
                    gear,
                    gear_why,
                    uncounted: None,
                    huge_pages: None,
                    note: None,
                }
            })
            .collect()
    }

    /// What the last memory check of each domain found, and when it was; of those that could be read.
    pub fn levels(&self) -> impl Iterator<Item = (DomainId, Nanos, Usage)> + '_ {
        self.domains.iter().filter_map(|(id, domain)| Some((*id, domain.read_at?, domain.usage()?)))
    }

    /// The same of one domain.
    #[must_use]
    pub fn level(&self, id: DomainId) -> Option<(Nanos, Usage)> {
        let domain = self.domains.get(&id)?;
        Some((domain.read_at?, domain.usage()?))
    }

    /// A domain's name.
    #[must_use]
    pub fn domain_name(&self, id: DomainId) -> Option<&str> {
        self.domains.get(&id).map(|domain| &domain.name[..])
    }

    /// A worker's user, name and owner.
    #[must_use]
    pub fn label(&self, id: WorkerId) -> Option<(u32, Option<&str>, Option<&str>)> {
        let worker = self.workers.get(&id)?;
        Some((worker.candidate.uid, worker.name.as_deref(), worker.candidate.owner.as_deref()))
    }

    /// The workers, in registration order, and the starts that wait.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerView> {
        let name = |id: DomainId| self.domains.get(&id).map(|domain| domain.name.clone()).unwrap_or_default();
        let mut views: Vec<WorkerView> = self.workers.values().map(|worker| worker.view(name)).collect();
        views.extend(self.waiting_views());
        views
    }

    /// What the largest workers hold, and what else is known of their memory; the largest first.
    #[must_use]
    pub fn largest(&self, most: usize) -> Vec<(Bytes, MemoryFacts)> {
        let mut all: Vec<&Worker> = self.workers.values().collect();
        all.sort_unstable_by_key(|worker| core::cmp::Reverse(worker.memory()));
        let known = all.into_iter().filter_map(|worker| Some((worker.memory()?, worker.facts())));
        known.take(most).collect()
    }

    /// The worker that it would kill in a domain now; without a name, in the domain nearest to its threshold. `None`:
    /// there is no such domain.
    #[must_use]
    pub fn explain(&self, name: Option<&str>) -> Option<Explanation> {
        let (id, domain) = match name {
            // As it is called, or a cgroup's path alone, which tables show.
            Some(name) => self.domains.iter().find(|(_, domain)| {
                domain.name == name || domain.name.strip_prefix("cgroup:") == Some(name)
            })?,
            None => self.domains.iter().min_by_key(|(id, domain)| {
                let headroom = domain
                    .usage()
                    .map_or(i128::MAX, |usage| i128::from(usage.threshold.0) - i128::from(usage.used.0));
                (headroom, **id)
            })?,
        };
        let in_flight: Vec<String> = self
            .workers
            .values()
            .filter(|worker| matches!(worker.life, Life::BeingKilled(_)))
            .filter(|worker| worker.domains.iter().any(|charged| self.overlap(*charged, *id)))
            .map(|worker| worker.id().to_string())
            .collect();
        Some(self.explanation(domain, &in_flight))
    }

    /// Past kills, the newest last; those in flight come after them.
    pub fn kills(&self) -> impl Iterator<Item = &KillRecord> {
        self.history.iter().chain(self.flights.iter().map(|flight| &flight.record))
    }

    /// The kill with this number, in flight or past.
    #[must_use]
    pub fn kill(&self, id: super::KillId) -> Option<&KillRecord> {
        let flying = self.flights.iter().map(|flight| &flight.record);
        flying.chain(self.history.iter().rev()).find(|record| record.id == id)
    }

    /// How many kills are in flight.
    #[must_use]
    pub fn kills_in_flight(&self) -> usize {
        self.flights.len()
    }

    /// A worker, with the uid that may see and change it.
    #[must_use]
    pub fn owner_uid(&self, worker: WorkerId) -> Option<u32> {
        self.workers.get(&worker).map(|worker| worker.candidate.uid)
    }

    /// Whether a worker runs something.
    #[must_use]
    pub fn activity(&self, worker: WorkerId) -> Option<Activity> {
        self.workers.get(&worker).map(|worker| worker.candidate.activity)
    }

    /// The domains that a worker charges, innermost first.
    #[must_use]
    pub fn charged_by(&self, worker: WorkerId) -> Option<&[DomainId]> {
        self.workers.get(&worker).map(|worker| &worker.domains[..])
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}
