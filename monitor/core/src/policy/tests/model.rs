//! The second implementation of the policies, written straight from docs/behavior.md: it sorts everything at each step.

use std::collections::BTreeMap;

use super::*;

/// The earlier of two, ties by registration order.
pub(super) fn age(worker: &Candidate) -> (Nanos, WorkerId) {
    (worker.started, worker.id)
}

pub(super) fn memory(worker: &Candidate) -> u64 {
    worker.memory.map_or(0, |bytes| bytes.0)
}

/// How far above what it declared; sizes that no machine has count as the largest.
pub(super) fn excess(worker: &Candidate) -> i128 {
    let above = i128::from(memory(worker)) - worker.declared.map_or(0, |bytes| i128::from(bytes.0));
    above.clamp(i64::MIN.into(), i64::MAX.into())
}

/// The candidates in the order of a policy that has no groups.
pub(super) fn sorted(policy: Policy, workers: &[Candidate]) -> Vec<Candidate> {
    let mut line = workers.to_vec();
    let first = |a: &Candidate, b: &Candidate| {
        a.priority.cmp(&b.priority).then(b.kind.retriable().cmp(&a.kind.retriable()))
    };
    let idle = |worker: &Candidate| matches!(worker.activity, Activity::Idle { .. });
    match policy {
        Policy::GroupByOwner { .. } => unreachable!("has groups"),
        Policy::RetriableLifo => line.sort_by(|a, b| first(a, b).then(age(b).cmp(&age(a)))),
        Policy::RetriableFifo => line.sort_by(|a, b| first(a, b).then(age(a).cmp(&age(b)))),
        Policy::ByMemory => {
            line.sort_by(|a, b| first(a, b).then(excess(b).cmp(&excess(a))).then(age(b).cmp(&age(a))));
        }
        Policy::ByTime { idle_threshold, .. } => {
            line.retain(|w| {
                w.activity != Activity::Idle { ever_leased: false } || memory(w) >= idle_threshold.0
            });
            line.sort_by(|a, b| match (idle(a), idle(b)) {
                (true, true) => {
                    a.priority.cmp(&b.priority).then(memory(b).cmp(&memory(a))).then(age(b).cmp(&age(a)))
                }
                (true, false) => std::cmp::Ordering::Less,
                (false, true) => std::cmp::Ordering::Greater,
                (false, false) => first(a, b).then(age(b).cmp(&age(a))),
            });
        }
    }
    line
}

/// The groups in order, each in registration order.
pub(super) fn groups(tie: OwnerTieBreak, workers: &[Candidate]) -> Vec<Vec<Candidate>> {
    let mut groups: BTreeMap<String, Vec<Candidate>> = BTreeMap::new();
    for worker in workers {
        let group = match &worker.owner {
            _ if !worker.kind.retriable() => "non-retriable".to_owned(),
            Some(owner) => format!("owner {owner}"),
            None => format!("alone {}", worker.id),
        };
        groups.entry(format!("{} {group}", worker.priority)).or_default().push(worker.clone());
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|a, b| {
        let earliest = |group: &[Candidate]| group.iter().map(age).min();
        let by_age = match tie {
            OwnerTieBreak::Newest => earliest(b).cmp(&earliest(a)),
            OwnerTieBreak::Oldest => earliest(a).cmp(&earliest(b)),
        };
        a[0].priority
            .cmp(&b[0].priority)
            .then(b[0].kind.retriable().cmp(&a[0].kind.retriable()))
            .then(b.len().cmp(&a.len()))
            .then(by_age)
    });
    groups
}

/// All candidates in the order in which they would go if sizes did not matter, each with the earlier ones gone.
pub(super) fn order(policy: Policy, workers: &[Candidate]) -> Vec<Candidate> {
    let Policy::GroupByOwner { tie } = policy else { return sorted(policy, workers) };
    let mut rest = workers.to_vec();
    let mut order = Vec::new();
    while let Some(group) = groups(tie, &rest).first() {
        let newest = group.iter().max_by_key(|worker| age(worker)).unwrap().clone();
        rest.retain(|worker| worker.id != newest.id);
        order.push(newest);
    }
    order
}

pub(super) fn should_retry(policy: Policy, victim: &Candidate, workers: &[Candidate], usage: Usage) -> bool {
    victim.kind.retriable()
        && match policy {
            Policy::GroupByOwner { tie } => {
                groups(tie, workers).iter().any(|group| group.len() > 1 && group.contains(victim))
            }
            Policy::ByMemory => {
                let needs = memory(victim).max(victim.declared.map_or(0, |bytes| bytes.0));
                workers.len() > 1 && needs <= usage.threshold.0
            }
            Policy::RetriableLifo | Policy::RetriableFifo | Policy::ByTime { .. } => true,
        }
}

pub(super) fn victims(rule: Rule, workers: &[Candidate], usage: Usage) -> Vec<(WorkerId, bool)> {
    let Rule(policy, least) = rule;
    let needed = match policy {
        Policy::ByTime { kill_buffer, .. } => {
            let buffer = kill_buffer.map_or((usage.total.0 / 20).min(3 * GIB), |bytes| bytes.0);
            u128::from(usage.used.0.saturating_sub(usage.threshold.0)) + u128::from(buffer)
        }
        _ => 0,
    };
    let small = |worker: &Candidate| worker.memory.is_some_and(|memory| memory < least.of(usage.total));
    let large = |worker: &Candidate| worker.memory.is_some_and(|memory| memory >= least.of(usage.total));
    let order = order(policy, workers);
    let mut taken = Vec::new();
    let mut freed = 0;
    for (index, worker) in order.iter().enumerate() {
        if small(worker) && order[index..].iter().any(large) {
            continue;
        }
        taken.push((worker.id, should_retry(policy, worker, workers, usage)));
        freed += u128::from(memory(worker));
        if freed >= needed {
            break;
        }
    }
    taken
}

pub(super) fn ranking(rule: Rule, workers: &[Candidate], usage: Usage) -> Vec<(WorkerId, bool)> {
    let mut rest = workers.to_vec();
    let mut ranking = Vec::new();
    while let Some(first) = victims(rule, &rest, usage).first() {
        ranking.push(*first);
        rest.retain(|worker| worker.id != first.0);
    }
    ranking
}
