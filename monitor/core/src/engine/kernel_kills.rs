//! Kills by the kernel's own out-of-memory killer (docs/behavior.md#killed-by-the-kernel). The engine did not order
//! them: it learns that the kernel chose a process, waits for its end, and then lists, reports and counts it like its
//! own kill.

use alloc::collections::VecDeque;
use core::time::Duration;

use super::kills::tell_victims;
use super::worker::{Life, Worker};
use super::{Action, DomainId, Engine, KillId, KillRecord, Times, Trigger, VictimRecord};
use crate::policy::Roster;
use crate::prelude::*;
use crate::retry::KilledBy;
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// How long no other worker is killed in the innermost domain of the kernel's victim: its memory is on its way back.
const HOLD: Duration = Duration::from_millis(100);

/// How often that may happen: a user can make the kernel kill in a cgroup of its own again and again.
const HOLD_EVERY: Duration = Duration::from_secs(1);

/// In place of a domain's name where none is guarded.
const UNGUARDED: &str = "unguarded memory";

/// SIGKILL, in the low bits of a wait(2) status.
const SIGKILL: u32 = 9;

/// What a shell makes of a child that died of SIGKILL, in the high bits.
const AS_A_SHELL_SAYS: u32 = 128 + SIGKILL;

/// Whether a wait(2) status can be the effect of SIGKILL to the process or to a child of it.
fn killed(status: u32) -> bool {
    status & 0x7f == SIGKILL || (status & 0x7f == 0 && (status >> 8) & 0xff == AS_A_SHELL_SAYS)
}

/// Whether a death of it can be the kernel's doing: it is no victim of ours, and was not counted before.
fn is_the_kernels(worker: &Worker) -> bool {
    matches!(worker.life, Life::Running | Life::Refused { .. }) && worker.killed_by_kernel.is_none()
}

impl Engine {
    /// The kernel chose a process of a worker. It may choose one that is dying already: a victim of ours stays ours.
    pub(super) fn oom_victim(
        &mut self,
        id: WorkerId,
        pid: Pid,
        at: Nanos,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !is_the_kernels(worker) {
            return;
        }
        if worker.oom_victim.is_none_or(|(known, _)| known != worker.pid) {
            worker.oom_victim = Some((pid, at));
        }
        let Some(innermost) = worker.domains.first().copied() else { return };
        let Some(domain) = self.domains.get_mut(&innermost) else { return };
        let due = domain.kernel_killed.is_none_or(|last| now.since(last) >= HOLD_EVERY);
        if due {
            domain.kernel_killed = Some(now);
            domain.quiet_until = domain.quiet_until.max(now.after(HOLD));
        }
        todo.push_back(Action::Read(innermost));
    }

    /// The registered process of a worker ended: if the kernel chose it, or a child that it reports the death of, this
    /// was a kill for memory. If the status of an end is not known, the choice alone decides.
    pub(super) fn count_kernel_kill(
        &mut self,
        id: WorkerId,
        pid: Pid,
        at: Nanos,
        now: Nanos,
        todo: &mut VecDeque<Action>,
    ) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some((chosen, signal)) = worker.oom_victim else { return };
        let by_the_kernel = match worker.status {
            Some(status) => killed(status),
            None => chosen == pid,
        };
        if pid != worker.pid || !is_the_kernels(worker) || !by_the_kernel {
            return;
        }
        self.last_kill = KillId(self.last_kill.0 + 1);
        worker.killed_by_kernel = Some(self.last_kill);
        let fullest = self.fullest(id);
        let Some(mut record) = self.kernel_kill(id, fullest, chosen) else { return };
        record.times = Times { signal: Some(signal), dead: Some(at), ..Times::default() };
        self.counters.killed_by_kernel += 1;
        tell_victims(&record, signal, false, todo);
        let kill = record.id;
        self.remember(record);
        todo.push_back(Action::Record(kill));
        match fullest.and_then(|fullest| self.domains.get_mut(&fullest)) {
            // A reading that comes anyway shows what it brought: now its memory is not back yet.
            Some(domain) => {
                let before = domain.after_kill.replace(kill);
                let told = before.and_then(|before| self.over(before, None, now));
                todo.extend(told.map(Action::Note));
            }
            None => todo.extend(self.over(kill, None, now).map(Action::Note)),
        }
        self.shift(now, todo);
    }

    /// The domain that ran out, as far as is known: of those that the worker charges the fullest, the innermost of equals.
    fn fullest(&self, worker: WorkerId) -> Option<DomainId> {
        let share = |id: &DomainId| {
            let domain = self.domains.get(id)?;
            let usage = domain.usage()?;
            let used = domain.estimate().map_or(usage.used, |estimate| estimate.max(usage.used));
            Some(u128::from(used.0) * 1000 / u128::from(usage.total.0.max(1)))
        };
        let charged = &self.workers.get(&worker)?.domains;
        let known = charged.iter().filter_map(|id| Some((share(id)?, *id)));
        // The first of equals: `max_by_key` takes the last.
        known.rev().max_by_key(|(share, _)| *share).map(|(_, id)| id).or(charged.first().copied())
    }

    /// The workers whose memory no guarded domain counts, as if they were in one together.
    fn unguarded(&self) -> Roster {
        let mut roster = self.settings.roster();
        for worker in self.workers.values().filter(|worker| worker.domains.is_empty()) {
            roster.insert(worker.candidate.clone());
        }
        roster
    }

    fn kernel_kill(&self, id: WorkerId, domain: Option<DomainId>, chosen: Pid) -> Option<KillRecord> {
        let worker = self.workers.get(&id)?;
        let domain = domain.and_then(|domain| self.domains.get(&domain));
        let usage = domain.and_then(|domain| domain.usage());
        let known = |of: fn(crate::threshold::Usage) -> Bytes| usage.map(of).unwrap_or_default();
        let why = if chosen == worker.pid {
            "the kernel's own out-of-memory killer chose it".to_owned()
        } else {
            format!(
                "the kernel's own out-of-memory killer chose process {chosen} of it, and it ended with that"
            )
        };
        let retry = match domain {
            Some(domain) => domain.roster.would_retry(&worker.candidate, usage),
            None => self.unguarded().would_retry(&worker.candidate, None),
        };
        Some(KillRecord {
            id: self.last_kill,
            at: None,
            by: KilledBy::Kernel,
            domain: domain.map_or_else(|| UNGUARDED.to_owned(), |domain| domain.name.clone()),
            policy: String::new(),
            trigger: Trigger::Kernel,
            victims: vec![VictimRecord { observed: false, ..worker.described(retry, why) }],
            others: 0,
            used: known(|usage| usage.used),
            threshold: known(|usage| usage.threshold),
            total: known(|usage| usage.total),
            times: Times::default(),
            confirmed: true,
            memory_late: false,
            cgroup_kill: None,
            dry_run: false,
            refused: None,
            stuck: Vec::new(),
            grown: None,
            left_to: None,
            used_after: None,
            others_ended: false,
        })
    }
}
