//! The shell: all that the agent holds, and the one way in which the engine hears of anything. `actions` carries out
//! what the engine orders, `tick` does what nobody wakes the loop for, `notes` passes on what is said. Everything
//! between a record and the signal happens on one thread, without waiting for anything. How a thing is done
//! stands in the rooms around it, which add to `Shell` what they do.

mod actions;
mod notes;
mod tick;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use monitor_common::{Drops, RECORD_LEN};
use tokio::sync::mpsc::UnboundedSender;

use crate::agent::api::watchers::Watchers;
use crate::agent::brake::Brake;
use crate::agent::domains::Domains;
use crate::agent::domains::limits::Limits;
use crate::agent::domains::scope::Scope;
use crate::agent::event_loop::clock;
use crate::agent::event_loop::descriptors::Shares;
use crate::agent::faults::Troubles;
use crate::agent::killing::freezing::thawer::Thawer;
use crate::agent::killing::previous_agent::Former;
use crate::agent::reports::Reports;
use crate::agent::survival::realtime::Sharing;
use crate::agent::watchdog::Watchdog;
use crate::agent::workers::measure::Dying;
use crate::agent::workers::members::Ended;
use crate::agent::workers::numbering::Numbers;
use crate::agent::workers::registry::Registry;
use crate::config::Shown;
use crate::control::door::Bell;
use crate::engine::{Action, Engine, Event, Gears, Seen};
use crate::kernel::programs::{Probes, Programs};
use crate::kill::{Reaper, Released, Returned};
use crate::memory::{Hierarchy, Roots};
use crate::recording::Recorder;
use crate::units::Nanos;
use crate::worker::WorkerId;

/// How many records are taken out of the ring buffer at once.
pub(super) const BATCH: usize = 256;

/// How many orders can wait at least before the queue needs more memory, besides those about each domain.
const WAITING: usize = 256;

/// See the module.
pub(super) struct Shell {
    pub(super) engine: Engine,
    /// With room to spare, so that a kill finds its place without memory (`tick`).
    pub(super) todo: VecDeque<Action>,
    pub(super) programs: Option<Programs>,
    /// The hooks' states if there are no programs.
    pub(super) refused: Option<Box<Probes>>,
    pub(super) domains: Domains,
    /// Where workers may have cgroups of their own, to be killed whole.
    pub(super) unified: Option<Hierarchy>,
    /// The same for freezing them whole.
    pub(super) freezer: Option<Hierarchy>,
    /// Sees to it that nobody stays frozen; from the first worker on that can be.
    pub(super) thawer: Option<Thawer>,
    pub(super) registry: Registry,
    pub(super) limits: Limits,
    pub(super) troubles: Troubles,
    pub(super) watchers: Watchers,
    pub(super) reports: Reports,
    /// Writes down all that the engine is told, if that is asked for.
    pub(super) recorder: Option<Recorder>,
    pub(super) ended: UnboundedSender<Ended>,
    pub(super) reaper: Option<Reaper>,
    /// Whom nobody measures.
    pub(super) dying: Dying,
    pub(super) started: Nanos,
    pub(super) numbers: Numbers,
    pub(super) former: Former,
    /// The worker that was looked at last (`upkeep`).
    pub(super) rechecked: WorkerId,
    pub(super) brake: Brake,
    /// Acts if this loop hangs.
    pub(super) watchdog: Option<Watchdog>,
    sharing: Sharing,
    /// Gears and brake, while no hook counts usage that did at the start.
    pub(super) gears_lost: Option<(Gears, bool)>,
    /// Has the server look after the socket's file.
    pub(super) bell: Arc<Bell>,
    /// When it was last told to.
    rang: Nanos,
    /// When the service manager was last told that the loop turns.
    manager_told: Option<Instant>,
    /// How many lines of diagnostics were lost when that was last said.
    lines_lost: u64,
    /// Waited between a decision and its signal, to show what an agent under pressure does (`debug_delay_ms`).
    pub(super) delay: Duration,
    pub(super) drops: Drops,
    pub(super) records: BytesMut,
    /// The settings that it works with, as `monitor config --running` shows them.
    pub(super) in_force: Vec<Shown>,
    /// Which cgroups with limits become domains, and who is waited for.
    pub(super) scope: Scope,
}

impl Shell {
    pub(super) fn new(
        engine: Engine,
        programs: Result<Programs, Box<Probes>>,
        domains: Domains,
        reports: Reports,
        ended: UnboundedSender<Ended>,
    ) -> Self {
        let troubles = Troubles::default();
        let (to_loop, refused) = (ended.clone(), Arc::clone(&troubles.not_released));
        let reaper = Reaper::start(move |Returned { worker, pid, released }| match released {
            // The loop is gone only when the agent is.
            Released::Done => drop(to_loop.send(Ended { worker, pid, seen: Seen::Released })),
            // Of these the pidfd will tell.
            Released::AlreadyGone => {}
            Released::Unsupported | Released::Refused(_) => {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        });
        if let Err(error) = &reaper {
            tracing::warn!(%error, "no thread to take victims' memory early: their own exit gives it back");
        }
        let (programs, refused) = match programs {
            Ok(programs) => (Some(programs), None),
            Err(rows) => (None, Some(rows)),
        };
        let Roots { procfs, cgroupfs } = domains.roots();
        let shares = Shares::now();
        Self {
            unified: Hierarchy::unified(cgroupfs, procfs),
            freezer: Hierarchy::freezer(cgroupfs, procfs),
            thawer: None,
            engine,
            todo: VecDeque::with_capacity(WAITING),
            programs,
            refused,
            domains,
            registry: Registry::new(shares.processes),
            limits: Limits::new(shares.limits),
            troubles,
            watchers: Watchers::default(),
            reports,
            recorder: None,
            ended,
            reaper: reaper.ok(),
            dying: Dying::default(),
            started: clock::now(),
            numbers: Numbers::default(),
            former: Former::default(),
            rechecked: WorkerId(0),
            brake: Brake::Off,
            watchdog: None,
            sharing: Sharing::default(),
            gears_lost: None,
            bell: Arc::default(),
            rang: clock::now(),
            manager_told: None,
            lines_lost: 0,
            delay: Duration::ZERO,
            drops: Drops::default(),
            records: BytesMut::with_capacity(BATCH * RECORD_LEN),
            in_force: Vec::new(),
            scope: Scope::new(true),
        }
    }

    /// Tells the engine, and does what it orders.
    pub(super) fn happen(&mut self, event: Event) {
        self.tell(event);
        self.carry_out();
    }

    /// Tells the engine, and the recording if there is one: the only way an event reaches it. What the watchdog did comes
    /// before everything that followed from it.
    pub(super) fn tell(&mut self, event: Event) {
        self.hear_of_the_watchdog();
        self.tell_this(event);
    }

    pub(super) fn hear_of_the_watchdog(&mut self) {
        let Some(struck) = self.watchdog.as_ref().map(Watchdog::told) else { return };
        for struck in struck {
            self.tell_this(struck);
        }
    }

    fn tell_this(&mut self, event: Event) {
        let now = clock::now();
        if let Some(recorder) = &mut self.recorder {
            recorder.note(now, &event);
        }
        self.engine.handle(event, now, &mut self.todo);
    }
}

#[cfg(test)]
mod tests;
