//! Carries out what the engine orders, one order after the other; what comes of it is told at once.

use super::Shell;
use crate::agent::event_loop::clock;
use crate::agent::workers::registry::Entry;
use crate::engine::{Action, DomainId, Event};
use crate::kernel::programs::Programs;
use crate::worker::WorkerId;

impl Shell {
    pub(in crate::agent) fn carry_out(&mut self) {
        while let Some(action) = self.todo.pop_front() {
            self.act(action);
        }
        self.reports.write_released();
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Read(domain) => {
                if let Some(reading) = self.read(domain) {
                    self.tell(reading);
                }
            }
            Action::Examine { kill, worker, pids } => {
                let examined = self.examine(kill, worker, &pids);
                self.tell(examined);
            }
            Action::Kill { kill, worker } => self.kill(kill, worker),
            Action::Terminate { kill, worker } => self.terminate(kill, worker),
            Action::KillProcess { kill, worker, pid } => self.kill_late(kill, worker, pid),
            Action::SetLine { domain, line, rearm, brake } => {
                if let (Some(programs), Some(cell)) = (&mut self.programs, self.domains.cell(domain)) {
                    programs.cells.set_line(cell, line, rearm, brake);
                }
            }
            Action::Attach => self.attach(),
            Action::Detach => self.programs.iter_mut().for_each(Programs::detach_usage),
            Action::Continue { worker, pid } => self.continue_process(worker, pid),
            Action::Tell(verdict) => self.tell_verdict(&verdict),
            Action::Record(kill) => self.record(kill),
            Action::Measure => self.measure_now(),
            Action::Forget(worker) => self.forget(worker),
            Action::Note(note) => self.pass_on(&note),
        }
    }

    /// Reads a domain. The loop waits for it: a reading is a few microseconds, unless a file takes its time.
    fn read(&mut self, domain: DomainId) -> Option<Event> {
        let began = clock::now();
        let reading = self.domains.read(domain, self.programs.as_ref());
        let took = clock::now().since(began);
        if self.troubles.took(domain, took) {
            let took_ms = took.as_millis();
            tracing::warn!(
                domain = domain.0,
                took_ms,
                "a reading was slow, and nothing else was done meanwhile"
            );
        }
        reading
    }

    fn forget(&mut self, worker: WorkerId) {
        // Of one that ended there is nobody left whom the watchdog could strike.
        let lives = |entry: &Entry| !(entry.members.is_empty() && entry.unheld.is_empty());
        if self.registry.get(worker).is_some_and(lives) {
            self.unname(worker);
        }
        self.troubles.looked_after.remove(&worker);
        self.lift_bar(worker);
        if let Some(cgroup) = self.registry.get(worker).and_then(|entry| entry.cgroup.as_ref()) {
            self.limits.leave(cgroup);
        }
        let former = self.registry.remove(worker);
        for process in former.held {
            self.let_leave(&process);
        }
        for pid in former.unheld {
            self.let_unheld_leave(worker, pid);
        }
    }
}
