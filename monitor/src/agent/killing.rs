//! The orders to kill, carried out: signals by pidfd, then everything that may take time. Decides nothing.
//!
//! Invariant: between the order and the last signal nothing is allocated, opened by path or looked up in /proc,
//! unless a signal is refused, the kernel does not tell of a worker's forks or (before 6.13) of a process's owner, or the
//! worker has processes for which no descriptor is kept (`unheld`).
//!
//! A process that is being killed cannot fork any more (copy_process in kernel/fork.c gives up when a signal is pending),
//! and what it forked before is killed when its record comes. Where the worker had a v2 cgroup to itself at its
//! registration, `cgroup.kill` does that at once, also without the fork hook: after the signals, and only if nobody
//! else is in it (`kill/cgroup.rs`). A v1 freezer cgroup to itself is frozen meanwhile (`freezing`).

pub(super) mod freezing;
pub(super) mod previous_agent;
pub(super) mod stuck;

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustix::process::Signal;

use crate::agent::event_loop::clock;
use crate::agent::shell::Shell;
use crate::agent::workers::registry::Killed;
use crate::engine::{Event, KillId, Remains};
use crate::kill::{OwnCgroup, SignalError, ending};
use crate::memory::Hierarchy;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

impl Shell {
    /// SIGKILL to every process of a victim.
    pub(super) fn kill(&mut self, kill: KillId, worker: WorkerId) {
        let told = self.told_of_forks(worker);
        let mut frozen = None;
        if !told {
            frozen = self.freeze(worker);
            // Once their parent is dead nothing tells whose they were.
            self.find_descendants(vec![worker]);
        }
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        if !self.may_strike(worker) {
            frozen.into_iter().for_each(|frozen| self.thaw(frozen));
            return;
        }
        let at = clock::now();
        let mut killed = self.registry.signal(worker, Signal::KILL, &self.domains.roots().procfs);
        self.signal_unheld(worker, None, Signal::KILL, &mut killed);
        if told && killed.refused.is_empty() {
            frozen = self.freeze(worker);
        }
        let freezer = frozen.map(|frozen| self.kill_frozen(worker, frozen, &mut killed));
        self.dying.add(worker);
        self.await_end_of(worker);
        let cgroup = self.kill_own_cgroup(worker, &killed);
        if killed.signalled == 0 && killed.refused.is_empty() {
            tracing::info!(%worker, "nothing left to signal: it was ending by itself");
        }
        self.answer_for(kill, worker, at, killed, (cgroup, freezer));
    }

    /// At registration: whether a worker is alone in a v2 cgroup. As a rule it is not, which is no news.
    pub(super) fn find_own_cgroup(&mut self, worker: WorkerId, pid: Pid) {
        let Some(dir) = self.cgroup_dir(self.unified.as_ref(), pid) else { return };
        match OwnCgroup::open(&dir, |pid| self.belongs(worker, pid)) {
            Ok(own) => {
                if let Some(entry) = self.registry.get_mut(worker) {
                    entry.own = Some(own);
                }
            }
            Err(why) => tracing::debug!(%worker, %why, "it has no cgroup of its own"),
        }
    }

    /// Where the cgroup that a process is in lies in a hierarchy. `None`: there is no such hierarchy, the process is in
    /// none but the root, which is nobody's own, or that cannot be told.
    pub(super) fn cgroup_dir(&self, hierarchy: Option<&Hierarchy>, pid: Pid) -> Option<PathBuf> {
        let hierarchy = hierarchy?;
        let cgroup = hierarchy.cgroup_of(&self.domains.roots().procfs, pid).ok()?;
        (!cgroup.is_root()).then(|| hierarchy.dir(&cgroup))
    }

