//! A worker's own v2 cgroup, killed whole through `cgroup.kill` after its processes were signalled: what they forked
//! meanwhile dies with them. Whose processes are in it is asked each time; it is never written to when in doubt.
//!
//! Invariant: nobody but root can put a process into it. Otherwise whoever can could do so between the look and the
//! write, and have a process killed that they could not kill themselves.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::units::Pid;

/// How often it is looked: a process that is being made, or ends, is in a cgroup for a moment and not on the books.
const LOOKS: u32 = 16;

/// How deep cgroups below it are looked into.
const DEPTH: u32 = 16;

/// Why `cgroup.kill` is not used.
#[derive(Debug, thiserror::Error)]
pub enum NotOwn {
    /// Somebody else is in it.
    #[error("process {0} in the cgroup does not belong to the worker")]
    Stranger(Pid),
    /// Others than root can move processes into it.
    #[error("others than root may move processes into {0}")]
    Open(String),
    /// Whether it is its own cannot be told.
    #[error("{path}: {error}")]
    Unknown {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// See the module. Holds the directory and the file open, so that it never means a cgroup of the same name.
#[derive(Debug)]
pub struct OwnCgroup {
    dir: File,
    kill: File,
}

impl OwnCgroup {
    /// The cgroup at `dir` if there is only `worker` in it.
    ///
    /// # Errors
    /// It is not the worker's own, or the kernel (before 5.14) has no `cgroup.kill`.
    pub fn open(dir: &Path, worker: impl Fn(Pid) -> bool) -> Result<Self, NotOwn> {
        let kill = dir.join("cgroup.kill");
        let own = Self {
            dir: File::open(dir).map_err(|error| unknown(dir, error))?,
            kill: OpenOptions::new().write(true).open(&kill).map_err(|error| unknown(&kill, error))?,
        };
        own.only(&worker)?;
        Ok(own)
    }

    /// SIGKILL to all that is in it and below, atomically for forks, if that is only `worker`.
    ///
    /// # Errors
    /// It is not the worker's own any more.
    pub fn kill(&self, worker: impl Fn(Pid) -> bool) -> Result<(), NotOwn> {
        self.only(&worker)?;
        (&self.kill).write_all(b"1").map_err(|error| unknown(Path::new("cgroup.kill"), error))
    }

    /// Whether there is only this worker in it.
    fn only(&self, worker: &impl Fn(Pid) -> bool) -> Result<(), NotOwn> {
        // The directory that is open, whatever its name is by now.
        let dir = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        let mut found = look(&dir, worker, DEPTH);
        for _ in 1..LOOKS {
            if !matches!(found, Err(NotOwn::Stranger(_))) {
                break;
            }
            found = look(&dir, worker, DEPTH);
        }
        found
    }
}

fn unknown(path: &Path, error: io::Error) -> NotOwn {
    NotOwn::Unknown { path: path.display().to_string(), error }
}

/// Whether a cgroup and those below hold nobody else, and nobody else may put somebody there.
fn look(dir: &Path, worker: &impl Fn(Pid) -> bool, depth: u32) -> Result<(), NotOwn> {
    let procs = dir.join("cgroup.procs");
    for path in [dir, &procs] {
        let metadata = fs::metadata(path).map_err(|error| unknown(path, error))?;
        if !only_root_writes(&metadata) {
            return Err(NotOwn::Open(path.display().to_string()));
        }
    }
    let text = fs::read_to_string(&procs).map_err(|error| unknown(&procs, error))?;
    for line in text.lines() {
        // 0: a process that this pid namespace does not show. Nobody can say whose it is.
        let pid = Pid(line.parse().unwrap_or(0));
        if pid == Pid(0) || !worker(pid) {
            return Err(NotOwn::Stranger(pid));
        }
    }
    for entry in fs::read_dir(dir).map_err(|error| unknown(dir, error))? {
        let entry = entry.map_err(|error| unknown(dir, error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let deeper =
                depth.checked_sub(1).ok_or_else(|| unknown(dir, io::ErrorKind::InvalidInput.into()))?;
            look(&entry.path(), worker, deeper)?;
        }
    }
    Ok(())
}

fn only_root_writes(metadata: &Metadata) -> bool {
    metadata.uid() == 0 && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as a cgroup shows itself; none without root, whose files these must be.
    fn cgroup(procs: &str) -> Option<tempfile::TempDir> {
        use std::os::unix::fs::PermissionsExt as _;
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("cgroup.procs"), procs).unwrap();
        fs::write(dir.path().join("cgroup.kill"), "").unwrap();
        Some(dir)
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
