//! Freeze, then kill: of a worker that has a v1 freezer cgroup to itself nothing is forked while its processes are
//! found and signalled. It is thawed right after, whatever happens to the agent: then who was signalled dies.
//!
//! Where the kernel tells of forks, the first signal does not wait for it. Where it does not, the descendants must be
//! looked for before the first signal anyway (who is dead is nobody's parent), and it is frozen before that look.

pub(crate) mod thawer;

use std::sync::Arc;

use rustix::process::Signal;

use self::thawer::Thawer;
use crate::agent::shell::Shell;
use crate::agent::workers::registry::Killed;
use crate::kill::{Frozen, NotOwn, OwnFreezer, Process, SignalError, ending};
use crate::memory::process::ancestors;
use crate::units::Pid;
use crate::worker::WorkerId;

/// How often it is looked who is in a frozen cgroup: nobody is new in it but who was being made when it was frozen.
const ROUNDS: usize = 8;

impl Shell {
    /// At registration: whether a worker is alone in a freezer cgroup. As a rule it is not, which is no news.
    pub(in crate::agent) fn find_own_freezer(&mut self, worker: WorkerId, pid: Pid) {
        let Some(dir) = self.cgroup_dir(self.freezer.as_ref(), pid) else { return };
        match OwnFreezer::open(&dir, |pid| self.is_of(worker, pid)) {
            Ok(own) => {
                self.start_thawer();
                if let Some(entry) = self.registry.get_mut(worker) {
                    entry.freezer = Some(Arc::new(own));
                }
            }
            Err(why) => tracing::debug!(%worker, %why, "it has no freezer cgroup of its own"),
        }
    }

    /// One for all workers, from the first that needs it. Not on the way to a kill: a process is started.
    fn start_thawer(&mut self) {
        if self.thawer.as_mut().is_some_and(Thawer::works) {
            return;
        }
        self.thawer = Thawer::start()
            .inspect_err(|error| {
                tracing::warn!(%error, "nobody would thaw workers for sure: their freezer cgroups are not used");
            })
            .ok();
    }

    /// Freezes a worker's own freezer cgroup. `None`: it has none.
    pub(in crate::agent) fn freeze(&self, worker: WorkerId) -> Option<Result<Frozen, NotOwn>> {
        let own = self.registry.get(worker)?.freezer.as_ref()?;
        let thawer = |state: std::os::fd::BorrowedFd<'_>| match &self.thawer {
            Some(thawer) => thawer.hold(state),
            None => Err(std::io::ErrorKind::NotFound.into()),
        };
        Some(own.freeze(|pid| self.is_of(worker, pid), thawer))
    }

    /// SIGKILL to those in a worker's frozen cgroup who were not signalled yet. Thaws it. What came of it.
    pub(in crate::agent) fn kill_frozen(
        &self,
        worker: WorkerId,
        frozen: Result<Frozen, NotOwn>,
        killed: &mut Killed,
    ) -> String {
        let done = match &frozen {
            Ok(frozen) => self
                .strike(worker, frozen, killed)
                .map_or_else(|why| format!("not used: {why}"), |()| "used".to_owned()),
            Err(why) => format!("not used: {why}"),
        };
        self.thaw(frozen);
        done
    }

    /// Thaws it, and lets go of the thawer; of one that cannot be thawed here it keeps the file.
    pub(in crate::agent) fn thaw(&self, frozen: Result<Frozen, NotOwn>) {
        let thawed = frozen.map_or(true, Frozen::thaw);
        if let Some(thawer) = self.thawer.as_ref().filter(|_| thawed) {
            thawer.thawed();
        }
    }

    fn strike(&self, worker: WorkerId, frozen: &Frozen, killed: &mut Killed) -> Result<(), NotOwn> {
        let Some(entry) = self.registry.get(worker) else { return Ok(()) };
        let mut struck: Vec<Pid> = entry.pids();
        for _ in 0..ROUNDS {
            let mut new = frozen.members()?;
            new.retain(|pid| !struck.contains(pid));
            if new.is_empty() {
                break;
            }
            for pid in new {
                struck.push(pid);
                // Opened first: what is then still the worker's was opened.
                match Process::open_unchecked(pid) {
                    Ok(process) if self.is_of(worker, pid) && !process.ended() => {
                        entry.signal(&process, Signal::KILL, &self.domains.roots().procfs, killed);
                    }
                    // Gone, or somebody whom root put there meanwhile.
                    Ok(_) | Err(crate::kill::OpenError::Gone(_)) => {}
                    Err(error) => killed.refused.push((pid, SignalError::NotOpened(error.errno()))),
                }
            }
        }
        Ok(())
    }

    /// A process of this worker, by our books or by the kernel's, or by its parents where neither has it yet; or one
    /// that ends.
    fn is_of(&self, worker: WorkerId, pid: Pid) -> bool {
        let procfs = &self.domains.roots().procfs;
        self.known(pid).map_or_else(
            || {
                let mut parents = ancestors(procfs, pid).into_iter();
                parents.find_map(|parent| self.registry.worker_of(parent)) == Some(worker)
                    || ending(procfs, pid)
            },
            |known| known == worker,
        )
    }
}
