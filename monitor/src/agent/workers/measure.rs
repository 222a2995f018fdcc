//! What each worker holds, measured from time to time on a thread of its own: for reports, and for `by_time`, which
//! ranks by size. A kill never waits for it. New workers are measured soon (`young`).
//!
//! Invariant: of a victim nothing is measured. A reader of a process's memory statistics holds that memory meanwhile:
//! it would not be freed by the death, and the next victim would be innocent.

mod glance;
mod young;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use self::glance::{Glances, Known, private_of_each};
use self::young::Young;
use super::registry::{Registry, WorkerProcesses};
use crate::agent::domains::Domains;
use crate::agent::event_loop::later::{Later, Measurement};
use crate::agent::event_loop::patient::on_a_thread;
use crate::agent::turn::Turn;
use crate::engine::{DomainId, Engine, Event};
use crate::memory::process::{memory_of_all, peak, rss};
use crate::memory::{CgroupPath, Hierarchy, Roots, own, users};
use crate::units::{Bytes, Nanos, Pid};
use crate::worker::WorkerId;

/// Workers have begun to hold something by then.
const FIRST: Duration = Duration::from_secs(1);

/// How often, far from every threshold; and how often near to one, or while a start waits for room.
const EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(500));

/// Summing up pages takes the kernel up to 30 ms per GiB: the pause is at least this many times as long, far and near.
const PAUSE: (u32, u32) = (200, 40);

/// New workers that come at the same time are measured together.
const TOGETHER: Duration = Duration::from_millis(10);

/// The victims of the kills in flight, and of some that are over: shared with the threads that measure.
#[derive(Debug, Clone, Default)]
pub(in crate::agent) struct Dying(Arc<Mutex<Vec<WorkerId>>>);

impl Dying {
    /// It was signaled.
    pub(in crate::agent) fn add(&self, worker: WorkerId) {
        self.workers().push(worker);
    }

    fn has(&self, worker: WorkerId) -> bool {
        self.workers().contains(&worker)
    }

    fn workers(&self) -> MutexGuard<'_, Vec<WorkerId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which workers to measure.
#[derive(PartialEq, Eq)]
enum Whom {
    /// All, and again after a pause.
    All,
    /// All, now and besides.
    AllNow,
    /// These alone.
    These(Vec<WorkerId>),
}

/// The processes to measure.
struct Subject {
    worker: WorkerId,
    /// The registered process first.
    pids: Vec<Pid>,
    /// Where it is, if no other worker is there: whether it is its own is seen by reading who else is.
    cgroup: Option<CgroupPath>,
}

/// Whether workers are being measured, and where the result goes.
pub(in crate::agent) struct Measuring {
    busy: bool,
    dying: Dying,
    young: Young,
    /// When the next of them is due. Those that come within a moment are measured together.
    young_due: Option<Nanos>,
    /// When all are measured next; `None`: there was nobody the last time.
    due: Option<Nanos>,
    /// What quick looks count from.
    known: HashMap<WorkerId, Known>,
    glances: Glances,
    to_loop: UnboundedSender<Later>,
}

impl Measuring {
    pub(in crate::agent) fn new(dying: Dying, to_loop: UnboundedSender<Later>) -> Self {
        Self {
            busy: false,
            dying,
            young: Young::default(),
            young_due: None,
            due: None,
            known: HashMap::new(),
            glances: Glances::default(),
            to_loop,
        }
    }

    /// A worker came.
    pub(in crate::agent) fn came(&mut self, worker: WorkerId, now: Nanos) {
        let first = self.young.add(worker, now);
        self.young_due = Some(self.young_due.map_or(first, |due| due.min(first)));
        self.due.get_or_insert(now.after(FIRST));
    }

    /// When new workers are to be measured. All the others can wait for a tick: they need no wake-up of their own.
    pub(in crate::agent) fn next(&self) -> Option<Nanos> {
        // The end of a measurement wakes the loop.
        self.young_due.filter(|_| !self.busy)
    }

