//! The workers: their processes, numbers and memory, and how all of these are kept current. The component owns the
//! registry and the kernel's map of workers' processes, and reports changes; the engine decides what follows.

mod by_rule;
mod enrolling;
mod fork_limit;
mod leaving;
pub(in crate::agent) mod measure;
pub(in crate::agent) mod members;
pub(in crate::agent) mod numbering;
mod recheck;
pub(in crate::agent) mod registry;
mod without_pidfd;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use tokio::sync::mpsc::UnboundedSender;

pub(in crate::agent) use self::enrolling::Enrollment;
use self::members::Ended;
use self::numbering::Numbers;
use self::registry::Registry;
use crate::kernel::workers::WorkerMap;
use crate::units::{Nanos, Pid};
use crate::worker::WorkerId;

/// See the module.
pub(in crate::agent) struct Workers {
    pub(in crate::agent) registry: Registry,
    /// The kernel's map of all workers' processes; `None`: the programs are not loaded.
    pub(in crate::agent) map: Option<WorkerMap>,
    numbers: Numbers,
    /// Workers of which the kernel does not tell everything: their descendants and ends are looked for at each tick.
    looked_after: BTreeSet<WorkerId>,
    /// Processes that are part of no worker that a rule made.
    barred: HashSet<Pid>,
    /// The last look at all processes failed.
    look_again: bool,
    /// The process that was checked last (`recheck`).
    round: recheck::Round,
    /// Where the tasks that wait for pidfds report.
    ended: UnboundedSender<Ended>,
    procfs: PathBuf,
    /// When the agent started: an older process may have been a previous agent's worker.
    started: Nanos,
}

impl Workers {
    pub(in crate::agent) fn new(
        registry: Registry,
        map: Option<WorkerMap>,
        numbers: Numbers,
        ended: UnboundedSender<Ended>,
        procfs: PathBuf,
        started: Nanos,
    ) -> Self {
        Self {
            registry,
            map,
            numbers,
            looked_after: BTreeSet::new(),
            barred: HashSet::new(),
            look_again: false,
            round: recheck::Round::default(),
            ended,
            procfs,
            started,
        }
    }

    pub(in crate::agent) fn procfs(&self) -> &std::path::Path {
        &self.procfs
    }

    /// The worker of a process, by the kernel's map.
    pub(in crate::agent) fn mapped(&self, pid: Pid) -> Option<WorkerId> {
        self.map.as_ref().and_then(|map| map.worker_of(pid))
    }

    /// The worker of a process, by the kernel's map, which is ahead of ours, or by ours.
    pub(in crate::agent) fn whose(&self, pid: Pid) -> Option<WorkerId> {
        self.mapped(pid).or_else(|| self.registry.worker_of(pid))
    }

    /// From now on the descendants and the ends of a worker are looked for at each tick.
    fn look_after(&mut self, worker: WorkerId) {
        self.looked_after.insert(worker);
    }
}
