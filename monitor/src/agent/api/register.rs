//! The answer to `register`: whether the caller may, what becomes of the process, and of a launcher that comes back.

use super::changes::become_idle;
use crate::agent::domains::Domains;
use crate::agent::killing::previous_agent::PreviousAgent;
use crate::agent::refusals::{not_yours, of_open, of_read, owning, short};
use crate::agent::reports::Reports;
use crate::agent::rules::RuleBook;
use crate::agent::starts::Starts;
use crate::agent::turn::Turn;
use crate::agent::watchdog::Watchdog;
use crate::agent::workers::registry::NotTaken;
use crate::agent::workers::{Enrollment, Workers};
use crate::control::protocol::{KindName, Refusal, RefusalCode, Register, Registered};
use crate::control::request::Peer;
use crate::engine::Event;
use crate::kernel::hook::Told;
use crate::kill::Process;
use crate::memory::{CgroupPath, ReadError};
use crate::worker::{Kind, LastTask, Times, WorkerId};

/// The components that a registration concerns.
pub(in crate::agent) struct Registrar<'a> {
    pub(in crate::agent) domains: &'a mut Domains,
    pub(in crate::agent) workers: &'a mut Workers,
    pub(in crate::agent) previous_agent: &'a mut PreviousAgent,
    pub(in crate::agent) watchdog: &'a Watchdog,
    pub(in crate::agent) reports: &'a Reports,
    pub(in crate::agent) rules: &'a mut RuleBook,
    pub(in crate::agent) starts: &'a mut Starts,
    /// What the kernel tells of processes.
    pub(in crate::agent) kernel: Told,
}

/// Where a new worker comes in, when nothing refuses it.
struct Place {
    /// Its user.
    uid: u32,
    /// The worker that a rule made of the process: it makes room.
    by_rule: Option<WorkerId>,
    /// The worker that the process is part of.
    outer: Option<WorkerId>,
    /// What it charges.
    cgroup: Option<CgroupPath>,
    /// What the caller is to know.
    notice: Option<String>,
}

