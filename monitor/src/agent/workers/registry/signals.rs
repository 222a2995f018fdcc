//! Signals to workers' processes, each with the rights of the user that registered the worker. Decides nothing.

use std::path::Path;

use rustix::process::Signal;

use super::{Member, Registry, WorkerProcesses};
use crate::kill::{Process, SignalError};
use crate::units::Pid;
use crate::worker::WorkerId;

/// What became of an order to kill a worker.
#[derive(Default)]
pub(in crate::agent) struct Killed {
    /// How many processes were signaled.
    pub(in crate::agent) signalled: usize,
    /// Which could not be, and why.
    pub(in crate::agent) refused: Vec<(Pid, SignalError)>,
}

impl WorkerProcesses {
    /// Signals one of its processes, if the user that registered it may. Root may kill everything. Other users' rights
    /// are checked when they are used: a program may have changed its user since it was registered.
    pub(in crate::agent) fn signal(
        &self,
        process: &Process,
        signal: Signal,
        procfs: &Path,
        killed: &mut Killed,
    ) {
        let allowed =
            if self.registered_by == 0 { Ok(()) } else { process.killable_by(self.registered_by, procfs) };
        match allowed.and_then(|()| process.signal(signal)) {
            Ok(()) => killed.signalled += 1,
            Err(SignalError::Gone) => {}
            Err(error) => killed.refused.push((process.pid(), error)),
        }
    }
}

impl Registry {
    /// Sends a signal to every process of a worker that the user that registered it may kill. Nothing is allocated,
    /// opened or looked up by path unless one is refused (or the kernel is older than 6.13: see
    /// [`Process::killable_by`]).
    pub(in crate::agent) fn signal(&self, worker: WorkerId, signal: Signal, procfs: &Path) -> Killed {
        self.signal_some(worker, signal, procfs, |_| true)
    }

    /// The same for one process.
    pub(in crate::agent) fn signal_one(
        &self,
        worker: WorkerId,
        pid: Pid,
        signal: Signal,
        procfs: &Path,
    ) -> Killed {
        self.signal_some(worker, signal, procfs, |member| member.process.pid() == pid)
    }

    fn signal_some(
        &self,
        worker: WorkerId,
        signal: Signal,
        procfs: &Path,
        whom: impl Fn(&Member) -> bool,
    ) -> Killed {
        let mut killed = Killed::default();
        let Some(entry) = self.workers.get(&worker) else { return killed };
        for member in entry.members.iter().filter(|member| whom(member)) {
            entry.signal(&member.process, signal, procfs, &mut killed);
        }
        killed
    }
}
