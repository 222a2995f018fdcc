//! What `monitor doctor` says of cgroups: whether they can be guarded, and whether workers can be killed by them.

use std::fs;

use super::{Fact, State, lacks, ok};
use crate::cli::roots::Roots;
use crate::kernel::machine::at_least;
use crate::memory::{CgroupPath, DomainReader, Hierarchy, Level, ReadError, Version};
use crate::printable::printable;

pub(super) fn hierarchy(roots: &Roots) -> Fact {
    let without = "cgroups cannot be guarded, only the node";
    match Hierarchy::find(&roots.cgroupfs, &roots.procfs) {
        Ok(found) => ok(
            "cgroups",
            match found.version() {
                Version::V1 => "memory controller, version 1",
                Version::V2 => "memory controller, version 2",
            },
        ),
        Err(error @ ReadError::NoController { .. }) => {
            lacks("cgroups", State::Missing, error.to_string(), without)
        }
        Err(error) => lacks("cgroups", State::Failed, error.to_string(), without),
    }
}

/// How the facts about cgroups that were named begin.
pub(super) const NAMED: &str = "cgroup ";

/// A cgroup that was named: an agent started like this guards it.
pub(super) fn named(roots: &Roots, cgroup: &CgroupPath) -> Fact {
    let name = format!("{NAMED}{}", printable(&cgroup.to_string()));
    let both = roots.roots();
    let level = Hierarchy::find(&both.cgroupfs, &both.procfs)
        .and_then(|hierarchy| DomainReader::cgroup(&both, &hierarchy, cgroup, false)?.read());
    let fact = match level {
        Ok(Level::Limited(reading)) => ok(name, format!("its limit is {}", reading.total)),
        Ok(Level::NoLimit { .. }) => ok(name, "it has no limit: it is guarded as soon as it gets one"),
        Err(error) if error.is_missing_file() => lacks(
            name,
            State::Missing,
            format!("{error}: there is no such cgroup"),
            "the agent guards it only once it exists",
        ),
        Err(error) => lacks(name, State::Failed, error.to_string(), "it is not guarded"),
    };
    Fact { essential: true, ..fact }
}

pub(super) fn cgroup_kill(roots: &Roots) -> Fact {
    let name = "cgroup.kill";
    let without = "the agent kills a worker's processes one by one";
    let both = roots.roots();
    let Some(unified) = Hierarchy::unified(&both.cgroupfs, &both.procfs) else {
        let why = "no cgroup v2 file system is mounted";
        return lacks(name, State::Missing, why, without);
    };
    let root = unified.dir(&CgroupPath::root());
    let found = format!("a worker with a cgroup of its own below {} is killed as a whole", root.display());
    // The root has none.
    let mut below = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    let release = fs::read_to_string(both.procfs.join("sys/kernel/osrelease")).unwrap_or_default();
    match below.find(|path| path.is_dir()) {
        Some(cgroup) if cgroup.join(name).exists() => ok(name, found),
        // Nothing to look at: by the version, which a distribution may have added it to.
        None if at_least(&release, (5, 14)) => ok(name, found),
        Some(_) | None => {
            lacks(name, State::Missing, "this kernel (older than 5.14) does not have it", without)
        }
    }
}
