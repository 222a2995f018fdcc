//! The orders to kill, carried out: signals by pidfd, then everything that may take time. Decides nothing.
//!
//! Invariant: between the order and the last signal nothing is allocated, opened by path or looked up in /proc,
//! unless a signal is refused, or the kernel does not tell of a worker's forks or (before 6.13) of a process's owner.
//!
//! `cgroup.kill` is not used, nor is the v1 freezer: both strike whoever is in the cgroup, and between any look at its
//! members and the write somebody who was never registered can be moved there. What they would be good for, processes
//! forked during the kill, the fork hook has: a process that is being killed cannot fork any more (copy_process in
//! kernel/fork.c gives up when a signal is pending), and what it forked before is killed when its record comes.

use std::sync::atomic::Ordering;

use rustix::process::Signal;

use super::clock;
use super::core::{Event, KillId, Remains};
use super::registry::Killed;
use super::remains;
use super::shell::Shell;
use crate::kill::SignalError;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

impl Shell {
    /// SIGKILL to every process of a victim.
    pub(super) fn kill(&mut self, kill: KillId, worker: WorkerId) {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        if !self.told_of_forks(worker) {
            // Once their parent is dead nothing tells whose they were.
            self.find_descendants(worker);
        }
        let at = clock::now();
        let mut killed = self.registry.signal(worker, Signal::KILL, &self.domains.roots().procfs);
        self.signal_unopened(worker, &mut killed);
        if killed.signalled == 0 && killed.refused.is_empty() {
            tracing::info!(%worker, "nothing left to signal: it was ending by itself");
        }
        self.await_end_of(worker);
        self.answer_for(kill, worker, at, killed);
    }

    /// SIGTERM to every process of a victim. Its memory is not taken: the kernel refuses that of a process that was
    /// not killed.
    pub(super) fn terminate(&mut self, kill: KillId, worker: WorkerId) {
        let at = clock::now();
        let killed = self.registry.signal(worker, Signal::TERM, &self.domains.roots().procfs);
        self.watch_all(worker);
        self.answer_for(kill, worker, at, killed);
    }

    /// A process that the victim made after its kill.
    pub(super) fn kill_late(&mut self, kill: KillId, worker: WorkerId, pid: Pid) {
        let at = clock::now();
        let killed = self.registry.signal_one(worker, pid, Signal::KILL, &self.domains.roots().procfs);
        self.await_end_of(worker);
        self.answer_for(kill, worker, at, killed);
    }

    /// The last try for children of a victim that could not be opened up to now: a kill without them is none.
    fn signal_unopened(&mut self, worker: WorkerId, killed: &mut Killed) {
        for pid in self.registry.unopened(worker) {
            match self.open_again(worker, pid) {
                Ok(true) => {
                    let procfs = &self.domains.roots().procfs;
                    let late = self.registry.signal_one(worker, pid, Signal::KILL, procfs);
                    killed.signalled += late.signalled;
                    killed.refused.extend(late.refused);
                }
                Ok(false) => {}
                Err(error) => killed.refused.push((pid, SignalError::NotOpened(error.errno()))),
            }
        }
    }

    fn answer_for(&mut self, kill: KillId, worker: WorkerId, at: Nanos, killed: Killed) {
        let refused =
            killed.refused.first().map(|(pid, error): &(Pid, SignalError)| format!("process {pid}: {error}"));
        self.tell(Event::Signalled { kill, worker, at, refused });
        for (pid, _) in killed.refused {
            self.tell(Event::Refused { kill, worker, pid, at });
        }
    }

    /// What a victim that does not die waits for. Not on the way to a signal: files are read here.
    pub(super) fn examine(&self, kill: KillId, worker: WorkerId, pids: &[Pid]) -> Event {
        let procfs = &self.domains.roots().procfs;
        let members = self.registry.get(worker).map_or(&[][..], |entry| &entry.members);
        let here = |pid: &&Pid| {
            members.iter().any(|member| member.process.pid() == **pid && !member.process.ended())
        };
        let remains: Vec<Remains> = pids.iter().filter(here).map(|pid| remains::of(procfs, *pid)).collect();
        Event::Examined { kill, worker, remains }
    }

    /// Has the memory of a victim's processes taken, and their ends watched.
    fn await_end_of(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        for member in &entry.members {
            if let Some(reaper) = &self.reaper {
                // A full queue: the process gives its memory back itself.
                if !reaper.take(worker, member.process.pid(), member.process.fd()) {
                    self.troubles.not_released.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.watch_all(worker);
    }

    fn watch_all(&mut self, worker: WorkerId) {
        self.await_members(worker, |_| true);
    }
}
