//! A private cgroup namespace with the host's hierarchy mounted: the kernel names cgroups from the namespace's root, and
//! what leads from the root of the mount to there stands in no file. It is found by the one cgroup that is known to be
//! this process's: the one that lists it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::memory::CgroupPath;

/// Where in the mount at `root` the namespace's root lies. `mounted` is the mount's root as the namespace sees it, `own`
/// the cgroup of process `pid`, which is this one, likewise. `None`: the mount does not show more than the namespace, or
/// no cgroup lists the process.
pub(super) fn root_in(root: &Path, mounted: &Path, own: &[u8], pid: u32) -> Option<CgroupPath> {
    let above = mounted.strip_prefix("/").ok()?;
    let levels = above.components().count();
    if levels == 0 || !above.components().all(|part| part == Component::ParentDir) {
        return None;
    }
    let own = Path::new(OsStr::from_bytes(own)).strip_prefix("/").ok()?;
    // Of a cgroup outside of the namespace nothing says where it lies.
    if own.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let found =
        below(root, levels).into_iter().find(|dir| lists(&dir.join(own).join("cgroup.procs"), pid))?;
    CgroupPath::new(found.strip_prefix(root).ok()?.as_os_str()).ok()
}

/// The directories so many levels below this one.
fn below(root: &Path, levels: usize) -> Vec<PathBuf> {
    let mut dirs = vec![root.to_path_buf()];
    for _ in 0..levels {
        let inner = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
        let inner = inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        dirs = inner.map(|entry| entry.path()).collect();
    }
    dirs
}

/// Whether a `cgroup.procs` has a process. It gives pids as its reader's pid namespace has them.
fn lists(file: &Path, pid: u32) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| line.parse() == Ok(pid))
}

/// `listed`, a path from the namespace's root, as a path from the mount's root. `None`: it climbs out of the mount.
pub(super) fn resolve(namespace: &CgroupPath, listed: &Path) -> Option<PathBuf> {
    let mut path = namespace.as_path().to_path_buf();
    for part in listed.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::memory::fixture::{Tree, cgroup};
    use crate::memory::{Hierarchy, ReadError};
    use crate::units::Pid;

    /// This process is in /box/inner, the root of its namespace; the mount shows the host's root.
    fn tree(own: &str) -> Tree {
        let tree = Tree::of("v1");
        let point = tree.path("cgroup/memory").canonicalize().unwrap();
        tree.write(
            "proc/self/mountinfo",
            format!("40 30 0:30 /../.. {} rw - cgroup cgroup rw,memory\n", point.display()),
        );
        tree.write("proc/self/cgroup", format!("3:cpu:/else\n4:memory:{own}\n"));
        tree.write("cgroup/memory/box/cgroup.procs", "1\n");
        tree.write("cgroup/memory/box/inner/cgroup.procs", format!("1\n{}\n", std::process::id()));
        tree
    }

    fn found(tree: &Tree, listed: &str) -> Result<CgroupPath, ReadError> {
        tree.write("proc/7/cgroup", format!("4:memory:{listed}\n"));
        Hierarchy::find(&tree.roots.cgroupfs, &tree.roots.procfs)
            .unwrap()
            .cgroup_of(&tree.roots.procfs, Pid(7))
    }

    #[rstest]
    #[case::the_namespaces_root("/", "/box/inner")]
    #[case::inside("/small", "/box/inner/small")]
    #[case::beside("/../other", "/box/other")]
    #[case::above("/..", "/box")]
    #[case::the_mounts_root("/../..", "/")]
    #[case::elsewhere("/../../pods/a", "/pods/a")]
    fn a_cgroup_is_found_from_the_namespaces_root(#[case] listed: &str, #[case] expected: &str) {
        assert_eq!(found(&tree("/"), listed), Ok(cgroup(expected)));
    }

    #[test]
    fn this_process_may_be_deeper_than_its_namespaces_root() {
        let tree = tree("/small");
        tree.write("cgroup/memory/box/inner/cgroup.procs", "");
        tree.write("cgroup/memory/box/inner/small/cgroup.procs", format!("{}\n", std::process::id()));
        assert_eq!(found(&tree, "/x"), Ok(cgroup("/box/inner/x")));
    }

    #[test]
    fn what_climbs_out_of_the_mount_or_cannot_be_placed_lies_outside() {
        let outside = |found| matches!(found, Err(ReadError::Outside { .. }));
        assert!(outside(found(&tree("/"), "/../../..")));
        let moved_out = tree("/../else");
        assert!(outside(found(&moved_out, "/x")), "nothing says where the namespace's root is");
        let unlisted = tree("/");
        unlisted.write("cgroup/memory/box/inner/cgroup.procs", "garbage\n");
        assert!(outside(found(&unlisted, "/")));
        unlisted.remove("cgroup/memory/box/inner/cgroup.procs");
        assert!(outside(found(&unlisted, "/")));
        assert_eq!(found(&unlisted, "/../../pods"), Ok(cgroup("/pods")), "this one names all of them");
        unlisted.remove("proc/self/cgroup");
        assert!(outside(found(&unlisted, "/")));
    }
}
