//! A worker's own v2 cgroup, killed whole through `cgroup.kill` after its processes were signaled: what they forked
//! meanwhile dies with them. It is checked each time which processes are in it; in doubt it is never written to.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::exclusive::{NotOwn, Own};
use crate::units::Pid;

/// See the module. Holds the directory and the file open, so that it never means a cgroup of the same name.
#[derive(Debug)]
pub struct OwnCgroup {
    own: Own,
    kill: File,
}

impl OwnCgroup {
    /// The cgroup at `dir` if there is only `worker` in it.
    ///
    /// # Errors
    /// It is not the worker's own, or the kernel (before 5.14) has no `cgroup.kill`.
    pub fn open(dir: &Path, worker: impl Fn(Pid) -> bool) -> Result<Self, NotOwn> {
        let kill = dir.join("cgroup.kill");
        let file = OpenOptions::new().write(true).open(&kill);
        let opened =
            Self { own: Own::open(dir)?, kill: file.map_err(|error| NotOwn::unknown(&kill, error))? };
        opened.own.only(&worker)?;
        Ok(opened)
    }

    /// SIGKILL to all that is in it and below, atomically for forks, if that is only `worker`.
    ///
    /// # Errors
    /// It is not the worker's own any more.
    pub fn kill(&self, worker: impl Fn(Pid) -> bool) -> Result<(), NotOwn> {
        self.own.only(&worker)?;
        (&self.kill).write_all(b"1").map_err(|error| NotOwn::unknown(Path::new("cgroup.kill"), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::exclusive::tests;
    use std::fs;

    fn cgroup(procs: &str) -> Option<tempfile::TempDir> {
        tests::cgroup(&[("cgroup.procs", procs), ("cgroup.kill", "")])
    }

    #[test]
    fn whom_a_pid_namespace_does_not_show_is_a_stranger_whatever_is_said() {
        let Some(dir) = cgroup("0\n") else { return };
        let found = OwnCgroup::open(dir.path(), |_| true).map(drop);
        assert!(matches!(found, Err(NotOwn::Stranger(Pid(0)))), "{found:?}");
    }

    #[test]
    fn it_is_killed_only_while_the_worker_is_alone_in_it_and_below() {
        let Some(dir) = cgroup("7\n8\n") else { return };
        let worker = |pid: Pid| [7, 8].contains(&pid.0);
        let written = || fs::read_to_string(dir.path().join("cgroup.kill")).unwrap();
        let own = OwnCgroup::open(dir.path(), worker).unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.procs"), "9\n").unwrap();
        assert!(matches!(own.kill(worker), Err(NotOwn::Stranger(Pid(9)))));
        assert_eq!(written(), "");
        fs::write(below.join("cgroup.procs"), "").unwrap();
        own.kill(worker).unwrap();
        assert_eq!(written(), "1");
    }

    #[test]
    fn one_that_others_may_fill_is_left_alone() {
        let Some(dir) = cgroup("7\n") else { return };
        std::os::unix::fs::chown(dir.path().join("cgroup.procs"), Some(1000), None).unwrap();
        assert!(matches!(OwnCgroup::open(dir.path(), |_| true), Err(NotOwn::Open(_))));
        assert!(matches!(OwnCgroup::open(Path::new("/nowhere"), |_| true), Err(NotOwn::Unknown { .. })));
    }
}
