//! The shell: carries out what the core orders and tells it what came of it. Everything between a record and the
//! signal happens here, on one thread, without waiting for anything.

use std::collections::VecDeque;
use std::path::Path;

use bytes::BytesMut;
use monitor_common::{Drops, RECORD_LEN};
use tokio::sync::mpsc::UnboundedSender;

use super::clock;
use super::core::{Action, Core, Event, Note, Seen};
use super::domains::Domains;
use super::readiness;
use super::registry::Registry;
use super::reports::Reports;
use super::watchers::Watchers;
use crate::control::protocol::Push;
use crate::kernel::numbers::Hook;
use crate::kernel::probe::Probe;
use crate::kernel::programs::Programs;
use crate::kernel::record::{self, Record};
use crate::kill::{Process, Reaper, Released, Returned};
use crate::memory::process::with_descendants;
use crate::recording::Recorder;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// What the tasks that wait for pidfds, and the reaper, report.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    worker: WorkerId,
    pid: Pid,
    seen: Seen,
}

/// How many records are taken out of the ring buffer at once.
const BATCH: usize = 256;

/// See the module.
pub(super) struct Shell {
    pub(super) core: Core,
    pub(super) todo: VecDeque<Action>,
    pub(super) programs: Option<Programs>,
    /// The hooks' states if there are no programs.
    refused: Option<Box<[Probe; 3]>>,
    pub(super) domains: Domains,
    pub(super) registry: Registry,
    pub(super) watchers: Watchers,
    pub(super) reports: Reports,
    /// Writes down all that the core is told, if that is asked for.
    pub(super) recorder: Option<Recorder>,
    pub(super) ended: UnboundedSender<Ended>,
    pub(super) reaper: Option<Reaper>,
    pub(super) started: Nanos,
    last_worker: u64,
    /// The worker that was looked at last (`upkeep`).
    pub(super) rechecked: WorkerId,
    drops: Drops,
    records: BytesMut,
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
        let to_loop = ended.clone();
        let reaper = Reaper::start(move |Returned { worker, pid, released }| {
            // Of the others the pidfd will tell.
            if released == Released::Done {
                // The loop is gone only when the agent is.
                let _ = to_loop.send(Ended { worker, pid, seen: Seen::Released });
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
            watchers: Watchers::default(),
            reports,
            recorder: None,
            ended,
            reaper: reaper.ok(),
            started: clock::now(),
            last_worker: 0,
            rechecked: WorkerId(0),
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

    fn carry_out(&mut self) {
        while let Some(action) = self.todo.pop_front() {
            self.act(action);
        }
    }

    fn tell(&mut self, event: Event) {
        let now = clock::now();
        if let Some(recorder) = &mut self.recorder {
            recorder.note(now, &event);
        }
        self.core.handle(event, now, &mut self.todo);
    }

    fn act(&mut self, action: Action) {
        let answer = match action {
            Action::Read(domain) => self.domains.read(domain, self.programs.as_ref()),
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
            Action::SetLine { domain, line, rearm } => {
                if let Some(programs) = &mut self.programs {
                    programs.cells.set_line(domain.0, line, rearm, false);
                }
                None
            }
            Action::Tell(verdict) => {
                if let Some(peer) = self.registry.whose(verdict.worker)
                    && peer.pushes.try_send(Push::Verdict((*verdict).clone())).is_err()
                {
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

    fn forget(&mut self, worker: WorkerId) {
        for pid in self.registry.remove(worker) {
            if let Some(programs) = &mut self.programs {
                programs.remove_process(pid);
            }
        }
    }

    /// Takes everything out of the ring buffer. The records are copied out in batches, so that the programs have
    /// their room back before anything is done about them.
    pub(super) fn drain(&mut self) {
        loop {
            let Some(programs) = &mut self.programs else { return };
            self.records.clear();
            while self.records.len() < BATCH * RECORD_LEN
                && let Some(item) = programs.events.next()
            {
                if item.len() == RECORD_LEN {
                    self.records.extend_from_slice(&item);
                } else {
                    tracing::error!(
                        length = item.len(),
                        "a record of another length: agent and programs differ"
                    );
                }
            }
            if self.records.is_empty() {
                return;
            }
            let mut batch = self.records.split();
            while !batch.is_empty() {
                match record::decode(&batch.split_to(RECORD_LEN)) {
                    Ok(record) => self.take(record),
                    Err(error) => tracing::error!(%error, "agent and programs differ"),
                }
            }
            // The memory of the batch is ours again: no other part of it lives.
            self.records.reserve(BATCH * RECORD_LEN);
        }
    }

    fn take(&mut self, record: Record) {
        use super::core::DomainId;
        match record {
            Record::Delta(delta) if self.domains.current(delta.generation) => self.happen(Event::Delta {
                domain: DomainId(delta.cell),
                counter: delta.counter,
                pushed: Nanos(delta.header.time),
            }),
            Record::Crossing(crossing) if self.domains.current(crossing.generation) => {
                self.happen(Event::Crossing {
                    domain: DomainId(crossing.cell),
                    counter: crossing.counter,
                    pushed: Nanos(crossing.header.time),
                });
            }
            // Of cells as they were before; the readings that came with the change know better.
            Record::Delta(_) | Record::Crossing(_) => {}
            Record::Fork(fork) => self.forked(WorkerId(fork.worker), Pid(fork.pid)),
            Record::Exit(exit) => {
                let (worker, pid) = (WorkerId(exit.worker), Pid(exit.pid));
                let at = Nanos(exit.header.time);
                let status = Some(exit.status);
                self.happen(Event::Ended { worker, pid, seen: Seen::Exit, status, at });
                self.end_if_unwatched(worker, pid);
            }
            Record::Stopped(_) => {}
        }
    }

    /// A worker's process has a child. That the kernel's map still has it proves that the descriptor is the
    /// child's: the exit hook takes a process off before its pid can be used again.
    fn forked(&mut self, worker: WorkerId, pid: Pid) {
        let Ok(process) = Process::open_unchecked(pid) else { return };
        let known = self.programs.as_ref().and_then(|programs| programs.worker_of(pid));
        if known == Some(worker) && self.registry.add_member(worker, process) {
            self.happen(Event::Forked { worker, pid });
        }
    }

    /// Nobody waits for the pidfd of a process that is not the registered one, as long as it is not to be killed:
    /// its exit record is its end.
    fn end_if_unwatched(&mut self, worker: WorkerId, pid: Pid) {
        let Some(entry) = self.registry.get(worker) else { return };
        if entry.members.iter().any(|member| member.process.pid() == pid && !member.watched) {
            self.ended(Ended { worker, pid, seen: Seen::Gone });
        }
    }

    /// A pidfd became readable, or memory was taken.
    pub(super) fn ended(&mut self, Ended { worker, pid, seen }: Ended) {
        if seen == Seen::Gone {
            self.registry.remove_member(worker, pid);
            if let Some(programs) = &mut self.programs
                && programs.worker_of(pid) == Some(worker)
            {
                programs.remove_process(pid);
            }
        }
        self.happen(Event::Ended { worker, pid, seen, status: None, at: clock::now() });
    }

    /// What is due at the core's deadline, and what only a look can tell: deltas, which wake nobody, lost records,
    /// descendants without the fork hook.
    pub(super) fn tick(&mut self) {
        self.drain();
        self.check_drops();
        if !self.programs.as_ref().is_some_and(|programs| programs.attached(Hook::Lineage)) {
            for worker in self.registry.ids() {
                self.scan(worker);
            }
        }
        self.happen(Event::Tick);
        self.recheck_some();
    }

    fn check_drops(&mut self) {
        let Some(Ok(drops)) = self.programs.as_ref().map(Programs::drops) else { return };
        if drops == self.drops {
            return;
        }
        let lost = |new: u64, old: u64| new.saturating_sub(old);
        let records = lost(drops.usage, self.drops.usage)
            + lost(drops.exit, self.drops.exit)
            + lost(drops.fork, self.drops.fork)
            + lost(drops.stopped, self.drops.stopped)
            + lost(drops.lineage, self.drops.lineage);
        self.drops = drops;
        self.happen(Event::Lost { records });
        for worker in self.registry.ids() {
            self.sweep(worker);
            self.scan(worker);
        }
    }

    /// Finds the ends that no record told of.
    fn sweep(&mut self, worker: WorkerId) {
        let Some(entry) = self.registry.get(worker) else { return };
        let gone: Vec<Pid> =
            entry.members.iter().filter(|m| m.process.ended()).map(|m| m.process.pid()).collect();
        for pid in gone {
            self.ended(Ended { worker, pid, seen: Seen::Gone });
        }
    }

    /// Finds the descendants of a worker that are not known yet. Each is told to the kernel before its own children
    /// are looked for: what it forks after that, the fork hook sees; what before, the next round does.
    pub(super) fn scan(&mut self, worker: WorkerId) {
        let procfs = self.domains.roots().procfs.clone();
        loop {
            let Some(entry) = self.registry.get(worker) else { return };
            let known: Vec<Pid> = entry.members.iter().map(|member| member.process.pid()).collect();
            let found = match with_descendants(&procfs, &known) {
                Ok(found) => found,
                Err(error) => return tracing::warn!(%error, %worker, "cannot look for its descendants"),
            };
            let mut new = false;
            for pid in found {
                if !known.contains(&pid) && self.registry.worker_of(pid).is_none() {
                    new |= self.adopt(&procfs, worker, pid);
                }
            }
            if !new {
                return;
            }
        }
    }

    fn adopt(&mut self, procfs: &Path, worker: WorkerId, pid: Pid) -> bool {
        // Gone already, or a zombie: nothing to adopt.
        let Ok(process) = Process::open(procfs, pid, None) else { return false };
        if let Some(programs) = &mut self.programs
            && let Err(error) = programs.add_process(pid, worker)
        {
            tracing::warn!(%error, %worker, %pid, "the kernel side cannot follow this process");
        }
        if !self.registry.add_member(worker, process) {
            return false;
        }
        self.happen(Event::Forked { worker, pid });
        if !self.programs.as_ref().is_some_and(|programs| programs.attached(Hook::Exit)) {
            self.await_member(worker, pid);
        }
        true
    }

    fn await_member(&mut self, worker: WorkerId, pid: Pid) {
        let Some(entry) = self.registry.get_mut(worker) else { return };
        for member in entry.members.iter_mut().filter(|member| member.process.pid() == pid && !member.watched)
        {
            member.watched = true;
            watch(worker, &member.process, self.ended.clone());
        }
    }

    /// Guards the cgroups with limits around a process, if that is asked for.
    pub(super) fn guard_around(&mut self, pid: Pid) {
        if !self.guards_ancestors {
            return;
        }
        let around = self.domains.limited_around(pid).unwrap_or_default();
        // The outermost first: it is the parent of the next.
        for path in around.iter().rev() {
            match self.domains.add_cgroup(path, self.programs.as_mut()) {
                Ok(Some(added)) => self.happen(added),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, cgroup = %path.as_path().display(), "cannot guard"),
            }
        }
    }

    /// Takes a process as a new worker. It was checked; what is left cannot be refused.
    pub(super) fn enroll(
        &mut self,
        process: Process,
        peer: crate::control::request::Peer,
        start_time: u64,
        event: impl FnOnce(WorkerId) -> Event,
    ) -> WorkerId {
        self.last_worker += 1;
        let worker = WorkerId(self.last_worker);
        let pid = process.pid();
        if let Some(programs) = &mut self.programs
            && let Err(error) = programs.set_process(pid, worker)
        {
            tracing::warn!(%error, %worker, %pid, "the kernel side cannot follow this worker");
        }
        watch(worker, &process, self.ended.clone());
        self.registry.add(worker, process, peer);
        self.core.handle(event(worker), clock::now(), &mut self.todo);
        let at = clock::of_ticks(start_time);
        if at < self.started {
            // Of a former agent, as a rule: coming back does not make it the newest.
            self.core.handle(Event::Started { worker, at }, clock::now(), &mut self.todo);
        }
        self.carry_out();
        self.scan(worker);
        worker
    }
}

/// Waits for a process's end, and reports it.
pub(super) fn watch(worker: WorkerId, process: &Process, ended: UnboundedSender<Ended>) {
    let pid = process.pid();
    match readiness::readable(process.fd()) {
        Ok(fd) => {
            tokio::spawn(async move {
                // An error of the poller counts as the end too: the worst is a process that is watched no more.
                let _ = fd.readable().await;
                // The loop is gone only when the agent is.
                let _ = ended.send(Ended { worker, pid, seen: Seen::Gone });
            });
        }
        Err(error) => tracing::error!(%error, %worker, %pid, "cannot wait for its end"),
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
        Note::Above { .. } | Note::Decided { .. } | Note::Killed(_) => {
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