    /// At each tick: measures the new workers, or all, if they are due.
    pub(in crate::agent) fn tick(
        &mut self,
        engine: &Engine,
        domains: &Domains,
        registry: &Registry,
        now: Nanos,
    ) {
        if self.busy {
            return;
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            if registry.len() > 0 {
                return self.start(engine, domains, registry, Whom::All);
            }
        }
        if self.young_due.is_some_and(|due| due <= now) {
            let due = self.young.due(now);
            self.young_due = self.young.next().map(|next| next.max(now.after(TOGETHER)));
            if !due.is_empty() {
                self.start(engine, domains, registry, Whom::These(due));
            }
        }
    }

    /// One that cannot wait until it is due.
    pub(in crate::agent) fn at_once(&mut self, engine: &Engine, domains: &Domains, registry: &Registry) {
        if !self.busy {
            self.start(engine, domains, registry, Whom::AllNow);
        }
    }

    /// The quick one, of one domain: resident memory costs microseconds for each process.
    pub(in crate::agent) fn gauge(
        &self,
        engine: &Engine,
        domains: &Domains,
        registry: &Registry,
        domain: DomainId,
    ) {
        let candidates = engine.candidates(domain).filter_map(|id| registry.get(id));
        let candidates: Vec<Pid> = candidates.flat_map(WorkerProcesses::pids).collect();
        let known = workers_of(engine, registry);
        let (roots, hierarchy) = (domains.roots().clone(), domains.hierarchy().cloned());
        let (path, to_loop) = (domains.path(domain), self.to_loop.clone());
        tokio::spawn(async move {
            let held = on_a_thread(move || {
                let resident = |pid| rss(&roots.procfs, pid).unwrap_or_default();
                let candidates = candidates.into_iter().map(resident).fold(Bytes(0), Bytes::saturating_add);
                let weighed = vec![(domain, path)];
                let (_, others) = others(&roots, hierarchy.as_ref(), weighed, &known).pop()?;
                Some((candidates, others?))
            });
            // The loop is gone only when the agent is.
            let _ = to_loop.send(Later::Gauged(domain, held.await.flatten()));
        });
    }

    fn start(&mut self, engine: &Engine, domains: &Domains, registry: &Registry, whom: Whom) {
        self.busy = true;
        let (roots, hierarchy) = (domains.roots().clone(), domains.hierarchy().cloned());
        let dying = self.dying.clone();
        *dying.workers() = engine.victims();
        let extra = whom != Whom::All;
        let (ids, weighed) = match whom {
            Whom::These(ids) => (ids, Vec::new()),
            Whom::All | Whom::AllNow => (registry.ids(), engine.weighs()),
        };
        let workers: Vec<Subject> = ids
            .into_iter()
            .filter(|id| !dying.has(*id))
            .filter_map(|id| {
                let (pids, cgroup) =
                    (registry.get(id)?.pids(), domains.cgroup_of_this_worker_alone(id).cloned());
                Some(Subject { worker: id, pids, cgroup })
            })
            .collect();
        let weighed: Vec<_> = weighed.into_iter().map(|id| (id, domains.path(id))).collect();
        let pids = if weighed.is_empty() { Vec::new() } else { workers_of(engine, registry) };
        let to_loop = self.to_loop.clone();
        tokio::spawn(async move {
            let measured = on_a_thread(move || {
                let mut measured = all(&roots, hierarchy.as_ref(), workers, &dying, extra);
                measured.others = others(&roots, hierarchy.as_ref(), weighed, &pids);
                measured
            });
            let nothing = Measurement { extra, ..Measurement::default() };
            let measured = measured.await;
            // The loop is gone only when the agent is.
            let _ = to_loop.send(Later::Measured(measured.unwrap_or(nothing)));
        });
    }

