//! What must always hold of a policy, and a second implementation written straight from SPEC 5 that sorts
//! everything at each step, against which the incremental one is held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::threshold::Usage;
use crate::units::Nanos;
use crate::worker::{Activity, Candidate, Kind, Times};

const GIB: u64 = 1 << 30;

// ---- the second implementation -------------------------------------------------------------------------

/// The earlier of two, ties by registration order.
fn age(worker: &Candidate) -> (Nanos, WorkerId) {
    (worker.started, worker.id)
}

fn memory(worker: &Candidate) -> u64 {
    worker.memory.map_or(0, |bytes| bytes.0)
}

/// The candidates in the order of a policy that has no groups.
fn sorted(policy: Policy, workers: &[Candidate]) -> Vec<Candidate> {
    let mut line = workers.to_vec();
    let retriable_first = |a: &Candidate, b: &Candidate| b.kind.retriable().cmp(&a.kind.retriable());
    let idle = |worker: &Candidate| matches!(worker.activity, Activity::Idle { .. });
    match policy {
        Policy::GroupByOwner { .. } => unreachable!("has groups"),
        Policy::RetriableLifo => line.sort_by(|a, b| retriable_first(a, b).then(age(b).cmp(&age(a)))),
        Policy::RetriableFifo => line.sort_by(|a, b| retriable_first(a, b).then(age(a).cmp(&age(b)))),
        Policy::ByTime { idle_threshold, .. } => {
            line.retain(|w| {
                w.activity != Activity::Idle { ever_leased: false } || memory(w) >= idle_threshold.0
            });
            line.sort_by(|a, b| match (idle(a), idle(b)) {
                (true, true) => memory(b).cmp(&memory(a)).then(age(b).cmp(&age(a))),
                (true, false) => std::cmp::Ordering::Less,
                (false, true) => std::cmp::Ordering::Greater,
                (false, false) => retriable_first(a, b).then(age(b).cmp(&age(a))),
            });
        }
    }
    line
}

/// The groups in order, each in registration order.
fn groups(tie: OwnerTieBreak, workers: &[Candidate]) -> Vec<Vec<Candidate>> {
    let mut groups: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for worker in workers {
        let group = match &worker.owner {
            _ if !worker.kind.retriable() => "non-retriable".to_owned(),
            Some(owner) => format!("owner {owner}"),
            None => format!("alone {}", worker.id),
        };
        groups.entry(group).or_default().push(worker.clone());
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        let earliest = |group: &[Candidate]| group.iter().map(age).min();
        let by_age = match tie {
            OwnerTieBreak::Newest => earliest(b).cmp(&earliest(a)),
            OwnerTieBreak::Oldest => earliest(a).cmp(&earliest(b)),
        };
        b[0].kind.retriable().cmp(&a[0].kind.retriable()).then(b.len().cmp(&a.len())).then(by_age)
    });
    groups
}

fn victims(policy: Policy, workers: &[Candidate], usage: Usage) -> Vec<(WorkerId, bool)> {
    let verdict = |worker: &Candidate| (worker.id, worker.kind.retriable());
    match policy {
        Policy::GroupByOwner { tie } => {
            let groups = groups(tie, workers);
            let Some(group) = groups.first() else { return Vec::new() };
            let newest = group.iter().max_by_key(|worker| age(worker)).unwrap();
            vec![(newest.id, group.len() > 1 && newest.kind.retriable())]
        }
        Policy::RetriableLifo | Policy::RetriableFifo => {
            sorted(policy, workers).iter().map(verdict).take(1).collect()
        }
        Policy::ByTime { kill_buffer, .. } => {
            let buffer = kill_buffer.map_or((usage.total.0 / 20).min(3 * GIB), |bytes| bytes.0);
            let needed = u128::from(usage.used.0.saturating_sub(usage.threshold.0)) + u128::from(buffer);
            let mut taken = Vec::new();
            let mut freed = 0;
            for worker in sorted(policy, workers) {
                taken.push(verdict(&worker));
                freed += u128::from(memory(&worker));
                if freed >= needed {
                    break;
                }
            }
            taken
        }
    }
}

fn ranking(policy: Policy, workers: &[Candidate]) -> Vec<(WorkerId, bool)> {
    let mut rest = workers.to_vec();
    let mut ranking = Vec::new();
    while let Some(first) = victims(policy, &rest, NOTHING_ABOVE).first() {
        ranking.push(*first);
        rest.retain(|worker| worker.id != first.0);
    }
    ranking
}

