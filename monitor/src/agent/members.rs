//! Who belongs to a worker: from its registration over its children to the end of the last of them. Descriptors are
//! opened and watched here; what follows from an end, the core says.

use std::path::Path;

use tokio::sync::mpsc::UnboundedSender;

use super::clock;
use super::core::{Event, Seen};
use super::readiness;
use super::registry::Member;
use super::shell::Shell;
use crate::kernel::numbers::Hook;
use crate::kill::{OpenError, Process};
use crate::memory::process::with_descendants;
use crate::units::Pid;
use crate::worker::WorkerId;

/// What the tasks that wait for pidfds, and the reaper, report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) worker: WorkerId,
    pub(super) pid: Pid,
    pub(super) seen: Seen,
}

impl Shell {
    /// A worker's process has a child. That the kernel's map still has it proves that the descriptor is the
    /// child's: the exit hook takes a process off before its pid can be used again.
    pub(super) fn forked(&mut self, worker: WorkerId, pid: Pid) {
        match self.open_child(worker, pid) {
            Ok(true) => {
                self.happen(Event::Forked { worker, pid });
                if !self.programs.as_ref().is_some_and(|programs| programs.attached(Hook::Exit)) {
                    self.await_member(worker, pid);
                }
            }
            Ok(false) => {}
            Err(error) => {
                self.troubles.counts.not_opened += 1;
                if self.registry.note_unopened(worker, pid) {
                    tracing::warn!(%error, %worker, %pid, "cannot open a child of it: it is tried again");
                    // No kill of its worker is complete without it.
                    self.happen(Event::Forked { worker, pid });
                    self.look_after(worker);
                }
            }
        }
    }

