//! The answer to `register`: whether the caller may, what becomes of the process, and of a launcher that comes back.

use super::changes::become_idle;
use crate::agent::domains::Domains;
use crate::agent::killing::previous_agent::PreviousAgent;
use crate::agent::reports::Reports;
use crate::agent::rules::RuleBook;
use crate::agent::turn::Turn;
use crate::agent::watchdog::Watchdog;
use crate::agent::workers::registry::NotTaken;
use crate::agent::workers::{Enrollment, Workers};
use crate::control::protocol::{KindName, NAME_MOST, Refusal, RefusalCode, Register, Registered};
use crate::control::request::Peer;
use crate::engine::Event;
use crate::kernel::hook::Told;
use crate::kill::{OpenError, Process};
use crate::memory::{CgroupPath, ReadError};
use crate::units::Pid;
use crate::worker::{Kind, Times, WorkerId};

/// The components that a registration concerns.
pub(in crate::agent) struct Registrar<'a> {
    pub(in crate::agent) domains: &'a mut Domains,
    pub(in crate::agent) workers: &'a mut Workers,
    pub(in crate::agent) previous_agent: &'a mut PreviousAgent,
    pub(in crate::agent) watchdog: Option<&'a Watchdog>,
    pub(in crate::agent) reports: &'a Reports,
    pub(in crate::agent) rules: &'a mut RuleBook,
    /// What the kernel tells of processes.
    pub(in crate::agent) kernel: Told,
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
        let pid = register.pid;
        let process = Process::open(&procfs, pid, Some(register.start_time)).map_err(of_open)?;
        let uid = process.uid(&procfs).map_err(of_open)?;
        let caller = peer.uid;
        if caller != 0 && uid != Some(caller) {
            return Err(not_yours(pid, caller));
        }
        if caller != 0
            && let Some(rule) = self.rules.protection_of(pid)
        {
            let message = format!("process {pid} is protected by rule {rule}: only root may register it");
            return Err(Refusal::new(RefusalCode::Denied, Some("op.register.pid"), message));
        }
        if let Some(worker) = self.workers.registry.worker_of(pid)
            && self.workers.registry.get(worker).is_some_and(|entry| entry.root == pid)
        {
            if !self.workers.is_by_rule(worker) || turn.engine.in_flight(worker) {
                return self.take_over(turn, peer, worker, &register);
            }
            // A registration wins over a rule.
            self.rules.forget(worker);
            if let Some(watchdog) = self.watchdog {
                watchdog.unname(worker);
            }
            self.workers.give_up(turn, worker);
        }
        let outer = self.workers.outer_of(self.kernel, pid);
        if let Some(outer) = outer
            && caller != 0
            && !self.workers.is_by_rule(outer)
            && turn.engine.owner_uid(outer) != Some(caller)
        {
            let message = format!("process {pid} is part of another user's worker, and dies with it");
            return Err(Refusal::new(RefusalCode::Denied, Some("op.register.pid"), message));
        }
        let uid = uid.unwrap_or(0);
        let busy = |why| Refusal::new(RefusalCode::Busy, None, why);
        self.workers.registry.room_for_worker(uid).map_err(busy)?;
        let (cgroup, notice) = match self.domains.cgroup_of(pid) {
            Ok(cgroup) => (cgroup, None),
            // It is no job's fault where the agent's hierarchy is mounted from.
            Err(error @ ReadError::Outside { .. }) => (None, Some(self.without_cgroup(uid, &error))),
            Err(error) => return Err(of_read(pid, &error)),
        };
        self.domains.guard_around(turn, cgroup.as_ref(), uid).map_err(busy)?;
        let domains = self.domains.charged_by(cgroup.as_ref());
        let notice = notice.or_else(|| domains.is_empty().then(|| not_guarded(cgroup.as_ref())));
        if let Some(outer) = outer {
            if let Some(watchdog) = self.watchdog {
                watchdog.unname(outer);
            }
            self.workers.leave(turn, outer, pid);
        }
        let of =
            if register.detached { None } else { self.owning(turn, outer, register.owner.as_deref(), uid) };
        let Register { owner, name, attempt, start_time, idle, priority, memory, worker: had, .. } = register;
        let enrollment =
            Enrollment { uid, registered_by: caller, told: Some(peer), start_time, had, idle, cgroup };
        if self.workers.comes_back(&enrollment) {
            self.previous_agent.has_one_back(turn, &procfs);
        }
        let enrolled = process.clone();
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
        if new.begins_block {
            self.reports.note_numbers(new.worker);
        }
        // It may have executed a set-user-id program since it was looked at. From here on each signal asks again.
        let worker = new.worker;
        if caller != 0 && enrolled.uid(&procfs).map_err(of_open)? != Some(caller) {
            turn.tell(Event::Unregistered { worker });
            return Err(not_yours(pid, caller));
        }
        if let Some(by) = of {
            turn.tell(Event::Owned { worker, by });
        }
        Ok(Registered { worker, in_process: self.previous_agent.is_in_process(), notice })
    }

    /// The worker that a new one ends with: the one it was part of, or the one that it names as its owner. Only of the same
    /// user: nobody's end is to end another's worker.
    fn owning(
        &self,
        turn: &Turn<'_>,
        outer: Option<WorkerId>,
        owner: Option<&str>,
        uid: u32,
    ) -> Option<WorkerId> {
        let named = || owner.and_then(|owner| owner.parse().ok());
        outer.or_else(named).filter(|owner| turn.engine.owner_uid(*owner) == Some(uid))
    }

    /// What is said of a worker whose cgroup the agent cannot see.
    fn without_cgroup(&self, uid: u32, error: &ReadError) -> String {
        let guard = if self.domains.charged_by(None).is_empty() { "nothing" } else { "the node alone" };
        let notice = format!("{error}: {guard} guards this worker, no limit of a cgroup does");
        if crate::diagnostics::says(Some(uid)) {
            tracing::warn!("{notice}");
        }
        notice
    }

    /// A launcher lost the connection and came back. Whose process it is now was checked.
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