// ---- inputs --------------------------------------------------------------------------------------------

const NOTHING_ABOVE: Usage = Usage { total: Bytes(0), used: Bytes(0), threshold: Bytes(0) };

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        select(vec![OwnerTieBreak::Newest, OwnerTieBreak::Oldest])
            .prop_map(|tie| Policy::GroupByOwner { tie }),
        Just(Policy::RetriableLifo),
        Just(Policy::RetriableFifo),
        (proptest::option::of(0u64..4000), 0u64..2000).prop_map(|(buffer, idle)| Policy::ByTime {
            kill_buffer: buffer.map(Bytes),
            idle_threshold: Bytes(idle)
        }),
    ]
}

/// Few owners, starts and sizes, so that ties of every sort come up.
fn candidate(id: u64) -> impl Strategy<Value = Candidate> {
    let times = select(vec![Times::AtMost(0), Times::AtMost(3), Times::Unlimited]);
    let kind = (times, any::<bool>()).prop_map(|(budget, task)| {
        if task { Kind::Task { max_retries: budget } } else { Kind::Actor { max_restarts: budget } }
    });
    let owner = select(vec![None, Some("a"), Some("b"), Some("c")]);
    let activity = select(vec![
        Activity::Busy,
        Activity::Idle { ever_leased: true },
        Activity::Idle { ever_leased: false },
    ]);
    let memory = proptest::option::of(select(vec![0, 1, 999, 1000, 2000, u64::MAX]));
    (kind, owner, 0u64..8, activity, memory).prop_map(move |(kind, owner, started, activity, memory)| {
        Candidate {
            id: WorkerId(id),
            kind,
            uid: 0,
            owner: owner.map(Arc::from),
            started: Nanos(started),
            activity,
            memory: memory.map(Bytes),
        }
    })
}

fn workers() -> impl Strategy<Value = Vec<Candidate>> {
    (0u64..16).prop_flat_map(|count| (0..count).map(candidate).collect::<Vec<_>>())
}

fn usages() -> impl Strategy<Value = Usage> {
    (0u64..20_000, 0u64..20_000, 0u64..20_000).prop_map(|(total, used, threshold)| Usage {
        total: Bytes(total),
        used: Bytes(used),
        threshold: Bytes(threshold),
    })
}

fn roster(policy: Policy, workers: &[Candidate]) -> Roster {
    let mut roster = Roster::new(policy);
    for worker in workers {
        assert_eq!(roster.insert(worker.clone()), None);
    }
    roster
}

fn facts(choices: impl IntoIterator<Item = Choice>) -> Vec<(WorkerId, bool)> {
    choices.into_iter().map(|choice| (choice.id, choice.should_retry)).collect()
}

// ---- what must always hold -----------------------------------------------------------------------------

