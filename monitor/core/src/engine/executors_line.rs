//! A raylet kills by itself above its own threshold. If that is lower than the domain's, and cannot hurt other workers,
//! it becomes the domain's threshold: the agent asks the raylet as soon as it would act by itself, and pauses growing
//! workers there.

use alloc::collections::VecDeque;

use super::worker::{Life, Worker};
use super::{Action, DomainId, Engine, ExecutorId};
use crate::units::Bytes;

/// A raylet computes with 32-bit floats: thresholds are the same if they differ by less than this part of the total.
const SAME: u64 = 1000;

impl Engine {
    /// What an executor's own threshold in a domain is. It counts from the next reading on.
    pub(super) fn set_executors_line(
        &mut self,
        executor: ExecutorId,
        domain: DomainId,
        line: Bytes,
        todo: &mut VecDeque<Action>,
    ) {
        if let Some(found) = self.domains.get_mut(&domain) {
            found.executors_line = Some((executor, line));
            todo.push_back(Action::Read(domain));
        }
    }

    /// It is gone.
    pub(super) fn forget_executors_line(&mut self, lost: ExecutorId) {
        for domain in self.domains.values_mut() {
            domain.executors_line.take_if(|(executor, _)| *executor == lost);
        }
    }

    /// The threshold that counts in a domain if it is lower than the domain's own. Anybody can start a raylet, and say
    /// what its threshold is: only its own workers are paused and killed for that.
    pub(super) fn executors_line(&self, id: DomainId) -> Option<Bytes> {
        let (executor, line) = self.domains.get(&id)?.executors_line?;
        let another = |worker: &Worker| {
            worker.executor != Some(executor)
                && worker.life == Life::Running
                && !worker.observed()
                && worker.domains.contains(&id)
        };
        (!self.workers.values().any(another)).then_some(line)
    }

    /// Whether the engine acts no later than an executor would by itself, which kills above `line`. Otherwise that
    /// executor must see what is really used: nobody else would kill its workers then.
    #[must_use]
    pub fn acts_before(&self, executor: ExecutorId, id: DomainId, line: Bytes) -> bool {
        let kills = self.settings.enforces();
        let Some(usage) = self.domains.get(&id).and_then(super::domain::Domain::usage) else { return false };
        let its = |worker: &Worker| {
            worker.executor == Some(executor) && !worker.observed() && worker.domains.contains(&id)
        };
        kills
            && usage.threshold <= line.saturating_add(Bytes(usage.total.0 / SAME))
            && self.workers.values().any(its)
    }
}
