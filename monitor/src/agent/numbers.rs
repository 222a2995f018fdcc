//! The workers' numbers: never given twice, also by the next agent. A worker that comes back from an agent before this
//! one keeps its number, because it is the owner of what was launched within it.
//!
//! The journal notes the numbers a thousand at a time before they are given; the next agent begins after them, so that
//! those who come back find theirs free.

use super::reports::Last;
use super::shell::Shell;
use crate::worker::WorkerId;

/// How many numbers are noted at a time.
const BLOCK: u64 = 1000;

/// How far beyond all numbers that are known one may lie that somebody claims to have had.
const MOST_AHEAD: u64 = 1_000_000;

impl Shell {
    /// Begins after all that an agent before this one gave away, as far as that is known.
    pub(super) fn number_after(&mut self, last: Option<Last>, follows_an_agent: bool) {
        let known = last.map(|last| last.worker).or(follows_an_agent.then_some(WorkerId(0)));
        self.last_worker = known.map_or(0, |known| (known.0 / BLOCK).saturating_add(1).saturating_mul(BLOCK));
        self.reports.note_numbers(WorkerId(self.last_worker));
    }

    /// A number for a new worker: the one that it had, if it is free, or the next.
    pub(super) fn number(&mut self, had: Option<WorkerId>) -> WorkerId {
        let most = self.last_worker.saturating_add(MOST_AHEAD);
        if let Some(had) = had
            && (1..=most).contains(&had.0)
            && self.registry.get(had).is_none()
        {
            self.give(had.0.max(self.last_worker));
            return had;
        }
        self.give(self.last_worker.saturating_add(1));
        WorkerId(self.last_worker)
    }

    fn give(&mut self, last: u64) {
        if last / BLOCK > self.last_worker / BLOCK {
            self.reports.note_numbers(WorkerId(last));
        }
        self.last_worker = last;
    }
}