proptest! {
    #[test]
    fn the_incremental_order_is_that_of_sorting_everything(
        policy in policies(), workers in workers(), usage in usages(),
    ) {
        let mut roster = roster(policy, &workers);
        prop_assert_eq!(facts(roster.choose(usage)), victims(policy, &workers, usage));
        let first = ranking(policy, &workers).into_iter().take(3).map(|(id, _)| id);
        prop_assert_eq!(roster.front(3), first.collect::<Vec<_>>());
        prop_assert_eq!(facts(roster.ranking()), ranking(policy, &workers), "and all are back");
    }

    #[test]
    fn changes_leave_no_trace(
        policy in policies(), before in workers(), after in workers(), usage in usages(),
    ) {
        let mut roster = roster(policy, &before);
        for worker in &after {
            if roster.get(worker.id).is_some_and(|old| (old.kind, &old.owner) == (worker.kind, &worker.owner)) {
                prop_assert!(roster.set_memory(worker.id, worker.memory));
                prop_assert!(roster.set_activity(worker.id, worker.activity, worker.started));
            } else {
                roster.insert(worker.clone());
            }
        }
        for gone in before.iter().skip(after.len()) {
            prop_assert_eq!(roster.remove(gone.id), Some(gone.clone()));
            prop_assert_eq!(roster.remove(gone.id), None);
        }
        prop_assert_eq!(roster.len(), after.len());
        prop_assert!(roster.iter().eq(after.iter()));
        prop_assert_eq!(facts(roster.choose(usage)), victims(policy, &after, usage));
        prop_assert_eq!(facts(roster.ranking()), ranking(policy, &after));
    }

    #[test]
    fn the_order_of_insertion_does_not_matter(
        policy in policies(),
        (workers, shuffled) in workers().prop_flat_map(|w| (Just(w.clone()), Just(w).prop_shuffle())),
        usage in usages(),
    ) {
        let (one, other) = (roster(policy, &workers), roster(policy, &shuffled));
        prop_assert!(one.choose(usage).eq(other.choose(usage)));
        prop_assert_eq!(one.ranking(), other.ranking());
    }

    #[test]
    fn a_ranking_holds_every_candidate_once_and_begins_with_the_victim(
        policy in policies(), workers in workers(), usage in usages(),
    ) {
        let roster = roster(policy, &workers);
        let ranking = roster.ranking();
        prop_assert_eq!(ranking.first().cloned(), roster.choose(usage).next());
        let ranked: BTreeSet<_> = ranking.iter().map(|choice| choice.id).collect();
        prop_assert_eq!(ranked.len(), ranking.len());
        let counts = |w: &&Candidate| match (policy, w.activity) {
            (Policy::ByTime { idle_threshold, .. }, Activity::Idle { ever_leased: false }) => {
                memory(w) >= idle_threshold.0
            }
            _ => true,
        };
        prop_assert_eq!(ranked, workers.iter().filter(counts).map(|w| w.id).collect::<BTreeSet<_>>());
    }

    #[test]
    fn a_retriable_worker_goes_before_any_other(policy in policies(), workers in workers()) {
        let roster = roster(policy, &workers);
        let busy = |choice: &Choice| roster.get(choice.id).unwrap().activity == Activity::Busy;
        let mut ranking = roster.ranking();
        if let Policy::ByTime { .. } = policy {
            prop_assert!(ranking.is_sorted_by_key(busy), "an idle worker comes after a busy one");
            ranking.retain(busy);
        }
        prop_assert!(ranking.is_sorted_by_key(|choice| !roster.get(choice.id).unwrap().kind.retriable()));
    }

    #[test]
    fn an_owner_keeps_a_worker_while_another_has_more(
        tie in select(vec![OwnerTieBreak::Newest, OwnerTieBreak::Oldest]), workers in workers(),
    ) {
        let mut roster = roster(Policy::GroupByOwner { tie }, &workers);
        loop {
            let mut left: BTreeMap<Arc<str>, Vec<Candidate>> = BTreeMap::new();
            for worker in roster.iter().filter(|worker| worker.kind.retriable()) {
                let owner = worker.owner.clone().unwrap_or_else(|| worker.id.to_string().into());
                left.entry(owner).or_default().push(worker.clone());
            }
            let Some(choice) = roster.choose(NOTHING_ABOVE).next() else { break };
            let worker = roster.remove(choice.id).unwrap();
            let largest = left.values().map(Vec::len).max().unwrap_or(0);
            if worker.kind.retriable() {
                let group = &left[&worker.owner.unwrap_or_else(|| worker.id.to_string().into())];
                prop_assert_eq!(group.len(), largest);
                prop_assert_eq!(group.iter().max_by_key(|w| age(w)).unwrap().id, choice.id);
                prop_assert_eq!(choice.should_retry, group.len() > 1);
            } else {
                prop_assert_eq!(largest, 0);
                prop_assert!(!choice.should_retry);
            }
        }
    }
}

// ---- examples ------------------------------------------------------------------------------------------

fn task(id: u64, owner: Option<&str>, started: u64) -> Candidate {
    Candidate {
        id: WorkerId(id),
        kind: Kind::Task { max_retries: Times::Unlimited },
        uid: 0,
        owner: owner.map(Arc::from),
        started: Nanos(started),
        activity: Activity::Busy,
        memory: None,
    }
}

fn ranked(policy: Policy, workers: &[Candidate]) -> Vec<u64> {
    roster(policy, workers).ranking().iter().map(|choice| choice.id.0).collect()
}

/// The figure of Ray's documentation: two callers, four tasks each, the second caller a little later.
#[test]
fn of_two_callers_with_four_tasks_each_the_kills_alternate() {
    let figure: Vec<_> = (0..4)
        .flat_map(|i| [task(2 * i, Some("a"), 10 * i), task(2 * i + 1, Some("b"), 10 * i + 5)])
        .collect();
    let roster = roster(Policy::default(), &figure);
    let kills: Vec<_> = roster
        .ranking()
        .iter()
        .map(|c| (roster.get(c.id).unwrap().owner.clone().unwrap(), c.id.0, c.should_retry))
        .collect();
    let (a, b) = (|id, retry| ("a".into(), id, retry), |id, retry| ("b".into(), id, retry));
    assert_eq!(
        kills,
        [b(7, true), a(6, true), b(5, true), a(4, true), b(3, true), a(2, true), b(1, false), a(0, false)]
    );
}