impl Registrar<'_> {
    /// Whether the caller may, and what becomes of the process. A new worker's descendants are with it.
    pub(in crate::agent) fn register(
        &mut self,
        turn: &mut Turn<'_>,
        peer: Peer,
        register: Register,
    ) -> Result<Registered, Refusal> {
        let kind = kind(&register)?;
        short("op.register.name", register.name.as_deref())?;
        short("op.register.owner", register.owner.as_deref())?;
        if peer.uid != 0 && register.priority > 0 {
            return Err(Refusal::new(
                RefusalCode::Denied,
                Some("op.register.priority"),
                format!("only root may raise a priority: {} is above 0", register.priority),
            ));
        }
        let procfs = self.workers.procfs().to_owned();
        let (pid, caller) = (register.pid, peer.uid);
        let refused = |error| of_open("op.register", error);
        let process = Process::open(&procfs, pid, Some(register.start_time)).map_err(refused)?;
        let uid = process.uid(&procfs).map_err(refused)?;
        if caller != 0 && uid != Some(caller) {
            return Err(not_yours("op.register.pid", pid, caller));
        }
        if caller != 0
            && let Some(rule) = self.rules.protection_of(pid)
        {
            let message = format!("process {pid} is protected by rule {rule}: only root may register it");
            return Err(Refusal::new(RefusalCode::Denied, Some("op.register.pid"), message));
        }
        let present = self.workers.registry.worker_of(pid);
        let present = present.filter(|present| self.workers.is_root_of(*present, pid));
        match present {
            Some(worker) if !self.workers.is_by_rule(worker) || turn.engine.is_victim(worker) => {
                self.take_over(turn, peer, worker, &register)
            }
            // A registration wins over a rule.
            by_rule => {
                let place = self.place(turn, caller, &process, uid.unwrap_or(0), by_rule)?;
                Ok(self.enroll(turn, peer, register, (kind, process), place))
            }
        }
    }

    /// All that can refuse a process that is to be a new worker. Nothing has happened to any worker when it is refused.
    fn place(
        &mut self,
        turn: &mut Turn<'_>,
        caller: u32,
        process: &Process,
        uid: u32,
        by_rule: Option<WorkerId>,
    ) -> Result<Place, Refusal> {
        let pid = process.pid();
        let outer = self.workers.outer_of(self.kernel, pid, by_rule);
        if let Some(outer) = outer
            && caller != 0
            && !self.workers.is_by_rule(outer)
            && turn.engine.owner_uid(outer) != Some(caller)
        {
            let message = format!("process {pid} is part of another user's worker, and dies with it");
            return Err(Refusal::new(RefusalCode::Denied, Some("op.register.pid"), message));
        }
        let busy = |why| Refusal::new(RefusalCode::Busy, None, why);
        self.workers.registry.room_for_worker(uid, by_rule).map_err(busy)?;
        let (cgroup, notice) = match self.domains.cgroup_of(pid) {
            Ok(cgroup) => (cgroup, None),
            // A job cannot help where the agent's hierarchy is mounted from.
            Err(error @ ReadError::Outside { .. }) => (None, Some(self.without_cgroup(uid, &error))),
            Err(error) => return Err(of_read("op.register.pid", pid, &error)),
        };
        // It may have executed a set-user-id program since it was looked at. From here on each signal asks again.
        if caller != 0 {
            match process.uid(self.workers.procfs()) {
                Ok(uid) if uid == Some(caller) => {}
                Ok(_) => return Err(not_yours("op.register.pid", pid, caller)),
                Err(error) => return Err(of_open("op.register", error)),
            }
        }
        // Last: the domains around it are there from now on.
        self.domains.guard_around(turn, cgroup.as_ref(), uid).map_err(busy)?;
        Ok(Place { uid, by_rule, outer, cgroup, notice })
    }

    /// The process becomes a worker: it was checked, and nothing refuses it any more.
    fn enroll(
        &mut self,
        turn: &mut Turn<'_>,
        peer: Peer,
        register: Register,
        (kind, process): (Kind, Process),
        place: Place,
    ) -> Registered {
        let Place { uid, by_rule, outer, cgroup, notice } = place;
        let (pid, caller) = (process.pid(), peer.uid);
        if let Some(by_rule) = by_rule {
            self.rules.forget(by_rule);
            self.watchdog.unname(by_rule);
            self.workers.give_up(turn, by_rule);
        }
        if let Some(outer) = outer {
            self.watchdog.unname(outer);
            self.workers.leave(turn, outer, pid);
        }
        let domains = self.domains.charged_by(cgroup.as_ref());
        let notice = notice.or_else(|| domains.is_empty().then(|| not_guarded(cgroup.as_ref())));
        let of =
            if register.detached { None } else { owning(turn.engine, outer, register.owner.as_deref(), uid) };
        let last_task = register.last_task;
        let Register { owner, name, attempt, start_time, idle, priority, memory, worker: had, .. } = register;
        let begun = had.filter(|had| self.starts.is_of(*had, caller) && turn.engine.start_of(*had).is_some());
        if let Some(begun) = begun {
            self.starts.became(begun);
        }
        let enrollment =
            Enrollment { uid, registered_by: caller, told: Some(peer), start_time, had, begun, idle, cgroup };
        if self.workers.comes_back(&enrollment) {
            let procfs = self.workers.procfs().to_owned();
            self.previous_agent.has_one_back(turn, &procfs);
        }
        let new = self.workers.enroll(turn, self.domains, process, enrollment, |worker| Event::Registered {
            worker,
            pid,
            uid,
            kind,
            owner,
            name,
            attempt,
            domains,
            priority,
            memory_declared: memory,
        });
        if let Some(block) = new.begins {
            self.reports.note_numbers(block);
        }
        let worker = new.worker;
        if last_task != LastTask::default() {
            turn.tell(Event::LastTask { worker, last_task });
        }
        if let Some(by) = of {
            turn.tell(Event::Owned { worker, by });
        }
        Registered { worker, in_process: self.previous_agent.is_in_process(), notice }
    }

    /// The notice for a worker in a cgroup that the agent cannot see.
    fn without_cgroup(&self, uid: u32, error: &ReadError) -> String {
        let guard = if self.domains.charged_by(None).is_empty() { "nothing" } else { "the node alone" };
        let notice = format!("{error}: {guard} guards this worker, no limit of a cgroup does");
        if crate::diagnostics::says(Some(uid)) {
            tracing::warn!("{notice}");
        }
        notice
    }

    /// A launcher lost the connection and came back. The present user of its process was checked.
    fn take_over(
        &mut self,
        turn: &mut Turn<'_>,
        peer: Peer,
        worker: WorkerId,
        register: &Register,
    ) -> Result<Registered, Refusal> {
        let pid = register.pid;
        let (code, message) = match self.workers.registry.take_over(worker, peer) {
            Ok(()) => {
                become_idle(turn, worker, register.idle);
                let in_process = self.previous_agent.is_in_process();
                return Ok(Registered { worker, in_process, notice: None });
            }
            Err(NotTaken::Connected) => {
                (RefusalCode::Duplicate, format!("process {pid} is registered already, as {worker}"))
            }
            Err(NotTaken::Anothers) => {
                (RefusalCode::Denied, format!("another user registered process {pid}"))
            }
        };
        Err(Refusal::new(code, Some("op.register.pid"), message))
    }
}

/// What is said of a worker that is in nothing that the agent guards. Not in the log: the agent was told to guard no more.
fn not_guarded(cgroup: Option<&CgroupPath>) -> String {
    let place = cgroup.map_or_else(String::new, |cgroup| format!(" (it is in cgroup {cgroup})"));
    format!(
        "the agent guards no memory that this worker uses{place}, and never kills it for memory: run it inside a guarded \
         cgroup (monitor status lists them), or start the agent with --node"
    )
}

fn kind(register: &Register) -> Result<Kind, Refusal> {
    /// Ray's default.
    const MAX_RETRIES: Times = Times::AtMost(3);
    let misplaced = |field: &'static str, kind: &str| {
        Err(Refusal::new(RefusalCode::Invalid, Some(field), format!("{field} does not apply to kind {kind}")))
    };
    match (register.kind, register.max_retries, register.max_restarts) {
        (KindName::Task, _, Some(_)) => misplaced("op.register.max_restarts", "task"),
        (KindName::Actor, Some(_), _) => misplaced("op.register.max_retries", "actor"),
        (KindName::Task, max_retries, None) => {
            Ok(Kind::Task { max_retries: max_retries.unwrap_or(MAX_RETRIES) })
        }
        (KindName::Actor, None, max_restarts) => {
            Ok(Kind::Actor { max_restarts: max_restarts.unwrap_or(Times::AtMost(0)) })
        }
    }
}
