//! The candidates of one domain in the order of one policy, kept from change to change: a change costs
//! O(log n), a decision looks at the front. It never decides whether to kill, only whom.

use alloc::collections::{BTreeMap, BTreeSet};

use super::groups::Groups;
use super::ordering::{self, Place};
use super::{Choice, Policy};
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::{Activity, Candidate, WorkerId};

/// The most that `by_time` frees beyond the threshold on its own (SPEC 5): 3 GiB.
const MAX_KILL_BUFFER: Bytes = Bytes(3 << 30);

/// The candidates of one domain.
#[derive(Debug, Clone)]
pub struct Roster {
    policy: Policy,
    workers: BTreeMap<WorkerId, Candidate>,
    order: Order,
}

#[derive(Debug, Clone)]
enum Order {
    Groups(Groups),
    Line(BTreeSet<Place>),
}

impl Roster {
    /// An empty roster.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let order = match policy {
            Policy::GroupByOwner { tie } => Order::Groups(Groups::new(tie)),
            Policy::RetriableLifo | Policy::RetriableFifo | Policy::ByTime { .. } => {
                Order::Line(BTreeSet::new())
            }
        };
        Self { policy, workers: BTreeMap::new(), order }
    }

    /// The policy it is ordered by.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Adds a worker. One with the same id is replaced and returned.
    pub fn insert(&mut self, candidate: Candidate) -> Option<Candidate> {
        let replaced = self.remove(candidate.id);
        match &mut self.order {
            Order::Groups(groups) => groups.insert(&candidate),
            Order::Line(line) => {
                line.extend(ordering::place(self.policy, &candidate).map(|(place, _)| place))
            }
        }
        self.workers.insert(candidate.id, candidate);
        replaced
    }

    /// Takes a worker out: it died, or is being killed and so no candidate any more. `None`: not there.
    pub fn remove(&mut self, id: WorkerId) -> Option<Candidate> {
        let candidate = self.workers.remove(&id)?;
        match &mut self.order {
            Order::Groups(groups) => groups.remove(&candidate),
            Order::Line(line) => {
                if let Some((place, _)) = ordering::place(self.policy, &candidate) {
                    line.remove(&place);
                }
            }
        }
        Some(candidate)
    }

    /// Takes note of a measurement; `None`: it could not be measured. False: no such worker.
    pub fn set_memory(&mut self, id: WorkerId, memory: Option<Bytes>) -> bool {
        match self.policy {
            // Sizes have no say here, and all of them change at each refresh: nothing is moved.
            Policy::GroupByOwner { .. } | Policy::RetriableLifo | Policy::RetriableFifo => {
                self.workers.get_mut(&id).map(|candidate| candidate.memory = memory).is_some()
            }
            Policy::ByTime { .. } => self.update(id, |candidate| candidate.memory = memory),
        }
    }

    /// Takes note that a worker began or ended to run something at `since`. False: no such worker.
    pub fn set_activity(&mut self, id: WorkerId, activity: Activity, since: Nanos) -> bool {
        self.update(id, |candidate| {
            candidate.activity = activity;
            candidate.started = since;
        })
    }

    /// The worker with this id.
    #[must_use]
    pub fn get(&self, id: WorkerId) -> Option<&Candidate> {
        self.workers.get(&id)
    }

    /// All workers in registration order: the exact inputs of a decision (SPEC 8).
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.workers.values()
    }

    /// How many workers it holds, those included that `by_time` does not count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// The victims, were the domain to be relieved now: one, or with `by_time` as many as cover what is above
    /// the threshold and the buffer (at least one). None only if there is no candidate. Does not ask whether
    /// `usage` is above, so that it also answers "whom would it be?". Allocates nothing.
    pub fn choose(&self, usage: Usage) -> impl Iterator<Item = Choice> + '_ {
        let (first, line) = match &self.order {
            Order::Groups(groups) => (groups.first(), None),
            Order::Line(line) => (None, Some(self.cover(line, self.needed(usage)))),
        };
        let first = first.map(|(id, why)| Choice { id, should_retry: why.should_retry(), why });
        first.into_iter().chain(line.into_iter().flatten())
    }

    /// The order in which the policy would take all candidates one after the other, each time evaluated with
    /// the earlier ones gone (SPEC 11). Works on a copy: for people, not for the path to a kill.
    #[must_use]
    pub fn ranking(&self) -> Vec<Choice> {
        let nothing = Usage { total: Bytes(0), used: Bytes(0), threshold: Bytes(0) };
        let mut rest = self.clone();
        let mut ranking = Vec::with_capacity(self.len());
        loop {
            let Some(choice) = rest.choose(nothing).next() else { return ranking };
            rest.remove(choice.id);
            ranking.push(choice);
        }
    }

    /// The first few of the ranking, without a copy of the roster: what it takes out for it, it puts back.
    pub fn front(&mut self, most: usize) -> Vec<WorkerId> {
        let nothing = Usage { total: Bytes(0), used: Bytes(0), threshold: Bytes(0) };
        let mut taken = Vec::with_capacity(most);
        while taken.len() < most {
            let next = self.choose(nothing).next();
            let Some(candidate) = next.and_then(|choice| self.remove(choice.id)) else { break };
            taken.push(candidate);
        }
        let front = taken.iter().map(|candidate| candidate.id).collect();
        for candidate in taken {
            self.insert(candidate);
        }
        front
    }

    /// What the victims must hold together; `None`: one victim, whatever it holds.
    fn needed(&self, usage: Usage) -> Option<Bytes> {
        match self.policy {
            Policy::GroupByOwner { .. } | Policy::RetriableLifo | Policy::RetriableFifo => None,
            Policy::ByTime { kill_buffer, .. } => {
                // A twentieth is 5% in integers, rounded down.
                let buffer = kill_buffer.unwrap_or(MAX_KILL_BUFFER.min(Bytes(usage.total.0 / 20)));
                Some(usage.excess().saturating_add(buffer))
            }
        }
    }

    /// The front of the line, up to the worker with whom `needed` is covered.
    fn cover<'a>(
        &'a self,
        line: &'a BTreeSet<Place>,
        needed: Option<Bytes>,
    ) -> impl Iterator<Item = Choice> + 'a {
        let mut freed = Bytes(0);
        let mut covered = false;
        line.iter().map_while(move |place| {
            if covered {
                return None;
            }
            let candidate = self.workers.get(&place.id)?;
            let (_, why) = ordering::place(self.policy, candidate)?;
            freed = freed.saturating_add(ordering::held(candidate));
            covered = needed.is_none_or(|needed| freed >= needed);
            Some(Choice { id: candidate.id, should_retry: why.should_retry(), why })
        })
    }

    /// Changes a worker's facts and its place with them.
    fn update(&mut self, id: WorkerId, change: impl FnOnce(&mut Candidate)) -> bool {
        let Some(mut candidate) = self.remove(id) else { return false };
        change(&mut candidate);
        self.insert(candidate);
        true
    }
}
