//! Carries out what the engine orders, one order after the other: each goes to the component that can. What comes of it is
//! told at once.

use super::{Components, Shell, turn};
use crate::agent::api::launchers;
use crate::agent::{brake, killing};
use crate::engine::Action;
use crate::worker::WorkerId;

impl Shell {
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.todo.pop_front() {
            self.act(action);
        }
        self.parts.reports.write_released();
    }

    pub(super) fn act(&mut self, action: Action) {
        let Components { domains, workers, measuring, hooks, killing, reports, .. } = &mut self.parts;
        match action {
            Action::Read(domain) => domains.read(turn!(self), domain),
            Action::Examine { kill, worker, pids } => {
                killing::examine(turn!(self), workers, kill, worker, &pids);
            }
            Action::Kill { kill, worker } => {
                killing.wait();
                if self.may_strike(worker) {
                    let Components { workers, hooks, killing, .. } = &mut self.parts;
                    killing.kill(turn!(self), workers, hooks.told(), kill, worker);
                }
            }
            Action::Terminate { kill, worker } => {
                if self.may_strike(worker) {
                    let Components { workers, killing, .. } = &mut self.parts;
                    killing.terminate(turn!(self), workers, kill, worker);
                }
            }
            Action::KillProcess { kill, worker, pid } => {
                killing.kill_late(turn!(self), workers, kill, worker, pid);
            }
            Action::EndOwned { worker, owner } => {
                launchers::tell_of_dead_owner(&workers.registry, &mut self.faults, worker);
                killing.end(turn!(self), workers, hooks.told(), worker, owner);
            }
            Action::SetLine { domain, line, rearm, brake } => domains.set_line(domain, line, rearm, brake),
            Action::Attach => hooks.attach(turn!(self), domains),
            Action::Detach => hooks.detach(),
            Action::Continue { worker, pid } => brake::let_go(workers, worker, pid),
            Action::Tell(verdict) => {
                launchers::tell_verdict(&workers.registry, &mut self.faults, &verdict);
            }
            Action::Record(kill) => reports.record(&self.engine, domains, &workers.registry, kill),
            Action::Measure => measuring.at_once(&self.engine, domains, &workers.registry),
            Action::Forget(worker) => self.forget(worker),
            Action::Note(note) => self.pass_on(&note),
        }
        self.tell_heard();
    }

    fn forget(&mut self, worker: WorkerId) {
        let Components { domains, workers, killing, watchdog, .. } = &mut self.parts;
        // Of one that ended there is nobody left whom the watchdog could strike.
        if let Some(watchdog) = watchdog
            && workers.registry.get(worker).is_some_and(|entry| !entry.is_empty())
        {
            watchdog.unname(worker);
        }
        domains.leave(worker);
        killing.forget(worker);
        workers.forget(turn!(self), worker);
    }
}
