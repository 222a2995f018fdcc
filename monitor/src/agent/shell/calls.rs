//! The control socket's calls: each goes to the component that can answer it. Each refusal names the field that is at
//! fault; none takes long. What each user may see of an answer is said in `agent/visible`.

use super::{Components, Shell, turn};
use crate::agent::api::changes;
use crate::agent::api::metrics;
use crate::agent::api::refusals::owning;
use crate::agent::api::register::Registrar;
use crate::agent::event_loop::clock;
use crate::agent::reports::KEPT;
use crate::agent::reports::past::date;
use crate::agent::visible::{Metrics, Raylets, Shown, Viewer};
use crate::agent::{starts, survival};
use crate::config::values::AgentMode;
use crate::control::answers::{Faults, Status};
use crate::control::protocol::{Admit, Admitted, Op, Refusal, RefusalCode, Register, Registered};
use crate::control::request::Peer;
use crate::diagnostics;
use crate::engine::{DomainView, Event, Explanation, KillId};
use crate::journal::JournalView;
use crate::learn::LearnedView;
use crate::report::Report;
use crate::series::Series;
use crate::worker::WorkerId;

impl Shell {
    /// Answers a call.
    pub(in crate::agent) fn answer(&mut self, peer: Peer, op: Op) -> Result<Shown, Refusal> {
        let uid = peer.uid;
        match op {
            Op::Register(register) => {
                let registered = self.register(peer, register)?;
                self.viewer(uid).show(registered)
            }
            Op::Admit(admit) => {
                let admitted = self.admit(peer, admit)?;
                self.viewer(uid).show(admitted)
            }
            Op::Learned => {
                let learned = self.engine.learned(clock::now()).collect::<Vec<_>>();
                self.viewer(uid).show(learned)
            }
            Op::ForgetLearned { name } => {
                let whose = (!self.viewer(uid).sees_all()).then_some(uid);
                let known = |view: &LearnedView| view.name == name && whose.is_none_or(|uid| uid == view.uid);
                let forgotten = self.engine.learned(clock::now()).filter(known).count();
                self.happen(Event::ForgetLearned { uid: whose, name });
                self.viewer(uid).show(forgotten)
            }
            Op::Unregister { worker } if self.parts.starts.is_of(worker, uid) => {
                self.step(|parts, turn| parts.starts.withdraw(turn, &mut parts.domains, worker));
                self.viewer(uid).show(())
            }
            Op::Unregister { worker } => {
                self.step(|parts, turn| changes::unregister(turn, &parts.workers.registry, &peer, worker))?;
                self.viewer(uid).show(())
            }
            Op::SetIdle { worker, idle } => {
                self.step(|parts, turn| {
                    changes::set_idle(turn, &parts.workers.registry, &peer, worker, idle)
                })?;
                self.viewer(uid).show(())
            }
            Op::Watch => {
                self.parts.api.watchers.add(peer)?;
                self.viewer(uid).show(())
            }
            Op::GiveWay => {
                self.parts.previous_agent.give_way(&peer)?;
                self.viewer(uid).show(())
            }
            Op::RayStatus => self.viewer(uid).show(Raylets(self.parts.raylets.views())),
            Op::RayDetach { pid } => {
                changes::only_root(&peer)?;
                self.parts.raylets.detach(pid);
                self.viewer(uid).show(())
            }
            Op::Status => self.viewer(uid).show(self.status()),
            Op::Config => self.viewer(uid).show(self.parts.api.settings()),
            Op::Metrics => {
                let raylets = self.parts.raylets.views();
                // Of single workers, if without names: not for everybody.
                let all = self.viewer(uid).sees_all();
                let largest = if all { self.engine.largest(metrics::LARGEST) } else { Vec::new() };
                let latencies = &self.parts.api.latencies;
                let text = metrics::text(&self.status(), latencies, &largest, raylets.as_deref());
                self.viewer(uid).show(Metrics(text))
            }
            Op::Workers => self.viewer(uid).show(self.engine.workers()),
            Op::Explain { domain } => self.viewer(uid).show(self.explain(domain.as_deref())?),
            Op::Kills => self.viewer(uid).show_each(|| {
                self.parts.past.kills().chain(self.engine.kills()).cloned().map(|mut record| {
                    date(&mut record);
                    record
                })
            }),
            Op::Report { kill } => self.viewer(uid).show(self.report(kill)?),
            Op::Samples { kill } => self.viewer(uid).show(self.samples(kill)?),
            Op::Why(asked) => self.viewer(uid).show(self.why(uid, &asked)),
            Op::Reload => Err(Refusal::new(RefusalCode::Failed, None, "it is answered elsewhere".to_owned())),
        }
    }

    /// A connection is closed.
    pub(in crate::agent) fn hang_up(&mut self, connection: u64) {
        self.parts.api.watchers.remove(connection);
        self.parts.workers.registry.disconnected(connection);
        self.step(|parts, turn| parts.starts.hang_up(turn, &mut parts.domains, connection));
    }

