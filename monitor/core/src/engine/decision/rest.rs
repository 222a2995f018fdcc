//! The candidates of a decision that had no part in it: what is kept of them, so that a kill among thousands of workers
//! takes no more of the journal than one among ten, and still comes out the same.
//!
//! What a policy takes first depends on the front of its order alone, and on how large the groups in it are. So the
//! front is kept, of each group in it the oldest worker and how many there are besides, and of all others their number
//! and what they held. Whether that is enough is tried, not assumed: if the decision does not come out the same, all
//! candidates stay.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Decision, Input};
use crate::policy::PolicyName;
use crate::prelude::*;
use crate::units::{Bytes, Nanos};
use crate::worker::WorkerId;

/// The candidates that are not among [`Decision::candidates`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rest {
    /// How many.
    pub workers: usize,
    /// What those of them held together that were measured.
    pub memory: Bytes,
    /// How many were not measured.
    pub unmeasured: usize,
    /// The largest number of one owner's candidates, those that are kept included.
    pub most_of_one_owner: usize,
    /// The largest of their numbers.
    pub last: WorkerId,
    /// Those that count as members of a group.
    pub like: Vec<Like>,
}

/// Candidates of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Like {
    /// The oldest of the group, which is kept.
    pub worker: WorkerId,
    /// How many there were besides, none of which is kept.
    pub more: usize,
}

/// How much of a decision's ranking is kept.
pub const RANKING: usize = 10;

/// With fewer candidates all are kept.
const FEW: usize = 4 * RANKING;

/// The first number of the workers that stand for those that are not kept. No agent gives so many.
const FIRST_STAND_IN: u64 = 1 << 62;

/// A journal that asks for more of them was not written by an agent.
const MOST_STAND_INS: usize = 1 << 17;

/// What group_by_owner goes by, as far as it concerns a retriable worker with an owner, or one that is not retriable.
type Group<'a> = (i32, Option<(u32, &'a str)>);

fn group(input: &Input) -> Option<Group<'_>> {
    match &input.owner {
        _ if !input.kind.retriable() => Some((input.priority, None)),
        Some(owner) => Some((input.priority, Some((input.uid, owner.as_str())))),
        // A group of its own.
        None => None,
    }
}

impl Decision {
    /// The same with no more candidates than it takes to decide it again.
    #[must_use]
    pub fn condensed(self) -> Self {
        if self.rest.is_some() || self.candidates.len() <= FEW {
            return self;
        }
        let most = self.shown();
        let Ok(whole) = self.again_up_to(most + 1) else { return self };
        let ranked = whole.ranking.iter().map(|ranked| &ranked.id);
        let front = ranked.chain(self.victims.iter().map(|victim| &victim.id));
        let condensed = self.with_only(front.filter_map(|id| id.parse().ok()).collect());
        let comes_out_the_same = condensed.again_up_to(most).is_ok_and(|again| {
            again.victims == whole.victims && again.ranking.iter().eq(whole.ranking.iter().take(most))
        });
        if comes_out_the_same { condensed } else { self }
    }

    /// How much of its ranking is kept: the victims are in it, and those that would have been next.
    pub(super) fn shown(&self) -> usize {
        self.victims.len() + RANKING
    }

    /// Whether this is the number of one that stands for others.
    pub(super) fn is_stand_in(worker: WorkerId) -> bool {
        worker.0 >= FIRST_STAND_IN
    }

    /// Only these candidates, and what stands for the others.
    fn with_only(&self, mut kept: BTreeSet<WorkerId>) -> Self {
        let mut groups: BTreeMap<Group<'_>, (WorkerId, Nanos)> = BTreeMap::new();
        let mut priorities: BTreeSet<i32> = BTreeSet::new();
        for input in self.candidates.iter().filter(|input| kept.contains(&input.worker)) {
            priorities.insert(input.priority);
            groups.extend(group(input).map(|group| (group, (input.worker, input.started))));
        }
        for input in &self.candidates {
            // One of each, so that it shows that there are others.
            if priorities.insert(input.priority) {
                kept.insert(input.worker);
            }
            if let Some(oldest) = group(input).and_then(|group| groups.get_mut(&group))
                && (input.started, input.worker) < (oldest.1, oldest.0)
            {
                *oldest = (input.worker, input.started);
            }
        }
        kept.extend(groups.values().map(|(oldest, _)| *oldest));
        let mut rest = Rest { most_of_one_owner: self.most_of_one_owner(), ..Rest::default() };
        let mut more: BTreeMap<WorkerId, usize> = BTreeMap::new();
        let counts_groups = self.settings.policy == PolicyName::GroupByOwner;
        for input in self.candidates.iter().filter(|input| !kept.contains(&input.worker)) {
            rest.workers += 1;
            rest.unmeasured += usize::from(input.memory.is_none());
            rest.memory = rest.memory.saturating_add(input.memory.unwrap_or_default());
            rest.last = rest.last.max(input.worker);
            if counts_groups && let Some((oldest, _)) = group(input).and_then(|group| groups.get(&group)) {
                *more.entry(*oldest).or_default() += 1;
            }
        }
        rest.like = more.into_iter().map(|(worker, more)| Like { worker, more }).collect();
        let candidates = self.candidates.iter().filter(|input| kept.contains(&input.worker));
        Self { candidates: candidates.cloned().collect(), rest: Some(rest), ..self.without_candidates() }
    }

