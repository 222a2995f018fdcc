//! What changes behind the agent's back: workers that were moved to another cgroup. A few are looked at each tick, one
//! after the other, so that the cost of a tick does not grow with their number.

use crate::agent::shell::Shell;
use crate::engine::Event;
use crate::worker::WorkerId;

/// How many workers are looked at in a tick. Each costs one small file: about 15 µs.
const A_TICK: usize = 32;

impl Shell {
    /// Looks at the next few workers. Not while a kill is in flight: that has more urgent things to do.
    pub(in crate::agent) fn recheck_some(&mut self) {
        if self.engine.kills_in_flight() > 0 {
            return;
        }
        let mut ids = self.registry.ids();
        ids.sort_unstable();
        let next = ids.partition_point(|id| *id <= self.rechecked);
        ids.rotate_left(next);
        for worker in ids.into_iter().take(A_TICK) {
            self.rechecked = worker;
            self.recheck(worker);
        }
    }

    /// A worker that was moved charges its new domains from now on. What it charged before stays with the old ones in
    /// the kernel's books too, but they lose it as a candidate: a launcher moves its worker when that holds little.
    fn recheck(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let Some(member) = entry.members.iter().find(|member| !member.process.ended()) else { return };
        let pid = member.process.pid();
        // An unreadable file leaves all as it is: the worker is ending, or the next round reads it.
        let Ok(cgroup) = self.domains.cgroup_of(pid) else { return };
        // It lived after its file was read: so the file was its own.
        if member.process.ended() || entry.cgroup == cgroup {
            return;
        }
        let uid = entry.uid;
        if let Err(why) = self.guard_around(cgroup.as_ref(), uid) {
            tracing::warn!(%worker, %why, "it was moved to a cgroup with a limit that is not guarded");
        }
        let domains = self.domains.charged_by(cgroup.as_ref());
        if let Some(entry) = self.registry.get_mut(worker) {
            if let Some(left) = std::mem::replace(&mut entry.cgroup, cgroup) {
                self.limits.leave(&left);
            }
            if let Some(cgroup) = &entry.cgroup {
                self.limits.enter(cgroup, uid);
            }
        }
        if self.engine.charged_by(worker).is_some_and(|known| known != domains) {
            tracing::info!(%worker, %pid, "it was moved to another cgroup");
            self.happen(Event::Moved { worker, domains });
        }
    }
}
