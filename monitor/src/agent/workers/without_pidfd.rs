//! The processes of workers for which no descriptor is kept: those beyond a user's share (a fork storm must not use up
//! the agent's), and those that could not be opened. They are opened one by one when they are to be signalled, proven
//! to be what they were, and closed again. Only then something is opened between the order to kill and a signal.

use rustix::process::Signal;

use crate::agent::shell::Shell;
use crate::agent::workers::members::Ended;
use crate::agent::workers::registry::{Killed, Proof};
use crate::engine::Seen;
use crate::kill::{OpenError, Process, SignalError, start_time};
use crate::units::Pid;
use crate::worker::WorkerId;

impl Shell {
    /// Signals those of a worker, or one of them.
    pub(in crate::agent) fn signal_unheld(
        &self,
        worker: WorkerId,
        only: Option<Pid>,
        signal: Signal,
        killed: &mut Killed,
    ) {
        let Some(entry) = self.registry.get(worker) else { return };
        for (pid, proof) in entry.unheld.iter().filter(|(pid, _)| only.is_none_or(|only| only == **pid)) {
            match self.open_unheld(worker, *pid, *proof) {
                Ok(Some(process)) => entry.signal(&process, signal, &self.domains.roots().procfs, killed),
                Ok(None) => {}
                // A kill without it is none.
                Err(error) => killed.refused.push((*pid, SignalError::NotOpened(error.errno()))),
            }
        }
    }

    /// `None`: it has ended.
    fn open_unheld(&self, worker: WorkerId, pid: Pid, proof: Proof) -> Result<Option<Process>, OpenError> {
        // Opened first: what is then still proven is what was opened.
        let process = match Process::open_unchecked(pid) {
            Ok(process) => process,
            Err(OpenError::Gone(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((self.is_still(worker, pid, proof) && !process.ended()).then_some(process))
    }

    fn is_still(&self, worker: WorkerId, pid: Pid, proof: Proof) -> bool {
        match proof {
            Proof::Map => self.mapped(pid) == Some(worker),
            Proof::Started(tick) => {
                start_time(&self.domains.roots().procfs, pid).is_ok_and(|found| found == tick)
            }
        }
    }

    /// Finds those that have ended: where no record tells of it, at each tick.
    pub(in crate::agent) fn sweep_unheld(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let (mut gone, mut refused) = (Vec::new(), 0);
        for (pid, proof) in &entry.unheld {
            match self.open_unheld(worker, *pid, *proof) {
                Ok(Some(_)) => {}
                Ok(None) => gone.push(*pid),
                Err(_) => refused += 1,
            }
        }
        self.troubles.counts.not_opened += refused;
        for pid in gone {
            self.ended(Ended { worker, pid, seen: Seen::Gone });
        }
    }

    /// Takes those out of the programs' map whose worker is forgotten, and whose fork record was lost.
    pub(in crate::agent) fn sweep_strangers(&mut self) {
        let members = self.programs.as_ref().map(|programs| programs.workers.members()).unwrap_or_default();
        for (pid, worker) in members {
            if self.registry.get(worker).is_none() {
                self.let_unheld_leave(worker, pid);
            }
        }
    }

    /// One that is no worker's any more: nobody stays stopped.
    pub(in crate::agent) fn let_unheld_leave(&mut self, worker: WorkerId, pid: Pid) {
        // Opened first: that the map then names it proves what was opened.
        match (self.open_unheld(worker, pid, Proof::Map), &mut self.programs) {
            (Ok(Some(process)), _) => self.let_leave(&process),
            (Ok(None), Some(programs)) if programs.workers.worker_of(pid) == Some(worker) => {
                programs.workers.remove(pid);
            }
            (Ok(None), _) => {}
            // It may be stopped: the map goes on naming it.
            (Err(_), _) => self.troubles.counts.not_opened += 1,
        }
    }
}
