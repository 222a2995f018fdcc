//! The memory of a worker that has a cgroup of its own: what is charged to it, shared memory included
//! (docs/behavior.md#accounting). A cold path.

use std::path::Path;

use super::process::{self, ProcessMemory, parent_of};
use super::{CgroupPath, DomainReader, Hierarchy, Level, Roots, users};
use crate::executable;
use crate::units::{Bytes, MemoryKind, Pid};

/// What is charged to `cgroup` if it is the own one of the worker with these processes, its first one first: no other
/// process is in it or below it, and none of them elsewhere. Its `monitor run` and what that starts beside it, which
/// are small and would not be there without it, do not count as somebody else. `None`: it is not its own, or could not be read.
#[must_use]
pub fn memory(
    roots: &Roots,
    hierarchy: &Hierarchy,
    cgroup: &CgroupPath,
    worker: &[Pid],
) -> Option<ProcessMemory> {
    if cgroup.is_root() {
        return None;
    }
    let members = users::members(&hierarchy.dir(cgroup)).ok()?;
    let runner = worker.first().and_then(|first| runner_of(&roots.procfs, *first));
    let runners = |pid: Pid| Some(pid) == runner || helper_of(&roots.procfs, pid, runner);
    let known = |pid: &Pid| worker.contains(pid) || runners(*pid);
    // One that is not in it has ended, or holds memory elsewhere.
    let elsewhere = |pid: &&Pid| {
        !members.contains(pid) && process::rss(&roots.procfs, **pid).is_ok_and(|held| held > Bytes(0))
    };
    if members.is_empty() || !members.iter().all(known) || worker.iter().any(|pid| elsewhere(&pid)) {
        return None;
    }
    let bytes = match DomainReader::cgroup(roots, hierarchy, cgroup, false).ok()?.read().ok()? {
        Level::Limited(reading) => reading.used,
        Level::NoLimit { used, .. } => used,
    };
    Some(ProcessMemory { bytes, measured: MemoryKind::Cgroup })
}

/// The parent of a process if it runs this program.
fn runner_of(procfs: &Path, pid: Pid) -> Option<Pid> {
    parent_of(procfs, pid).filter(|parent| runs_this_program(procfs, *parent))
}

/// Whether a process is the one that the runner starts beside its command (`runner/witness`).
fn helper_of(procfs: &Path, pid: Pid, runner: Option<Pid>) -> bool {
    runner.is_some() && parent_of(procfs, pid) == runner && runs_this_program(procfs, pid)
}

fn runs_this_program(procfs: &Path, pid: Pid) -> bool {
    let program = |pid: &str| executable::file(&procfs.join(pid).join("exe"));
    program("self").is_some_and(|own| program(&pid.to_string()) == Some(own))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Tree, cgroup};
    use super::*;

    /// Processes 40 and 41, each with some memory, are in /box.
    fn tree() -> Tree {
        let tree = Tree::of("v2");
        for dir in ["cgroup/box/inner/small", "cgroup/box/inner", "cgroup/box"] {
            tree.write(&format!("{dir}/cgroup.procs"), "");
        }
        tree.write("cgroup/box/cgroup.procs", "40\n41\n");
        for pid in [40, 41, 42] {
            tree.write(&format!("proc/{pid}/status"), "Name:\tx\nPPid:\t1\nVmRSS:\t8 kB\n");
        }
        tree
    }

    fn of(tree: &Tree, path: &str, worker: &[u32]) -> Option<MemoryKind> {
        let worker: Vec<Pid> = worker.iter().copied().map(Pid).collect();
        memory(&tree.roots, &tree.hierarchy().unwrap(), &cgroup(path), &worker).map(|memory| memory.measured)
    }

    #[test]
    fn a_cgroup_is_a_workers_own_if_nobody_else_is_in_it_and_nothing_of_it_elsewhere() {
        let tree = tree();
        assert_eq!(of(&tree, "/box", &[40, 41]), Some(MemoryKind::Cgroup));
        assert_eq!(of(&tree, "/box", &[40]), None, "41 is another's");
        assert_eq!(of(&tree, "/box", &[40, 41, 42]), None, "42 is elsewhere");
        tree.remove("proc/42/status");
        assert_eq!(of(&tree, "/box", &[40, 41, 42]), Some(MemoryKind::Cgroup), "it has ended");
        assert_eq!(of(&tree, "/", &[40, 41]), None, "the root is nobody's");
        tree.write("cgroup/box/inner/cgroup.procs", "43\n");
        assert_eq!(of(&tree, "/box", &[40, 41]), None, "somebody is below it");
    }

    #[test]
    fn it_is_what_is_charged_that_is_measured() {
        let tree = tree();
        let worker = [Pid(40), Pid(41)];
        let held = memory(&tree.roots, &tree.hierarchy().unwrap(), &cgroup("/box"), &worker).unwrap();
        let Ok(Level::Limited(reading)) = tree.read("/box", false) else { panic!("the box has a limit") };
        assert_eq!(held.bytes, reading.used);
    }
}
