//! Quick looks at workers in domains near their threshold. Summing up pages (PSS) takes up to 30 ms per GiB, so it is done
//! seldom; in between, the counters that the kernel keeps of each process (the ones that `rss_stat` reports) say by how
//! much each worker grew since. A process costs some microseconds, and its memory is held no longer than that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{Measuring, others, workers_of};
use crate::agent::domains::Domains;
use crate::agent::event_loop::later::{Glance, Later, Measurement, after};
use crate::agent::event_loop::patient::on_a_thread;
use crate::agent::turn::Turn;
use crate::agent::workers::registry::{Registry, WorkerProcesses};
use crate::engine::{DomainId, Engine, Event};
use crate::memory::{Roots, process};
use crate::units::{Bytes, MemoryKind, Pid};
use crate::worker::WorkerId;

/// The shortest pause between two, and the longest: as long as nothing moves it is doubled.
const EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// What moves less stands still.
const MOVES: u64 = 1 << 20;

/// It is at least this many times as long as the look took: one percent of a processor.
const PAUSE: u32 = 100;

/// What was measured of a worker, and what its processes held privately then, or when they were first seen since.
#[derive(Debug, Clone)]
pub(super) struct Known {
    memory: Bytes,
    private: HashMap<Pid, Bytes>,
}

impl Known {
    /// What it holds now. Processes that have ended say nothing: what was freed with them, the next measurement tells.
    fn estimate(&mut self, now: &[(Pid, Bytes)]) -> Bytes {
        let (mut memory, mut shrank) = (self.memory, Bytes(0));
        for (pid, private) in now {
            let then = *self.private.entry(*pid).or_insert(*private);
            memory = memory.saturating_add(private.saturating_sub(then));
            shrank = shrank.saturating_add(then.saturating_sub(*private));
        }
        memory.saturating_sub(shrank)
    }
}

/// When to look.
#[derive(Debug, Default)]
pub(super) struct Glances {
    /// One is under way; a timer runs for the next.
    busy: bool,
    timed: bool,
    /// The pause after the last one, and what all together held then.
    pause: Duration,
    held: u64,
}

impl Glances {
    /// The pause after a look that found so much.
    fn rest(&mut self, glance: &Glance) -> Duration {
        let workers = glance.workers.iter().flat_map(|(_, each)| each).map(|(_, private)| private.0);
        let others = glance.others.iter().filter_map(|(_, held)| Some(held.as_ref()?.0));
        let held = workers.chain(others).fold(0, u64::saturating_add);
        let moves = held.abs_diff(std::mem::replace(&mut self.held, held)) >= MOVES;
        self.pause = if moves { EVERY.0 } else { (self.pause * 2).clamp(EVERY.0, EVERY.1) };
        self.pause.max(glance.took * PAUSE)
    }
}

/// What processes hold privately by the kernel's counters. Those that have ended are left out.
pub(super) fn private_of_each(roots: &Roots, pids: &[Pid]) -> Vec<(Pid, Bytes)> {
    let held = |pid: &Pid| {
        Some((*pid, process::counted(&roots.procfs, *pid).ok().filter(|held| held.0 > Bytes(0))?.1))
    };
    pids.iter().filter_map(held).collect()
}

impl Measuring {
    /// Workers were measured: growth counts from that.
    pub(super) fn know(&mut self, measurement: &mut Measurement) {
        for (worker, sample) in &measurement.samples {
            if let (Some(sample), Some(private)) = (sample, measurement.private.remove(worker)) {
                self.known.insert(*worker, Known { memory: sample.bytes, private });
            }
        }
    }

    /// At a tick: looks go on as long as a domain is near its threshold.
    pub(in crate::agent) fn time_glances(&mut self, engine: &Engine) {
        if !self.glances.busy && !self.glances.timed && !engine.near().is_empty() {
            self.next_glance(EVERY.0);
        }
    }

    fn next_glance(&mut self, wait: Duration) {
        self.glances.timed = true;
        after(wait, Later::Glance, self.to_loop.clone());
    }

    /// The timer's.
    pub(in crate::agent) fn glance_by_timer(
        &mut self,
        engine: &Engine,
        domains: &Domains,
        registry: &Registry,
    ) {
        self.glances.timed = false;
        self.glance(engine, domains, registry, None);
    }

