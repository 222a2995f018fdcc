//! Workers that a rule made: how they come, change and go. Which rule, and why, is the rule book's business
//! (`agent/rules`).
//!
//! Invariant: the kernel side knows nothing of a worker that is only observed, so that the brake cannot stop it. Its
//! processes are found by looks, and their ends by their pidfds.

use std::collections::HashSet;

use super::enrolling::{Enrolled, Enrollment};
use super::registry::Member;
use super::{Workers, registry};
use crate::agent::domains::Domains;
use crate::agent::turn::Turn;
use crate::engine::Event;
use crate::kill::Process;
use crate::rules::facts::Accounts;
use crate::units::Pid;
use crate::worker::WorkerId;

impl Workers {
    /// Whether a rule made this worker.
    pub(in crate::agent) fn is_by_rule(&self, worker: WorkerId) -> bool {
        self.registry.get(worker).is_some_and(|entry| entry.by_rule.is_some())
    }

    /// The same as [`Self::enroll`] for one that a rule made; its descendants are found by the look that found it.
    pub(in crate::agent) fn enroll_by_rule(
        &mut self,
        turn: &mut Turn<'_>,
        domains: &mut Domains,
        process: Process,
        new: Enrollment,
        enforced: bool,
        event: impl FnOnce(WorkerId) -> Event,
    ) -> Enrolled {
        let enrolled = self.take_in(turn, domains, process, new, enforced, event);
        if let Some(entry) = self.registry.get_mut(enrolled.worker) {
            entry.by_rule = Some(registry::ByRule { followed: enforced });
        }
        enrolled
    }

    /// A process is part of a worker that a rule made. False: it is not any more, or it is known.
    pub(in crate::agent) fn join_by_rule(
        &mut self,
        turn: &mut Turn<'_>,
        worker: WorkerId,
        pid: Pid,
        start: u64,
        enforced: bool,
    ) -> bool {
        match Process::open(&self.procfs, pid, Some(start)) {
            Ok(process) => self.take_member(turn, worker, &process, enforced),
            Err(_) => false,
        }
    }

    /// The kernel side follows it from now on, or does no more.
    pub(in crate::agent) fn follow_by_rule(&mut self, turn: &mut Turn<'_>, worker: WorkerId, followed: bool) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        entry.by_rule = Some(registry::ByRule { followed });
        let members: Vec<Process> = entry.members.iter().map(|member| member.process.clone()).collect();
        for process in members {
            if !followed {
                self.let_leave(&process);
            } else if let Some(map) = &mut self.map
                && let Err(error) = map.add(process.pid(), worker)
            {
                turn.faults.not_followed += 1;
                tracing::warn!(%error, %worker, "kernel tracing cannot follow this worker");
            }
        }
        self.await_members(turn, worker, |_: &Member| true);
    }

    /// A worker is forgotten; its processes live on, and may be another worker's at once.
    pub(in crate::agent) fn give_up(&mut self, turn: &mut Turn<'_>, worker: WorkerId) {
        turn.tell(Event::Unregistered { worker });
        let Some(entry) = self.registry.get(worker) else { return };
        let members: Vec<Process> = entry.members.iter().map(|member| member.process.clone()).collect();
        for process in &members {
            self.let_leave(process);
            self.registry.remove_member(worker, process.pid());
        }
    }

    /// These processes are no rule's: one that is part of such a worker leaves it.
    pub(in crate::agent) fn bar_from_rules(&mut self, turn: &mut Turn<'_>, barred: HashSet<Pid>) {
        barred.iter().for_each(|pid| self.expel_from_rules(turn, *pid));
        self.barred = barred;
    }

    /// The same of some processes: of those `asked` for, which are `barred`.
    pub(in crate::agent) fn bar_some_from_rules(
        &mut self,
        turn: &mut Turn<'_>,
        asked: impl Iterator<Item = Pid>,
        barred: &HashSet<Pid>,
    ) {
        for pid in asked {
            if !barred.contains(&pid) {
                self.barred.remove(&pid);
            } else if self.barred.insert(pid) {
                self.expel_from_rules(turn, pid);
            }
        }
    }

    fn expel_from_rules(&mut self, turn: &mut Turn<'_>, pid: Pid) {
        if let Some(worker) = self.registry.worker_of(pid).filter(|worker| self.is_by_rule(*worker)) {
            self.expel(turn, worker, pid);
        }
    }

    /// Whether a process of a worker acts for another user, as a set-user-id program does. Asked by its pidfd.
    pub(in crate::agent) fn acts_for_another(&self, worker: WorkerId, pid: Pid, accounts: &Accounts) -> bool {
        let Some(entry) = self.registry.get(worker) else { return false };
        let mut members = entry.members.iter().filter(|member| member.process.pid() == pid);
        members.any(|member| {
            member.process.uids(&self.procfs).is_ok_and(|uids| accounts.acts_for_another(&uids))
        })
    }

    /// A process is no part of its worker any more, and lives on.
    pub(in crate::agent) fn expel(&mut self, turn: &mut Turn<'_>, worker: WorkerId, pid: Pid) {
        let member = |entry: &registry::WorkerProcesses| {
            entry.members.iter().find(|member| member.process.pid() == pid).map(|found| found.process.clone())
        };
        match self.registry.get(worker).and_then(member) {
            Some(process) => self.let_leave(&process),
            None => self.let_leave_without_pidfd(turn, worker, pid),
        }
        tracing::info!(%worker, %pid, "a protected process leaves this worker");
        self.leave(turn, worker, pid);
    }
}
