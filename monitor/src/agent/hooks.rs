//! The kernel hooks as they come and go: attached when the engine wants it, given up when they are refused, there again when
//! the reason has passed. What follows from that the engine and the books are told here; how it is done is `kernel/programs`.

pub(super) mod namespace;
pub(super) mod records;

use std::time::Duration;

use crate::agent::brake::Brake;
use crate::agent::shell::Shell;
use crate::config::values::BrakeMode;
use crate::engine::{Event, Gears, Settings};
use crate::kernel::numbers::Hook;
use crate::kernel::probe::Probe;
use crate::kernel::programs::Programs;

impl Shell {
    /// The hooks and their states.
    pub(super) fn probes(&self) -> &[Probe] {
        match (&self.programs, &self.refused) {
            (Some(programs), _) => programs.probes(),
            (None, Some(rows)) => &rows[..],
            (None, None) => &[],
        }
    }

    /// Attaches the hook that counts usage; refused, the other one. If both are: readings only.
    pub(super) fn attach(&mut self) {
        let Some(programs) = &mut self.programs else { return };
        let before = programs.usage();
        programs.attach_usage();
        let after = programs.usage();
        if before == after {
            return;
        }
        self.warn_of_hooks();
        let old = self.engine.settings().clone();
        let settings = match after {
            Some(hook) => Settings { inexact: hook == Hook::RssStat, ..old },
            None => {
                self.gears_lost = Some((old.gears, old.brake));
                Settings { gears: Gears::None, inexact: false, brake: false, ..old }
            }
        };
        self.tell(Event::Settings(settings));
    }

    /// Hooks that were refused for a reason that passes are tried again.
    pub(super) fn try_hooks_again(&mut self) {
        let back = self.programs.as_mut().map(Programs::try_again).unwrap_or_default();
        for hook in back {
            self.hook_is_back(hook);
        }
    }

    fn hook_is_back(&mut self, hook: Hook) {
        tracing::info!(hook = hook.program(), "a kernel hook that was refused can be had now");
        match hook {
            Hook::Exit => {
                // Who ended unheard is taken off the map before the children of its pid are taken for a worker's.
                self.registry.ids().into_iter().for_each(|worker| self.sweep(worker));
                self.programs.iter_mut().for_each(Programs::attach_lineage);
                if self.programs.as_ref().is_some_and(|programs| programs.attached(Hook::Lineage)) {
                    self.hook_is_back(Hook::Lineage);
                }
            }
            // What those forked who are here before the hook was, only looks tell.
            Hook::Lineage => self.troubles.looked_after.extend(self.registry.ids()),
            Hook::Memcg | Hook::RssStat => {
                let Some((gears, brake)) = self.gears_lost.take() else { return };
                let old = self.engine.settings().clone();
                let longest = Duration::from_millis(old.brake_max_ms);
                let inexact = hook == Hook::RssStat;
                self.happen(Event::Settings(Settings { gears, brake, inexact, ..old }));
                if matches!(self.brake, Brake::Failed(_)) {
                    // It was asked for, and there was nothing to brake with.
                    self.prepare_brake(BrakeMode::On, longest);
                }
            }
        }
    }

    /// Says which hooks are not there.
    pub(super) fn warn_of_hooks(&self) {
        let counted = self.probes().iter().any(|probe| probe.counts == Some(true));
        for probe in self.probes() {
            // A usage hook that is not there is not missed while the other one counts.
            let spare = counted && probe.counts == Some(false);
            if let Some(fallback) = probe.fallback.filter(|_| !spare) {
                tracing::warn!(hook = probe.name, tracepoint = %probe.tracepoint, state = ?probe.state, fallback, "a kernel hook is not there");
            }
        }
    }
}