    /// Takes note of a measurement, and of when the next is due.
    pub(in crate::agent) fn measured(&mut self, turn: &mut Turn<'_>, mut measurement: Measurement) {
        self.busy = false;
        self.know(&mut measurement);
        for (worker, sample) in measurement.samples {
            turn.tell(Event::Memory {
                worker,
                memory: sample.map(|sample| sample.bytes),
                measured: sample.map(|sample| sample.measured),
            });
        }
        for (worker, peak) in measurement.peaks {
            turn.tell(Event::Peak { worker, peak });
        }
        for (domain, memory) in measurement.others {
            turn.tell(Event::Others { domain, memory });
        }
        if measurement.extra {
            return;
        }
        self.known.retain(|worker, _| turn.engine.knows(*worker));
        let soon = !turn.engine.near().is_empty() || turn.engine.has_waiting_starts();
        let (every, pause) = if soon { (EVERY.1, PAUSE.1) } else { (EVERY.0, PAUSE.0) };
        self.due = Some(turn.now.after(every.max(measurement.took * pause)));
    }
}

/// The processes of all workers, in order. An observed worker is not killed, so its memory counts as other processes'
/// memory.
fn workers_of(engine: &Engine, registry: &Registry) -> Vec<Pid> {
    let known = registry.ids().into_iter().filter(|id| !engine.observes(*id));
    let known = known.filter_map(|id| registry.get(id));
    let mut pids: Vec<Pid> = known.flat_map(WorkerProcesses::pids).collect();
    pids.sort_unstable();
    pids
}

/// What processes hold that are none of `workers` (in order), by domain; a domain without a path is the node.
fn others(
    roots: &Roots,
    hierarchy: Option<&Hierarchy>,
    domains: Vec<(DomainId, Option<CgroupPath>)>,
    workers: &[Pid],
) -> Vec<(DomainId, Option<Bytes>)> {
    let of = |path: Option<&CgroupPath>| {
        let within = match path {
            None => None,
            Some(path) => Some((hierarchy?, path)),
        };
        users::private_but(&roots.procfs, within, workers).ok()
    };
    domains.into_iter().map(|(id, path)| (id, of(path.as_ref()))).collect()
}

/// Workers that ended meanwhile, and those that are being killed, are left out.
fn all(
    roots: &Roots,
    hierarchy: Option<&Hierarchy>,
    workers: Vec<Subject>,
    dying: &Dying,
    extra: bool,
) -> Measurement {
    let started = Instant::now();
    let mut private = HashMap::new();
    let alone = |subject: &Subject| match subject.pids[..] {
        [pid] => Some((subject.worker, peak(&roots.procfs, pid)?)),
        _ => None,
    };
    let peaks: Vec<(WorkerId, Bytes)> = workers.iter().filter_map(alone).collect();
    let samples = workers.into_iter().filter_map(|Subject { worker, pids, cgroup }| {
        let own = hierarchy.zip(cgroup.as_ref());
        let own = own.and_then(|(hierarchy, cgroup)| own::memory(roots, hierarchy, cgroup, &pids));
        let living = pids.iter().copied().take_while(|_| !dying.has(worker));
        let memory = own.map_or_else(|| memory_of_all(&roots.procfs, living), Ok);
        // What was summed up until then is not all of it.
        if dying.has(worker) {
            return None;
        }
        match memory {
            Ok(memory) if memory.bytes == Bytes(0) => None,
            Ok(memory) => {
                private.insert(worker, private_of_each(roots, &pids).into_iter().collect());
                Some((worker, Some(memory)))
            }
            Err(_) => Some((worker, None)),
        }
    });
    let samples = samples.collect();
    Measurement { samples, private, peaks, others: Vec::new(), took: started.elapsed(), extra }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_being_killed_is_not_measured() {
        let roots = Roots { procfs: "/proc".into(), cgroupfs: "/nowhere".into() };
        let subjects = || -> Vec<Subject> {
            let pids = vec![Pid(std::process::id())];
            (1..=2).map(|id| Subject { worker: WorkerId(id), pids: pids.clone(), cgroup: None }).collect()
        };
        let dying = Dying::default();
        let measured = |dying: &Dying| -> Vec<WorkerId> {
            let samples = all(&roots, None, subjects(), dying, false).samples;
            samples.into_iter().filter(|(_, sample)| sample.is_some()).map(|(worker, _)| worker).collect()
        };
        assert_eq!(measured(&dying), [WorkerId(1), WorkerId(2)]);
        dying.add(WorkerId(1));
        assert_eq!(measured(&dying), [WorkerId(2)]);
    }
}
