//! The shell: carries out what the core orders and tells it what came of it. Everything between a record and the
//! signal happens here, on one thread, without waiting for anything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use monitor_common::{Drops, RECORD_LEN};
use tokio::sync::mpsc::UnboundedSender;

use super::brake::Brake;
use super::clock;
use super::core::{Action, Core, DomainId, Event, Gears, Note, Seen};
use super::deputy::Deputy;
use super::descriptors::Shares;
use super::domains::Domains;
use super::faults::Troubles;
use super::former::Former;
use super::freezing::thawer::Thawer;
use super::limits::Limits;
use super::measure::Dying;
use super::members::Ended;
use super::numbers::Numbers;
use super::registry::Registry;
use super::reports::Reports;
use super::survival::realtime::Sharing;
use super::survival::service;
use super::watchers::Watchers;
use crate::control::door::Bell;
use crate::control::protocol::Push;
use crate::diagnostics;
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

/// How often it is looked whether the socket's file is there, at most.
const SOCKET_LOOKS: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Shell {
    pub(super) core: Core,
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
    /// Writes down all that the core is told, if that is asked for.
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
    pub(super) deputy: Option<Deputy>,
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
    /// Every ancestor cgroup of a worker that has a limit is a domain too (SPEC 2); not if only named cgroups are
    /// guarded (SPEC 11).
    pub(super) guards_ancestors: bool,
}

