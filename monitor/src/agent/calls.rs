//! The answers to the control socket's calls. Each names the field that is at fault; none takes long.

use serde::Serialize;
use serde_json::Value;

use super::clock;
use super::core::{Counters, DomainView, Event, KillId};
use super::shell::Shell;
use super::survival::{self, Step};
use crate::control::protocol::{KindName, Op, Refusal, RefusalCode, Register, Registered};
use crate::control::request::Peer;
use crate::journal::JournalView;
use crate::kernel::drops::CpuDrops;
use crate::kernel::probe::Probe;
use crate::kill::{OpenError, Process};
use crate::memory::ReadError;
use crate::report::Report;
use crate::units::{Nanos, Pid};
use crate::worker::{Kind, Times, WorkerId};

/// The answer to `status`.
#[derive(Debug, Serialize)]
struct Status<'a> {
    version: &'static str,
    pid: u32,
    now: Nanos,
    uptime_ms: u64,
    policy: &'a str,
    refresh_ms: u64,
    kills: bool,
    dry_run: bool,
    /// See [`Shell::protects`].
    protects: bool,
    survival: Vec<Step>,
    probes: &'a [Probe],
    domains: Vec<DomainView>,
    workers: usize,
    kills_in_flight: usize,
    /// The CPUs that could not deliver something, and what.
    drops: Vec<CpuDrops>,
    brake: super::brake::BrakeView,
    counters: Counters,
    faults: super::faults::Faults,
    journal: Option<JournalView>,
}

impl Shell {
    /// Answers a call.
    pub(super) fn answer(&mut self, peer: Peer, op: Op) -> Result<Value, Refusal> {
        match op {
            Op::Register(register) => self.register(peer, register).and_then(json),
            Op::Unregister { worker } => self.unregister(&peer, worker).and_then(json),
            Op::Status => json(self.status()),
            Op::Metrics => json(self.metrics()),
            Op::Workers => json(self.core.workers()),
            Op::Explain { domain } => {
                let explanation = self.core.explain(domain.as_deref()).ok_or_else(|| {
                    let names: Vec<String> =
                        self.core.domains().into_iter().map(|view| view.domain).collect();
                    refuse(
                        RefusalCode::NotFound,
                        Some("op.explain.domain"),
                        format!("no such domain is guarded; there are: {}", names.join(", ")),
                    )
                })?;
                json(explanation)
            }
            Op::Kills => json(self.core.kills()),
            Op::Report { kill } => self.report(kill).and_then(json),
            Op::Watch => {
                self.watchers.add(peer);
                Ok(Value::Null)
            }
        }
    }

    /// Above its threshold a domain is relieved: killing is on, and the drill showed that it works.
    pub(super) fn protects(&self) -> bool {
        let settings = self.core.settings();
        settings.kills() && !settings.dry_run && survival::can_kill()
    }

