//! A decision from a file (docs/behavior.md#interfaces): the inputs of a policy as JSON, checked to the last field, and
//! the answer that the agent would give. Pure: it is given bytes, it opens nothing.
//!
//! What docs/behavior.md#interfaces leaves open, decided here: `policy` is group_by_owner and `usage_threshold` 0.95
//! unless given;
//! `kind` is task; `max_retries` is 3, as Ray's, and `max_restarts` 0; a worker is busy, and an idle one never
//! ran anything; options of another policy than the one named are ignored, so that one can change `policy`
//! alone; unknown keys are refused, because a misspelled one would silently change the victim. `null` is unknown
//! for `total`, `used` and `memory`; `used` above `total` reads as `total` (docs/behavior.md#accounting).

mod answer;
mod error;
mod raw;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};

pub use self::answer::{
    Answer, ChosenVictim, Domain, PassedOver, Ranked, answer, answer_up_to, decide, in_flight_reason,
};
pub use self::error::{FieldError, Position, SnapshotError};
use self::error::{Step, field_error};
use self::raw::{Object, RawDomain, RawKind, RawSnapshot, RawWorker};
use crate::policy::{MinVictimMemory, Options, Policy};
use crate::prelude::*;
use crate::threshold::Threshold;
use crate::units::Bytes;
use crate::worker::{Activity, Candidate, Kind, MemoryFacts, Times, WorkerId};

/// What Ray gives a task that says nothing.
const DEFAULT_MAX_RETRIES: Times = Times::AtMost(3);

/// The inputs of a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The rule to choose by.
    pub policy: Policy,
    /// The least that a victim should hold.
    pub min_victim_memory: MinVictimMemory,
    /// The reading, with the threshold that follows from it.
    pub domain: Domain,
    /// All workers, in the order of the file.
    pub workers: Vec<Candidate>,
    /// What the file says of their memory besides.
    pub facts: BTreeMap<WorkerId, MemoryFacts>,
    /// What the file calls them.
    pub names: BTreeMap<WorkerId, String>,
    /// The names of those that were signaled. One that is not among the workers is dead already: its kill is
    /// confirmed and no longer in flight.
    pub being_killed: BTreeSet<String>,
}

impl Snapshot {
    /// Reads a snapshot.
    ///
    /// Ids may be any text. Registration order, which breaks ties, is that of the numbers if all ids are the
    /// agent's own (`w17`), otherwise that of the file.
    ///
    /// # Errors
    ///
    /// Whatever is malformed, with its line, column and field.
    pub fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let text = error::text(bytes)?;
        let Object(raw) = error::parse(text)?;
        Self::check(raw).map_err(|(path, why)| field_error(text, &path, why))
    }

    fn check(raw: RawSnapshot) -> Result<Self, (Vec<Step>, FieldError)> {
        let domain = check_domain(raw.domain.0)?;
        let raw_workers: Vec<RawWorker> = raw.workers.into_iter().map(|Object(worker)| worker).collect();
        let ids = registration_order(&raw_workers)?;
        let mut workers = Vec::with_capacity(ids.len());
        let (mut names, mut facts) = (BTreeMap::new(), BTreeMap::new());
        for (index, (id, worker)) in ids.into_iter().zip(raw_workers).enumerate() {
            let kind = check_kind(&worker).map_err(|(key, why)| {
                (vec![Step::Key("workers"), Step::Index(index), Step::Key(key)], why)
            })?;
            let activity =
                if worker.idle { Activity::Idle { ever_leased: worker.ever_leased } } else { Activity::Busy };
            facts.insert(id, worker.facts());
            workers.push(Candidate {
                id,
                kind,
                // A snapshot knows no users (docs/behavior.md#interfaces): equal names are one owner.
                uid: 0,
                owner: worker.owner.map(Into::into),
                started: worker.started,
                activity,
                memory: worker.memory,
                priority: worker.priority,
                declared: worker.memory_declared.or(worker.memory_learned),
                last_task: worker.last_task,
            });
            names.insert(id, worker.id);
        }
        let defaults = Options::default();
        let options = Options {
            owner_tie_break: raw.owner_tie_break,
            kill_buffer: raw.kill_buffer,
            idle_threshold: raw.idle_threshold.unwrap_or(defaults.idle_threshold),
        };
        Ok(Self {
            policy: Policy::new(raw.policy, options),
            min_victim_memory: raw.min_victim_memory,
            domain,
            workers,
            facts,
            names,
            being_killed: raw.being_killed.into_iter().collect(),
        })
    }
}

fn check_domain(raw: RawDomain) -> Result<Domain, (Vec<Step>, FieldError)> {
    let at = |key| vec![Step::Key("domain"), Step::Key(key)];
    let defaults = Threshold::default();
    let threshold = Threshold {
        usage_threshold: raw.usage_threshold.unwrap_or(defaults.usage_threshold),
        min_memory_free: raw.min_memory_free,
    };
    threshold.check_share().map_err(|why| (at("usage_threshold"), why.into()))?;
    let Some(total) = raw.total else {
        return Ok(Domain { total: None, used: raw.used, threshold: None });
    };
    if total == Bytes(0) {
        return Err((at("total"), FieldError::NoLimit));
    }
    // A snapshot's domain is what its settings are for: as for the node.
    threshold.check_node(total).map_err(|why| (at("min_memory_free"), why.into()))?;
    let threshold = threshold.at(total).map_err(|why| (at("usage_threshold"), why.into()))?;
    Ok(Domain { total: Some(total), used: raw.used.map(|used| used.min(total)), threshold: Some(threshold) })
}

fn check_kind(worker: &RawWorker) -> Result<Kind, (&'static str, FieldError)> {
    match worker.kind {
        RawKind::Task if worker.max_restarts.is_some() => Err(("max_restarts", FieldError::RestartsOfTask)),
        RawKind::Actor if worker.max_retries.is_some() => Err(("max_retries", FieldError::RetriesOfActor)),
        RawKind::Task => Ok(Kind::Task { max_retries: worker.max_retries.unwrap_or(DEFAULT_MAX_RETRIES) }),
        RawKind::Actor => Ok(Kind::Actor { max_restarts: worker.max_restarts.unwrap_or(Times::AtMost(0)) }),
    }
}

/// An id for each worker, in the order of the file.
fn registration_order(workers: &[RawWorker]) -> Result<Vec<WorkerId>, (Vec<Step>, FieldError)> {
    let at = |index| vec![Step::Key("workers"), Step::Index(index), Step::Key("id")];
    let mut seen = BTreeMap::new();
    for (index, worker) in workers.iter().enumerate() {
        if worker.id.is_empty() {
            return Err((at(index), FieldError::EmptyId));
        }
        if let Some(first) = seen.insert(worker.id.as_str(), index) {
            return Err((at(index), FieldError::DuplicateId { id: worker.id.clone(), first }));
        }
    }
    let numbers: Vec<WorkerId> = workers.iter().map_while(|worker| worker.id.parse().ok()).collect();
    // w7 and w07 are two names and one number.
    if numbers.iter().collect::<BTreeSet<_>>().len() == workers.len() {
        return Ok(numbers);
    }
    Ok((0..).map(WorkerId).take(workers.len()).collect())
}
