//! The candidates of one domain in the order of one policy, kept from change to change: a change costs
//! O(log n), a decision looks at the front. It never decides whether to kill, only which worker.

use alloc::collections::{BTreeMap, BTreeSet};

use super::groups::Groups;
use super::ordering::{self, Place};
use super::{Choice, MinVictimMemory, Policy, Why};
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};
use crate::worker::{Activity, Candidate, LastTask, WorkerId};

/// The most that `by_time` frees beyond the threshold on its own (docs/behavior.md#policies): 3 GiB.
const MAX_KILL_BUFFER: Bytes = Bytes(3 << 30);

/// The candidates of one domain.
#[derive(Debug, Clone)]
pub struct Roster {
    policy: Policy,
    least: MinVictimMemory,
    workers: BTreeMap<WorkerId, Candidate>,
    /// What they hold together; a worker that was not measured counts as 0.
    held: Bytes,
    order: Order,
    /// The workers with known memory, ordered by it.
    sizes: BTreeSet<(Bytes, WorkerId)>,
    /// How many have each priority.
    priorities: BTreeMap<i32, usize>,
}

#[derive(Debug, Clone)]
enum Order {
    Groups(Groups),
    Line(BTreeSet<Place>),
}

impl Roster {
    /// An empty roster that passes no worker over.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self::passing_over(policy, MinVictimMemory::default())
    }

    /// An empty roster. A worker that is known to hold less than `least` is passed over as long as one further down the
    /// order holds that much.
    #[must_use]
    pub fn passing_over(policy: Policy, least: MinVictimMemory) -> Self {
        let order = match policy {
            Policy::GroupByOwner { tie } => Order::Groups(Groups::new(tie)),
            Policy::RetriableLifo | Policy::RetriableFifo | Policy::ByTime { .. } | Policy::ByMemory => {
                Order::Line(BTreeSet::new())
            }
        };
        Self {
            policy,
            least,
            workers: BTreeMap::new(),
            held: Bytes(0),
            order,
            sizes: BTreeSet::new(),
            priorities: BTreeMap::new(),
        }
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
        self.sizes.extend(candidate.memory.map(|memory| (memory, candidate.id)));
        *self.priorities.entry(candidate.priority).or_default() += 1;
        self.held = self.held.saturating_add(candidate.memory.unwrap_or_default());
        self.workers.insert(candidate.id, candidate);
        replaced
    }

    /// Takes a worker out: it died, or is being killed and so no candidate any more. `None`: not there.
    pub fn remove(&mut self, id: WorkerId) -> Option<Candidate> {
        let candidate = self.workers.remove(&id)?;
        self.held = self.held.saturating_sub(candidate.memory.unwrap_or_default());
        match &mut self.order {
            Order::Groups(groups) => groups.remove(&candidate),
            Order::Line(line) => {
                if let Some((place, _)) = ordering::place(self.policy, &candidate) {
                    line.remove(&place);
                }
            }
        }
        if let Some(memory) = candidate.memory {
            self.sizes.remove(&(memory, id));
        }
        if let Some(many) = self.priorities.get_mut(&candidate.priority) {
            *many -= 1;
            if *many == 0 {
                self.priorities.remove(&candidate.priority);
            }
        }
        Some(candidate)
    }

    /// Takes note of a measurement; `None`: it could not be measured. False: no such worker.
    pub fn set_memory(&mut self, id: WorkerId, memory: Option<Bytes>) -> bool {
        match self.policy {
            // Sizes have no say in the order here, and all of them change at each refresh: nothing is moved in it.
            Policy::GroupByOwner { .. } | Policy::RetriableLifo | Policy::RetriableFifo => {
                let Some(candidate) = self.workers.get_mut(&id) else { return false };
                let before = core::mem::replace(&mut candidate.memory, memory);
                if before != memory {
                    if let Some(before) = before {
                        self.sizes.remove(&(before, id));
                    }
                    self.sizes.extend(memory.map(|memory| (memory, id)));
                    self.held = self.held.saturating_sub(before.unwrap_or_default());
                    self.held = self.held.saturating_add(memory.unwrap_or_default());
                }
                true
            }
            Policy::ByTime { .. } | Policy::ByMemory => {
                self.update(id, |candidate| candidate.memory = memory)
            }
        }
    }

    /// Takes note that a worker began or ended to run something at `since`. False: no such worker.
    pub fn set_activity(&mut self, id: WorkerId, activity: Activity, since: Nanos) -> bool {
        self.update(id, |candidate| {
            candidate.activity = activity;
            candidate.started = since;
        })
    }

    /// What all workers hold together, as last measured; those that were not count as nothing.
    #[must_use]
    pub fn held(&self) -> Bytes {
        self.held
    }

    /// The worker with this id.
    #[must_use]
    pub fn get(&self, id: WorkerId) -> Option<&Candidate> {
        self.workers.get(&id)
    }

    /// All workers in registration order: the exact inputs of a decision (docs/behavior.md#records).
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
    /// the threshold and the buffer (at least one). None only if there is no candidate. Does not check whether
    /// `usage` is above, so that it also answers "which would it be?". Allocates nothing.
    pub fn choose(&self, usage: Usage) -> impl Iterator<Item = Choice> + '_ {
        let least = self.least.of(usage.total);
        // No worker is passed over if none holds that much.
        let large = if least == Bytes(0) { 0 } else { self.many_hold(least) };
        let (first, line) = match &self.order {
            Order::Groups(groups) => (self.of_groups(groups, least, large > 0), None),
            Order::Line(line) => (None, Some(self.of_line(line, usage, least, large))),
        };
        first.into_iter().chain(line.into_iter().flatten())
    }

    /// The order in which the policy would take all candidates one after the other, each time evaluated with
    /// the earlier ones gone (docs/behavior.md, interfaces). Works on a copy: for people, not for the path to a kill.
    #[must_use]
    pub fn ranking(&self, usage: Usage) -> Vec<Choice> {
        let mut rest = self.clone();
        let mut ranking = Vec::with_capacity(self.len());
        while let Some((choice, _)) = rest.take_first(usage) {
            ranking.push(choice);
        }
        ranking
    }

    /// Takes out the one that the policy would take first. `None`: no more can be taken.
    pub fn take_first(&mut self, usage: Usage) -> Option<(Choice, Candidate)> {
        let choice = self.choose(usage).next()?;
        let candidate = self.remove(choice.id)?;
        Some((choice, candidate))
    }

    /// The first few of the ranking, without a copy of the roster: what it takes out for it, it puts back.
    pub fn front(&mut self, usage: Usage, most: usize) -> Vec<WorkerId> {
        let mut taken = Vec::with_capacity(most);
        while taken.len() < most
            && let Some((_, candidate)) = self.take_first(usage)
        {
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
            Policy::GroupByOwner { .. }
            | Policy::RetriableLifo
            | Policy::RetriableFifo
            | Policy::ByMemory => None,
            Policy::ByTime { kill_buffer, .. } => {
                // A twentieth is 5% in integers, rounded down.
                let buffer = kill_buffer.unwrap_or(MAX_KILL_BUFFER.min(Bytes(usage.total.0 / 20)));
                Some(usage.excess().saturating_add(buffer))
            }
        }
    }

    /// How many candidates are known to hold at least this.
    fn many_hold(&self, least: Bytes) -> usize {
        let large = self.sizes.range((least, WorkerId(0))..);
        match self.policy {
            // One is as good as many.
            Policy::GroupByOwner { .. }
            | Policy::RetriableLifo
            | Policy::RetriableFifo
            | Policy::ByMemory => large.take(1).count(),
            // Several may be taken, and not every idle worker is a candidate.
            Policy::ByTime { .. } => large
                .filter_map(|(_, id)| self.workers.get(id))
                .filter(|candidate| ordering::place(self.policy, candidate).is_some())
                .count(),
        }
    }

    /// The victim by groups.
    fn of_groups(&self, groups: &Groups, least: Bytes, large: bool) -> Option<Choice> {
        let (id, why, passed_over) = if large {
            let enough = |id| self.workers.get(&id).is_some_and(|worker| !holds_less(worker, least));
            groups.first_of(enough)?
        } else {
            let (id, why) = groups.first()?;
            (id, why, 0)
        };
        Some(self.choice(self.workers.get(&id)?, why, (passed_over, least), None))
    }

    /// The front of the order, up to the worker that makes it enough.
    fn of_line<'a>(
        &'a self,
        line: &'a BTreeSet<Place>,
        usage: Usage,
        least: Bytes,
        mut large: usize,
    ) -> impl Iterator<Item = Choice> + 'a {
        let needed = self.needed(usage);
        let mut freed = Bytes(0);
        let (mut covered, mut passed_over) = (false, 0);
        let next = move |candidate: &Candidate| {
            if covered {
                return None;
            }
            if large > 0 && holds_less(candidate, least) {
                passed_over += 1;
                return Some(None);
            }
            large -= usize::from(large > 0 && candidate.memory.is_some());
            let (_, why) = ordering::place(self.policy, candidate)?;
            freed = freed.saturating_add(ordering::held(candidate));
            covered = needed.is_none_or(|needed| freed >= needed);
            Some(Some(self.choice(candidate, why, (passed_over, least), Some(usage))))
        };
        line.iter().filter_map(|place| self.workers.get(&place.id)).map_while(next).flatten()
    }

    /// What is to be said of a victim. `usage`: it matters for the verdict.
    fn choice(&self, victim: &Candidate, why: Why, passed: (usize, Bytes), usage: Option<Usage>) -> Choice {
        let hopeless = match (self.policy, usage) {
            (Policy::ByMemory, Some(usage)) => {
                let needs = ordering::held(victim).max(victim.declared.unwrap_or_default());
                self.workers.len() == 1 || needs > usage.threshold
            }
            _ => false,
        };
        let waits = matches!(why, Why::OwnerGroup { size: 1, .. }) && self.waits_as_last(victim);
        Choice {
            id: victim.id,
            should_retry: waits || (why.should_retry() && !hopeless),
            why,
            waits,
            priority: (self.priorities.len() > 1).then_some(victim.priority),
            passed_over: (passed.0 > 0).then_some(passed),
        }
    }

    /// Whether a worker is retried although it is the last of its owner, once there is more room than now: others are there
    /// that take room.
    fn waits_as_last(&self, victim: &Candidate) -> bool {
        victim.last_task == LastTask::Wait && self.workers.keys().any(|id| *id != victim.id)
    }

    /// Whether a worker that was killed for memory by something else should be retried, and whether it should wait for more
    /// room then, as the last of its owner: by the rule for a victim of its policy, were it one now. It counts as one of the
    /// candidates, whether it still is or not.
    #[must_use]
    pub fn would_retry(&self, victim: &Candidate, usage: Option<Usage>) -> (bool, bool) {
        let mut others = self.workers.values().filter(|other| other.id != victim.id);
        if !victim.kind.retriable() {
            return (false, false);
        }
        match self.policy {
            Policy::GroupByOwner { .. } => {
                let has_company = others.any(|other| {
                    let group = |of: &Candidate| (of.uid, of.owner.clone(), of.priority);
                    victim.owner.is_some() && other.kind.retriable() && group(other) == group(victim)
                });
                let waits = !has_company && self.waits_as_last(victim);
                (has_company || waits, waits)
            }
            Policy::ByMemory => {
                let needs = ordering::held(victim).max(victim.declared.unwrap_or_default());
                (others.next().is_some() && usage.is_none_or(|usage| needs <= usage.threshold), false)
            }
            Policy::RetriableLifo | Policy::RetriableFifo | Policy::ByTime { .. } => (true, false),
        }
    }

    /// Changes a worker's facts and its place with them.
    fn update(&mut self, id: WorkerId, change: impl FnOnce(&mut Candidate)) -> bool {
        let Some(mut candidate) = self.remove(id) else { return false };
        change(&mut candidate);
        self.insert(candidate);
        true
    }
}

/// Whether a candidate is known to hold less than this.
fn holds_less(candidate: &Candidate, least: Bytes) -> bool {
    candidate.memory.is_some_and(|memory| memory < least)
}
