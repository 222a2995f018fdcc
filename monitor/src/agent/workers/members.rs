//! Who belongs to a worker: from its registration over its children to the end of the last of them. Descriptors are
//! opened and watched here; what follows from an end, the engine says.

mod descendants;

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::event_loop::clock;
use crate::agent::event_loop::readiness;
use crate::agent::shell::Shell;
use crate::agent::workers::registry::{Member, Proof};
use crate::engine::{Event, Seen};
use crate::kernel::numbers::Hook;
use crate::kill::{OpenError, Process};
use crate::memory::CgroupPath;
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

/// What a launcher says of a worker besides what the engine is told at once.
pub(in crate::agent) struct Claim {
    /// Whose it is.
    pub(in crate::agent) uid: u32,
    /// The process's.
    pub(in crate::agent) start_time: u64,
    /// Its number with an agent before this one.
    pub(in crate::agent) worker: Option<WorkerId>,
    /// It waits for work.
    pub(in crate::agent) idle: bool,
}

impl Shell {
    /// A worker's process has a child. That the kernel's map still has it proves that the descriptor is the
    /// child's: the exit hook takes a process off before its pid can be used again.
    pub(in crate::agent) fn forked(&mut self, worker: WorkerId, pid: Pid) {
        if self.registry.get(worker).is_none() {
            // Made before the worker was forgotten: nobody's, but in the map.
            return self.let_unheld_leave(worker, pid);
        }
        if !self.registry.room_for_member(worker) {
            if self.hold_without(worker, pid) {
                self.tell_of_no_room(worker);
            }
            return;
        }
        match self.open_child(worker, pid) {
            Ok(true) => {
                self.happen(Event::Forked { worker, pid });
                self.mind_the_crowd(worker);
                if !self.programs.as_ref().is_some_and(|programs| programs.attached(Hook::Exit)) {
                    self.await_member(worker, pid);
                }
            }
            Ok(false) => {}
            Err(error) => {
                self.troubles.counts.not_opened += 1;
                if self.hold_without(worker, pid) {
                    tracing::warn!(%error, %worker, %pid, "cannot open a child of it: it is tried again");
                    self.look_after(worker);
                }
            }
        }
    }

    /// Whose the kernel's map says that a process is.
    pub(in crate::agent) fn mapped(&self, pid: Pid) -> Option<WorkerId> {
        self.programs.as_ref().and_then(|programs| programs.workers.worker_of(pid))
    }

    /// Whose process it is, by our books or by the kernel's, which are ahead of them.
    pub(in crate::agent) fn known(&self, pid: Pid) -> Option<WorkerId> {
        self.mapped(pid).or_else(|| self.registry.worker_of(pid))
    }

    /// That descriptors are short is said once for each worker.
    pub(in crate::agent) fn tell_of_no_room(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        if !std::mem::replace(&mut entry.said_full, true) {
            tracing::warn!(
                %worker, uid = entry.uid,
                "more processes than there are descriptors for: the others are opened when they are killed"
            );
        }
    }

    /// No kill of its worker is complete without it. False: it is gone, or known.
    fn hold_without(&mut self, worker: WorkerId, pid: Pid) -> bool {
        let known = self.mapped(pid);
        let new = known == Some(worker) && self.registry.add_unheld(worker, pid, Proof::Map);
        if new {
            self.happen(Event::Forked { worker, pid });
            self.mind_the_crowd(worker);
        }
        new
    }

