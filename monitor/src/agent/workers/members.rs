//! The processes of a worker: from its registration over its children to the end of the last of them. Descriptors are
//! opened and watched here; what follows from an end, the engine says.

mod descendants;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::task::AbortOnDropHandle;

use super::Workers;
use super::registry::{Member, Proof};
use crate::agent::event_loop::readiness;
use crate::agent::turn::Turn;
use crate::engine::{Event, Seen};
use crate::kernel::hook::Told;
use crate::kill::{OpenError, Process, ending};
use crate::memory::process::ancestors;
use crate::units::Pid;
use crate::worker::WorkerId;

/// What the tasks that wait for pidfds, and the reaper, report.
#[derive(Debug, Clone, Copy)]
pub(in crate::agent) struct Ended {
    pub(in crate::agent) worker: WorkerId,
    pub(in crate::agent) pid: Pid,
    pub(in crate::agent) seen: Seen,
}

impl Workers {
    /// A worker's process has a child. That the kernel's map still has it proves that the descriptor is the
    /// child's: the exit hook takes a process off before its pid can be used again.
    pub(in crate::agent) fn forked(&mut self, turn: &mut Turn<'_>, kernel: Told, worker: WorkerId, pid: Pid) {
        if self.registry.get(worker).is_none() {
            // Made before the worker was forgotten: no worker's, but in the map.
            return self.let_leave_without_pidfd(turn, worker, pid);
        }
        if !self.registry.room_for_member(worker) {
            if self.keep_without_pidfd(turn, worker, pid) {
                self.tell_of_no_room(worker);
            }
            return;
        }
        match self.open_known(worker, pid, Proof::Map) {
            Ok(Some(process)) => {
                if !self.registry.add_member(worker, process) {
                    // It is known.
                    return;
                }
                turn.tell(Event::Forked { worker, pid });
                self.mind_the_fork_limit(worker);
                if !kernel.exits {
                    self.await_member(turn, worker, pid);
                }
            }
            // Gone.
            Ok(None) => {}
            Err(error) => {
                turn.faults.not_opened += 1;
                if self.keep_without_pidfd(turn, worker, pid) {
                    tracing::warn!(%error, %worker, %pid, "cannot open a child of this worker; trying again");
                    self.look_after(worker);
                }
            }
        }
    }

    /// That descriptors are short is said once for each worker.
    fn tell_of_no_room(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        if !std::mem::replace(&mut entry.said_full, true) {
            tracing::warn!(
                %worker, uid = entry.uid,
                "more processes than file descriptors: the agent opens the others when it kills them"
            );
        }
    }

    /// No kill of its worker is complete without it. False: it is gone, or known.
    fn keep_without_pidfd(&mut self, turn: &mut Turn<'_>, worker: WorkerId, pid: Pid) -> bool {
        let new =
            self.mapped(pid) == Some(worker) && self.registry.add_without_pidfd(worker, pid, Proof::Map);
        if new {
            turn.tell(Event::Forked { worker, pid });
            self.mind_the_fork_limit(worker);
        }
        new
    }

    /// Whether the kernel tells of all children of a worker.
    pub(in crate::agent) fn told_of_forks(&self, kernel: Told, worker: WorkerId) -> bool {
        kernel.forks && !self.looked_after.contains(&worker)
    }

    /// Processes that were forked before a hook was there are found only by looking.
    pub(in crate::agent) fn look_after_all(&mut self) {
        self.looked_after.extend(self.registry.ids());
    }

    /// What the kernel does not tell of, a look at each tick must find: all without the fork hook, else those for
    /// which something went wrong.
    pub(in crate::agent) fn look(&mut self, turn: &mut Turn<'_>, kernel: Told) {
        let all = std::mem::take(&mut self.look_again);
        let workers: Vec<WorkerId> = if all || !kernel.forks {
            self.registry.ids()
        } else {
            self.looked_after.iter().copied().collect()
        };
        for worker in &workers {
            if self.looked_after.contains(worker) {
                self.sweep(turn, *worker);
            } else {
                self.sweep_without_pidfd(turn, *worker);
            }
        }
        self.find_descendants(turn, workers);
    }

    /// Of victims' processes without a descriptor only a look tells that they are gone. A victim that is overdue may
    /// have ended while the agent did not run: that is checked before it is called stuck.
    pub(in crate::agent) fn sweep_victims(&mut self, turn: &mut Turn<'_>) {
        for worker in turn.engine.victims() {
            self.sweep_without_pidfd(turn, worker);
        }
        for worker in turn.engine.overdue(turn.now) {
            self.sweep(turn, worker);
        }
    }

    /// The worker that a process is part of. The kernel's map knows it before the record of its fork is read; without
    /// the fork hook its parents tell. `aside` is about to be none any more.
    pub(in crate::agent) fn outer_of(
        &self,
        kernel: Told,
        pid: Pid,
        aside: Option<WorkerId>,
    ) -> Option<WorkerId> {
        let stays = |worker: &WorkerId| Some(*worker) != aside;
        let by_parents = || {
            let mut parents = ancestors(&self.procfs, pid).into_iter();
            parents.find_map(|parent| self.registry.worker_of(parent).filter(stays))
        };
        self.whose(pid).filter(stays).or_else(|| if kernel.forks { None } else { by_parents() })
    }

