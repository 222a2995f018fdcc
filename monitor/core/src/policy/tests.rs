//! What must always hold of a policy, and a second implementation written straight from docs/behavior.md#policies that
//! sorts everything at each step, against which the incremental one is held.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;

use self::model::{age, memory, ranking, victims};
use super::*;
use crate::threshold::Usage;
use crate::units::Nanos;
use crate::worker::{Activity, Candidate, Kind, LastTask, Times};

const GIB: u64 = 1 << 30;

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
        Just(Policy::ByMemory),
    ]
}

/// A policy, and the least that a victim should hold.
#[derive(Debug, Clone, Copy)]
struct Rule(Policy, MinVictimMemory);

fn rules() -> impl Strategy<Value = Rule> {
    let least = prop_oneof![
        2 => Just(MinVictimMemory::default()),
        1 => select(vec![1, 1000, 1500]).prop_map(|size| MinVictimMemory::Size(Bytes(size))),
        1 => Just(MinVictimMemory::Share(0.1)),
    ];
    (policies(), least).prop_map(|(policy, least)| Rule(policy, least))
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
    let declared = proptest::option::of(select(vec![0, 1, 1000, u64::MAX]));
    let priority = select(vec![0, 0, 0, -1, 5]);
    (kind, owner, 0u64..8, activity, memory, declared, priority).prop_map(
        move |(kind, owner, started, activity, memory, declared, priority)| Candidate {
            id: WorkerId(id),
            kind,
            uid: 0,
            owner: owner.map(Arc::from),
            started: Nanos(started),
            activity,
            memory: memory.map(Bytes),
            priority,
            declared: declared.map(Bytes),
            last_task: LastTask::Fail,
        },
    )
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
    roster_of(Rule(policy, MinVictimMemory::default()), workers)
}