    /// Opens a process that the kernel's map has as a worker's. False: it is gone, or known.
    fn open_child(&mut self, worker: WorkerId, pid: Pid) -> Result<bool, OpenError> {
        let process = match Process::open_unchecked(pid) {
            Ok(process) => process,
            Err(OpenError::Gone(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let known = self.mapped(pid);
        Ok(known == Some(worker) && self.registry.add_member(worker, process))
    }

    /// Whether the kernel tells of all children of a worker.
    pub(in crate::agent) fn told_of_forks(&self, worker: WorkerId) -> bool {
        let hook = self.programs.as_ref().is_some_and(|programs| programs.attached(Hook::Lineage));
        hook && !self.troubles.looked_after.contains(&worker)
    }

    /// From now on the descendants and the ends of a worker are looked for at each tick.
    fn look_after(&mut self, worker: WorkerId) {
        self.troubles.looked_after.insert(worker);
    }

    /// What the kernel does not tell of, a look at each tick must find: all without the fork hook, else those with
    /// whom something went wrong.
    pub(in crate::agent) fn look_after_workers(&mut self) {
        let all = std::mem::take(&mut self.troubles.look_again);
        let mut workers = self.registry.ids();
        workers.retain(|worker| all || !self.told_of_forks(*worker));
        for worker in &workers {
            if self.troubles.looked_after.contains(worker) {
                self.sweep(*worker);
            } else {
                self.sweep_unheld(*worker);
            }
        }
        self.find_descendants(workers);
        self.carry_out();
    }

    /// Of victims' processes without a descriptor only a look tells that they are gone. A victim that is overdue may have
    /// ended while the agent did not run: whoever can tell is asked before it is called stuck.
    pub(in crate::agent) fn sweep_victims(&mut self) {
        for worker in self.engine.victims() {
            self.sweep_unheld(worker);
        }
        for worker in self.engine.overdue(clock::now()) {
            self.sweep(worker);
        }
    }

    /// The worker that a process is part of. The kernel's map knows it before the record of its fork is read; without
    /// the fork hook its parents tell.
    pub(in crate::agent) fn outer_of(&self, pid: Pid) -> Option<WorkerId> {
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
    pub(in crate::agent) fn end_if_unwatched(&mut self, worker: WorkerId, pid: Pid) {
        let Some(entry) = self.registry.get(worker) else { return };
        let unwatched = entry.members.iter().any(|member| member.process.pid() == pid && !member.watched);
        // Its memory is not back when its exit begins: of a victim a look at each tick tells.
        let unheld = entry.unheld.contains_key(&pid) && !self.engine.in_flight(worker);
        if unwatched || unheld {
            self.ended(Ended { worker, pid, seen: Seen::Gone });
        }
    }

    /// A pidfd became readable, or memory was taken.
    pub(in crate::agent) fn ended(&mut self, Ended { worker, pid, seen }: Ended) {
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
    pub(in crate::agent) fn sweep(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let gone: Vec<Pid> =
            entry.members.iter().filter(|m| m.process.ended()).map(|m| m.process.pid()).collect();
        for pid in gone {
            self.ended(Ended { worker, pid, seen: Seen::Gone });
        }
        self.sweep_unheld(worker);
    }

    fn await_member(&mut self, worker: WorkerId, pid: Pid) {
        self.await_members(worker, |member| member.process.pid() == pid);
    }

    /// Has the ends of those members watched that are not yet. Whose cannot be is looked for at each tick.
    pub(in crate::agent) fn await_members(&mut self, worker: WorkerId, whom: impl Fn(&Member) -> bool) {
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

    /// Takes a process as a new worker. It was checked; what is left cannot be refused.
    pub(in crate::agent) fn enroll(
        &mut self,
        process: Process,
        peer: crate::control::request::Peer,
        claim: &Claim,
        cgroup: Option<CgroupPath>,
        event: impl FnOnce(WorkerId) -> Event,
    ) -> WorkerId {
        let at = clock::of_ticks(claim.start_time);
        if claim.worker.is_some() && at < self.started {
            self.has_one_back();
        }
        let worker = self.number(claim.worker.filter(|_| at < self.started), claim.uid);
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
        if let Some(cgroup) = &cgroup {
            self.limits.enter(cgroup, claim.uid);
        }
        self.registry.add(worker, process, peer, claim.uid, cgroup);
        self.bar_if_crowded(worker);
        self.await_member(worker, pid);
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
        self.find_own_cgroup(worker, pid);
        self.find_own_freezer(worker, pid);
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
