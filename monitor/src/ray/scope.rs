//! Which raylets are this agent's business: those that run in what it guards. Another agent may follow the others.

use std::path::{Path, PathBuf};

use crate::memory::{CgroupPath, Hierarchy};
use crate::units::Pid;

/// See the module.
pub(crate) struct Scope {
    procfs: PathBuf,
    /// The named cgroups and the hierarchy that they are in; `None`: the whole machine.
    named: Option<(Hierarchy, Vec<CgroupPath>)>,
}

impl Scope {
    /// With cgroups named and the node not guarded, only what runs in these. Without a memory hierarchy no raylet can be told
    /// from another.
    pub(crate) fn new(node: bool, cgroups: &[PathBuf], cgroupfs: &Path, procfs: &Path) -> Self {
        let named = || {
            let paths = cgroups.iter().filter_map(|path| CgroupPath::new(path.as_os_str()).ok()).collect();
            Some((Hierarchy::find(cgroupfs, procfs).ok()?, paths))
        };
        Self { procfs: procfs.to_owned(), named: if node { None } else { named() } }
    }

    /// Whether a process runs in it.
    pub(super) fn holds(&self, pid: Pid) -> bool {
        let Some((hierarchy, paths)) = &self.named else { return true };
        let cgroup = hierarchy.cgroup_of(&self.procfs, pid);
        cgroup.is_ok_and(|cgroup| paths.iter().any(|path| path.contains(&cgroup)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_the_node_follows_all_and_one_of_a_cgroup_those_within() {
        let (cgroupfs, procfs) = (Path::new("/sys/fs/cgroup"), Path::new("/proc"));
        let me = Pid(std::process::id());
        let holds = |node, cgroups: &[&str]| {
            let cgroups: Vec<PathBuf> = cgroups.iter().map(PathBuf::from).collect();
            Scope::new(node, &cgroups, cgroupfs, procfs).holds(me)
        };
        assert!(holds(true, &["/nowhere"]));
        if Hierarchy::find(cgroupfs, procfs).is_ok() {
            assert!(holds(false, &["/nowhere", "/"]) && !holds(false, &["/nowhere"]));
        }
    }
}
