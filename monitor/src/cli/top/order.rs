//! The rows of the list of workers: which, in which order, under which headings. Pure.

use std::collections::HashMap;

use super::worker::{Course, Worker};
use crate::snapshot::Ranked;
use crate::units::Bytes;
use crate::worker::WorkerId;

/// How the workers are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// By owner, in the order in which the policy would kill.
    #[default]
    KillOrder,
    Memory,
    Growth,
    Age,
    Name,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Self::KillOrder => Self::Memory,
            Self::Memory => Self::Growth,
            Self::Growth => Self::Age,
            Self::Age => Self::Name,
            Self::Name => Self::KillOrder,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::KillOrder => "kill order",
            Self::Memory => "memory",
            Self::Growth => "growth",
            Self::Age => "newest first",
            Self::Name => "name",
        }
    }
}

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Row {
    /// The workers of an owner follow.
    Owner { owner: Option<String>, workers: usize, memory: Bytes },
    Worker {
        id: WorkerId,
        /// The index among the model's workers.
        at: usize,
        /// Its place in the order of the domain's policy.
        rank: Option<usize>,
    },
}

impl Row {
    pub(super) fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Worker { id, .. } => Some(*id),
            Self::Owner { .. } => None,
        }
    }
}

/// A worker that is shown: its index among all, itself, and its place in the order of the policy.
type Found<'a> = (usize, &'a Worker, Option<usize>);

/// All rows, filtered and in order.
pub(super) fn rows(
    workers: &[Worker],
    courses: &HashMap<WorkerId, Course>,
    ranking: &[Ranked],
    sort: Sort,
    filter: &str,
) -> Vec<Row> {
    let ranks: HashMap<&str, usize> = ranking.iter().map(|ranked| (&ranked.id[..], ranked.rank)).collect();
    let mut found: Vec<Found<'_>> = workers
        .iter()
        .enumerate()
        .filter(|(_, worker)| matches(worker, filter))
        .map(|(at, worker)| (at, worker, ranks.get(&worker.id.to_string()[..]).copied()))
        .collect();
    let growth = |worker: &Worker| courses.get(&worker.id).and_then(|course| course.growth);
    match sort {
        Sort::KillOrder => return by_owner(found),
        Sort::Memory => found.sort_by_key(|(_, worker, _)| std::cmp::Reverse(worker.memory)),
        Sort::Growth => found.sort_by_key(|(_, worker, _)| std::cmp::Reverse(growth(worker))),
        Sort::Age => found.sort_by_key(|(_, worker, _)| std::cmp::Reverse(worker.started)),
        Sort::Name => found.sort_by(|(_, one, _), (_, other, _)| one.name.cmp(&other.name)),
    }
    found.into_iter().map(|(at, worker, rank)| Row::Worker { id: worker.id, at, rank }).collect()
}

/// The owner of the worker that would be killed first comes first. Workers that are no candidates come last.
fn by_owner(mut found: Vec<Found<'_>>) -> Vec<Row> {
    let place = |rank: Option<usize>| rank.unwrap_or(usize::MAX);
    found.sort_by_key(|(at, _, rank)| (place(*rank), *at));
    let mut groups: Vec<(Option<&str>, Vec<Found<'_>>)> = Vec::new();
    let mut known: HashMap<Option<&str>, usize> = HashMap::new();
    for one in found {
        let owner = one.1.owner.as_deref();
        let group = *known.entry(owner).or_insert_with(|| {
            groups.push((owner, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(one);
    }
    let mut rows = Vec::new();
    for (owner, workers) in groups {
        let memory = workers.iter().filter_map(|(_, worker, _)| worker.memory);
        let memory = memory.fold(Bytes(0), Bytes::saturating_add);
        rows.push(Row::Owner { owner: owner.map(str::to_owned), workers: workers.len(), memory });
        rows.extend(workers.iter().map(|(at, worker, rank)| Row::Worker {
            id: worker.id,
            at: *at,
            rank: *rank,
        }));
    }
    rows
}

/// Whether it has the text anywhere, in any case.
fn matches(worker: &Worker, filter: &str) -> bool {
    if filter.is_empty() {
        return true;
    }
    let filter = filter.to_lowercase();
    let texts = [worker.owner.as_deref(), worker.name.as_deref(), worker.rule.as_deref(), Some(&worker.kind)];
    let named = texts.into_iter().flatten().any(|text| text.to_lowercase().contains(&filter));
    named || worker.id.to_string() == filter || worker.pid.to_string() == filter
}