    /// After the signals: what was forked meanwhile. What came of it; `None`: it has no cgroup of its own.
    fn kill_own_cgroup(&self, worker: WorkerId, killed: &Killed) -> Option<String> {
        let own = self.registry.get(worker)?.own.as_ref()?;
        // One of its processes may not be killed for who registered it.
        if let Some((pid, error)) = killed.refused.first() {
            return Some(format!("not used: process {pid}: {error}"));
        }
        Some(match own.kill(|pid| self.belongs(worker, pid)) {
            Ok(()) => "used".to_owned(),
            Err(why) => format!("not used: {why}"),
        })
    }

    /// A process of this worker, by our books or by the kernel's; or one that is off both because it ends.
    fn belongs(&self, worker: WorkerId, pid: Pid) -> bool {
        let known = self.known(pid);
        known == Some(worker) || (known.is_none() && ending(&self.domains.roots().procfs, pid))
    }

    /// SIGTERM to every process of a victim. Its memory is not taken: the kernel refuses that of a process that was
    /// not killed.
    pub(super) fn terminate(&mut self, kill: KillId, worker: WorkerId) {
        if !self.may_strike(worker) {
            return;
        }
        let at = clock::now();
        let mut killed = self.registry.signal(worker, Signal::TERM, &self.domains.roots().procfs);
        self.signal_unheld(worker, None, Signal::TERM, &mut killed);
        self.watch_all(worker);
        self.answer_for(kill, worker, at, killed, (None, None));
    }

    /// A process that the victim made after its kill.
    pub(super) fn kill_late(&mut self, kill: KillId, worker: WorkerId, pid: Pid) {
        let at = clock::now();
        let mut killed = self.registry.signal_one(worker, pid, Signal::KILL, &self.domains.roots().procfs);
        self.signal_unheld(worker, Some(pid), Signal::KILL, &mut killed);
        self.await_end_of_one(worker, pid);
        self.answer_for(kill, worker, at, killed, (None, None));
    }

    fn answer_for(
        &mut self,
        kill: KillId,
        worker: WorkerId,
        at: Nanos,
        killed: Killed,
        (cgroup, freezer): (Option<String>, Option<String>),
    ) {
        let refused =
            killed.refused.first().map(|(pid, error): &(Pid, SignalError)| format!("process {pid}: {error}"));
        self.tell(Event::Signalled { kill, worker, at, refused, cgroup, freezer });
        for (pid, error) in killed.refused {
            self.tell(Event::Refused { kill, worker, pid, at, for_now: error.for_now() });
        }
    }

    /// What a victim that does not die waits for. Not on the way to a signal: files are read here.
    pub(super) fn examine(&self, kill: KillId, worker: WorkerId, pids: &[Pid]) -> Event {
        let procfs = &self.domains.roots().procfs;
        let members = self.registry.get(worker).map_or(&[][..], |entry| &entry.members);
        let here = |pid: &&Pid| {
            members.iter().any(|member| member.process.pid() == **pid && !member.process.ended())
        };
        let remains: Vec<Remains> = pids.iter().filter(here).map(|pid| stuck::of(procfs, *pid)).collect();
        Event::Examined { kill, worker, remains }
    }

    /// Has the memory of a victim's processes taken, and their ends watched.
    fn await_end_of(&mut self, worker: WorkerId) {
        self.take_memory(worker, |_| true);
        self.watch_all(worker);
    }

    /// The same for one of them, when the others were seen to before.
    fn await_end_of_one(&mut self, worker: WorkerId, pid: Pid) {
        self.take_memory(worker, |member| member == pid);
        self.watch_all(worker);
    }

    fn take_memory(&self, worker: WorkerId, whose: impl Fn(Pid) -> bool) {
        let Some(entry) = self.registry.get(worker) else { return };
        for member in entry.members.iter().filter(|member| whose(member.process.pid())) {
            if let Some(reaper) = &self.reaper {
                // A full queue: the process gives its memory back itself.
                if !reaper.take(worker, member.process.pid(), member.process.fd()) {
                    self.troubles.not_released.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn watch_all(&mut self, worker: WorkerId) {
        self.await_members(worker, |_| true);
    }
}
