//! The ring buffer's records on their way to the engine. Knows the records' meaning, decides nothing.

use monitor_common::RECORD_LEN;

use crate::agent::shell::{BATCH, Shell};
use crate::engine::{Event, Seen};
use crate::kernel::record::{self, Record};
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// How many batches are taken out in one turn: a few milliseconds.
const BATCHES: usize = 16;

impl Shell {
    /// Takes everything out of the ring buffer. The records are copied out in batches, so that the programs have
    /// their room back before anything is done about them.
    ///
    /// Not for ever: whether there may be more.
    pub(in crate::agent) fn drain(&mut self) -> bool {
        for _ in 0..BATCHES {
            let Some(programs) = &mut self.programs else { return false };
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
                return false;
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
        true
    }

    fn take(&mut self, record: Record) {
        match record {
            // Those of cells as they were before are passed over: the readings that came with the change know better.
            Record::Delta(delta) => {
                if let Some(domain) = self.domains.counted_in(delta.cell, delta.generation) {
                    let (counter, pushed) = (delta.counter, Nanos(delta.header.time));
                    self.happen(Event::Delta { domain, counter, pushed });
                }
            }
            Record::Crossing(crossing) => {
                if let Some(domain) = self.domains.counted_in(crossing.cell, crossing.generation) {
                    let (counter, pushed) = (crossing.counter, Nanos(crossing.header.time));
                    self.happen(Event::Crossing { domain, counter, pushed });
                }
            }
            Record::Fork(fork) => self.forked(WorkerId(fork.worker), Pid(fork.pid)),
            Record::Exit(exit) => {
                let (worker, pid) = (WorkerId(exit.worker), Pid(exit.pid));
                let at = Nanos(exit.header.time);
                let status = Some(exit.status);
                self.happen(Event::Ended { worker, pid, seen: Seen::Exit, status, at });
                self.end_if_unwatched(worker, pid);
            }
            Record::Stopped(stopped) => self.happen(Event::Stopped {
                worker: WorkerId(stopped.worker),
                pid: Pid(stopped.pid),
                at: Nanos(stopped.header.time),
            }),
        }
    }

    pub(in crate::agent) fn check_drops(&mut self) {
        let Some(Ok(drops)) = self.programs.as_ref().map(|programs| programs.drops.sum()) else { return };
        if drops == self.drops {
            return;
        }
        let lost = |new: u64, old: u64| new.saturating_sub(old);
        let records = lost(drops.usage, self.drops.usage)
            + lost(drops.exit, self.drops.exit)
            + lost(drops.fork, self.drops.fork)
            + lost(drops.stopped, self.drops.stopped)
            + lost(drops.lineage, self.drops.lineage);
        let stops = drops.stopped != self.drops.stopped;
        self.drops = drops;
        if stops {
            self.look_for_stopped();
        }
        self.happen(Event::Lost { records });
        for worker in self.registry.ids() {
            self.sweep(worker);
        }
        self.scan_all();
        self.sweep_strangers();
    }
}
