//! Who belongs to a worker: from its registration over its children to the end of the last of them. Descriptors are
//! opened and watched here; what follows from an end, the core says.

use std::path::Path;

use tokio::sync::mpsc::UnboundedSender;

use super::clock;
use super::core::{Event, Seen};
use super::readiness;
use super::registry::Proof;
use super::shell::Shell;
use crate::kernel::numbers::Hook;
use crate::kill::{Process, start_time};
use crate::memory::CgroupPath;
use crate::memory::process::{ancestors, with_descendants};
use crate::units::Pid;
use crate::worker::WorkerId;

/// What the tasks that wait for pidfds, and the reaper, report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) worker: WorkerId,
    pub(super) pid: Pid,
    pub(super) seen: Seen,
}

/// What a launcher says of a worker besides what the core is told at once.
pub(super) struct Claim {
    /// Whose it is.
    pub(super) uid: u32,
    /// The process's.
    pub(super) start_time: u64,
    /// Its number with an agent before this one.
    pub(super) worker: Option<WorkerId>,
    /// It waits for work.
    pub(super) idle: bool,
}

impl Shell {
    /// A worker's process has a child. That the kernel's map still has it proves that the descriptor is the
    /// child's: the exit hook takes a process off before its pid can be used again.
    pub(super) fn forked(&mut self, worker: WorkerId, pid: Pid) {
        if self.registry.get(worker).is_none() {
            // Made before the worker was forgotten: nobody's, but in the map.
            return self.let_unheld_leave(worker, pid);
        }
        if !self.registry.room_for_member(worker) {
            let known = self.programs.as_ref().and_then(|programs| programs.workers.worker_of(pid));
            if known == Some(worker) && self.registry.add_unheld(worker, pid, Proof::Map) {
                self.happen(Event::Forked { worker, pid });
            }
            return;
        }
        let Ok(process) = Process::open_unchecked(pid) else { return };
        let known = self.programs.as_ref().and_then(|programs| programs.workers.worker_of(pid));
        if known == Some(worker) && self.registry.add_member(worker, process) {
            self.happen(Event::Forked { worker, pid });
        }
    }

    /// The worker that a process is part of. The kernel's map knows it before the record of its fork is read; without
    /// the fork hook its parents tell.
    pub(super) fn outer_of(&self, pid: Pid) -> Option<WorkerId> {
        let known = self.registry.worker_of(pid);
        match &self.programs {
            Some(programs) if programs.attached(Hook::Lineage) => {
                known.or_else(|| programs.workers.worker_of(pid))
            }
            Some(_) | None => known.or_else(|| {
                let parents = ancestors(&self.domains.roots().procfs, pid);
                parents.into_iter().find_map(|parent| self.registry.worker_of(parent))
            }),
        }
    }

    /// Nobody waits for the pidfd of a process that is not the registered one, as long as it is not to be killed:
    /// its exit record is its end.
    pub(super) fn end_if_unwatched(&mut self, worker: WorkerId, pid: Pid) {
        let Some(entry) = self.registry.get(worker) else { return };
        let unwatched = entry.members.iter().any(|member| member.process.pid() == pid && !member.watched);
        if unwatched || entry.unheld.contains_key(&pid) {
            self.ended(Ended { worker, pid, seen: Seen::Gone });
        }
    }

    /// A pidfd became readable, or memory was taken.
    pub(super) fn ended(&mut self, Ended { worker, pid, seen }: Ended) {
        if seen == Seen::Gone {
            self.registry.remove_member(worker, pid);
            if let Some(programs) = &mut self.programs
                && programs.workers.worker_of(pid) == Some(worker)
            {
                programs.workers.remove(pid);
            }
        }
        self.happen(Event::Ended { worker, pid, seen, status: None, at: clock::now() });
    }

    /// Finds the ends that no record told of.
    pub(super) fn sweep(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let gone: Vec<Pid> =
            entry.members.iter().filter(|m| m.process.ended()).map(|m| m.process.pid()).collect();
        for pid in gone {
            self.ended(Ended { worker, pid, seen: Seen::Gone });
        }
        self.sweep_unheld(worker);
    }

