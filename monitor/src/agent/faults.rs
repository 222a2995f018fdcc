//! What went wrong around a decision and did not stop it, counted (docs/faults.md). What goes wrong with a decision
//! itself the engine counts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::engine::DomainId;
use crate::worker::WorkerId;

/// A reading that takes longer is slow: a thousand times what it takes.
const SLOW: Duration = Duration::from_millis(100);

/// Since the agent started: `faults` in `status`, and in the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(super) struct Faults {
    /// Readings of a domain that took longer than [`SLOW`]. Meanwhile nothing else is done.
    pub(super) slow_readings: u64,
    /// Tries to open a process of a worker that were refused.
    pub(super) not_opened: u64,
    /// Processes whose end cannot be waited for.
    pub(super) not_watched: u64,
    /// Workers or processes that the kernel programs cannot follow.
    pub(super) not_followed: u64,
    /// Looks for a worker's descendants that failed.
    pub(super) not_scanned: u64,
    /// Victims' processes whose memory the kernel did not let be taken early.
    pub(super) not_released: u64,
    /// Verdicts that nobody took.
    pub(super) not_told: u64,
    /// Lines of the log that could not be written.
    pub(super) not_logged: u64,
}

impl Faults {
    /// Each with its name and what it means.
    pub(super) fn rows(&self) -> [(&'static str, &'static str, u64); 8] {
        [
            ("slow_readings", "Readings that took longer than 100 ms", self.slow_readings),
            ("not_opened", "Tries to open a process of a worker that were refused", self.not_opened),
            ("not_watched", "Processes whose end cannot be waited for", self.not_watched),
            ("not_followed", "Workers or processes that the kernel side cannot follow", self.not_followed),
            ("not_scanned", "Looks for descendants that failed", self.not_scanned),
            ("not_released", "Victims whose memory could not be taken early", self.not_released),
            ("not_told", "Verdicts that nobody took", self.not_told),
            ("not_logged", "Lines of the log that could not be written", self.not_logged),
        ]
    }
}

/// The counts, and which workers they make a look at each tick necessary for.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    pub(super) counts: Faults,
    /// The reaper counts on its own thread.
    pub(super) not_released: Arc<AtomicU64>,
    /// Workers of which the kernel does not tell everything: their descendants and ends are looked for at each tick.
    pub(super) looked_after: BTreeSet<WorkerId>,
    /// The last look at all processes failed.
    pub(super) look_again: bool,
    /// Domains of which the last reading was slow.
    slow: BTreeSet<DomainId>,
}

impl Troubles {
    /// How long a reading took. True: it is the first slow one after a quick one.
    pub(super) fn took(&mut self, domain: DomainId, time: Duration) -> bool {
        if time <= SLOW {
            self.slow.remove(&domain);
            return false;
        }
        self.counts.slow_readings += 1;
        self.slow.insert(domain)
    }

    /// For `status`.
    pub(super) fn faults(&self) -> Faults {
        Faults {
            not_released: self.not_released.load(Ordering::Relaxed),
            not_logged: crate::diagnostics::lost(),
            ..self.counts
        }
    }
}
