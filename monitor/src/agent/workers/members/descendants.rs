//! Looks for workers' descendants in /proc: at registration, wherever the kernel does not tell of forks, and of a worker
//! that is to be killed there.

use rustix::process::Signal;

use super::refused;
use crate::agent::turn::Turn;
use crate::agent::workers::Workers;
use crate::agent::workers::registry::{Killed, Proof};
use crate::engine::Event;
use crate::kill::{Process, start_time};
use crate::memory::process::{Family, children, parent_of};
use crate::units::Pid;
use crate::worker::WorkerId;

/// How often in a row a worker's new processes are looked for.
const ROUNDS: usize = 3;

/// How often that is done for a worker after all its known processes are stopped: only processes that were not known
/// before can have forked, so that each round leaves fewer.
const ROUNDS_OF_THE_STOPPED: usize = 32;

impl Workers {
    /// Finds the descendants of all workers that are not known yet.
    pub(in crate::agent) fn find_all_descendants(&mut self, turn: &mut Turn<'_>) {
        self.find_descendants(turn, self.registry.ids());
    }

    /// The same for several, with one look at all processes. Each new one is told to the kernel before its own children
    /// are looked for: what it forks after that, the fork hook sees; what before, the next round does.
    ///
    /// The rounds are bounded: a worker that forks without end has new processes in each. The fork hook, or the next
    /// look, finds the rest.
    pub(in crate::agent) fn find_descendants(&mut self, turn: &mut Turn<'_>, mut workers: Vec<WorkerId>) {
        for _ in 0..ROUNDS {
            if workers.is_empty() {
                return;
            }
            let Some(family) = self.family(turn) else { return };
            workers.retain(|worker| self.adopt_all(turn, &family, *worker, None));
        }
    }

    /// The same for one, by what the kernel lists of its children: however many processes there are beside it.
    pub(in crate::agent) fn find_descendants_of(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        for _ in 0..ROUNDS {
            let Some(known) = self.registry.get(worker).map(|entry| entry.pids()) else { return };
            let Some(family) = Family::below(&self.procfs, &known) else {
                return self.find_descendants(turn, vec![worker]);
            };
            if !self.adopt_all(turn, &family, worker, None) {
                return;
            }
        }
    }

    /// Has a worker fork nobody any more before it is killed: its processes are stopped, first those that are known, then
    /// those that are new, until nobody is. SIGKILL ends the stopped too.
    ///
    /// A process whose parent is not of the worker is stopped only if it forks meanwhile: the parent would see it, and one
    /// that stops with its child (nsenter, sudo, a shell) would wait for ever for a child that is dead. Those that were not
    /// stopped are returned: what they forked at the last moment is found after their signal ([`Self::find_the_last`]).
    pub(in crate::agent) fn stop(&mut self, turn: &mut Turn<'_>, worker: WorkerId) -> Vec<Pid> {
        let Some(entry) = self.registry.get(worker) else { return Vec::new() };
        let known = entry.pids();
        let inner = |pid: &Pid| parent_of(&self.procfs, *pid).is_some_and(|parent| known.contains(&parent));
        let (inner, mut quiet): (Vec<Pid>, Vec<Pid>) = known.iter().partition(|pid| inner(pid));
        for pid in inner {
            self.signal_one(worker, pid, Signal::STOP);
        }
        for _ in 0..ROUNDS_OF_THE_STOPPED {
            let before: Vec<_> = quiet.iter().map(|pid| (*pid, children(&self.procfs, *pid))).collect();
            let Some(family) = self.family(turn) else { break };
            let new = self.adopt_all(turn, &family, worker, Some(Signal::STOP));
            let forks = |(pid, before): &(Pid, Option<Vec<Pid>>)| {
                let now = children(&self.procfs, *pid);
                let known = |child: &Pid| before.as_ref().is_some_and(|before| before.contains(child));
                now.is_none_or(|now| !now.iter().all(known))
            };
            let (forkers, still): (Vec<_>, Vec<_>) = before.into_iter().partition(forks);
            quiet = still.into_iter().map(|(pid, _)| pid).collect();
            for (pid, _) in &forkers {
                self.signal_one(worker, *pid, Signal::STOP);
            }
            if !new && forkers.is_empty() {
                return quiet;
            }
        }
        for pid in quiet {
            self.signal_one(worker, pid, Signal::STOP);
        }
        Vec::new()
    }

