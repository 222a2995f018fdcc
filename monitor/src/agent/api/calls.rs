//! The answers to the control socket's calls. Each names the field that is at fault; none takes long. Who may see what
//! of an answer is said in `visible`.

mod register;

use serde::Serialize;

use crate::agent::api::metrics::Metrics;
use crate::agent::api::visible::{Shown, Viewer};
use crate::agent::event_loop::clock;
use crate::agent::reports::KEPT;
use crate::agent::shell::Shell;
use crate::agent::survival::{self, Step};
use crate::agent::workers::registry::ProcessesView;
use crate::control::door::DoorView;
use crate::control::protocol::{Op, Refusal, RefusalCode};
use crate::control::request::Peer;
use crate::engine::{Counters, DomainView, Event, Explanation, KillId};
use crate::journal::JournalView;
use crate::kernel::drops::CpuDrops;
use crate::kernel::probe::Probe;
use crate::report::Report;
use crate::units::Nanos;
use crate::worker::{Activity, WorkerId};

/// The answer to `status`.
#[derive(Debug, Serialize)]
pub(in crate::agent) struct Status<'a> {
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
    processes: ProcessesView,
    kills_in_flight: usize,
    /// The CPUs that could not deliver something, and what.
    drops: Vec<CpuDrops>,
    pub(in crate::agent) brake: crate::agent::brake::BrakeView,
    /// A thread of its own acts if the loop hangs.
    watchdog: bool,
    counters: Counters,
    faults: crate::agent::faults::Faults,
    journal: Option<JournalView>,
    socket: DoorView,
}

impl Shell {
    /// Answers a call.
    pub(in crate::agent) fn answer(&mut self, peer: Peer, op: Op) -> Result<Shown, Refusal> {
        let uid = peer.uid;
        match op {
            Op::Register(register) => {
                let registered = self.register(peer, register)?;
                self.viewer(uid).show(registered)
            }
            Op::Unregister { worker } => {
                self.unregister(&peer, worker)?;
                self.viewer(uid).show(())
            }
            Op::SetIdle { worker, idle } => {
                self.set_idle(&peer, worker, idle)?;
                self.viewer(uid).show(())
            }
            Op::Watch => {
                self.watchers.add(peer)?;
                self.viewer(uid).show(())
            }
            Op::Status => self.viewer(uid).show(self.status()),
            Op::Config => self.viewer(uid).show(self.in_force.clone()),
            Op::Metrics => self.viewer(uid).show(Metrics(self.metrics())),
            Op::Workers => self.viewer(uid).show(self.engine.workers()),
            Op::Explain { domain } => self.viewer(uid).show(self.explain(domain.as_deref())?),
            Op::Kills => self.viewer(uid).show_each(|| self.engine.kills().cloned()),
            Op::Report { kill } => self.viewer(uid).show(self.report(kill)?),
        }
    }

    fn viewer(&self, uid: u32) -> Viewer<'_> {
        Viewer::new(uid, &self.registry)
    }

    fn explain(&self, domain: Option<&str>) -> Result<Explanation, Refusal> {
        self.engine.explain(domain).ok_or_else(|| {
            let names: Vec<String> = self.engine.domains().into_iter().map(|view| view.domain).collect();
            let message = format!("no such domain is guarded; there are: {}", names.join(", "));
            refuse(RefusalCode::NotFound, Some("op.explain.domain"), message)
        })
    }

    /// Above its threshold a domain is relieved: there is one, killing is on, and the drill showed that it works.
    pub(in crate::agent) fn protects(&self) -> bool {
        let settings = self.engine.settings();
        settings.kills() && !settings.dry_run && survival::can_kill() && self.domains.len() > 0
    }

    fn status(&self) -> Status<'_> {
        let settings = self.engine.settings();
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
            domains: self.domain_views(),
            workers: self.registry.len(),
            processes: self.registry.view(),
            kills_in_flight: self.engine.kills_in_flight(),
            drops: self.drops_by_cpu(),
            brake: self.brake_view(),
            watchdog: self.watchdog.is_some(),
            counters: self.engine.counters(),
            faults: self.troubles.faults(),
            journal: self.reports.journal(),
            socket: self.bell.view(),
        }
    }

    fn report(&self, kill: u64) -> Result<Report, Refusal> {
        self.reports.get(KillId(kill)).cloned().ok_or_else(|| {
            let message = if self.engine.kill(KillId(kill)).is_some_and(|record| !record.confirmed) {
                format!("kill {kill} is not over, or its report is not complete yet")
            } else {
                let missing = format!("this agent has no report of kill {kill}: it keeps the last {KEPT}");
                match self.reports.journal() {
                    Some(JournalView { path, .. }) => format!(
                        "{missing}; older ones are in its journal: monitor kills {kill} --journal {}",
                        path.display()
                    ),
                    None => format!("{missing} and writes no journal"),
                }
            };
            refuse(RefusalCode::NotFound, Some("op.report.kill"), message)
        })
    }

    /// The CPUs that lost something.
    pub(in crate::agent) fn drops_by_cpu(&self) -> Vec<CpuDrops> {
        let all =
            self.programs.as_ref().and_then(|programs| programs.drops.by_cpu().ok()).unwrap_or_default();
        let some = |cpu: &CpuDrops| cpu.usage + cpu.exit + cpu.fork + cpu.stopped + cpu.lineage > 0;
        all.into_iter().filter(some).collect()
    }

    fn unregister(&mut self, peer: &Peer, worker: WorkerId) -> Result<(), Refusal> {
        self.check_owner(peer, worker, "op.unregister.worker")?;
        self.happen(Event::Unregistered { worker });
        Ok(())
    }

    fn set_idle(&mut self, peer: &Peer, worker: WorkerId, idle: bool) -> Result<(), Refusal> {
        self.check_owner(peer, worker, "op.set_idle.worker")?;
        self.become_idle(worker, idle);
        Ok(())
    }

    fn become_idle(&mut self, worker: WorkerId, idle: bool) {
        match (self.engine.activity(worker), idle) {
            (Some(Activity::Busy), true) => self.happen(Event::Idle { worker, ever_leased: true }),
            (Some(Activity::Idle { .. }), false) => self.happen(Event::Leased { worker }),
            // It is so already.
            (Some(Activity::Busy), false) | (Some(Activity::Idle { .. }), true) | (None, _) => {}
        }
    }

    /// Who may change a worker: root, and whose process it is.
    fn check_owner(&self, peer: &Peer, worker: WorkerId, field: &'static str) -> Result<(), Refusal> {
        let Some(uid) = self.engine.owner_uid(worker) else {
            return Err(refuse(RefusalCode::NotFound, Some(field), format!("there is no worker {worker}")));
        };
        if peer.uid != 0 && peer.uid != uid {
            return Err(refuse(RefusalCode::Denied, Some(field), format!("{worker} is not yours")));
        }
        Ok(())
    }
}

pub(in crate::agent) fn refuse(code: RefusalCode, field: Option<&str>, message: String) -> Refusal {
    Refusal { code, field: field.map(str::to_owned), message }
}
