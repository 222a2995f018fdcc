//! What is known of a domain after a kill, until its memory is taken again: what each side held then, and holds now.

use core::time::Duration;

use crate::threshold::Usage;
use crate::units::{Bytes, Nanos};

/// What all candidates together hold has to last for this long.
const LASTS: Duration = Duration::from_secs(1);

/// A quick measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gauge {
    /// What the candidates hold at most: what they share counts for each.
    pub(super) candidates: Bytes,
    /// What processes that are no workers hold at least.
    pub(super) others: Bytes,
    pub(super) at: Nanos,
}

/// A domain after a kill.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// When the last kill was over.
    pub(super) over: Nanos,
    /// The first measurement after it.
    first: Option<Gauge>,
    /// The last one that a kill waited for.
    pub(super) last: Option<Gauge>,
    /// Since when a kill waits for one.
    pub(super) asked: Option<Nanos>,
    /// Nothing is killed until the domain was below its threshold.
    pub(super) spares: bool,
}

impl Row {
    pub(super) fn new(over: Nanos) -> Self {
        Self { over, first: None, last: None, asked: None, spares: false }
    }

    /// Takes a measurement. Whether a kill waited for it.
    pub(super) fn take(&mut self, gauge: Gauge) -> bool {
        self.first.get_or_insert(gauge);
        if self.asked.is_some() {
            self.last = Some(gauge);
        }
        self.asked.take().is_some()
    }

    /// Below the threshold nothing is measured, and no worker is in danger.
    pub(super) fn rest(&mut self) {
        (self.asked, self.spares) = (None, false);
    }

    /// What others took since the kill, if that leaves no hope for all candidates together.
    pub(super) fn hopeless(&self, usage: Usage) -> Option<Bytes> {
        let (first, last) = self.first.zip(self.last)?;
        let took = last.others.saturating_sub(first.others);
        let workers_took = last.candidates.saturating_sub(first.candidates);
        let passed = last.at.since(first.at).clamp(Duration::from_millis(1), LASTS);
        let soon = u128::from(took.0) * LASTS.as_nanos() / passed.as_nanos();
        let needed = usage.excess().saturating_add(Bytes(u64::try_from(soon).unwrap_or(u64::MAX)));
        let by_others = took > workers_took && last.others >= usage.excess();
        (by_others && last.candidates < needed).then_some(took)
    }
}