    fn without_candidates(&self) -> Self {
        Self {
            domain: self.domain.clone(),
            settings: self.settings.clone(),
            victims: self.victims.clone(),
            candidates: Vec::new(),
            rest: None,
            ..*self
        }
    }

    /// Workers that stand for those that are not kept.
    pub(super) fn stand_ins(&self) -> impl Iterator<Item = Input> + '_ {
        let like = self.rest.iter().flat_map(|rest| &rest.like);
        let each = like.filter_map(move |like| {
            let found = self.candidates.iter().find(|input| input.worker == like.worker)?;
            Some(core::iter::repeat_n(found, like.more))
        });
        each.flatten()
            .take(MOST_STAND_INS)
            .zip(FIRST_STAND_IN..)
            .map(|(input, number)| Input { worker: WorkerId(number), ..input.clone() })
    }

    /// How many candidates there were.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.candidates.len() + self.rest.as_ref().map_or(0, |rest| rest.workers)
    }

    /// What they held, one by one as far as that is known; `None`: a worker that was not measured.
    pub fn memories(&self) -> impl Iterator<Item = Option<Bytes>> + '_ {
        let rest = self.rest.iter().flat_map(|rest| {
            let unmeasured = (rest.unmeasured > 0).then_some(None);
            core::iter::once(Some(rest.memory)).chain(unmeasured)
        });
        self.candidates.iter().map(|input| input.memory).chain(rest)
    }

    /// The largest number of one owner's candidates; 0: none has an owner.
    #[must_use]
    pub fn most_of_one_owner(&self) -> usize {
        if let Some(rest) = &self.rest {
            return rest.most_of_one_owner;
        }
        let mut by_owner: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        for candidate in &self.candidates {
            let Some(owner) = candidate.owner.as_deref() else { continue };
            *by_owner.entry((candidate.uid, owner)).or_default() += 1;
        }
        by_owner.into_values().max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{KillId, Settings};
    use crate::worker::{Kind, LastTask, MemoryFacts, Times};

    fn input(worker: u64, owner: Option<u64>, started: u64, memory: u64) -> Input {
        Input {
            worker: WorkerId(worker),
            kind: Kind::Task { max_retries: Times::AtMost(u32::from(!worker.is_multiple_of(7))) },
            uid: 1000,
            owner: owner.map(|owner| alloc::format!("owner-{owner}")),
            started: Nanos(started),
            idle_ever_leased: None,
            memory: (memory > 0).then_some(Bytes(memory)),
            priority: 0,
            memory_declared: None,
            last_task: LastTask::default(),
            facts: MemoryFacts::default(),
        }
    }

    /// A decision among these, as it was taken.
    fn decided(policy: PolicyName, candidates: Vec<Input>) -> Decision {
        let settings = Settings { policy, ..Settings::default() };
        let mut decision = Decision {
            kill: KillId(1),
            at: Nanos(1),
            domain: "node".to_owned(),
            settings,
            total: Bytes(1000),
            used: Bytes(990),
            threshold: Bytes(950),
            executors_line: None,
            candidates,
            rest: None,
            victims: Vec::new(),
        };
        decision.victims = decision.again().unwrap().victims;
        decision
    }

    #[test]
    fn two_thousand_workers_of_some_owners_are_a_few_lines() {
        for owners in [1, 50, 2000] {
            let worker = |number| input(number, Some(number % owners), 1000 + number * 37 % 2003, 5);
            let whole = decided(PolicyName::GroupByOwner, (1..=2000).map(worker).collect());
            let condensed = whole.clone().condensed();
            let length = serde_json::to_string(&condensed).unwrap().len();
            assert!(length < 8 << 10, "{owners} owners: {length} bytes");
            let again = condensed.again().unwrap();
            assert_eq!(condensed.differences(&again), Vec::<String>::new());
            assert!(again.ranking.len() > RANKING, "the victim and those behind it");
            assert_eq!(again.ranking[..], whole.again().unwrap().ranking[..again.ranking.len()]);
            assert_eq!((condensed.workers(), whole.workers()), (2000, 2000));
            let sum = |of: &Decision| of.memories().flatten().fold(Bytes(0), Bytes::saturating_add);
            assert_eq!(sum(&condensed), sum(&whole));
            assert_eq!(condensed.most_of_one_owner(), whole.most_of_one_owner());
        }
    }

    proptest! {
        #[test]
        fn it_comes_out_the_same_whatever_the_candidates_are(
            policy in prop_oneof![
                Just(PolicyName::GroupByOwner), Just(PolicyName::RetriableLifo), Just(PolicyName::RetriableFifo),
                Just(PolicyName::ByTime), Just(PolicyName::ByMemory)
            ],
            workers in proptest::collection::vec((proptest::option::of(0u64..6), 0u64..50, 0u64..40, 0i32..2), 0..120),
        ) {
            let each = (1..).zip(workers).map(|(number, (owner, started, memory, priority))| {
                Input { priority, ..input(number, owner, started, memory) }
            });
            let whole = decided(policy, each.collect());
            let condensed = whole.clone().condensed();
            let read: Decision = serde_json::from_str(&serde_json::to_string(&condensed).unwrap()).unwrap();
            let (again, before) = (read.again().unwrap(), whole.again().unwrap());
            prop_assert_eq!(read.differences(&again), Vec::<String>::new());
            let kept = RANKING.min(before.ranking.len());
            prop_assert_eq!(&again.ranking[..kept], &before.ranking[..kept]);
            prop_assert_eq!(read.workers(), whole.workers());
        }
    }
}
