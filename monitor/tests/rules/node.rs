//! A tree of files as PROCFS and the cgroup file systems of a node have it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

/// A node with no processes.
pub(crate) struct Node {
    dir: TempDir,
    v2: bool,
}

/// A process with a megabyte of memory for each of its pid's last two digits.
pub(crate) struct Process<'p> {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) uid: u32,
    pub(crate) comm: &'p str,
    pub(crate) command: &'p str,
    pub(crate) cgroup: &'p str,
}

impl Node {
    pub(crate) fn v1() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap(), v2: false };
        node.cgroup("/");
        node.init()
    }

    pub(crate) fn v2() -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap(), v2: true };
        node.cgroup("/");
        node.write("cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        node.init()
    }

    fn init(self) -> Self {
        let init = Process {
            pid: 1,
            parent: 0,
            uid: 0,
            comm: "systemd",
            command: "/sbin/init",
            cgroup: "/init.scope",
        };
        self.process(&init);
        self
    }

    pub(crate) fn procfs(&self) -> PathBuf {
        self.dir.path().join("proc")
    }

    pub(crate) fn cgroupfs(&self) -> PathBuf {
        self.dir.path().join("cgroup")
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The directory of a cgroup, and of those around it, with what the memory controller has in them.
    fn cgroup(&self, path: &str) {
        let root = if self.v2 { "cgroup" } else { "cgroup/memory" };
        let stat = "inactive_file 0\nactive_file 0\ntotal_inactive_file 0\ntotal_active_file 0\n";
        let files = if self.v2 {
            [("memory.current", "104857600\n"), ("memory.max", "max\n"), ("memory.stat", stat)]
        } else {
            [
                ("memory.usage_in_bytes", "104857600\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.stat", stat),
            ]
        };
        let mut at = root.to_owned();
        for name in path.split('/') {
            if !name.is_empty() {
                at = format!("{at}/{name}");
            }
            for (file, text) in files {
                self.write(&format!("{at}/{file}"), text);
            }
        }
    }

    /// Adds a process; of its command words separated by spaces are arguments.
    pub(crate) fn process(&self, process: &Process<'_>) -> &Self {
        let Process { pid, parent, uid, comm, command, cgroup } = process;
        self.cgroup(cgroup);
        let dir = format!("proc/{pid}");
        let kib = u64::from(pid % 100) * 1024;
        let flags = if *parent == 2 || *pid == 2 { 0x0020_0000 } else { 0x40_0000 };
        self.write(
            &format!("{dir}/stat"),
            &format!("{pid} ({comm}) S {parent} {pid} {pid} 0 -1 {flags} 1 0 0 0 0 0 0 0 20 0 1 0 100 0 0 0 0 0 0 0 0 0 0\n"),
        );
        self.write(
            &format!("{dir}/status"),
            &format!("Name:\t{comm}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nVmRSS:\t{kib} kB\n"),
        );
        self.write(&format!("{dir}/cmdline"), &format!("{}\0", command.replace(' ', "\0")));
        self.write(&format!("{dir}/comm"), &format!("{comm}\n"));
        self.write(&format!("{dir}/oom_score_adj"), "0\n");
        let line =
            if self.v2 { format!("0::{cgroup}\n") } else { format!("4:memory:{cgroup}\n0::/elsewhere\n") };
        self.write(&format!("{dir}/cgroup"), &line);
        let program = command.split(' ').next().unwrap();
        if program.starts_with('/') {
            symlink(program, self.dir.path().join(format!("{dir}/exe"))).unwrap();
        }
        self
    }

    /// The same of user 1000 and in short.
    pub(crate) fn add(&self, pid: u32, parent: u32, comm: &str, command: &str, cgroup: &str) -> &Self {
        self.process(&Process { pid, parent, uid: 1000, comm, command, cgroup })
    }

    /// Replaces a file of a process.
    pub(crate) fn set(&self, pid: u32, file: &str, text: &str) {
        self.write(&format!("proc/{pid}/{file}"), text);
    }
}
