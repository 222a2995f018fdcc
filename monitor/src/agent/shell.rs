//! The shell: carries out what the core orders and tells it what came of it. Everything between a record and the
//! signal happens here, on one thread, without waiting for anything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use monitor_common::{Drops, RECORD_LEN};
use tokio::sync::mpsc::UnboundedSender;

use super::brake::Brake;
use super::clock;
use super::core::{Action, Core, DomainId, Event, Gears, Note, Seen, Settings};
use super::domains::Domains;
use super::faults::Troubles;
use super::members::Ended;
use super::registry::Registry;
use super::reports::Reports;
use super::watchers::Watchers;
use crate::control::protocol::Push;
use crate::kernel::numbers::Hook;
use crate::kernel::probe::Probe;
use crate::kernel::programs::Programs;
use crate::kill::{Reaper, Released, Returned};
use crate::recording::Recorder;
use crate::units::Nanos;
use crate::worker::WorkerId;

/// How many records are taken out of the ring buffer at once.
pub(super) const BATCH: usize = 256;

/// See the module.
pub(super) struct Shell {
    pub(super) core: Core,
    pub(super) todo: VecDeque<Action>,
    pub(super) programs: Option<Programs>,
    /// The hooks' states if there are no programs.
    refused: Option<Box<[Probe; 3]>>,
    pub(super) domains: Domains,
    pub(super) registry: Registry,
    pub(super) troubles: Troubles,
    pub(super) watchers: Watchers,
    pub(super) reports: Reports,
    /// Writes down all that the core is told, if that is asked for.
    pub(super) recorder: Option<Recorder>,
    pub(super) ended: UnboundedSender<Ended>,
    pub(super) reaper: Option<Reaper>,
    pub(super) started: Nanos,
    pub(super) last_worker: u64,
    /// The worker that was looked at last (`upkeep`).
    pub(super) rechecked: WorkerId,
    pub(super) brake: Brake,
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
        programs: Result<Programs, Box<[Probe; 3]>>,
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
        Self {
            core,
            todo: VecDeque::with_capacity(256),
            programs,
            refused,
            domains,
            registry: Registry::default(),
            troubles,
            watchers: Watchers::default(),
            reports,
            recorder: None,
            ended,
            reaper: reaper.ok(),
            started: clock::now(),
            last_worker: 0,
            rechecked: WorkerId(0),
            brake: Brake::Off,
            delay: Duration::ZERO,
            drops: Drops::default(),
            records: BytesMut::with_capacity(BATCH * RECORD_LEN),
            guards_ancestors: true,
        }
    }

    /// The hooks and their states.
    pub(super) fn probes(&self) -> &[Probe] {
        match (&self.programs, &self.refused) {
            (Some(programs), _) => programs.probes(),
            (None, Some(rows)) => &rows[..],
            (None, None) => &[],
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
    }

    /// Tells the core, and the recording if there is one: the only way an event reaches it.
    pub(super) fn tell(&mut self, event: Event) {
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
                if let Some(programs) = &mut self.programs {
                    programs.cells.set_line(domain.0, line, rearm, brake);
                }
                None
            }
            Action::Attach => {
                self.attach();
                None
            }
            Action::Detach => {
                self.programs.iter_mut().for_each(|programs| programs.detach(Hook::Usage));
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
                self.watchers.tell(&note);
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

    /// Attaches the hot hook. Refused, there is none any more: readings only.
    fn attach(&mut self) {
        let Some(programs) = &mut self.programs else { return };
        programs.attach(Hook::Usage);
        if programs.attached(Hook::Usage) {
            return;
        }
        self.warn_of_hooks();
        let settings = Settings { gears: Gears::None, ..self.core.settings().clone() };
        self.tell(Event::Settings(settings));
    }

    /// Says which hooks are not there.
    pub(super) fn warn_of_hooks(&self) {
        for probe in self.probes() {
            if let Some(fallback) = probe.fallback {
                tracing::warn!(hook = probe.name, tracepoint = %probe.tracepoint, state = ?probe.state, fallback, "a kernel hook is not there");
            }
        }
    }

    fn forget(&mut self, worker: WorkerId) {
        self.troubles.looked_after.remove(&worker);
        for process in self.registry.remove(worker) {
            self.let_leave(&process);
        }
    }

    /// What is due at the core's deadline, and what only a look can tell: deltas, which wake nobody, lost records,
    /// descendants without the fork hook.
    pub(super) fn tick(&mut self) {
        self.beat();
        self.drain();
        self.check_drops();
        self.domains.reopen(self.programs.as_mut());
        self.look_after_workers();
        self.sweep_overdue();
        self.happen(Event::Tick);
        self.recheck_some();
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
        | Note::Continued { .. } => {
            tracing::info!(target: "note", "{text}")
        }
        Note::Stuck { .. }
        | Note::Refused { .. }
        | Note::NoCandidates { .. }
        | Note::Unhelpful { .. }
        | Note::Unknown { .. }
        | Note::Lost { .. } => {
            tracing::warn!(target: "note", "{text}");
        }
    }
}
