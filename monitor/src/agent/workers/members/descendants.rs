//! Looks for workers' descendants in /proc: at registration, and wherever the kernel does not tell of forks.

use std::path::Path;

use crate::agent::shell::Shell;
use crate::agent::workers::registry::Proof;
use crate::engine::Event;
use crate::kill::{OpenError, Process, start_time};
use crate::memory::process::Family;
use crate::units::Pid;
use crate::worker::WorkerId;

/// How often in a row a worker's new processes are looked for.
const ROUNDS: usize = 3;

impl Shell {
    /// Finds the descendants of a worker that are not known yet.
    pub(in crate::agent) fn scan(&mut self, worker: WorkerId) {
        self.find_descendants(vec![worker]);
        self.carry_out();
    }

    /// The same for all of them.
    pub(in crate::agent) fn scan_all(&mut self) {
        self.find_descendants(self.registry.ids());
        self.carry_out();
    }

    /// The same for several, with one look at all processes; the engine is told, and its orders are left for later. Each
    /// new one is told to the kernel before its own children are looked for: what it forks after that, the fork hook
    /// sees; what before, the next round does.
    ///
    /// The rounds are bounded: a worker that forks without end has somebody new in each. Of those who are left the fork
    /// hook tells, or the next look.
    pub(in crate::agent) fn find_descendants(&mut self, mut workers: Vec<WorkerId>) {
        let procfs = self.domains.roots().procfs.clone();
        for _ in 0..ROUNDS {
            if workers.is_empty() {
                return;
            }
            match Family::look(&procfs) {
                Ok(family) => workers.retain(|worker| self.adopt_all(&procfs, &family, *worker)),
                Err(error) => {
                    self.troubles.counts.not_scanned += 1;
                    if !std::mem::replace(&mut self.troubles.look_again, true) {
                        tracing::warn!(%error, "cannot look for the workers' descendants");
                    }
                    return;
                }
            }
        }
    }

    /// Whether there was somebody new.
    fn adopt_all(&mut self, procfs: &Path, family: &Family, worker: WorkerId) -> bool {
        let Some(entry) = self.registry.get(worker) else { return false };
        let known = entry.pids();
        let mut new = false;
        // A worker within this one has a tree of its own.
        let anothers = |pid| self.registry.worker_of(pid).is_some_and(|other| other != worker);
        for pid in family.with_descendants(&known, anothers) {
            if !known.contains(&pid) && self.registry.worker_of(pid).is_none() {
                new |= self.adopt(procfs, worker, pid);
            }
        }
        new
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
        let followed = self.registry.get(worker).is_some_and(|entry| !self.registry.is_crowd(entry.uid));
        if let Some(programs) = self.programs.as_mut().filter(|_| followed)
            && let Err(error) = programs.workers.add(pid, worker)
        {
            self.troubles.counts.not_followed += 1;
            self.look_after(worker);
            tracing::warn!(%error, %worker, %pid, "the kernel side cannot follow this process");
        }
        if !self.registry.room_for_member(worker) {
            // It lives, after its file was read: the file was its own.
            let started = start_time(procfs, pid).ok().filter(|_| !process.ended());
            let new =
                started.is_some_and(|started| self.registry.add_unheld(worker, pid, Proof::Started(started)));
            if new {
                self.tell_of_no_room(worker);
                self.tell(Event::Forked { worker, pid });
                self.mind_the_crowd(worker);
            } else if let Some(programs) = &mut self.programs {
                // Past its exit hook nobody else takes it off.
                programs.workers.remove(pid);
            }
            return new;
        }
        if !self.registry.add_member(worker, process) {
            return false;
        }
        self.tell(Event::Forked { worker, pid });
        self.mind_the_crowd(worker);
        // Found in /proc it may be on its way out, past its exit record: only its pidfd tells of its end for sure.
        self.await_member(worker, pid);
        true
    }
}