#[test]
fn the_tie_between_groups_can_be_turned() {
    let workers = [task(1, Some("a"), 1), task(2, Some("b"), 2)];
    assert_eq!(ranked(Policy::GroupByOwner { tie: OwnerTieBreak::Newest }, &workers), [2, 1]);
    assert_eq!(ranked(Policy::GroupByOwner { tie: OwnerTieBreak::Oldest }, &workers), [1, 2]);
}

#[test]
fn workers_without_an_owner_are_groups_of_their_own() {
    let workers = [task(1, None, 1), task(2, None, 2), task(3, Some("a"), 0), task(4, Some("a"), 0)];
    assert_eq!(ranked(Policy::default(), &workers), [4, 2, 1, 3]);
}

#[test]
fn by_time_takes_as_many_as_cover_the_excess_and_the_buffer() {
    let held = |id, memory| Candidate { memory: Some(Bytes(memory)), ..task(id, None, id) };
    let workers = [held(1, 500), held(2, 299), task(3, None, 3), held(4, 1)];
    let usage = |used| Usage { total: Bytes(2019), used: Bytes(used), threshold: Bytes(1000) };
    let victims = |policy, used| {
        roster(policy, &workers).choose(usage(used)).map(|choice| choice.id.0).collect::<Vec<_>>()
    };
    // A twentieth of 2019 is 100: 200 + 100 is just covered by 1 + 0 + 299.
    let by_rule = Policy::new(PolicyName::ByTime, Options::default());
    assert_eq!(victims(by_rule, 1200), [4, 3, 2]);
    assert_eq!(victims(by_rule, 1201), [4, 3, 2, 1]);
    assert_eq!(victims(by_rule, 2000), [4, 3, 2, 1], "all of them are not enough");
    let no_buffer = Options { kill_buffer: Some(Bytes(0)), ..Options::default() };
    assert_eq!(victims(Policy::new(PolicyName::ByTime, no_buffer), 1001), [4]);
}

#[test]
fn the_buffer_of_by_time_stops_at_3_gib() {
    let held = |id, memory| Candidate { memory: Some(Bytes(memory)), ..task(id, None, id) };
    let workers = [held(1, GIB), held(2, 3 * GIB)];
    let victims = |above: u64| {
        let usage =
            Usage { total: Bytes(1000 * GIB), used: Bytes(900 * GIB + above), threshold: Bytes(900 * GIB) };
        roster(Policy::new(PolicyName::ByTime, Options::default()), &workers).choose(usage).count()
    };
    assert_eq!((victims(0), victims(1)), (1, 2));
}

#[test]
fn names_are_read_as_they_are_written() {
    for name in PolicyName::ALL {
        assert_eq!(name.as_str().parse(), Ok(name));
        assert_eq!(serde_json::to_value(name).unwrap(), name.as_str());
        assert_eq!(Policy::new(name, Options::default()).name(), name);
    }
    assert!("group-by-owner".parse::<PolicyName>().unwrap_err().to_string().contains("retriable_lifo"));
}

#[test]
fn the_reasons_are_sentences() {
    let owner = |size, tie| Why::OwnerGroup { owner: Some("a".into()), size, tie };
    for (why, text) in [
        (owner(4, None), r#"newest of the 4 retriable workers of owner "a"; no owner has more"#),
        (
            owner(4, Some(OwnerTieBreak::Newest)),
            r#"newest of the 4 retriable workers of owner "a"; of the largest groups the one whose earliest worker started last"#,
        ),
        (
            owner(1, None),
            r#"the last retriable worker of owner "a", so it is not to be retried; no other retriable worker is left"#,
        ),
        (Why::NonRetriableGroup { size: 1 }, "not retriable; no other worker is left"),
        (
            Why::Time { end: End::Oldest, retriable: false },
            "oldest worker that is not retriable; no retriable one is left",
        ),
        (Why::Idle { memory: Some(Bytes(2048)), retriable: true }, "idle, the largest with 2.0 KiB"),
        (
            Why::Busy { memory: None, retriable: true },
            "newest retriable worker; no idle one is left; its memory is not measured and counts as 0",
        ),
    ] {
        assert_eq!(why.to_string(), text);
    }
}