    pub(super) fn viewer(&self, uid: u32) -> Viewer<'_> {
        Viewer::new(uid, &self.parts.workers.registry)
    }

    fn register(&mut self, peer: Peer, register: Register) -> Result<Registered, Refusal> {
        let Components { domains, workers, hooks, previous_agent, watchdog, reports, rules, starts, .. } =
            &mut self.parts;
        let (kernel, watchdog) = (hooks.told(), watchdog.as_ref());
        let mut registrar =
            Registrar { domains, workers, previous_agent, watchdog, reports, rules, starts, kernel };
        let registered = registrar.register(turn!(self), peer, register);
        self.settle();
        let registered = registered?;
        self.came(registered.worker);
        Ok(registered)
    }

    /// A worker is there, registered or made by a rule: who else looks after it learns of it.
    pub(super) fn came(&mut self, worker: WorkerId) {
        let Components { domains, workers, killing, measuring, oom_counters, .. } = &mut self.parts;
        let now = clock::now();
        killing.find_own_cgroup(workers, worker);
        measuring.came(worker, now);
        oom_counters.enter(domains, worker, now);
    }

    /// A start that may begin at once, or waits. Its domains are read before that is decided.
    fn admit(&mut self, peer: Peer, admit: Admit) -> Result<Admitted, Refusal> {
        let since = starts::since(&admit);
        let checked = self.step(|parts, turn| {
            let Components { starts, domains, workers, .. } = parts;
            starts.check(turn, (domains, workers), &peer, &admit)
        })?;
        starts::refuse_hopeless(&self.engine, &admit, &checked)?;
        let uid = peer.uid;
        let outer = self.parts.workers.outer_of(self.parts.hooks.told(), admit.pid, None);
        let owned_by = owning(&self.engine, outer, admit.owner.as_deref(), uid);
        let (worker, begins) = self.parts.workers.number_for_start(uid);
        if let Some(block) = begins {
            self.parts.reports.note_numbers(block);
        }
        self.step(|parts, turn| {
            let Components { starts, domains, .. } = parts;
            starts.enter(turn, domains, (worker, owned_by), (peer, admit), checked);
        });
        let waits_for = self.engine.waits_for(worker);
        Ok(Admitted { worker, admitted: waits_for.is_none(), waits_for, since })
    }

    fn explain(&self, domain: Option<&str>) -> Result<Explanation, Refusal> {
        self.engine.explain(domain).ok_or_else(|| {
            let names: Vec<String> = self.engine.domains().into_iter().map(|view| view.domain).collect();
            let message = format!("no such domain is guarded; guarded are: {}", names.join(", "));
            Refusal::new(RefusalCode::NotFound, Some("op.explain.domain"), message)
        })
    }

    fn status(&self) -> Status {
        let settings = self.engine.settings();
        let Components { domains, workers, hooks, killing, brake, watchdog, reports, api, .. } = &self.parts;
        let now = clock::now();
        let guards = domains.len() > 0;
        let domains = domains.views(self.engine.domains(), settings.threshold());
        // With a threshold of all that there is, none is ever above it.
        let below_total =
            |view: &DomainView| view.threshold.zip(view.total).is_none_or(|(line, all)| line < all);
        let can_be_above = domains.iter().any(below_total);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            now,
            uptime_ms: u64::try_from(now.since(self.started).as_millis()).unwrap_or(u64::MAX),
            in_process: self.parts.previous_agent.is_in_process(),
            policy: settings.policy,
            refresh_ms: settings.refresh_ms,
            mode: match (settings.kills(), settings.dry_run) {
                (false, _) => AgentMode::Off,
                (true, true) => AgentMode::Observe,
                (true, false) => AgentMode::Enforce,
            }
            .to_string(),
            kills: settings.kills(),
            dry_run: settings.dry_run,
            protects: settings.enforces() && survival::can_kill() && guards && can_be_above,
            survival: survival::steps(),
            probes: hooks.probes().to_vec(),
            domains,
            workers: workers.registry.len(),
            observed: workers.registry.ids().into_iter().filter(|id| self.engine.observes(*id)).count(),
            processes: workers.registry.view(),
            kills_in_flight: self.engine.kills_in_flight(),
            drops: hooks.drops_by_cpu(),
            brake: brake.view(&self.engine),
            watchdog: watchdog.is_some(),
            counters: self.engine.counters(),
            faults: Faults {
                not_released: killing.not_released(),
                not_logged: diagnostics::lost(),
                ..self.faults
            },
            journal: reports.journal(),
            socket: api.socket(),
            http: api.http.view(),
            callbacks: self.parts.callbacks.view(),
        }
    }

    fn samples(&self, kill: Option<u64>) -> Result<Series, Refusal> {
        self.parts.samples.series(&self.engine, kill.map(KillId)).ok_or_else(|| {
            let message = "this agent knows no such kill".to_owned();
            Refusal::new(RefusalCode::NotFound, Some("op.samples.kill"), message)
        })
    }

    fn report(&self, kill: u64) -> Result<Report, Refusal> {
        self.parts.reports.get(KillId(kill)).cloned().ok_or_else(|| self.no_report(kill, None))
    }

    /// Why there is none; `unread`: the journal could not be read.
    pub(super) fn no_report(&self, kill: u64, unread: Option<String>) -> Refusal {
        let message = if self.parts.reports.is_under_way(KillId(kill)) {
            format!("the report of kill {kill} is not complete yet: try again in a moment")
        } else {
            match (unread, self.parts.reports.journal()) {
                (Some(error), _) => {
                    format!("there is no report of kill {kill}: the journal cannot be read: {error}")
                }
                (None, Some(JournalView { path, .. })) => {
                    format!("there is no kill {kill}, neither here nor in the journal {}", path.display())
                }
                (None, None) => format!(
                    "this agent has no report of kill {kill}: it keeps the last {KEPT} reports and writes no journal"
                ),
            }
        };
        Refusal::new(RefusalCode::NotFound, Some("op.report.kill"), message)
    }
}
