//! Kills by the kernel's own out-of-memory killer, if no hook reports them: found by the counters of the workers'
//! cgroups (`oom_kill` in memory.events on v2, in memory.oom_control on v1). The kernel counts before it kills.
//!
//! A counter does not say which process. A kill is assigned to the first worker of the cgroup that ends soon after it,
//! by SIGKILL or in an unknown way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::domains::Domains;
use super::hooks::Hooks;
use super::workers::registry::Registry;
use crate::engine::{Event, Seen};
use crate::memory::{CgroupPath, Version};
use crate::units::Nanos;
use crate::worker::WorkerId;

/// If no worker ended in this time, the kill hit another process.
const CLAIM: Duration = Duration::from_secs(2);

/// How many cgroups are looked at in a tick: some microseconds each.
const A_TICK: usize = 32;

#[derive(Debug)]
struct Counter {
    last: u64,
    /// Kills that are not assigned to a worker's end yet.
    unclaimed: u64,
    /// When the last of them was seen.
    since: Nanos,
    workers: BTreeSet<WorkerId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct OomCounters {
    by_cgroup: BTreeMap<CgroupPath, Counter>,
    /// The cgroup that was looked at last.
    looked: Option<CgroupPath>,
}

impl OomCounters {
    /// A worker is there: what its cgroup counted before is not about it.
    pub(super) fn enter(&mut self, domains: &Domains, worker: WorkerId, now: Nanos) {
        let Some(cgroup) = domains.cgroup_of_worker(worker) else { return };
        if let Some(counter) = self.by_cgroup.get_mut(cgroup) {
            counter.workers.insert(worker);
        } else if let Some(last) = read(domains, cgroup) {
            let new = Counter { last, unclaimed: 0, since: now, workers: BTreeSet::from([worker]) };
            self.by_cgroup.insert(cgroup.clone(), new);
        }
    }

    /// It is forgotten.
    pub(super) fn leave(&mut self, worker: WorkerId) {
        self.by_cgroup.retain(|_, counter| {
            counter.workers.remove(&worker);
            !counter.workers.is_empty()
        });
    }

    /// At each tick: kills that hit no worker are forgotten in time.
    pub(super) fn look(&mut self, domains: &Domains, now: Nanos) {
        let start = self.looked.take();
        let after = |path: &&CgroupPath| start.as_ref().is_some_and(|start| *path > start);
        let rest = self.by_cgroup.keys().filter(after);
        let again = self.by_cgroup.keys().filter(|path| !after(path));
        let due: Vec<CgroupPath> = rest.chain(again).take(A_TICK).cloned().collect();
        for cgroup in &due {
            self.count(domains, cgroup, now);
        }
        self.looked = due.last().cloned();
    }

    /// Whether the registered process of a worker that ends was killed by the kernel for memory; the engine is to hear of it
    /// before it hears of the end. Hooks that tell by themselves are not doubted.
    pub(super) fn killed(
        &mut self,
        event: &Event,
        (hooks, domains, registry): (&Hooks, &Domains, &Registry),
        now: Nanos,
    ) -> Option<Event> {
        /// The signal in a wait(2) status, and what a shell makes of a child's.
        fn by_sigkill(status: u32) -> bool {
            status & 0x7f == 9 || (status >> 8) & 0xff == 137
        }
        let Event::Ended { worker, pid, seen: Seen::Exit | Seen::Gone, status, at } = *event else {
            return None;
        };
        let registered = registry.get(worker).is_some_and(|entry| entry.root == pid);
        if hooks.tell_oom_victims() || !registered || status.is_some_and(|status| !by_sigkill(status)) {
            return None;
        }
        let cgroup = self.by_cgroup.iter().find(|(_, counter)| counter.workers.contains(&worker))?.0.clone();
        self.count(domains, &cgroup, now);
        let counter = self.by_cgroup.get_mut(&cgroup)?;
        counter.unclaimed = counter.unclaimed.checked_sub(1)?;
        counter.workers.remove(&worker);
        Some(Event::OomVictim { worker, pid, at })
    }

    fn count(&mut self, domains: &Domains, cgroup: &CgroupPath, now: Nanos) {
        let Some(counter) = self.by_cgroup.get_mut(cgroup) else { return };
        // It was removed, or cannot be read now: it counts on from what is known.
        let Some(found) = read(domains, cgroup) else { return };
        if now.since(counter.since) > CLAIM {
            counter.unclaimed = 0;
        }
        let new = found.saturating_sub(counter.last);
        if new > 0 {
            counter.unclaimed += new;
            counter.since = now;
        }
        counter.last = found;
    }
}

/// How many processes of a cgroup the kernel killed for memory.
fn read(domains: &Domains, cgroup: &CgroupPath) -> Option<u64> {
    let hierarchy = domains.hierarchy()?;
    read_at(&hierarchy.dir(cgroup), hierarchy.version())
}

fn read_at(dir: &Path, version: Version) -> Option<u64> {
    // The root of v2 has none.
    let file = match version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_how_many_were_killed() {
        let dir = tempfile::tempdir().unwrap();
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let v2 = "low 0\nhigh 7\nmax 9\noom 2\noom_kill 1\noom_group_kill 5\n";
        fs::write(dir.path().join("memory.oom_control"), v1).unwrap();
        fs::write(dir.path().join("memory.events"), v2).unwrap();
        assert_eq!(read_at(dir.path(), Version::V1), Some(3));
        assert_eq!(read_at(dir.path(), Version::V2), Some(1));
        assert_eq!(read_at(&dir.path().join("gone"), Version::V2), None);
    }
}