/// Names are in every note, answer and report, and in locked memory.
fn short(field: &'static str, text: Option<&str>) -> Result<(), Refusal> {
    match text.map(str::len) {
        Some(length) if length > NAME_MOST => {
            let message = format!("{length} bytes are too long: at most {NAME_MOST}");
            Err(Refusal::new(RefusalCode::Invalid, Some(field), message))
        }
        _ => Ok(()),
    }
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

fn not_yours(pid: Pid, caller: u32) -> Refusal {
    let message =
        format!("process {pid} is not yours: you may register processes of your own uid ({caller}) only");
    Refusal::new(RefusalCode::Denied, Some("op.register.pid"), message)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn of_open(error: OpenError) -> Refusal {
    let (code, field) = match &error {
        OpenError::Gone(_) => (RefusalCode::NotFound, "op.register.pid"),
        OpenError::Another { .. } => (RefusalCode::NotFound, "op.register.start_time"),
        OpenError::Never { .. } => (RefusalCode::Denied, "op.register.pid"),
        OpenError::Broken { .. } => (RefusalCode::Failed, "op.register.pid"),
    };
    let hint = match &error {
        // No caller has one, and none would ask for one.
        OpenError::Never { what: "a kernel thread", .. } => {
            "; the caller is in another pid namespace than the agent, where that number is another process"
        }
        OpenError::Another { .. } => ", or the caller is in another pid namespace than the agent",
        OpenError::Never { .. } | OpenError::Gone(_) | OpenError::Broken { .. } => "",
    };
    Refusal::new(code, Some(field), format!("{error}{hint}"))
}

fn of_read(pid: Pid, error: &ReadError) -> Refusal {
    let code = if error.is_gone() { RefusalCode::NotFound } else { RefusalCode::Failed };
    Refusal::new(
        code,
        Some("op.register.pid"),
        format!("cannot tell which memory process {pid} charges: {error}"),
    )
}
