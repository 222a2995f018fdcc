//! Carries out what the engine orders, one order after the other: each goes to the component that can. What comes of it is
//! told at once.

use super::{Components, Shell, turn};
use crate::agent::api::launchers;
use crate::agent::reports::past::date;
use crate::agent::{brake, killing};
use crate::engine::{Action, KillId, Note};
use crate::worker::WorkerId;

/// A kill is told with its time by the wall clock.
fn dated(note: Note) -> Note {
    match note {
        Note::Killed(mut record) => {
            date(&mut record);
            Note::Killed(record)
        }
        other => other,
    }
}

impl Shell {
    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.todo.pop_front() {
            self.act(action);
        }
        self.parts.reports.write_released();
    }

    pub(super) fn act(&mut self, action: Action) {
        let Components { domains, workers, measuring, hooks, killing, reports, raylets, rules, .. } =
            &mut self.parts;
        let read = if let Action::Read(domain) = &action { Some(*domain) } else { None };
        match action {
            Action::Read(domain) => domains.read(turn!(self), domain),
            Action::Examine { kill, worker, pids } => {
                killing::examine(turn!(self), workers, kill, worker, &pids);
            }
            Action::Kill { kill, worker } => {
                killing.wait();
                if self.may_strike(worker) && self.is_still_its_rules(kill, worker) {
                    let Components { domains, workers, hooks, killing, rules, .. } = &mut self.parts;
                    let turn = turn!(self);
                    killing.kill(turn, workers, hooks.told(), kill, worker);
                    rules.sweep(turn, workers, domains, worker);
                }
            }
            Action::Terminate { kill, worker } => {
                if self.may_strike(worker) && self.is_still_its_rules(kill, worker) {
                    let Components { workers, killing, .. } = &mut self.parts;
                    killing.terminate(turn!(self), workers, kill, worker);
                }
            }
            Action::KillProcess { kill, worker, pid } => {
                let turn = turn!(self);
                if rules.may_signal(turn, workers, worker, pid) {
                    killing.kill_late(turn, workers, kill, worker, pid);
                }
            }
            Action::EndOwned { worker, owner, kill } => {
                launchers::tell_of_dead_owner(&workers.registry, &mut self.faults, worker);
                killing.end(turn!(self), workers, hooks.told(), worker, (owner, kill));
            }
            Action::Ask { kill, executor, ours } => raylets.ask(turn!(self), kill, executor, ours),
            Action::Withdraw { executor } => raylets.withdraw(executor),
            Action::SetLine { domain, line, rearm, brake } => domains.set_line(domain, line, rearm, brake),
            Action::Attach => hooks.attach(turn!(self), domains),
            Action::Detach => hooks.detach(),
            Action::Continue { worker, pid } => brake::let_go(workers, worker, pid),
            Action::Tell(verdict) => {
                launchers::tell_verdict(&workers.registry, &mut self.faults, &verdict);
            }
            Action::Record(kill) => reports.record(&self.engine, domains, &workers.registry, kill),
            Action::Measure => measuring.at_once(&self.engine, domains, &workers.registry),
            Action::Glance(domain) => {
                measuring.glance(&self.engine, domains, &workers.registry, Some(domain));
            }
            Action::Begin { worker, .. } => self.parts.starts.begin(worker),
            Action::Gauge(domain) => measuring.gauge(&self.engine, domains, &workers.registry, domain),
            Action::Forget(worker) => self.forget(worker),
            Action::Note(note) => self.pass_on(&dated(note)),
        }
        self.tell_heard();
        if let Some(domain) = read {
            self.parts.samples.read(&self.engine, domain);
        }
    }

    /// Before a signal to a worker that a rule made: what is protected by now leaves it. False: it must not be signaled,
    /// which the engine is told.
    fn is_still_its_rules(&mut self, kill: KillId, worker: WorkerId) -> bool {
        let Components { workers, rules, .. } = &mut self.parts;
        rules.check(turn!(self), workers, kill, worker)
    }

    fn forget(&mut self, worker: WorkerId) {
        let Components { domains, workers, killing, watchdog, raylets, oom_counters, rules, .. } =
            &mut self.parts;
        rules.forget(worker);
        // A worker that ended leaves nothing that the watchdog could kill.
        if workers.registry.get(worker).is_some_and(|entry| !entry.is_empty()) {
            watchdog.unname(worker);
        }
        domains.leave(worker);
        killing.forget(worker);
        raylets.forget(worker);
        oom_counters.leave(worker);
        workers.forget(turn!(self), worker);
    }
}
