//! Workers that could not be signaled for the moment (no descriptor was left, say): no candidates for a while, which
//! becomes longer each time, and then candidates again. A worker that may not be signaled at all is never one again.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::worker::Life;
use super::{Action, Engine};
use crate::units::Nanos;
use crate::worker::WorkerId;

/// The first back-off, and the longest. It doubles each time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(16));

impl Engine {
    /// A kill ended with a process of this worker refused.
    pub(super) fn back_off(&mut self, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let again = (!worker.denied()).then(|| {
            let backoff = BACKOFF.0.saturating_mul(1 << worker.backoffs.min(16)).min(BACKOFF.1);
            worker.backoffs += 1;
            now.after(backoff)
        });
        worker.life = Life::Refused { again };
        self.refused.extend(again.map(|again| (again, id)));
    }

    /// When the next of them is a candidate again.
    pub(super) fn next_after_backoff(&self) -> Option<Nanos> {
        self.refused.first().map(|(again, _)| *again)
    }

    /// Workers with their back-off over are candidates again.
    pub(super) fn end_backoffs(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        while let Some((again, id)) = self.refused.first().copied().filter(|(again, _)| *again <= now) {
            self.refused.remove(&(again, id));
            // Forgotten meanwhile.
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            if worker.life != (Life::Refused { again: Some(again) }) {
                continue;
            }
            self.counters.tried_again += 1;
            worker.try_again();
            for charged in &worker.domains {
                let Some(domain) = self.domains.get_mut(charged) else { continue };
                domain.admit(worker.candidate.clone(), worker.observed());
                if domain.above() {
                    todo.push_back(Action::Read(*charged));
                }
            }
        }
    }
}
