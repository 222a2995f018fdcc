//! The answer to "which worker, and why?" (docs/behavior.md#interfaces), in the shape that scripts read. It asks the
//! roster, the same as the agent's, and decides nothing on its own but whether there is a reason to kill nobody.

use alloc::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Snapshot;
use crate::policy::{Choice, PolicyName, Roster};
use crate::prelude::*;
use crate::threshold::Usage;
use crate::units::Bytes;
use crate::worker::{Candidate, MemoryFacts, WorkerId};

/// A domain as far as it is known; `None` is unknown and never above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Domain {
    /// What there is.
    pub total: Option<Bytes>,
    /// What is taken.
    pub used: Option<Bytes>,
    /// What may be taken.
    pub threshold: Option<Bytes>,
}

impl Domain {
    /// The reading, if it is complete.
    #[must_use]
    pub fn usage(self) -> Option<Usage> {
        Some(Usage { total: self.total?, used: self.used?, threshold: self.threshold? })
    }
}

/// The answer. The keys of docs/behavior.md#interfaces are `threshold`, `above`, `victims` and `ranking`; the others
/// are ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answer {
    /// The rule it was chosen by.
    pub policy: PolicyName,
    /// The domain's total.
    pub total: Option<Bytes>,
    /// The domain's usage.
    pub used: Option<Bytes>,
    /// The domain's threshold.
    pub threshold: Option<Bytes>,
    /// Whether the usage is strictly above the threshold.
    pub above: bool,
    /// The workers that it would kill now.
    pub victims: Vec<ChosenVictim>,
    /// The workers that it would have killed, were no rule in mode observe; empty unless one of them is only observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_have: Vec<ChosenVictim>,
    /// The workers that were signaled and still live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<String>,
    /// Why it would not kill; null if it would.
    pub reason: Option<String>,
    /// All candidates in the order in which they would go.
    pub ranking: Vec<Ranked>,
    /// The workers that are no candidates.
    pub passed_over: Vec<PassedOver>,
}

/// A victim and what its owner is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChosenVictim {
    /// The worker.
    pub id: String,
    /// Whether its workload may be tried again.
    pub should_retry: bool,
}

/// A candidate and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ranked {
    /// The worker.
    pub id: String,
    /// Its place; 1 goes first.
    pub rank: usize,
    /// `task` or `actor`.
    pub kind: Cow<'static, str>,
    /// The caller that created it.
    pub owner: Option<String>,
    /// What it holds, in bytes.
    pub memory: Option<Bytes>,
    /// Whether its workload may be tried again when it goes at this place.
    pub should_retry: bool,
    /// Why it is at this place.
    pub why: String,
    /// What else is known of its memory.
    #[serde(flatten)]
    pub facts: MemoryFacts,
    /// A rule in mode observe made it: it is never a victim.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub observed: bool,
}

/// A worker that is no candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PassedOver {
    /// The worker.
    pub id: String,
    /// Why not.
    pub why: String,
}

/// The answer to a snapshot, which it uses up: it may be large.
#[must_use]
pub fn decide(snapshot: Snapshot) -> Answer {
    let Snapshot { policy, min_victim_memory, domain, workers, names, facts, being_killed } = snapshot;
    let name = |id: WorkerId| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
    let facts = |id: WorkerId| facts.get(&id).copied().unwrap_or_default();
    let mut roster = Roster::passing_over(policy, min_victim_memory);
    let mut in_flight = Vec::new();
    for worker in workers {
        match names.get(&worker.id).filter(|name| being_killed.contains(*name)) {
            Some(name) => in_flight.push(name.clone()),
            None => drop(roster.insert(worker)),
        }
    }
    answer_up_to(usize::MAX, roster, domain, &in_flight, |id| (name(id), facts(id)))
}

/// The answer of a roster of candidates, with `in_flight` the names of the workers that were signaled and still
/// live. The roster must not hold those. `about`: what a worker is called, and what else is known of its memory.
#[must_use]
pub fn answer(
    roster: &Roster,
    domain: Domain,
    in_flight: &[String],
    about: impl Fn(WorkerId) -> (String, MemoryFacts),
) -> Answer {
    answer_up_to(usize::MAX, roster.clone(), domain, in_flight, about)
}

