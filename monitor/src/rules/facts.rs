//! One look at all processes: the facts that rules are matched by, from PROCFS and the cgroups' directories. It decides
//! nothing. A process that ends meanwhile is left out; what may not be read is unknown, and unknown matches nothing.
//!
//! What a user can forge is marked: an executable counts as trusted only if it is the very file (device and inode) that
//! its path names here, and only root can change that file or what leads to it; a cgroup only as far as root owns it
//! and all around it.

mod accounts;
mod files;
pub mod looker;
mod pods;

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use super::{Facts, Never, Place, Profile, Rules, Whose};
use crate::executable;
use crate::memory::{CgroupPath, process};
use crate::roles;
use crate::units::{Bytes, Pid};

pub use self::accounts::Accounts;

/// A process, as one look found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The process.
    pub pid: Pid,
    /// Its parent.
    pub parent: Option<Pid>,
    /// The kernel's name of it.
    pub comm: Vec<u8>,
    /// Its command line, arguments separated by one space.
    pub title: Vec<u8>,
    /// The path of its executable.
    pub exe: Option<Vec<u8>>,
    /// Whether that is certainly the file that this path names, and root's.
    pub exe_trusted: bool,
    /// Its real user.
    pub uid: Option<u32>,
    /// For whom it runs.
    pub whose: Whose,
    /// What it holds, shared memory counted whole.
    pub rss: Option<Bytes>,
    /// Why it is never a worker.
    pub never: Option<Never>,
    /// Its cgroup, as a position in [`Machine::cgroups`]; `None`: not known.
    pub cgroup: Option<usize>,
    /// When it started, in clock ticks since boot.
    pub start: u64,
    /// The rule that had it at the last look, if it runs the same program still.
    pub kept: Option<Arc<str>>,
}

/// A cgroup that a process is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenCgroup {
    /// Its path.
    pub path: CgroupPath,
    /// How many bytes of the path, from its beginning, name cgroups that only root makes.
    pub trusted: usize,
    /// What the Kubernetes pod is called that it belongs to.
    pub pod: Option<Box<str>>,
}

/// All processes at one moment.
#[derive(Debug, Default)]
pub struct Machine {
    /// The processes.
    pub processes: Vec<Seen>,
    /// The cgroups that they are in.
    pub cgroups: Vec<SeenCgroup>,
    /// The users.
    pub accounts: Accounts,
}

impl Machine {
    /// The processes as rules match them, in the same order.
    #[must_use]
    pub fn profiles(&self, rules: &Rules) -> Vec<Profile<'_>> {
        let nowhere = Arc::new(rules.place(b"", 0));
        let places: Vec<Arc<Place>> = self
            .cgroups
            .iter()
            .map(|cgroup| Arc::new(rules.place(cgroup.path.as_path().as_os_str().as_bytes(), cgroup.trusted)))
            .collect();
        self.processes
            .iter()
            .map(|seen| {
                let pod = seen.cgroup.and_then(|cgroup| self.cgroups.get(cgroup)?.pod.as_deref());
                let facts = Facts {
                    pid: seen.pid,
                    parent: seen.parent,
                    comm: &seen.comm,
                    title: &seen.title,
                    exe: seen.exe.as_deref(),
                    exe_trusted: seen.exe_trusted,
                    uid: seen.uid,
                    whose: seen.whose,
                    user: seen.uid.and_then(|uid| self.accounts.name(uid)),
                    memory: seen.rss,
                    pod,
                    never: seen.never,
                    kept: seen.kept.as_deref(),
                };
                let place = seen.cgroup.and_then(|cgroup| places.get(cgroup)).unwrap_or(&nowhere);
                Profile::new(facts, Arc::clone(place))
            })
            .collect()
    }
}

/// This process and its ancestors, and each agent of root's with what serves it: what a look must not take for workers.
/// Nobody, if PROCFS is not that of this process, as a tree of files is not.
#[must_use]
pub fn own(procfs: &Path) -> HashSet<Pid> {
    let pid = Pid(std::process::id());
    let here = fs::read_link(procfs.join("self")).is_ok_and(|own| own.as_os_str() == &*pid.to_string());
    let mut own = HashSet::new();
    if here {
        own.insert(pid);
        own.extend(process::ancestors(procfs, pid));
        for agent in agents(procfs) {
            own.insert(agent);
            own.extend(process::ancestors(procfs, agent));
        }
    }
    own
}

/// The processes of root that run this very program as the agent or as what serves it.
fn agents(procfs: &Path) -> Vec<Pid> {
    let file = |pid: &str| executable::file(&procfs.join(pid).join("exe"));
    let Some(program) = file("self") else { return Vec::new() };
    let serves = |pid: &Pid| {
        let dir = procfs.join(pid.to_string());
        // Of others nothing is read that may wait (`kept`).
        if file(&pid.to_string()) != Some(program) || !fs::metadata(&dir).is_ok_and(|found| found.uid() == 0)
        {
            return false;
        }
        // An argument is forged at will, but not as root.
        let arguments = fs::read(dir.join("cmdline")).unwrap_or_default();
        let role = arguments.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        [roles::AGENT, roles::RELEASER].iter().any(|known| known.as_bytes() == role)
    };
    process::all(procfs).unwrap_or_default().into_iter().filter(serves).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Roots;

    #[test]
    fn this_process_is_found_with_what_it_is() {
        let roots = Roots::default();
        let own = own(&roots.procfs);
        let machine = Machine::look(&roots, &own).unwrap();
        let pid = Pid(std::process::id());
        let this = machine.processes.iter().find(|process| process.pid == pid).unwrap();
        assert_eq!(this.never, Some(Never::Agent));
        assert_eq!(this.exe.as_deref(), Some(std::env::current_exe().unwrap().as_os_str().as_bytes()));
        assert_eq!(this.uid, Some(rustix::process::geteuid().as_raw()));
        assert!(this.rss.is_some_and(|rss| rss > Bytes(0)));
        let parent = machine.processes.iter().find(|process| Some(process.pid) == this.parent);
        assert!(parent.is_none_or(|parent| parent.never.is_some()), "ancestors are never workers");
    }
}
