//! Workers that could not be signalled for the moment (no descriptor was left, say): no candidates for a while, which
//! becomes longer each time, and then candidates again. Who may not be signalled at all is none for good.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::worker::Life;
use super::{Action, Engine};
use crate::units::Nanos;
use crate::worker::WorkerId;

/// The first rest, and the longest. It doubles each time.
const REST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(16));

impl Engine {
    /// A kill ended with a process of this worker refused.
    pub(super) fn rest(&mut self, id: WorkerId, now: Nanos) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let again = (!worker.denied()).then(|| {
            let rest = REST.0.saturating_mul(1 << worker.rests.min(16)).min(REST.1);
            worker.rests += 1;
            now.after(rest)
        });
        worker.life = Life::Refused { again };
        self.resting.extend(again.map(|again| (again, id)));
    }

    /// When the next of them is a candidate again.
    pub(super) fn next_rested(&self) -> Option<Nanos> {
        self.resting.first().map(|(again, _)| *again)
    }

    /// Those whose rest is over are candidates again.
    pub(super) fn wake_the_rested(&mut self, now: Nanos, todo: &mut VecDeque<Action>) {
        while let Some((again, id)) = self.resting.first().copied().filter(|(again, _)| *again <= now) {
            self.resting.remove(&(again, id));
            // Forgotten meanwhile.
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            if worker.life != (Life::Refused { again: Some(again) }) {
                continue;
            }
            self.counters.tried_again += 1;
            worker.try_again();
            for charged in &worker.domains {
                let Some(domain) = self.domains.get_mut(charged) else { continue };
                domain.roster.insert(worker.candidate.clone());
                if domain.above() {
                    todo.push_back(Action::Read(*charged));
                }
            }
        }
    }
}