    fn status(&self) -> Status<'_> {
        let settings = self.core.settings();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            now: clock::now(),
            uptime_ms: u64::try_from(clock::now().since(self.started).as_millis()).unwrap_or(u64::MAX),
            policy: settings.policy.as_str(),
            refresh_ms: settings.refresh_ms,
            kills: settings.kills(),
            dry_run: settings.dry_run,
            protects: self.protects(),
            survival: survival::steps(),
            probes: self.probes(),
            domains: self.core.domains(),
            workers: self.registry.len(),
            kills_in_flight: self.core.kills_in_flight(),
            drops: self.drops_by_cpu(),
            brake: self.brake_view(),
            counters: self.core.counters(),
            faults: self.troubles.faults(),
            journal: self.reports.journal(),
        }
    }

    fn report(&self, kill: u64) -> Result<Report, Refusal> {
        self.reports.get(KillId(kill)).cloned().ok_or_else(|| {
            let message = if self.core.kill(KillId(kill)).is_some_and(|record| !record.confirmed) {
                format!("kill {kill} is not over, or its report is not complete yet")
            } else {
                format!("this agent has no report of kill {kill}; an older one is in its journal")
            };
            refuse(RefusalCode::NotFound, Some("op.report.kill"), message)
        })
    }

    /// The CPUs that lost something.
    pub(super) fn drops_by_cpu(&self) -> Vec<CpuDrops> {
        let all =
            self.programs.as_ref().and_then(|programs| programs.drops.by_cpu().ok()).unwrap_or_default();
        let some = |cpu: &CpuDrops| cpu.usage + cpu.exit + cpu.fork + cpu.stopped + cpu.lineage > 0;
        all.into_iter().filter(some).collect()
    }

    fn register(&mut self, peer: Peer, register: Register) -> Result<Registered, Refusal> {
        let kind = kind(&register)?;
        let roots = self.domains.roots().clone();
        let pid = register.pid;
        let process = Process::open(&roots.procfs, pid, Some(register.start_time)).map_err(of_open)?;
        let uid = process.uid(&roots.procfs).map_err(of_open)?;
        if peer.uid != 0 && uid != Some(peer.uid) {
            return Err(refuse(
                RefusalCode::Denied,
                Some("op.register.pid"),
                format!(
                    "process {pid} is not yours: a caller may register processes of its own uid ({}) only",
                    peer.uid
                ),
            ));
        }
        if let Some(worker) = self.registry.worker_of(pid)
            && self.registry.get(worker).is_some_and(|entry| entry.root == pid)
        {
            // Its launcher lost the connection and came back. Whose process it is was checked above.
            if self.registry.take_over(worker, peer) {
                return Ok(Registered { worker });
            }
            let message = format!("process {pid} is registered already, as {worker}");
            return Err(refuse(RefusalCode::Duplicate, Some("op.register.pid"), message));
        }
        self.guard_around(pid);
        let domains = self.domains.charged_by(pid).map_err(|error| of_read(pid, &error))?;
        if let Some(outer) = self.registry.worker_of(pid) {
            self.leave(outer, pid);
        }
        let Register { owner, name, attempt, start_time, .. } = register;
        let worker = self.enroll(process, peer, start_time, |worker| Event::Registered {
            worker,
            pid,
            uid: uid.unwrap_or(0),
            kind,
            owner,
            name,
            attempt,
            domains,
        });
        Ok(Registered { worker })
    }

    /// A process that was part of a worker becomes one of its own: a nested launch.
    fn leave(&mut self, outer: WorkerId, pid: Pid) {
        self.registry.remove_member(outer, pid);
        let seen = super::core::Seen::Gone;
        self.happen(Event::Ended { worker: outer, pid, seen, status: None, at: clock::now() });
    }

    /// A connection is closed.
    pub(super) fn hang_up(&mut self, connection: u64) {
        self.watchers.remove(connection);
        self.registry.disconnected(connection);
    }

    fn unregister(&mut self, peer: &Peer, worker: WorkerId) -> Result<(), Refusal> {
        let field = Some("op.unregister.worker");
        let Some(uid) = self.core.owner_uid(worker) else {
            return Err(refuse(RefusalCode::NotFound, field, format!("there is no worker {worker}")));
        };
        if peer.uid != 0 && peer.uid != uid {
            return Err(refuse(RefusalCode::Denied, field, format!("{worker} is not yours")));
        }
        self.happen(Event::Unregistered { worker });
        Ok(())
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

fn json(value: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|error| refuse(RefusalCode::Failed, None, error.to_string()))
}

fn refuse(code: RefusalCode, field: Option<&str>, message: String) -> Refusal {
    Refusal { code, field: field.map(str::to_owned), message }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn of_open(error: OpenError) -> Refusal {
    let (code, field) = match &error {
        OpenError::Gone(_) | OpenError::Zombie(_) => (RefusalCode::NotFound, "op.register.pid"),
        OpenError::Another { .. } => (RefusalCode::NotFound, "op.register.start_time"),
        OpenError::Never { .. } => (RefusalCode::Denied, "op.register.pid"),
        OpenError::Broken { .. } => (RefusalCode::Failed, "op.register.pid"),
    };
    refuse(code, Some(field), error.to_string())
}

fn of_read(pid: Pid, error: &ReadError) -> Refusal {
    let code = if error.is_gone() { RefusalCode::NotFound } else { RefusalCode::Failed };
    refuse(code, Some("op.register.pid"), format!("cannot tell which memory process {pid} charges: {error}"))
}
