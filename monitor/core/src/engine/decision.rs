//! A decision with everything that led to it (docs/behavior.md#records): enough to re-run it, by the same code, without
//! an agent.
//!
//! It is put together after the signal was sent, because it copies every candidate. It must not be changed by what
//! happens later.

mod rest;

use alloc::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::rest::{Like, RANKING, Rest};

use super::facts::KillId;
use super::settings::Settings;
use super::{Engine, KillRecord};
use crate::policy::Roster;
use crate::prelude::*;
use crate::snapshot::{self, Answer, ChosenVictim};
use crate::threshold::ThresholdError;
use crate::units::{Bytes, Nanos};
use crate::worker::{Activity, Candidate, Kind, LastTask, MemoryFacts, WorkerId};

/// What the policy knew of one candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Which; registration order too.
    pub worker: WorkerId,
    /// Task or actor, with its budget.
    #[serde(flatten)]
    pub kind: Kind,
    /// Its user: equal names of different users are different owners. 0 in what older agents wrote, which decided as if
    /// all workers were one user's.
    #[serde(default)]
    pub uid: u32,
    /// Its caller.
    pub owner: Option<String>,
    /// When it began.
    pub started: Nanos,
    /// Null: it is busy; else it is idle, and this says whether it ever ran anything.
    pub idle_ever_leased: Option<bool>,
    /// In bytes, as last measured.
    pub memory: Option<Bytes>,
    /// Lower is killed first.
    #[serde(default, skip_serializing_if = "super::view::is_default")]
    pub priority: i32,
    /// What it declared, or learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_declared: Option<Bytes>,
    /// What becomes of it as the last task of its owner.
    #[serde(default, skip_serializing_if = "super::view::is_default")]
    pub last_task: LastTask,
    /// What else was known of its memory.
    #[serde(default, skip_serializing_if = "super::view::is_default")]
    pub facts: MemoryFacts,
}

impl Input {
    fn of(candidate: &Candidate, facts: MemoryFacts) -> Self {
        Self {
            worker: candidate.id,
            kind: candidate.kind,
            uid: candidate.uid,
            owner: candidate.owner.as_deref().map(str::to_owned),
            started: candidate.started,
            idle_ever_leased: match candidate.activity {
                Activity::Busy => None,
                Activity::Idle { ever_leased } => Some(ever_leased),
            },
            memory: candidate.memory,
            priority: candidate.priority,
            memory_declared: candidate.declared,
            last_task: candidate.last_task,
            facts,
        }
    }

    fn candidate(&self) -> Candidate {
        Candidate {
            id: self.worker,
            kind: self.kind,
            uid: self.uid,
            owner: self.owner.as_deref().map(Into::into),
            started: self.started,
            activity: self
                .idle_ever_leased
                .map_or(Activity::Busy, |ever_leased| Activity::Idle { ever_leased }),
            memory: self.memory,
            priority: self.priority,
            declared: self.memory_declared,
            last_task: self.last_task,
        }
    }
}

/// See the module. Sizes in bytes, times in nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The kill's number.
    pub kill: KillId,
    /// When it was taken.
    pub at: Nanos,
    /// The domain's name.
    pub domain: String,
    /// The settings in force.
    pub settings: Settings,
    /// The reading: docs/behavior.md#accounting.
    pub total: Bytes,
    /// The reading: docs/behavior.md#accounting.
    pub used: Bytes,
    /// The threshold.
    pub threshold: Bytes,
    /// The threshold of a raylet's own, where that counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executors_line: Option<Bytes>,
    /// All candidates of the domain in registration order, the victims among them; without those of `rest`.
    pub candidates: Vec<Input>,
    /// What is kept of the others; none: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Rest>,
    /// The victims, in the order in which they were chosen.
    pub victims: Vec<ChosenVictim>,
}

impl Decision {
    /// Takes the decision again from its inputs, by the code that took it: the threshold from the settings, the
    /// victims and the ranking from the candidates: the whole ranking, or what is kept of it.
    ///
    /// # Errors
    /// The settings and the total give no threshold: the inputs are not those of a decision.
    pub fn again(&self) -> Result<Answer, ThresholdError> {
        self.again_up_to(if self.rest.is_some() { self.shown() } else { usize::MAX })
    }