    /// After SIGKILL to processes that were not stopped: they fork no more, and while their memory is freed they have their
    /// children still. Those that nobody knew get the same signal.
    pub(in crate::agent) fn find_the_last(&mut self, turn: &mut Turn<'_>, worker: WorkerId, of: &[Pid]) {
        for parent in of {
            for child in children(&self.procfs, *parent).unwrap_or_default() {
                if self.registry.worker_of(child).is_none() && !self.barred.contains(&child) {
                    self.adopt(turn, worker, child, Some(Signal::KILL));
                }
            }
        }
    }

    /// One look at all processes.
    fn family(&mut self, turn: &mut Turn<'_>) -> Option<Family> {
        match Family::look(&self.procfs) {
            Ok(family) => Some(family),
            Err(error) => {
                turn.faults.not_scanned += 1;
                if !std::mem::replace(&mut self.look_again, true) {
                    tracing::warn!(%error, "cannot search for the workers' descendants");
                }
                None
            }
        }
    }

    /// Whether there was a new process. Each new one gets the signal first.
    fn adopt_all(
        &mut self,
        turn: &mut Turn<'_>,
        family: &Family,
        worker: WorkerId,
        first: Option<Signal>,
    ) -> bool {
        let Some(entry) = self.registry.get(worker) else { return false };
        let known = entry.pids();
        let by_rule = entry.by_rule.is_some();
        // A worker within this one has a tree of its own.
        let anothers = |pid| {
            self.registry.worker_of(pid).is_some_and(|other| other != worker)
                || (by_rule && self.barred.contains(&pid))
        };
        let all = family.with_descendants(&known, anothers);
        let known: std::collections::HashSet<Pid> = known.into_iter().collect();
        let mut new = false;
        for pid in all {
            if !known.contains(&pid) && self.registry.worker_of(pid).is_none() {
                new |= self.adopt(turn, worker, pid, first);
            }
        }
        new
    }

    fn adopt(&mut self, turn: &mut Turn<'_>, worker: WorkerId, pid: Pid, first: Option<Signal>) -> bool {
        let process = match Process::open(&self.procfs, pid, None) {
            Ok(process) => process,
            Err(error) => {
                if let Some(error) = refused(error) {
                    turn.faults.not_opened += 1;
                    if self.looked_after.insert(worker) {
                        tracing::warn!(%error, %worker, "cannot open a child of this worker; trying again");
                    }
                }
                return false;
            }
        };
        let Some(entry) = self.registry.get(worker) else { return false };
        if let Some(signal) = first {
            entry.signal(&process, signal, &self.procfs, &mut Killed::default());
        }
        let followed = entry.followed();
        self.take_member(turn, worker, &process, followed)
    }

    /// A process that was opened becomes part of a worker. False: it is known.
    pub(in crate::agent::workers) fn take_member(
        &mut self,
        turn: &mut Turn<'_>,
        worker: WorkerId,
        process: &Process,
        followed: bool,
    ) -> bool {
        let Some(entry) = self.registry.get(worker) else { return false };
        let pid = process.pid();
        let followed = followed && !self.registry.is_fork_limited(entry.uid);
        if let Some(map) = self.map.as_mut().filter(|_| followed)
            && let Err(error) = map.add(pid, worker)
        {
            turn.faults.not_followed += 1;
            self.look_after(worker);
            tracing::warn!(%error, %worker, %pid, "kernel tracing cannot follow this process");
        }
        if !self.registry.room_for_member(worker) {
            return self.adopt_without_pidfd(turn, worker, process);
        }
        if !self.registry.add_member(worker, process.clone()) {
            return false;
        }
        turn.tell(Event::Forked { worker, pid });
        self.mind_the_fork_limit(worker);
        // Found in /proc it may be on its way out, past its exit record: only its pidfd tells of its end for sure.
        self.await_member(turn, worker, pid);
        true
    }

    fn adopt_without_pidfd(&mut self, turn: &mut Turn<'_>, worker: WorkerId, process: &Process) -> bool {
        let pid = process.pid();
        // It lives, after its file was read: the file was its own.
        let started = start_time(&self.procfs, pid).ok().filter(|_| !process.ended());
        let new = started
            .is_some_and(|started| self.registry.add_without_pidfd(worker, pid, Proof::Started(started)));
        if new {
            self.tell_of_no_room(worker);
            turn.tell(Event::Forked { worker, pid });
            self.mind_the_fork_limit(worker);
        } else if let Some(map) = &mut self.map {
            // Past its exit hook nothing else takes it off.
            map.remove(pid);
        }
        new
    }
}
