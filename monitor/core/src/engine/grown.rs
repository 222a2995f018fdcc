//! Growth: how much a domain's usage rose since its workers and the other processes in it were last measured while
//! there was room, and how much of that belongs to each side. Memory that was not measured (files in memory, kernel
//! memory, growth since the last measurement) belongs to neither.
//!
//! It plays no part in decisions: it is noted after the signals, and completed when the kill is over, because living
//! workers are measured once more just after the signal.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::domain::{Counted, Domain, Mark};
use super::growth::difference;
use super::{Engine, KillRecord};
use crate::units::{Bytes, Nanos};

/// An older mark gives way to one with older measurements.
const FRESH: Duration = Duration::from_secs(3);

/// Who grew, in bytes. Less than 0: it shrank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Grown {
    /// Since when.
    pub since: Nanos,
    /// The domain, until the decision.
    pub used: i64,
    /// Its workers, the victims among them, as far as they were measured.
    pub workers: i64,
    /// Processes in it that are no workers: their private memory. Null: not measured.
    pub others: Option<i64>,
}

impl Grown {
    /// What neither of them is known to have taken.
    #[must_use]
    pub fn rest(&self) -> i64 {
        self.used.saturating_sub(self.workers).saturating_sub(self.others.unwrap_or(0))
    }
}

impl Domain {
    /// There is room, and both sides were just measured.
    pub(super) fn mark(&mut self, now: Nanos) {
        if let Some(usage) = self.usage() {
            let others = self.others.filter(|others| now.since(others.at) < FRESH).map(|others| others.hold);
            self.mark = Some(Mark { at: now, used: usage.used, workers: self.roster.held(), others });
        }
    }

    /// There is room by a reading: without a measurement of late, the older ones have to do.
    pub(super) fn mark_if_stale(&mut self, now: Nanos) {
        if self.mark.is_none_or(|mark| now.since(mark.at) >= FRESH) {
            self.mark(now);
        }
    }
}

impl Engine {
    /// The signals of a kill are sent, and its victims (which held so much) are on no roster any more.
    pub(super) fn count_growth(&mut self, record: &mut KillRecord, id: super::DomainId, victims: Bytes) {
        let Some(domain) = self.domains.get_mut(&id) else { return };
        let Some(from) = domain.mark else { return };
        let counted = Counted { kill: record.id, from, victims };
        domain.counted = Some(counted);
        record.grown = Some(domain.grown(counted, record));
    }

    /// The kill is over: what the living hold was measured meanwhile, and what the victims held came back.
    pub(super) fn complete_growth(&mut self, index: usize) {
        let Some(record) = self.history.get_mut(index) else { return };
        let domain = self.domains.values_mut().find(|domain| domain.name == record.domain);
        let Some(domain) = domain else { return };
        if let Some(counted) = domain.counted.take_if(|counted| counted.kill == record.id) {
            record.grown = Some(domain.grown(counted, record));
        }
    }
}

impl Domain {
    fn grown(&self, Counted { from, victims, .. }: Counted, record: &KillRecord) -> Grown {
        // A victim may have grown since it was measured: then more came back.
        let back = record.used_after.filter(|_| record.confirmed);
        let back = back.map(|after| record.used.saturating_sub(after)).unwrap_or_default();
        let workers = self.roster.held().saturating_add(victims.max(back));
        let others = self.others.filter(|others| others.at > from.at).map(|others| others.hold);
        Grown {
            since: from.at,
            used: difference(from.used, record.used),
            workers: difference(from.workers, workers),
            others: from.others.zip(others).map(|(then, now)| difference(then, now)),
        }
    }
}