    /// Finds the descendants of a worker that are not known yet. Each is told to the kernel before its own children
    /// are looked for: what it forks after that, the fork hook sees; what before, the next round does.
    pub(super) fn scan(&mut self, worker: WorkerId) {
        let procfs = self.domains.roots().procfs.clone();
        loop {
            let Some(entry) = self.registry.get(worker) else { return };
            let known = entry.pids();
            let found = match with_descendants(&procfs, &known) {
                Ok(found) => found,
                Err(error) => return tracing::warn!(%error, %worker, "cannot look for its descendants"),
            };
            let mut new = false;
            for pid in found {
                if !known.contains(&pid) && self.registry.worker_of(pid).is_none() {
                    new |= self.adopt(&procfs, worker, pid);
                }
            }
            if !new {
                return;
            }
        }
    }

    fn adopt(&mut self, procfs: &Path, worker: WorkerId, pid: Pid) -> bool {
        // Gone already, or a zombie: nothing to adopt.
        let Ok(process) = Process::open(procfs, pid, None) else { return false };
        if let Some(programs) = &mut self.programs
            && let Err(error) = programs.workers.add(pid, worker)
        {
            tracing::warn!(%error, %worker, %pid, "the kernel side cannot follow this process");
        }
        if !self.registry.room_for_member(worker) {
            let Ok(started) = start_time(procfs, pid) else { return false };
            // It lives, after its file was read: the file was its own.
            if process.ended() || !self.registry.add_unheld(worker, pid, Proof::Started(started)) {
                return false;
            }
            self.happen(Event::Forked { worker, pid });
            return true;
        }
        if !self.registry.add_member(worker, process) {
            return false;
        }
        self.happen(Event::Forked { worker, pid });
        // Found in /proc it may be on its way out, past its exit record: only its pidfd tells of its end for sure.
        self.await_member(worker, pid);
        true
    }

    fn await_member(&mut self, worker: WorkerId, pid: Pid) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        for member in entry.members.iter_mut().filter(|member| member.process.pid() == pid && !member.watched)
        {
            member.watched = watch(worker, &member.process, self.ended.clone());
        }
    }

    /// Takes a process as a new worker. It was checked; what is left cannot be refused.
    pub(super) fn enroll(
        &mut self,
        process: Process,
        peer: crate::control::request::Peer,
        claim: &Claim,
        cgroup: Option<CgroupPath>,
        event: impl FnOnce(WorkerId) -> Event,
    ) -> WorkerId {
        let at = clock::of_ticks(claim.start_time);
        let worker = self.number(claim.worker.filter(|_| at < self.started));
        let pid = process.pid();
        // It may have been part of another worker, and be held as that.
        self.let_leave(&process);
        if let Some(programs) = &mut self.programs
            && let Err(error) = programs.workers.set(pid, worker)
        {
            tracing::warn!(%error, %worker, %pid, "the kernel side cannot follow this worker");
        }
        watch(worker, &process, self.ended.clone());
        if let Some(cgroup) = &cgroup {
            self.limits.enter(cgroup);
        }
        self.registry.add(worker, process, peer, claim.uid, cgroup);
        self.tell(event(worker));
        if at < self.started {
            // Of a former agent, as a rule: coming back does not make it the newest.
            self.tell(Event::Started { worker, at });
        }
        if claim.idle {
            self.tell(Event::Idle { worker, ever_leased: false });
        }
        self.carry_out();
        self.scan(worker);
        worker
    }
}

/// Waits for a process's end, and reports it. False: it cannot be waited for.
pub(super) fn watch(worker: WorkerId, process: &Process, ended: UnboundedSender<Ended>) -> bool {
    let pid = process.pid();
    match readiness::readable(process.fd()) {
        Ok(fd) => {
            tokio::spawn(async move {
                // An error of the poller counts as the end too: the worst is a process that is watched no more.
                let _ = fd.readable().await;
                // The loop is gone only when the agent is.
                let _ = ended.send(Ended { worker, pid, seen: Seen::Gone });
            });
            true
        }
        Err(error) => {
            tracing::error!(%error, %worker, %pid, "cannot wait for its end");
            false
        }
    }
}
