//! The kernel hooks as they come and go: attached when the engine wants it, given up when the kernel refuses them,
//! attached again when the reason has passed; and the records that they push. The engine learns what follows from that;
//! `kernel/links` does the work.

pub(super) mod namespace;
mod records;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::BytesMut;
use monitor_common::{Drops, Wanted};

use crate::agent::domains::Domains;
use crate::agent::turn::Turn;
use crate::engine::{Event, Gears, Settings};
use crate::kernel::drops::CpuDrops;
use crate::kernel::events::Events;
use crate::kernel::hook::{Hook, Told};
use crate::kernel::links::{Links, Probes};
use crate::kernel::probe::Probe;

/// See the module.
pub(super) struct Hooks {
    /// Or the hooks' states, if there are no programs.
    links: Result<Links, Box<Probes>>,
    events: Option<Events>,
    /// Records that were taken out and not decoded yet.
    records: BytesMut,
    /// What was lost when that was last looked at.
    drops: Drops,
    /// How many runs of the programs for workers, and of those for rules, the kernel had left out by then.
    skipped: [u64; 2],
    /// The gears, and whether the brake was on, while no hook counts usage that did at the start.
    usage_lost: Option<(Gears, bool)>,
}

impl Hooks {
    /// `if_usage_comes`: the gears, should there be a hook later that counts usage while there is none now.
    pub(super) fn new(
        links: Result<Links, Box<Probes>>,
        events: Option<Events>,
        if_usage_comes: Gears,
    ) -> Self {
        let none_counts = links.as_ref().is_ok_and(|links| links.usage().is_none());
        Self {
            links,
            events,
            records: records::buffer(),
            drops: Drops::default(),
            skipped: [0; 2],
            usage_lost: none_counts.then_some((if_usage_comes, false)),
        }
    }

    /// The hooks and their states.
    pub(super) fn probes(&self) -> &[Probe] {
        match &self.links {
            Ok(links) => links.probes(),
            Err(rows) => &rows[..],
        }
    }

    /// What the kernel tells of processes.
    pub(super) fn told(&self) -> Told {
        self.links.as_ref().map(Links::told).unwrap_or_default()
    }

    /// Whether the kernel tells which process its own out-of-memory killer chooses.
    pub(super) fn tell_oom_victims(&self) -> bool {
        self.links.as_ref().is_ok_and(|links| links.attached(Hook::MarkVictim))
    }

    /// The hook that counts usage, if there is one.
    pub(super) fn usage(&self) -> Option<Hook> {
        self.links.as_ref().ok().and_then(Links::usage)
    }

    /// Readable when there are records; `None`: there are no programs.
    pub(super) fn records_fd(&self) -> Option<std::io::Result<Arc<OwnedFd>>> {
        self.events.as_ref().map(Events::fd)
    }

    /// Attaches one usage hook, falls back to the other, then to polling.
    pub(super) fn attach(&mut self, turn: &mut Turn<'_>, domains: &mut Domains) {
        let (Ok(links), Some(cells)) = (&mut self.links, domains.cells()) else { return };
        let before = links.usage();
        links.attach_usage(cells);
        let after = links.usage();
        if before == after {
            return;
        }
        self.warn();
        let old = turn.engine.settings().clone();
        let settings = match after {
            Some(_) => old,
            None => {
                self.usage_lost = Some((old.gears, old.brake));
                Settings { gears: Gears::None, brake: false, ..old }
            }
        };
        turn.tell(Event::Settings(settings));
    }

    /// Detaches the usage hook.
    pub(super) fn detach(&mut self) {
        if let Ok(links) = &mut self.links {
            links.detach_usage();
        }
    }

    /// Hooks that were refused for a reason that passes are tried again: those that can be had now.
    pub(super) fn try_again(&mut self) -> Vec<Hook> {
        let back = self.links.as_mut().map(Links::try_again).unwrap_or_default();
        for hook in &back {
            tracing::info!(hook = hook.program(), "a kernel hook that was refused is available now");
        }
        back
    }

    /// From now on the hooks of rules tell of these processes; `None`: there are no rules, and they run no more.
    pub(super) fn follow_rules(&mut self, wanted: Option<&Wanted>) {
        if let Ok(links) = &mut self.links
            && let Err(error) = links.follow_rules(wanted)
        {
            tracing::warn!(%error, "the kernel does not report processes that rules could match; the agent scans all processes instead");
        }
        if wanted.is_some() {
            self.warn_of(|hook| Hook::OF_RULES.contains(&hook));
        }
    }

    /// The exit hook runs at last, and processes that ended before are off the map: attaches the fork hook. Whether it
    /// could.
    pub(super) fn attach_lineage(&mut self) -> bool {
        self.links.as_mut().is_ok_and(|links| {
            links.attach_lineage();
            links.attached(Hook::Lineage)
        })
    }

    /// A hook that counts usage can be had at last.
    pub(super) fn usage_is_back(&mut self, turn: &mut Turn<'_>) {
        let Some((gears, brake)) = self.usage_lost.take() else { return };
        let old = turn.engine.settings().clone();
        turn.tell(Event::Settings(Settings { gears, brake, ..old }));
    }

    /// Says which hooks are not there; of those of rules it is said when there are rules. One that is loaded on request is
    /// not missed by who does not ask for it, and who does is told of those that take its place.
    pub(super) fn warn(&self) {
        self.warn_of(|hook| !Hook::OF_RULES.contains(&hook) && !hook.on_request());
    }

    fn warn_of(&self, which: impl Fn(Hook) -> bool) {
        let counted = self.probes().iter().any(|probe| probe.counts == Some(true));
        for (_, probe) in Hook::ALL.into_iter().zip(self.probes()).filter(|(hook, _)| which(*hook)) {
            // A usage hook that is not there is not missed while the other one counts.
            let spare = counted && probe.counts == Some(false);
            if let Some(fallback) = probe.fallback.as_deref().filter(|_| !spare) {
                tracing::warn!(hook = %probe.name, tracepoint = %probe.tracepoint, state = ?probe.state, fallback, "a kernel hook is not available");
            }
        }
    }

    /// The CPUs that lost something.
    pub(super) fn drops_by_cpu(&self) -> Vec<CpuDrops> {
        let all = self.events.as_ref().and_then(|events| events.drops.by_cpu().ok()).unwrap_or_default();
        let some =
            |cpu: &CpuDrops| cpu.usage + cpu.exit + cpu.fork + cpu.stopped + cpu.lineage + cpu.changed > 0;
        all.into_iter().filter(some).collect()
    }
}