    /// The same with no more than the first of the ranking.
    ///
    /// # Errors
    /// As [`Self::again`].
    pub fn again_up_to(&self, most: usize) -> Result<Answer, ThresholdError> {
        let own = self.settings.threshold().at(self.total)?;
        let threshold = self.executors_line.map_or(own, |line| line.min(own));
        let mut roster = self.settings.roster();
        for input in &self.candidates {
            roster.insert(input.candidate());
        }
        for input in self.stand_ins() {
            roster.insert(input.candidate());
        }
        let domain =
            snapshot::Domain { total: Some(self.total), used: Some(self.used), threshold: Some(threshold) };
        let facts: BTreeMap<WorkerId, MemoryFacts> =
            self.candidates.iter().map(|input| (input.worker, input.facts)).collect();
        let about = |worker: WorkerId| (worker.to_string(), facts.get(&worker).copied().unwrap_or_default());
        let mut answer = snapshot::answer_up_to(most, roster, domain, &[], about);
        if self.rest.is_some() {
            let is_shown = |id: &str| id.parse().is_ok_and(|worker| !Self::is_stand_in(worker));
            answer.ranking.retain(|ranked| is_shown(&ranked.id));
            // Some of them, which says nothing of the others.
            answer.passed_over.clear();
        }
        Ok(answer)
    }

    /// Where `again` differs from what was decided; empty: nowhere.
    #[must_use]
    pub fn differences(&self, again: &Answer) -> Vec<String> {
        let names = |victims: &[ChosenVictim]| {
            let each = victims.iter().map(|victim| {
                format!("{} ({})", victim.id, if victim.should_retry { "retry" } else { "no retry" })
            });
            each.collect::<Vec<_>>().join(", ")
        };
        let mut found = Vec::new();
        if again.threshold != Some(self.threshold) {
            let now = again.threshold.map_or_else(|| "none".to_owned(), |line| line.0.to_string());
            found.push(format!("the threshold was {} bytes and is {now}", self.threshold.0));
        }
        if again.victims != self.victims {
            let now = if again.victims.is_empty() { "nobody".to_owned() } else { names(&again.victims) };
            found.push(format!("the victims were {} and are {now}", names(&self.victims)));
        }
        found
    }
}

impl Engine {
    /// The decision of a kill that has just been ordered: to be asked for at `Action::Record`, when its victims are
    /// signaled and its domain's roster is otherwise as it was. `None`: no such kill, or it is over.
    #[must_use]
    pub fn decision(&self, kill: KillId) -> Option<Decision> {
        if let Some(flight) = self.flights.iter().find(|flight| flight.id == kill) {
            let roster = &self.domains.get(&flight.domain)?.roster;
            return self.put_together(&flight.record, roster, &flight.taken);
        }
        // A dry run, and an observed kill, take no worker off the roster and are over at once.
        let record = self.history.iter().rev().find(|record| record.id == kill && record.dry_run)?;
        let domain = self.domains.values().find(|domain| domain.name == record.domain)?;
        let (roster, taken) = self.chosen_of(record, domain);
        self.put_together(record, roster, taken)
    }

    fn put_together(&self, record: &KillRecord, roster: &Roster, taken: &[Candidate]) -> Option<Decision> {
        let facts = |id: WorkerId| self.workers.get(&id).map(super::Worker::facts).unwrap_or_default();
        let all = roster.iter().chain(taken);
        let mut candidates: Vec<Input> = all.map(|one| Input::of(one, facts(one.id))).collect();
        candidates.sort_unstable_by_key(|input| input.worker);
        let victims = record
            .victims
            .iter()
            .map(|victim| ChosenVictim { id: victim.worker.to_string(), should_retry: victim.should_retry });
        let own = self.settings.threshold().at(record.total);
        Some(Decision {
            kill: record.id,
            at: record.times.decision?,
            domain: record.domain.clone(),
            settings: self.settings.clone(),
            total: record.total,
            used: record.used,
            threshold: record.threshold,
            executors_line: own.is_ok_and(|own| record.threshold < own).then_some(record.threshold),
            candidates,
            rest: None,
            victims: victims.collect(),
        })
    }
}
