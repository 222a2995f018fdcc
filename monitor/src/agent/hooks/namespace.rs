//! Whether pids and times mean to the agent what they mean to the kernel programs: those speak of the initial pid
//! namespace and of the initial clock. An agent in another pid namespace would take its worker 7 for the host's process
//! 7, and that one's children for the worker's; in another time namespace every record would lie in its future or past.

use std::io::ErrorKind;
use std::path::Path;

/// The inodes of the initial namespaces (`PROC_PID_INIT_INO`, `PROC_TIME_INIT_INO` in include/linux/proc_ns.h,
/// unchanged since 3.8 and 5.6).
const PID: &str = "pid:[4026531836]";
const TIME: &str = "time:[4026531834]";

/// Why the agent must not use the kernel programs, if so. If it is not known, assume another namespace: polling is
/// always correct.
pub(in crate::agent) fn foreign(procfs: &Path) -> Option<&'static str> {
    let link = |name: &str| std::fs::read_link(procfs.join("self/ns").join(name));
    if !link("pid").is_ok_and(|link| link.as_os_str() == PID) {
        return Some("the agent is in its own pid namespace, and the kernel programs do not know its pids");
    }
    let initial = match link("time") {
        Ok(link) => link.as_os_str() == TIME,
        // Kernels before 5.6 have one clock for all.
        Err(error) => error.kind() == ErrorKind::NotFound,
    };
    (!initial)
        .then_some("the agent is in its own time namespace, and the kernel programs do not know its clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_initial_namespaces_are_them() {
        let dir = tempfile::tempdir().unwrap();
        let ns = dir.path().join("self/ns");
        assert!(foreign(dir.path()).is_some());
        for (pid, time, fine) in [
            (PID, Some(TIME), true),
            (PID, None, true),
            (PID, Some("time:[4026532002]"), false),
            ("pid:[4026532001]", Some(TIME), false),
        ] {
            let _ = std::fs::remove_dir_all(dir.path().join("self"));
            std::fs::create_dir_all(&ns).unwrap();
            std::os::unix::fs::symlink(pid, ns.join("pid")).unwrap();
            if let Some(time) = time {
                std::os::unix::fs::symlink(time, ns.join("time")).unwrap();
            }
            assert_eq!(foreign(dir.path()).is_none(), fine, "{pid} {time:?}");
        }
    }
}