fn roster_of(Rule(policy, least): Rule, workers: &[Candidate]) -> Roster {
    let mut roster = Roster::passing_over(policy, least);
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
        rule in rules(), workers in workers(), usage in usages(),
    ) {
        let mut roster = roster_of(rule, &workers);
        prop_assert_eq!(facts(roster.choose(usage)), victims(rule, &workers, usage));
        let first = ranking(rule, &workers, usage).into_iter().take(3).map(|(id, _)| id);
        prop_assert_eq!(roster.front(usage, 3), first.collect::<Vec<_>>());
        prop_assert_eq!(facts(roster.ranking(usage)), ranking(rule, &workers, usage), "and all are back");
    }

    #[test]
    fn changes_leave_no_trace(
        rule in rules(), before in workers(), after in workers(), usage in usages(),
    ) {
        let mut roster = roster_of(rule, &before);
        let lasting = |w: &Candidate| (w.kind, w.owner.clone(), w.priority, w.declared);
        for worker in &after {
            if roster.get(worker.id).is_some_and(|old| lasting(old) == lasting(worker)) {
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
        prop_assert_eq!(facts(roster.choose(usage)), victims(rule, &after, usage));
        prop_assert_eq!(facts(roster.ranking(usage)), ranking(rule, &after, usage));
    }

    #[test]
    fn the_order_of_insertion_does_not_matter(
        rule in rules(),
        (workers, shuffled) in workers().prop_flat_map(|w| (Just(w.clone()), Just(w).prop_shuffle())),
        usage in usages(),
    ) {
        let (one, other) = (roster_of(rule, &workers), roster_of(rule, &shuffled));
        prop_assert!(one.choose(usage).eq(other.choose(usage)));
        prop_assert_eq!(one.ranking(usage), other.ranking(usage));
    }

    #[test]
    fn a_ranking_holds_every_candidate_once_and_begins_with_the_victim(
        rule in rules(), workers in workers(), usage in usages(),
    ) {
        let roster = roster_of(rule, &workers);
        let ranking = roster.ranking(usage);
        prop_assert_eq!(ranking.first().cloned(), roster.choose(usage).next());
        let ranked: BTreeSet<_> = ranking.iter().map(|choice| choice.id).collect();
        prop_assert_eq!(ranked.len(), ranking.len());
        let counts = |w: &&Candidate| match (rule.0, w.activity) {
            (Policy::ByTime { idle_threshold, .. }, Activity::Idle { ever_leased: false }) => {
                memory(w) >= idle_threshold.0
            }
            _ => true,
        };
        prop_assert_eq!(ranked, workers.iter().filter(counts).map(|w| w.id).collect::<BTreeSet<_>>());
    }

    #[test]
    fn nobody_dies_before_a_lower_priority_but_the_idle(policy in policies(), workers in workers()) {
        let roster = roster(policy, &workers);
        let busy = |choice: &Choice| roster.get(choice.id).unwrap().activity == Activity::Busy;
        let mut ranking = roster.ranking(NOTHING_ABOVE);
        if let Policy::ByTime { .. } = policy {
            ranking.retain(busy);
        }
        prop_assert!(ranking.is_sorted_by_key(|choice| roster.get(choice.id).unwrap().priority));
    }

    #[test]
    fn nobody_small_dies_while_a_large_one_is_left(rule in rules(), workers in workers(), usage in usages()) {
        let roster = roster_of(rule, &workers);
        let least = rule.1.of(usage.total);
        let ranking = roster.ranking(usage);
        let memory = |choice: &Choice| roster.get(choice.id).unwrap().memory;
        let small = ranking.iter().position(|choice| memory(choice).is_some_and(|memory| memory < least));
        let large = ranking.iter().rposition(|choice| memory(choice).is_some_and(|memory| memory >= least));
        prop_assert!(small.zip(large).is_none_or(|(small, large)| small > large));
    }

    #[test]
    fn a_retriable_worker_goes_before_any_other(policy in policies(), workers in workers()) {
        let workers: Vec<_> = workers.into_iter().map(|w| Candidate { priority: 0, ..w }).collect();
        let roster = roster(policy, &workers);
        let busy = |choice: &Choice| roster.get(choice.id).unwrap().activity == Activity::Busy;
        let mut ranking = roster.ranking(NOTHING_ABOVE);
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
        let workers: Vec<_> = workers.into_iter().map(|w| Candidate { priority: 0, ..w }).collect();
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
        priority: 0,
        declared: None,
        last_task: LastTask::Fail,
    }
}

fn ranked(policy: Policy, workers: &[Candidate]) -> Vec<u64> {
    roster(policy, workers).ranking(NOTHING_ABOVE).iter().map(|choice| choice.id.0).collect()
}

/// The figure of Ray's documentation: two callers, four tasks each, the second caller a little later.
#[test]
fn of_two_callers_with_four_tasks_each_the_kills_alternate() {
    let figure: Vec<_> = (0..4)
        .flat_map(|i| [task(2 * i, Some("a"), 10 * i), task(2 * i + 1, Some("b"), 10 * i + 5)])
        .collect();
    let roster = roster(Policy::default(), &figure);
    let kills: Vec<_> = roster
        .ranking(NOTHING_ABOVE)
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
fn by_memory_takes_the_one_furthest_above_what_it_declared() {
    let of = |id, memory, declared: Option<u64>| Candidate {
        memory: Some(Bytes(memory)),
        declared: declared.map(Bytes),
        ..task(id, None, id)
    };
    let workers = [of(1, 900, Some(1000)), of(2, 300, None), of(3, 800, Some(600)), of(4, 200, Some(0))];
    assert_eq!(ranked(Policy::ByMemory, &workers), [2, 4, 3, 1]);
    let usage = |threshold| Usage { total: Bytes(2000), used: Bytes(2000), threshold: Bytes(threshold) };
    let retried = |threshold| -> Vec<_> {
        let ranking = roster(Policy::ByMemory, &workers).ranking(usage(threshold));
        ranking.into_iter().map(|choice| choice.should_retry).collect()
    };
    assert_eq!(retried(1900), [true, true, true, false], "the last is alone");
    assert_eq!(retried(700), [true, true, false, false], "one needs more than there is");
}

#[test]
fn the_last_task_of_an_owner_may_wait_for_more_room_unless_it_is_alone() {
    let waits = |id, owner| Candidate { last_task: LastTask::Wait, ..task(id, Some(owner), id) };
    let workers = [waits(1, "a"), task(2, Some("b"), 2), waits(3, "c")];
    let told = |policy, workers: &[Candidate]| -> Vec<_> {
        let ranking = roster(policy, workers).ranking(NOTHING_ABOVE);
        ranking.into_iter().map(|choice| (choice.id.0, choice.should_retry, choice.waits)).collect()
    };
    // Each is the last of its owner when it goes; the third is alone then.
    assert_eq!(told(Policy::default(), &workers), [(3, true, true), (2, false, false), (1, false, false)]);
    assert_eq!(told(Policy::RetriableLifo, &workers), [(3, true, false), (2, true, false), (1, true, false)]);
    let roster = roster(Policy::default(), &workers);
    assert_eq!(roster.would_retry(&workers[0], None), (true, true));
    assert_eq!(roster.would_retry(&workers[1], None), (false, false));
    let many = Candidate { kind: Kind::Task { max_retries: Times::AtMost(0) }, ..waits(4, "a") };
    assert_eq!(roster.would_retry(&many, None), (false, false), "it is not retriable at all");
    let reason = roster.choose(NOTHING_ABOVE).next().unwrap().reason();
    assert!(reason.contains("retried once there is more room"), "{reason}");
}

#[test]
fn a_small_worker_is_passed_over_and_its_group_still_counts() {
    let of = |id, owner, memory| Candidate { memory: Some(Bytes(memory)), ..task(id, owner, id) };
    let least = MinVictimMemory::Size(Bytes(100));
    let workers = [of(1, Some("a"), 500), of(2, Some("a"), 1), of(3, Some("b"), 300), of(4, Some("a"), 2)];
    let ranking = roster_of(Rule(Policy::default(), least), &workers).ranking(NOTHING_ABOVE);
    // By groups alone: 4 (of three), 2 (of two), then 3 and 1. 1 goes last, and is not its owner's last.
    let told: Vec<_> = ranking.iter().map(|c| (c.id.0, c.should_retry, c.passed_over.map(|p| p.0))).collect();
    assert_eq!(told, [(3, false, Some(2)), (1, true, Some(2)), (4, true, None), (2, false, None)]);
    assert_eq!(
        ranking[0].reason(),
        "first of the order that holds at least min_victim_memory (100 B); 2 workers before it hold less"
    );
}

#[test]
fn the_lowest_priority_goes_first_and_forms_groups_of_its_own() {
    let of = |id, owner, priority| Candidate { priority, ..task(id, Some(owner), id) };
    let workers = [of(1, "a", 0), of(2, "a", 0), of(3, "a", -5), of(4, "b", 7), of(5, "b", 7)];
    let ranking = roster(Policy::default(), &workers).ranking(NOTHING_ABOVE);
    let told: Vec<_> = ranking.iter().map(|c| (c.id.0, c.should_retry)).collect();
    assert_eq!(told, [(3, false), (2, true), (1, false), (5, true), (4, false)]);
    assert!(ranking[0].reason().starts_with("lowest priority (-5): "), "{}", ranking[0].reason());
    assert_eq!(ranking[4].priority, None, "no other is left");
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
        (owner(4, None), r#"newest of 4 workers in the largest group, owner "a""#),
        (
            owner(4, Some(OwnerTieBreak::Newest)),
            r#"newest of 4 workers in the largest group, owner "a"; among groups of this size, this one began last"#,
        ),
        (
            owner(1, None),
            r#"the last retriable worker of owner "a", so it is not retried; no other retriable worker is left"#,
        ),
        (Why::NonRetriableGroup { size: 1 }, "not retriable, and no other worker is left"),
        (
            Why::Time { end: End::Oldest, retriable: false },
            "oldest worker that is not retriable; no retriable one is left",
        ),
        (Why::Idle { memory: Some(Bytes(2048)), retriable: true }, "the largest idle worker, 2.0 KiB"),
        (
            Why::Busy { memory: None, retriable: true },
            "newest retriable worker; no idle one is left; its memory is not measured and counts as 0",
        ),
    ] {
        assert_eq!(why.to_string(), text);
    }
}
