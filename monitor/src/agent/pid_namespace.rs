//! Whether pids mean to the agent what they mean to the kernel programs: those speak of the initial pid namespace. An
//! agent in another one would take its worker 7 for the host's process 7, and that one's children for the worker's.

use std::path::Path;

/// The inode of the initial pid namespace (`PROC_PID_INIT_INO` in include/linux/proc_ns.h, unchanged since 3.8).
const INITIAL: &str = "pid:[4026531836]";

/// Unknown counts as another one: polling is never wrong.
pub(super) fn is_initial(procfs: &Path) -> bool {
    std::fs::read_link(procfs.join("self/ns/pid")).is_ok_and(|link| link.as_os_str() == INITIAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_initial_namespace_is_it() {
        let dir = tempfile::tempdir().unwrap();
        let ns = dir.path().join("self/ns");
        assert!(!is_initial(dir.path()));
        for (link, initial) in [(INITIAL, true), ("pid:[4026532001]", false)] {
            let _ = std::fs::remove_dir_all(dir.path().join("self"));
            std::fs::create_dir_all(&ns).unwrap();
            std::os::unix::fs::symlink(link, ns.join("pid")).unwrap();
            assert_eq!(is_initial(dir.path()), initial);
        }
    }
}