    /// Whether this process is the one that the worker was made of.
    pub(in crate::agent) fn is_root_of(&self, worker: WorkerId, pid: Pid) -> bool {
        self.registry.get(worker).is_some_and(|entry| entry.root == pid)
    }

    /// Whether a process is this worker's, or ending and so no worker's any more.
    pub(in crate::agent) fn belongs(&self, worker: WorkerId, pid: Pid) -> bool {
        let whose = self.whose(pid);
        whose == Some(worker) || (whose.is_none() && ending(&self.procfs, pid))
    }

    /// The pidfd of a process other than the registered one is not waited for, as long as it is not to be killed:
    /// its exit record is its end.
    pub(in crate::agent) fn end_if_unwatched(&mut self, turn: &mut Turn<'_>, worker: WorkerId, pid: Pid) {
        let Some(entry) = self.registry.get(worker) else { return };
        let unwatched =
            entry.members.iter().any(|member| member.process.pid() == pid && member.watch.is_none());
        // Its memory is not back when its exit begins: of a victim a look at each tick tells.
        let kept = entry.without_pidfd.contains_key(&pid) && !turn.engine.in_flight(worker);
        if unwatched || kept {
            self.ended(turn, Ended { worker, pid, seen: Seen::Gone });
        }
    }

    /// A pidfd became readable, or memory was taken.
    pub(in crate::agent) fn ended(&mut self, turn: &mut Turn<'_>, Ended { worker, pid, seen }: Ended) {
        if seen == Seen::Gone {
            self.registry.remove_member(worker, pid);
            if let Some(map) = &mut self.map
                && map.worker_of(pid) == Some(worker)
            {
                map.remove(pid);
            }
        }
        turn.tell(Event::Ended {
            worker,
            pid,
            seen,
            status: None,
            at: crate::agent::event_loop::clock::now(),
        });
    }

    /// A process that was part of a worker becomes one of its own: a nested launch.
    pub(in crate::agent) fn leave(&mut self, turn: &mut Turn<'_>, outer: WorkerId, pid: Pid) {
        self.registry.remove_member(outer, pid);
        let (seen, at) = (Seen::Gone, turn.now);
        turn.tell(Event::Ended { worker: outer, pid, seen, status: None, at });
    }

    /// Finds the ends that no record told of.
    pub(in crate::agent) fn sweep(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let gone: Vec<Pid> =
            entry.members.iter().filter(|m| m.process.ended()).map(|m| m.process.pid()).collect();
        for pid in gone {
            self.ended(turn, Ended { worker, pid, seen: Seen::Gone });
        }
        self.sweep_without_pidfd(turn, worker);
    }

    /// The same for all.
    pub(in crate::agent) fn sweep_all(&mut self, turn: &mut Turn<'_>) {
        for worker in self.registry.ids() {
            self.sweep(turn, worker);
        }
    }

    pub(super) fn await_member(&mut self, turn: &mut Turn<'_>, worker: WorkerId, pid: Pid) {
        self.await_members(turn, worker, |member| member.process.pid() == pid);
    }

    /// Watches every process not watched yet; one that cannot be watched is polled each tick.
    pub(in crate::agent) fn await_members(
        &mut self,
        turn: &mut Turn<'_>,
        worker: WorkerId,
        whom: impl Fn(&Member) -> bool,
    ) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        let mut failed = 0;
        for member in entry.members.iter_mut().filter(|member| member.watch.is_none() && whom(member)) {
            member.watch = watch(worker, &member.process, self.ended.clone());
            failed += u64::from(member.watch.is_none());
        }
        if failed > 0 {
            turn.faults.not_watched += failed;
            self.look_after(worker);
        }
    }
}

/// Waits for a process's end, and reports it. `None`: it cannot be waited for.
fn watch(
    worker: WorkerId,
    process: &Process,
    ended: UnboundedSender<Ended>,
) -> Option<AbortOnDropHandle<()>> {
    let pid = process.pid();
    match readiness::readable(process.fd()) {
        Ok(fd) => {
            let waiting = tokio::spawn(async move {
                // An error of the poller counts as the end too: the worst is a process that is watched no more.
                let _ = fd.readable().await;
                // The loop is gone only when the agent is.
                let _ = ended.send(Ended { worker, pid, seen: Seen::Gone });
            });
            Some(AbortOnDropHandle::new(waiting))
        }
        Err(error) => {
            tracing::error!(%error, %worker, %pid, "cannot wait for the end of a process");
            None
        }
    }
}

/// What could not be opened, told apart from what is not there any more.
pub(super) fn refused(error: OpenError) -> Option<OpenError> {
    match error {
        OpenError::Broken { .. } => Some(error),
        // Nothing to adopt.
        OpenError::Gone(_) | OpenError::Another { .. } | OpenError::Never { .. } => None,
    }
}