    /// Opens a process that the kernel's map has as a worker's. False: it is gone, or known.
    pub(super) fn open_child(&mut self, worker: WorkerId, pid: Pid) -> Result<bool, OpenError> {
        let process = match Process::open_unchecked(pid) {
            Ok(process) => process,
            Err(OpenError::Gone(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let known = self.programs.as_ref().and_then(|programs| programs.workers.worker_of(pid));
        Ok(known == Some(worker) && self.registry.add_member(worker, process))
    }

    /// Whether the kernel tells of all children of a worker.
    pub(super) fn told_of_forks(&self, worker: WorkerId) -> bool {
        let hook = self.programs.as_ref().is_some_and(|programs| programs.attached(Hook::Lineage));
        hook && !self.troubles.looked_after.contains(&worker)
    }

    /// Tries again for a child that could not be opened. False: it is gone, and the core is told.
    pub(super) fn open_again(&mut self, worker: WorkerId, pid: Pid) -> Result<bool, OpenError> {
        let opened = self.open_child(worker, pid).inspect_err(|_| self.troubles.counts.not_opened += 1)?;
        self.registry.forget_unopened(worker, pid);
        if !opened {
            let seen = Seen::Gone;
            self.tell(Event::Ended { worker, pid, seen, status: None, at: clock::now() });
        }
        Ok(opened)
    }

    /// From now on the descendants and the ends of a worker are looked for at each tick.
    fn look_after(&mut self, worker: WorkerId) {
        self.troubles.looked_after.insert(worker);
    }

    /// What the kernel does not tell of, a look at each tick must find: all without the fork hook, else those with
    /// whom something went wrong.
    pub(super) fn look_after_workers(&mut self) {
        let mut workers = self.registry.ids();
        workers.retain(|worker| !self.told_of_forks(*worker));
        for worker in workers {
            for pid in self.registry.unopened(worker) {
                // It stays what it is: counted, and tried again.
                let _ = self.open_again(worker, pid);
            }
            if self.troubles.looked_after.contains(&worker) {
                self.sweep(worker);
            }
            self.scan(worker);
        }
    }

    /// A victim that is overdue may have ended while the agent did not run: whoever can tell is asked before it is
    /// called stuck.
    pub(super) fn sweep_overdue(&mut self) {
        for worker in self.core.overdue(clock::now()) {
            self.sweep(worker);
        }
    }

    /// Nobody waits for the pidfd of a process that is not the registered one, as long as it is not to be killed:
    /// its exit record is its end.
    pub(super) fn end_if_unwatched(&mut self, worker: WorkerId, pid: Pid) {
        let Some(entry) = self.registry.get(worker) else { return };
        let unwatched = entry.members.iter().any(|member| member.process.pid() == pid && !member.watched);
        if unwatched || self.registry.unopened(worker).contains(&pid) {
            self.registry.forget_unopened(worker, pid);
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
    }

    /// Finds the descendants of a worker that are not known yet. Each is told to the kernel before its own children
    /// are looked for: what it forks after that, the fork hook sees; what before, the next round does.
    pub(super) fn scan(&mut self, worker: WorkerId) {
        self.find_descendants(worker);
        self.carry_out();
    }

    /// The same, of which the core is told and its orders are left for later.
    pub(super) fn find_descendants(&mut self, worker: WorkerId) {
        let procfs = self.domains.roots().procfs.clone();
        loop {
            let Some(entry) = self.registry.get(worker) else { return };
            let known: Vec<Pid> = entry.members.iter().map(|member| member.process.pid()).collect();
            let found = match with_descendants(&procfs, &known) {
                Ok(found) => found,
                Err(error) => {
                    self.troubles.counts.not_scanned += 1;
                    if self.troubles.looked_after.insert(worker) {
                        tracing::warn!(%error, %worker, "cannot look for its descendants");
                    }
                    return;
                }
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
        let process = match Process::open(procfs, pid, None) {
            Ok(process) => process,
            Err(error @ OpenError::Broken { .. }) => {
                self.troubles.counts.not_opened += 1;
                if self.troubles.looked_after.insert(worker) {
                    tracing::warn!(%error, %worker, "cannot open a child of it: it is tried again");
                }
                return false;
            }
            // Nothing to adopt.
            Err(OpenError::Gone(_) | OpenError::Zombie(_)) => return false,
            Err(OpenError::Another { .. } | OpenError::Never { .. }) => return false,
        };
        if let Some(programs) = &mut self.programs
            && let Err(error) = programs.workers.add(pid, worker)
        {
            self.troubles.counts.not_followed += 1;
            self.look_after(worker);
            tracing::warn!(%error, %worker, %pid, "the kernel side cannot follow this process");
        }
        if !self.registry.add_member(worker, process) {
            return false;
        }
        self.tell(Event::Forked { worker, pid });
        // Found in /proc it may be on its way out, past its exit record: only its pidfd tells of its end for sure.
        self.await_member(worker, pid);
        true
    }

    fn await_member(&mut self, worker: WorkerId, pid: Pid) {
        self.await_members(worker, |member| member.process.pid() == pid);
    }

    /// Has the ends of those members watched that are not yet. Whose cannot be is looked for at each tick.
    pub(super) fn await_members(&mut self, worker: WorkerId, whom: impl Fn(&Member) -> bool) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        let mut failed = 0;
        for member in entry.members.iter_mut().filter(|member| !member.watched && whom(member)) {
            member.watched = watch(worker, &member.process, self.ended.clone());
            failed += u64::from(!member.watched);
        }
        if failed > 0 {
            self.troubles.counts.not_watched += failed;
            self.look_after(worker);
        }
    }

    /// Guards the cgroups with limits around a process, if that is asked for.
    pub(super) fn guard_around(&mut self, pid: Pid) {
        if !self.guards_ancestors {
            return;
        }
        let around = self.domains.limited_around(pid).unwrap_or_default();
        // The outermost first: it is the parent of the next.
        for path in around.iter().rev() {
            match self.domains.add_cgroup(path, self.programs.as_mut()) {
                Ok(Some(added)) => self.happen(added),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, cgroup = %path.as_path().display(), "cannot guard"),
            }
        }
    }

    /// Takes a process as a new worker. It was checked; what is left cannot be refused.
    pub(super) fn enroll(
        &mut self,
        process: Process,
        peer: crate::control::request::Peer,
        start_time: u64,
        event: impl FnOnce(WorkerId) -> Event,
    ) -> WorkerId {
        self.last_worker += 1;
        let worker = WorkerId(self.last_worker);
        let pid = process.pid();
        // It may have been part of another worker, and be held as that.
        self.let_leave(&process);
        if let Some(programs) = &mut self.programs
            && let Err(error) = programs.workers.set(pid, worker)
        {
            self.troubles.counts.not_followed += 1;
            self.look_after(worker);
            tracing::warn!(%error, %worker, %pid, "the kernel side cannot follow this worker");
        }
        self.registry.add(worker, process, peer);
        self.await_member(worker, pid);
        self.tell(event(worker));
        let at = clock::of_ticks(start_time);
        if at < self.started {
            // Of a former agent, as a rule: coming back does not make it the newest.
            self.tell(Event::Started { worker, at });
        }
        self.carry_out();
        self.scan(worker);
        worker
    }
}

/// Waits for a process's end, and reports it. False: it cannot be waited for.
fn watch(worker: WorkerId, process: &Process, ended: UnboundedSender<Ended>) -> bool {
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
