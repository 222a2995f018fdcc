//! The processes of workers for which no descriptor is kept: those beyond a user's share (a fork storm must not use up
//! the agent's), and those that could not be opened. They are opened one by one when they are to be signaled, proven
//! to be what they were, and closed again. Only then something is opened between the order to kill and a signal.

use rustix::process::Signal;

use super::Workers;
use super::members::Ended;
use super::registry::{Killed, Proof};
use crate::agent::turn::Turn;
use crate::engine::Seen;
use crate::kill::{OpenError, Process, SignalError, start_time};
use crate::units::Pid;
use crate::worker::WorkerId;

impl Workers {
    /// Signals every process of a worker that the user that registered it may kill, those without a descriptor last.
    pub(in crate::agent) fn signal(&self, worker: WorkerId, signal: Signal) -> Killed {
        let mut killed = self.registry.signal(worker, signal, &self.procfs);
        self.signal_without_pidfd(worker, None, signal, &mut killed);
        killed
    }

    /// The same for one of them.
    pub(in crate::agent) fn signal_one(&self, worker: WorkerId, pid: Pid, signal: Signal) -> Killed {
        let mut killed = self.registry.signal_one(worker, pid, signal, &self.procfs);
        self.signal_without_pidfd(worker, Some(pid), signal, &mut killed);
        killed
    }

    fn signal_without_pidfd(&self, worker: WorkerId, only: Option<Pid>, signal: Signal, killed: &mut Killed) {
        let Some(entry) = self.registry.get(worker) else { return };
        for (pid, proof) in
            entry.without_pidfd.iter().filter(|(pid, _)| only.is_none_or(|only| only == **pid))
        {
            match self.open_known(worker, *pid, *proof) {
                Ok(Some(process)) => entry.signal(&process, signal, &self.procfs, killed),
                Ok(None) => {}
                // A kill without it is none.
                Err(error) => killed.refused.push((*pid, SignalError::NotOpened(error.errno()))),
            }
        }
    }

    /// Opens a process of a worker by what proves that the pid still means it. `None`: it has ended.
    pub(super) fn open_known(
        &self,
        worker: WorkerId,
        pid: Pid,
        proof: Proof,
    ) -> Result<Option<Process>, OpenError> {
        Process::open_proven(pid, || match proof {
            Proof::Map => self.mapped(pid) == Some(worker),
            Proof::Started(tick) => start_time(&self.procfs, pid).is_ok_and(|found| found == tick),
        })
    }

    /// Finds those that have ended: where no record tells of it, at each tick.
    pub(in crate::agent) fn sweep_without_pidfd(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let mut gone = Vec::new();
        for (pid, proof) in &entry.without_pidfd {
            match self.open_known(worker, *pid, *proof) {
                Ok(Some(_)) => {}
                Ok(None) => gone.push(*pid),
                Err(_) => turn.faults.not_opened += 1,
            }
        }
        for pid in gone {
            self.ended(turn, Ended { worker, pid, seen: Seen::Gone });
        }
    }
}
