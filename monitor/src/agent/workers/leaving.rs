//! Processes that are no worker's any more: they leave the kernel's map, and paused ones are resumed.

use super::Workers;
use super::registry::Proof;
use crate::agent::turn::Turn;
use crate::kill::Process;
use crate::units::Pid;
use crate::worker::WorkerId;

impl Workers {
    /// A worker is forgotten, its processes live on.
    pub(in crate::agent) fn forget(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        self.looked_after.remove(&worker);
        if let Some(map) = &mut self.map {
            map.follow_again(worker);
        }
        let left = self.registry.remove(worker);
        for process in left.with_pidfd {
            self.let_leave(&process);
        }
        for pid in left.without_pidfd {
            self.let_leave_without_pidfd(turn, worker, pid);
        }
    }

    /// Takes a process out of the programs' map; if the brake held it, it goes on.
    pub(super) fn let_leave(&mut self, process: &Process) {
        let Some(map) = &mut self.map else { return };
        let held = map.stopped_at(process.pid()).is_some();
        map.remove(process.pid());
        if held {
            process.resume();
        }
    }

    /// Takes processes out of the programs' map if their worker is forgotten and their fork record was lost.
    pub(in crate::agent) fn sweep_strangers(&mut self, turn: &mut Turn<'_>) {
        let members = self.map.as_ref().map(crate::kernel::workers::WorkerMap::members).unwrap_or_default();
        for (pid, worker) in members {
            if self.registry.get(worker).is_none() {
                self.let_leave_without_pidfd(turn, worker, pid);
            }
        }
    }

    /// A process without a descriptor: none stays paused.
    pub(super) fn let_leave_without_pidfd(&mut self, turn: &mut Turn<'_>, worker: WorkerId, pid: Pid) {
        match (self.open_known(worker, pid, Proof::Map), &mut self.map) {
            (Ok(Some(process)), _) => self.let_leave(&process),
            (Ok(None), Some(map)) if map.worker_of(pid) == Some(worker) => map.remove(pid),
            (Ok(None), _) => {}
            // It may be stopped: the map goes on naming it.
            (Err(_), _) => turn.faults.not_opened += 1,
        }
    }
}
