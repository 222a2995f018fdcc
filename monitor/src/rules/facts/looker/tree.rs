//! Files as PROCFS and a memory hierarchy of version 1 have them, for tests of looks.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::memory::Roots;
use crate::units::Pid;

/// A machine on which nothing runs.
pub(super) struct Tree(TempDir);

impl Tree {
    pub(super) fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(tree.path().join("proc")).unwrap();
        tree.cgroup("/", &[]);
        tree
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn roots(&self) -> Roots {
        Roots { procfs: self.path().join("proc"), cgroupfs: self.path().join("cgroup") }
    }

    /// Makes a cgroup with these processes in it.
    pub(super) fn cgroup(&self, path: &str, pids: &[u32]) {
        let dir = self.path().join("cgroup/memory").join(path.trim_start_matches('/'));
        fs::create_dir_all(&dir).unwrap();
        let pids: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        fs::write(dir.join("cgroup.procs"), pids).unwrap();
    }

    /// Another cgroup is at its path from now on. The old one is kept elsewhere, so that its number is not used again.
    pub(super) fn make_again(&self, path: &str, pids: &[u32]) {
        let dir = self.path().join("cgroup/memory").join(path.trim_start_matches('/'));
        fs::rename(&dir, self.path().join("removed")).unwrap();
        self.cgroup(path, pids);
    }

    /// Adds a child of process 1.
    pub(super) fn process(&self, pid: u32, cgroup: &str) -> Pid {
        let dir = self.path().join("proc").join(pid.to_string());
        fs::create_dir_all(&dir).unwrap();
        let write = |file: &str, text: String| fs::write(dir.join(file), text).unwrap();
        write(
            "stat",
            format!(
                "{pid} (app) S 1 {pid} {pid} 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 {pid} 0 0 0 0 0 0 0 0 0 0\n"
            ),
        );
        write("status", "Name:\tapp\nPPid:\t1\nUid:\t1000\t1000\t1000\t1000\nVmRSS:\t1 kB\n".to_owned());
        write("cmdline", "app\0".to_owned());
        write("cgroup", format!("4:memory:{cgroup}\n"));
        Pid(pid)
    }

    /// A process ends.
    pub(super) fn ends(&self, pid: Pid) {
        fs::remove_dir_all(self.path().join("proc").join(pid.to_string())).unwrap();
    }
}
