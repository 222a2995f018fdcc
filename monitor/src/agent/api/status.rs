//! The answer to `status`: what the agent is, what it guards, and what became of it so far.

use super::Api;
use crate::agent::brake::Brake;
use crate::agent::callbacks::Callbacks;
use crate::agent::domains::Domains;
use crate::agent::event_loop::clock;
use crate::agent::hooks::Hooks;
use crate::agent::killing::Killing;
use crate::agent::killing::previous_agent::PreviousAgent;
use crate::agent::reports::Reports;
use crate::agent::survival;
use crate::agent::workers::Workers;
use crate::config::values::AgentMode;
use crate::control::answers::{Faults, Status};
use crate::diagnostics;
use crate::engine::{DomainView, Engine};
use crate::units::Nanos;

/// The components that it tells of.
pub(in crate::agent) struct StatusOf<'a> {
    pub(in crate::agent) domains: &'a Domains,
    pub(in crate::agent) workers: &'a Workers,
    pub(in crate::agent) hooks: &'a Hooks,
    pub(in crate::agent) killing: &'a Killing,
    pub(in crate::agent) brake: &'a Brake,
    pub(in crate::agent) previous_agent: &'a PreviousAgent,
    pub(in crate::agent) reports: &'a Reports,
    pub(in crate::agent) api: &'a Api,
    pub(in crate::agent) callbacks: &'a Callbacks,
}

impl StatusOf<'_> {
    /// The answer. `started`: when the agent was; `watchdog`: one is there.
    pub(in crate::agent) fn status(
        self,
        engine: &Engine,
        started: Nanos,
        watchdog: bool,
        faults: Faults,
    ) -> Status {
        let settings = engine.settings();
        let now = clock::now();
        let guards = self.domains.len() > 0;
        let domains = self.domains.views(engine.domains(), settings.threshold());
        // With a threshold of all that there is, none is ever above it.
        let below_total =
            |view: &DomainView| view.threshold.zip(view.total).is_none_or(|(line, all)| line < all);
        let can_be_above = domains.iter().any(below_total);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            now,
            uptime_ms: u64::try_from(now.since(started).as_millis()).unwrap_or(u64::MAX),
            in_process: self.previous_agent.is_in_process(),
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
            probes: self.hooks.probes().to_vec(),
            domains,
            workers: self.workers.registry.len(),
            observed: self.workers.registry.ids().into_iter().filter(|id| engine.observes(*id)).count(),
            processes: self.workers.registry.view(),
            kills_in_flight: engine.kills_in_flight(),
            drops: self.hooks.drops_by_cpu(),
            brake: self.brake.view(engine),
            watchdog,
            counters: engine.counters(),
            faults: Faults {
                not_released: self.killing.not_released(),
                not_logged: diagnostics::lost(),
                ..faults
            },
            journal: self.reports.journal(),
            socket: self.api.socket(),
            http: self.api.http.view(),
            callbacks: self.callbacks.view(),
        }
    }
}
