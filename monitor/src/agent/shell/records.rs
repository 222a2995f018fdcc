//! What the kernel's programs pushed, on its way to the engine: each record goes to the component that it concerns. The way
//! of a crossing begins here.

use monitor_common::RecordKind;

use super::{Components, Shell, turn};
use crate::agent::brake::look_for_stopped;
use crate::agent::event_loop::clock;
use crate::engine::{Event, Seen};
use crate::kernel::record::Record;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// How many batches are taken out in one turn of the loop: a few milliseconds.
const BATCHES: usize = 16;

impl Shell {
    /// Takes everything out of the ring buffer. Not for ever: whether there may be more.
    pub(in crate::agent) fn drain(&mut self) -> bool {
        let more = self.take_all();
        if let Some(pause) = self.parts.rules.pause() {
            if let Some(cells) = self.parts.domains.cells() {
                cells.set_changed_pause(pause);
            }
            self.look_at_changes();
        }
        more
    }

    fn take_all(&mut self) -> bool {
        for _ in 0..BATCHES {
            if !self.parts.hooks.take_out() {
                return false;
            }
            while let Some(record) = self.parts.hooks.next_record() {
                self.take(record);
            }
        }
        true
    }

    /// When there is something to look at that rules go by; `None`: nothing before something happens.
    pub(in crate::agent) fn next_look(&self, now: Nanos) -> Option<Nanos> {
        self.parts.rules.next(now)
    }

    /// Looks at what is due of that. Whether records are left.
    pub(in crate::agent) fn look(&mut self, now: Nanos) -> bool {
        let more = self.parts.rules.pause_is_over(now) && self.drain();
        self.look_at_changes();
        more
    }

    pub(super) fn look_at_changes(&mut self) {
        let Components { rules, domains, .. } = &mut self.parts;
        let cgroups = domains.cells().map(|cells| cells.cgroups());
        rules.go_on(clock::now(), cgroups);
    }

    /// The rules are in force: from now on the kernel tells of what they could match.
    pub(in crate::agent) fn follow_rules(&mut self) {
        let Components { rules, hooks, .. } = &mut self.parts;
        hooks.follow_rules(rules.wanted().as_ref());
        rules.set_told(hooks.told().changes);
    }

    fn take(&mut self, record: Record) {
        let Components { domains, workers, hooks, rules, .. } = &mut self.parts;
        match record {
            // Those of cells as they were before are passed over: the readings that came with the change know better.
            Record::Delta(delta) => {
                if let Some(domain) = domains.counted_in(delta.cell, delta.generation) {
                    let (counter, pushed) = (delta.counter, Nanos(delta.header.time));
                    self.happen(Event::Delta { domain, counter, pushed });
                }
            }
            Record::Crossing(crossing) => {
                if let Some(domain) = domains.counted_in(crossing.cell, crossing.generation) {
                    let (counter, pushed) = (crossing.counter, Nanos(crossing.header.time));
                    self.happen(Event::Crossing { domain, counter, pushed });
                }
            }
            Record::Fork(fork) => {
                workers.forked(turn!(self), hooks.told(), WorkerId(fork.worker), Pid(fork.pid));
                self.settle();
            }
            Record::Exit(exit) => {
                let (worker, pid) = (WorkerId(exit.worker), Pid(exit.pid));
                let (at, status) = (Nanos(exit.header.time), Some(exit.status));
                self.happen(Event::Ended { worker, pid, seen: Seen::Exit, status, at });
                self.parts.workers.end_if_unwatched(turn!(self), worker, pid);
                self.settle();
            }
            Record::Changed(changed) => {
                let renamed = changed.header.kind == RecordKind::Rename as u32;
                let name = changed.name.split(|byte| *byte == 0).next().filter(|_| renamed);
                rules.heard(Pid(changed.pid), name.map(<[u8]>::to_vec));
            }
            Record::OomVictim(victim) => self.happen(Event::OomVictim {
                worker: WorkerId(victim.worker),
                pid: Pid(victim.pid),
                at: Nanos(victim.header.time),
            }),
            Record::Stopped(stopped) => self.happen(Event::Stopped {
                worker: WorkerId(stopped.worker),
                pid: Pid(stopped.pid),
                at: Nanos(stopped.header.time),
            }),
        }
    }

    /// Whether records were lost: then everything that they could have told of is looked for.
    pub(super) fn check_drops(&mut self) {
        let Some(lost) = self.parts.hooks.lost() else { return };
        if lost.changes {
            self.parts.rules.lost();
        }
        if lost.records == 0 {
            return;
        }
        if lost.stops {
            look_for_stopped(turn!(self), &self.parts.workers);
            self.settle();
        }
        self.happen(Event::Lost { records: lost.records });
        self.step(|parts, turn| parts.workers.sweep_all(turn));
        self.step(|parts, turn| {
            parts.workers.find_all_descendants(turn);
            parts.workers.sweep_strangers(turn);
        });
    }
}
