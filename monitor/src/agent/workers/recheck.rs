//! What changes behind the agent's back: workers that were moved to another cgroup. A few are looked at each tick, one
//! after the other, so that the cost of a tick does not grow with their number.

use super::Workers;
use crate::agent::domains::Domains;
use crate::agent::turn::Turn;
use crate::diagnostics::says;
use crate::engine::Event;
use crate::worker::WorkerId;

/// How many workers are looked at in a tick. Each costs one small file: about 15 µs.
const A_TICK: usize = 32;

impl Workers {
    /// The next few to look at. Nobody while a kill is in flight: that has more urgent things to do.
    pub(in crate::agent) fn due_for_a_look(&mut self, kills_in_flight: usize) -> Vec<WorkerId> {
        if kills_in_flight > 0 {
            return Vec::new();
        }
        let mut ids = self.registry.ids();
        ids.sort_unstable();
        let next = ids.partition_point(|id| *id <= self.rechecked);
        ids.rotate_left(next);
        ids.truncate(A_TICK);
        self.rechecked = ids.last().copied().unwrap_or(self.rechecked);
        ids
    }

    /// A worker that was moved charges its new domains from now on. What it charged before stays with the old ones in
    /// the kernel's books too, but they lose it as a candidate: a launcher moves its worker when that holds little.
    pub(in crate::agent) fn recheck(&self, turn: &mut Turn<'_>, domains: &mut Domains, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let Some(member) = entry.members.iter().find(|member| !member.process.ended()) else { return };
        let pid = member.process.pid();
        // An unreadable file leaves all as it is: the worker is ending, or the next round reads it.
        let Ok(cgroup) = domains.cgroup_of(pid) else { return };
        // It lived after its file was read: so the file was its own.
        if member.process.ended() || domains.cgroup_of_worker(worker) == cgroup.as_ref() {
            return;
        }
        if let Err(why) = domains.guard_around(turn, cgroup.as_ref(), entry.uid)
            && says(Some(entry.uid))
        {
            tracing::warn!(%worker, %why, "a worker was moved to a cgroup whose limit is not guarded");
        }
        let charged = domains.charged_by(cgroup.as_ref());
        domains.leave(worker);
        if let Some(cgroup) = cgroup {
            domains.enter(worker, cgroup, entry.uid);
        }
        if turn.engine.charged_by(worker).is_some_and(|known| known != charged) {
            if says(Some(entry.uid)) {
                tracing::info!(%worker, %pid, "a worker was moved to another cgroup");
            }
            turn.tell(Event::Moved { worker, domains: charged });
        }
    }
}