    /// Looks at the candidates of all domains near their threshold, and at what other processes hold there. In one of
    /// them a worker may just have been killed, its last one.
    pub(in crate::agent) fn glance(
        &mut self,
        engine: &Engine,
        domains: &Domains,
        registry: &Registry,
        killed_in: Option<DomainId>,
    ) {
        let (mut near, mut weighed) = (engine.near(), engine.weighs());
        for looked_at in [&mut near, &mut weighed] {
            looked_at.extend(killed_in.filter(|id| !looked_at.contains(id)));
        }
        if self.glances.busy || near.is_empty() {
            return;
        }
        self.glances.busy = true;
        let mut ids: Vec<WorkerId> = near.iter().flat_map(|id| engine.candidates(*id)).collect();
        ids.sort_unstable();
        ids.dedup();
        let pids = |id: WorkerId| registry.get(id).map(WorkerProcesses::pids).unwrap_or_default();
        let workers: Vec<(WorkerId, Vec<Pid>)> = ids.into_iter().map(|id| (id, pids(id))).collect();
        let weighed: Vec<_> = weighed.into_iter().map(|id| (id, domains.path(id))).collect();
        let all = workers_of(engine, registry);
        let (roots, hierarchy) = (domains.roots().clone(), domains.hierarchy().cloned());
        let (dying, to_loop) = (self.dying.clone(), self.to_loop.clone());
        tokio::spawn(async move {
            let found = on_a_thread(move || {
                let started = Instant::now();
                let living = workers.into_iter().filter(|(worker, _)| !dying.has(*worker));
                let workers = living.map(|(worker, pids)| (worker, private_of_each(&roots, &pids)));
                let workers =
                    workers.filter(|(worker, each)| !each.is_empty() && !dying.has(*worker)).collect();
                let others = others(&roots, hierarchy.as_ref(), weighed, &all);
                Glance { workers, others, took: started.elapsed() }
            });
            // The loop is gone only when the agent is.
            let _ = to_loop.send(Later::Glanced(found.await.unwrap_or_default()));
        });
    }

    /// Takes note of it, and of when the next is due.
    pub(in crate::agent) fn glanced(&mut self, turn: &mut Turn<'_>, glance: Glance) {
        self.glances.busy = false;
        let pause = self.glances.rest(&glance);
        for (worker, each) in glance.workers {
            // One that was not measured yet is soon.
            let Some(known) = self.known.get_mut(&worker) else { continue };
            let memory = Some(known.estimate(&each));
            turn.tell(Event::Memory { worker, memory, measured: Some(MemoryKind::Estimate) });
        }
        for (domain, memory) in glance.others {
            turn.tell(Event::Others { domain, memory });
        }
        if !self.glances.timed && !turn.engine.near().is_empty() {
            self.next_glance(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_is_looked_at_less_often_and_what_moves_at_once_again() {
        let mut glances = Glances::default();
        let mut rest = |mib: u64, took: u64| {
            let workers = vec![(WorkerId(1), vec![(Pid(1), Bytes(mib << 20))])];
            let took = Duration::from_millis(took);
            glances.rest(&Glance { workers, others: Vec::new(), took }).as_millis()
        };
        assert_eq!([rest(9, 0), rest(9, 0), rest(9, 0), rest(9, 0), rest(9, 0)], [100, 200, 400, 500, 500]);
        assert_eq!([rest(10, 0), rest(10, 9)], [100, 900], "and never more than a percent of a processor");
    }

    #[test]
    fn what_children_share_with_their_parent_is_counted_once() {
        let (parent, child) = (Pid(1), Pid(2));
        let mut known = Known { memory: Bytes(80), private: [(parent, Bytes(80))].into() };
        assert_eq!(
            known.estimate(&[(parent, Bytes(85)), (child, Bytes(80))]),
            Bytes(85),
            "a child that forked"
        );
        assert_eq!(known.estimate(&[(parent, Bytes(80)), (child, Bytes(90))]), Bytes(90), "and grew");
        assert_eq!(known.estimate(&[(parent, Bytes(70))]), Bytes(70), "and ended");
    }
}
