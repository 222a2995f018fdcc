//! The answer to `register`: whether the caller may, what becomes of the process, and of a launcher that comes back.

use super::refuse;
use crate::agent::event_loop::clock;
use crate::agent::shell::Shell;
use crate::agent::workers::members::Claim;
use crate::agent::workers::registry::NotTaken;
use crate::control::protocol::{KindName, Refusal, RefusalCode, Register, Registered};
use crate::control::request::Peer;
use crate::engine::{Event, Seen};
use crate::kill::{OpenError, Process};
use crate::memory::ReadError;
use crate::units::Pid;
use crate::worker::{Kind, Times, WorkerId};

impl Shell {
    pub(super) fn register(&mut self, peer: Peer, register: Register) -> Result<Registered, Refusal> {
        let kind = kind(&register)?;
        let roots = self.domains.roots().clone();
        let pid = register.pid;
        let process = Process::open(&roots.procfs, pid, Some(register.start_time)).map_err(of_open)?;
        let uid = process.uid(&roots.procfs).map_err(of_open)?;
        let caller = peer.uid;
        if caller != 0 && uid != Some(caller) {
            return Err(not_yours(pid, caller));
        }
        if let Some(worker) = self.registry.worker_of(pid)
            && self.registry.get(worker).is_some_and(|entry| entry.root == pid)
        {
            return self.take_over(peer, worker, &register);
        }
        let outer = self.outer_of(pid);
        if let Some(outer) = outer
            && peer.uid != 0
            && self.engine.owner_uid(outer) != Some(peer.uid)
        {
            let message = format!("process {pid} is part of another user's worker and dies with it");
            return Err(refuse(RefusalCode::Denied, Some("op.register.pid"), message));
        }
        let uid = uid.unwrap_or(0);
        let busy = |why| refuse(RefusalCode::Busy, None, why);
        self.registry.room_for_worker(uid).map_err(busy)?;
        let (cgroup, notice) = match self.domains.cgroup_of(pid) {
            Ok(cgroup) => (cgroup, None),
            // It is no job's fault where the agent's hierarchy is mounted from.
            Err(error @ ReadError::Outside { .. }) => (None, Some(self.without_cgroup(&error))),
            Err(error) => return Err(of_read(pid, &error)),
        };
        self.guard_around(cgroup.as_ref(), uid).map_err(busy)?;
        let domains = self.domains.charged_by(cgroup.as_ref());
        if let Some(outer) = outer {
            self.leave(outer, pid);
        }
        let Register { owner, name, attempt, start_time, idle, worker: claimed, .. } = register;
        let enrolled = process.clone();
        let claim = Claim { uid, start_time, worker: claimed, idle };
        let worker = self.enroll(process, peer, &claim, cgroup, |worker| Event::Registered {
            worker,
            pid,
            uid,
            kind,
            owner,
            name,
            attempt,
            domains,
        });
        // It may have executed a set-user-id program since it was looked at. From here on each signal asks again.
        if caller != 0 && enrolled.uid(&roots.procfs).map_err(of_open)? != Some(caller) {
            self.happen(Event::Unregistered { worker });
            return Err(not_yours(pid, caller));
        }
        Ok(Registered { worker, notice })
    }

    /// What is said of a worker whose cgroup the agent cannot see.
    fn without_cgroup(&self, error: &ReadError) -> String {
        let guard = if self.domains.charged_by(None).is_empty() { "nothing" } else { "the node alone" };
        let notice = format!("{error}: {guard} guards this worker, no limit of a cgroup does");
        tracing::warn!("{notice}");
        notice
    }

    /// A launcher lost the connection and came back. Whose process it is now was checked.
    fn take_over(
        &mut self,
        peer: Peer,
        worker: WorkerId,
        register: &Register,
    ) -> Result<Registered, Refusal> {
        let pid = register.pid;
        let (code, message) = match self.registry.take_over(worker, peer) {
            Ok(()) => {
                self.become_idle(worker, register.idle);
                return Ok(Registered { worker, notice: None });
            }
            Err(NotTaken::Connected) => {
                (RefusalCode::Duplicate, format!("process {pid} is registered already, as {worker}"))
            }
            Err(NotTaken::Anothers) => {
                (RefusalCode::Denied, format!("process {pid} was registered as another user's"))
            }
        };
        Err(refuse(code, Some("op.register.pid"), message))
    }

    /// A process that was part of a worker becomes one of its own: a nested launch.
    pub(in crate::agent) fn leave(&mut self, outer: WorkerId, pid: Pid) {
        self.unname(outer);
        self.registry.remove_member(outer, pid);
        let seen = Seen::Gone;
        self.happen(Event::Ended { worker: outer, pid, seen, status: None, at: clock::now() });
    }

    /// A connection is closed.
    pub(in crate::agent) fn hang_up(&mut self, connection: u64) {
        self.watchers.remove(connection);
        self.registry.disconnected(connection);
    }
}

fn kind(register: &Register) -> Result<Kind, Refusal> {
    /// Ray's default.
    const MAX_RETRIES: Times = Times::AtMost(3);
    let misplaced = |field: &'static str, kind: &str| {
        Err(refuse(RefusalCode::Invalid, Some(field), format!("{field} does not go with kind {kind}")))
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
        format!("process {pid} is not yours: a caller may register processes of its own uid ({caller}) only");
    refuse(RefusalCode::Denied, Some("op.register.pid"), message)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn of_open(error: OpenError) -> Refusal {
    let (code, field) = match &error {
        OpenError::Gone(_) | OpenError::Zombie(_) => (RefusalCode::NotFound, "op.register.pid"),
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
        OpenError::Never { .. } | OpenError::Gone(_) | OpenError::Zombie(_) | OpenError::Broken { .. } => "",
    };
    refuse(code, Some(field), format!("{error}{hint}"))
}

fn of_read(pid: Pid, error: &ReadError) -> Refusal {
    let code = if error.is_gone() { RefusalCode::NotFound } else { RefusalCode::Failed };
    refuse(code, Some("op.register.pid"), format!("cannot tell which memory process {pid} charges: {error}"))
}