impl Shell {
    pub(super) fn new(
        core: Core,
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
            core,
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
            deputy: None,
            sharing: Sharing::default(),
            gears_lost: None,
            bell: Arc::default(),
            rang: clock::now(),
            manager_told: None,
            lines_lost: 0,
            delay: Duration::ZERO,
            drops: Drops::default(),
            records: BytesMut::with_capacity(BATCH * RECORD_LEN),
            guards_ancestors: true,
        }
    }

    /// Tells the core, and does what it orders.
    pub(super) fn happen(&mut self, event: Event) {
        self.tell(event);
        self.carry_out();
    }

    pub(super) fn carry_out(&mut self) {
        while let Some(action) = self.todo.pop_front() {
            self.act(action);
        }
        self.reports.write_released();
    }

    /// Tells the core, and the recording if there is one: the only way an event reaches it. What the deputy did comes
    /// before everything that followed from it.
    pub(super) fn tell(&mut self, event: Event) {
        self.hear_of_the_deputy();
        self.tell_this(event);
    }

    pub(super) fn hear_of_the_deputy(&mut self) {
        let Some(struck) = self.deputy.as_ref().map(Deputy::told) else { return };
        for struck in struck {
            self.tell_this(struck);
        }
    }

    fn tell_this(&mut self, event: Event) {
        let now = clock::now();
        if let Some(recorder) = &mut self.recorder {
            recorder.note(now, &event);
        }
        self.core.handle(event, now, &mut self.todo);
    }

    fn act(&mut self, action: Action) {
        let answer = match action {
            Action::Read(domain) => self.read(domain),
            Action::Kill { kill, worker } => {
                self.kill(kill, worker);
                None
            }
            Action::Terminate { kill, worker } => {
                self.terminate(kill, worker);
                None
            }
            Action::KillProcess { kill, worker, pid } => {
                self.kill_late(kill, worker, pid);
                None
            }
            Action::Examine { kill, worker, pids } => Some(self.examine(kill, worker, &pids)),
            Action::SetLine { domain, line, rearm, brake } => {
                if let (Some(programs), Some(cell)) = (&mut self.programs, self.domains.cell(domain)) {
                    programs.cells.set_line(cell, line, rearm, brake);
                }
                None
            }
            Action::Attach => {
                self.attach();
                None
            }
            Action::Detach => {
                self.programs.iter_mut().for_each(Programs::detach_usage);
                None
            }
            Action::Continue { worker, pid } => {
                self.continue_process(worker, pid);
                None
            }
            Action::Tell(verdict) => {
                if let Some(peer) = self.registry.whose(verdict.worker)
                    && peer.pushes.try_send(Push::Verdict((*verdict).clone())).is_err()
                {
                    self.troubles.counts.not_told += 1;
                    tracing::warn!(worker = %verdict.worker, "whoever registered it cannot be told of its verdict");
                }
                None
            }
            Action::Record(kill) => {
                self.record(kill);
                None
            }
            Action::Measure => {
                self.measure_now();
                None
            }
            Action::Forget(worker) => {
                self.forget(worker);
                None
            }
            Action::Note(note) => {
                log(&note);
                self.noted(&note);
                self.watchers.tell(&note, &self.registry);
                self.tell_launcher(&note);
                None
            }
        };
        if let Some(event) = answer {
            self.tell(event);
        }
    }

    /// Reads a domain. The loop waits for it: a reading is a few microseconds, unless a file takes its time.
    fn read(&mut self, domain: DomainId) -> Option<Event> {
        let began = clock::now();
        let reading = self.domains.read(domain, self.programs.as_ref());
        let took = clock::now().since(began);
        if self.troubles.took(domain, took) {
            let took_ms = took.as_millis();
            tracing::warn!(
                domain = domain.0,
                took_ms,
                "a reading was slow, and nothing else was done meanwhile"
            );
        }
        reading
    }

    fn forget(&mut self, worker: WorkerId) {
        // Of one that ended there is nobody left whom the deputy could strike.
        let lives = |entry: &super::registry::Entry| !(entry.members.is_empty() && entry.unheld.is_empty());
        if self.registry.get(worker).is_some_and(lives) {
            self.unname(worker);
        }
        self.troubles.looked_after.remove(&worker);
        self.lift_bar(worker);
        if let Some(cgroup) = self.registry.get(worker).and_then(|entry| entry.cgroup.as_ref()) {
            self.limits.leave(cgroup);
        }
        let former = self.registry.remove(worker);
        for process in former.held {
            self.let_leave(&process);
        }
        for pid in former.unheld {
            self.let_unheld_leave(worker, pid);
        }
    }

    /// At each turn of the loop: it does not hang.
    pub(super) fn turn(&mut self) {
        if let Some(deputy) = &self.deputy {
            deputy.beat();
        }
        service::beat(&mut self.manager_told);
    }

    /// What is due at the core's deadline, and what only a look can tell: deltas, which wake nobody, lost records,
    /// descendants without the fork hook.
    pub(super) fn tick(&mut self) {
        self.beat();
        self.drain();
        self.check_drops();
        self.try_hooks_again();
        self.look_after_workers();
        self.sweep_victims();
        self.look_after_the_dying();
        self.happen(Event::Tick);
        // A reading, its line and a note or two for each domain.
        self.todo.reserve(WAITING + 4 * self.domains.len());
        self.lift_bars();
        self.recheck_some();
        self.recheck_domains();
        self.nominate();
        self.tell_of_lost_lines();
        self.sharing.check(clock::now());
        self.ring();
    }

    /// No tick comes for this alone.
    fn ring(&mut self) {
        let now = clock::now();
        if now.since(self.rang) >= SOCKET_LOOKS {
            self.rang = now;
            self.bell.look();
        }
    }

    /// Diagnostics that nobody read in time.
    fn tell_of_lost_lines(&mut self) {
        let lost = diagnostics::lost();
        if lost > self.lines_lost {
            tracing::warn!(lines = lost - self.lines_lost, "nobody read stderr for a while: lines were lost");
            self.lines_lost = lost;
        }
    }
}

/// What operators read.
fn log(note: &Note) {
    let text = serde_json::to_string(note).unwrap_or_default();
    match note {
        Note::Registered { .. }
        | Note::Ended { .. }
        | Note::DiedLate { .. }
        | Note::Known { .. }
        | Note::Below { .. } => {
            tracing::debug!(target: "note", "{text}");
        }
        Note::Above { .. }
        | Note::Decided { .. }
        | Note::Killed(_)
        | Note::Gear { .. }
        | Note::Stopped { .. }
        | Note::Continued(_) => {
            tracing::info!(target: "note", "{text}")
        }
        Note::Stuck { .. }
        | Note::Stray { .. }
        | Note::Refused { .. }
        | Note::NoCandidates { .. }
        | Note::Unhelpful { .. }
        | Note::Unknown { .. }
        | Note::Lost { .. } => {
            tracing::warn!(target: "note", "{text}");
        }
    }
}

#[cfg(test)]
mod tests;