/// The same with no more than the first `most` of the ranking; `passed_over` is known only where all are ranked. Uses the
/// roster up: each candidate is taken out at its place.
#[must_use]
pub fn answer_up_to(
    most: usize,
    mut roster: Roster,
    domain: Domain,
    in_flight: &[String],
    about: impl Fn(WorkerId) -> (String, MemoryFacts),
) -> Answer {
    let name = |id: WorkerId| about(id).0;
    let reason = no_kill(&roster, domain, in_flight);
    let victims = match domain.usage() {
        Some(usage) if reason.is_none() => roster
            .choose(usage)
            .map(|choice| ChosenVictim { id: name(choice.id), should_retry: choice.should_retry })
            .collect(),
        Some(_) | None => Vec::new(),
    };
    // Where the domain is not known, no size is too large for it.
    let usage = domain.usage().unwrap_or(Usage {
        total: domain.total.unwrap_or_default(),
        used: Bytes(0),
        threshold: domain.threshold.unwrap_or(Bytes(u64::MAX)),
    });
    let policy = roster.policy().name();
    let mut ranking = Vec::with_capacity(roster.len().min(most));
    while ranking.len() < most
        && let Some((choice, candidate)) = roster.take_first(usage)
    {
        ranking.push(ranked(ranking.len() + 1, &candidate, &choice, &about));
    }
    let passed_over = if ranking.len() < most { passed_over(&roster, in_flight, &name) } else { Vec::new() };
    Answer {
        policy,
        total: domain.total,
        used: domain.used,
        threshold: domain.threshold,
        above: domain.usage().is_some_and(Usage::above),
        victims,
        would_have: Vec::new(),
        in_flight: in_flight.to_vec(),
        reason,
        passed_over,
        ranking,
    }
}

/// The reason that names workers.
#[must_use]
pub fn in_flight_reason(in_flight: &[String]) -> String {
    format!("a kill is in flight: {}", in_flight.join(", "))
}

/// Why nothing is to be killed now, if so.
fn no_kill(roster: &Roster, domain: Domain, in_flight: &[String]) -> Option<String> {
    let Some(usage) = domain.usage() else {
        let what = if domain.used.is_none() { "usage" } else { "total" };
        return Some(format!("the {what} is unknown, and unknown never counts as over the threshold"));
    };
    if !usage.above() {
        return Some("memory use does not exceed the threshold".to_owned());
    }
    if !in_flight.is_empty() {
        return Some(in_flight_reason(in_flight));
    }
    if roster.choose(usage).next().is_none() {
        return Some("above threshold but no worker can be killed".to_owned());
    }
    None
}

fn ranked(
    rank: usize,
    candidate: &Candidate,
    choice: &Choice,
    about: &impl Fn(WorkerId) -> (String, MemoryFacts),
) -> Ranked {
    let Candidate { kind, owner, memory, .. } = candidate;
    let (id, facts) = about(choice.id);
    Ranked {
        id,
        rank,
        kind: Cow::Borrowed(kind.name()),
        owner: owner.as_deref().map(str::to_owned),
        memory: *memory,
        should_retry: choice.should_retry,
        why: choice.reason(),
        facts,
        observed: false,
    }
}

/// Those that are left when all that can be taken are.
fn passed_over(left: &Roster, in_flight: &[String], name: &impl Fn(WorkerId) -> String) -> Vec<PassedOver> {
    let killed = in_flight.iter().map(|id| PassedOver { id: id.clone(), why: "being killed".to_owned() });
    let idle = left.iter().map(|worker| PassedOver {
        id: name(worker.id),
        why: match worker.memory {
            Some(_) => "idle, never ran anything, and smaller than idle_threshold".to_owned(),
            None => "idle, never ran anything, and its memory is not measured and counts as 0".to_owned(),
        },
    });
    killed.chain(idle).collect()
}
