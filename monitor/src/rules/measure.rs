//! What workers by rule hold: for people, not on the way to a kill. A cgroup is read from its files; a tree is summed by
//! process, which takes the kernel up to 30 ms per GiB, so that a budget of time bounds it.

use std::time::{Duration, Instant};

use super::Found;
use super::facts::Machine;
use crate::memory::{CgroupPath, DomainReader, Hierarchy, Level, Roots, process};
use crate::units::{Bytes, MemoryKind, Pid};

/// How long all measurements of one look may take; after that processes count by RSS.
const BUDGET: Duration = Duration::from_secs(2);

/// Measures workers, within one budget.
#[derive(Debug)]
pub struct Scales<'s> {
    roots: &'s Roots,
    hierarchy: Option<Hierarchy>,
    deadline: Instant,
}

impl<'s> Scales<'s> {
    /// Begins with a whole budget.
    #[must_use]
    pub fn new(roots: &'s Roots) -> Self {
        let hierarchy = Hierarchy::find(&roots.cgroupfs, &roots.procfs).ok();
        Self { roots, hierarchy, deadline: Instant::now() + BUDGET }
    }

    /// What the worker holds, and what that is. `None`: unknown.
    #[must_use]
    pub fn weigh(&self, machine: &Machine, found: &Found<'_>) -> Option<(Bytes, MemoryKind)> {
        if found.cgroup.is_some()
            && found.whole
            && let Some(cgroup) = unit(machine, found)
            && let Some(held) = self.cgroup(&cgroup)
        {
            return Some((held, MemoryKind::Cgroup));
        }
        let pids = found.members.iter().filter_map(|index| machine.processes.get(*index));
        let mut sum = Bytes(0);
        let mut kind = MemoryKind::Pss;
        let mut known = false;
        for seen in pids {
            let (held, measured) = self.process(seen.pid, seen.rss);
            let Some(held) = held else { continue };
            known = true;
            sum = sum.saturating_add(held);
            if measured == MemoryKind::Rss {
                kind = MemoryKind::Rss;
            }
        }
        known.then_some((sum, kind))
    }

    fn process(&self, pid: Pid, rss: Option<Bytes>) -> (Option<Bytes>, MemoryKind) {
        if Instant::now() < self.deadline
            && let Ok(held) = process::memory(&self.roots.procfs, pid)
        {
            return (Some(held.bytes), held.measured);
        }
        (rss, MemoryKind::Rss)
    }

    fn cgroup(&self, cgroup: &CgroupPath) -> Option<Bytes> {
        let reader = DomainReader::cgroup(self.roots, self.hierarchy.as_ref()?, cgroup, false);
        match reader.ok()?.read().ok()? {
            Level::Limited(reading) => Some(reading.used),
            Level::NoLimit { used, .. } => Some(used),
        }
    }
}

/// The cgroup that is the worker.
#[must_use]
pub fn unit(machine: &Machine, found: &Found<'_>) -> Option<CgroupPath> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let cgroup = machine.cgroups.get(machine.processes.get(found.first)?.cgroup?)?;
    let path = cgroup.path.as_path().as_os_str().as_bytes();
    CgroupPath::new(OsStr::from_bytes(path.get(..found.cgroup?)?)).ok()
}
