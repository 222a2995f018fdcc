//! A worker's own v1 freezer cgroup, frozen while its processes are signalled, so that none is forked meanwhile.
//!
//! Invariants: whoever is frozen here is thawed again, however this is left, and also if the agent is killed in between:
//! nothing is frozen before somebody else holds the file that thaws it. A frozen process does not die of SIGKILL (kernel
//! 6.18, kernel/cgroup/legacy_freezer.c): until it is thawed. What somebody else froze stays as it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::alone::{NotOwn, Own};
use crate::units::Pid;

/// `freezer.state`, as it is read and written.
const FROZEN: &str = "FROZEN";
const THAWED: &str = "THAWED";

/// See the module. Holds the directory and the file open, so that it never means a cgroup of the same name.
#[derive(Debug)]
pub struct OwnFreezer {
    own: Own,
    state: File,
}

/// It is frozen, until this is thawed or dropped.
#[derive(Debug)]
pub struct Frozen {
    freezer: Arc<OwnFreezer>,
    thawed: bool,
}

impl OwnFreezer {
    /// The cgroup at `dir` if there is only `worker` in it.
    ///
    /// # Errors
    /// It is not the worker's own, or the root cgroup, which cannot be frozen.
    pub fn open(dir: &Path, worker: impl Fn(Pid) -> bool) -> Result<Self, NotOwn> {
        let path = dir.join("freezer.state");
        let state = OpenOptions::new().read(true).write(true).open(&path);
        let opened =
            Self { own: Own::open(dir)?, state: state.map_err(|error| NotOwn::unknown(&path, error))? };
        opened.own.only(&worker)?;
        Ok(opened)
    }

    /// Freezes it, if only `worker` is in it and nobody else did. `thawer` is given the file that thaws it when THAWED is
    /// written, and must see to that if this process cannot any more. From the return on nothing in it forks.
    ///
    /// # Errors
    /// It is not the worker's own any more, it is frozen, or `thawer` failed.
    pub fn freeze(
        self: &Arc<Self>,
        worker: impl Fn(Pid) -> bool,
        thawer: impl FnOnce(BorrowedFd<'_>) -> io::Result<()>,
    ) -> Result<Frozen, NotOwn> {
        self.own.only(&worker)?;
        let state = self.state()?;
        if state != THAWED {
            return Err(NotOwn::Frozen(state));
        }
        thawer(self.state.as_fd()).map_err(NotOwn::NoThawer)?;
        // Before the write: a write that is said to have failed may have had its effect.
        let frozen = Frozen { freezer: Arc::clone(self), thawed: false };
        // Who is in it is frozen when it next leaves the kernel; to fork it does not get any more (copy_process in
        // kernel/fork.c gives up when it is to be frozen). So nobody waits here for all to be.
        self.state.write_all_at(FROZEN.as_bytes(), 0).map_err(|error| self.unknown(error))?;
        Ok(frozen)
    }

    fn state(&self) -> Result<String, NotOwn> {
        let mut text = [0; 16];
        let length = self.state.read_at(&mut text, 0).map_err(|error| self.unknown(error))?;
        Ok(String::from_utf8_lossy(&text[..length]).trim().to_owned())
    }

    fn unknown(&self, error: io::Error) -> NotOwn {
        NotOwn::unknown(&self.own.path().join("freezer.state"), error)
    }
}

impl Frozen {
    /// The processes in it and below. 0: one that this pid namespace does not show.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn members(&self) -> Result<Vec<Pid>, NotOwn> {
        self.freezer.own.members()
    }

    /// Thaws it. False: the kernel refuses, and whoever holds its file must go on holding it.
    #[must_use]
    pub fn thaw(mut self) -> bool {
        self.thawed = thaw(self.freezer.state.as_fd()).is_ok();
        self.thawed
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if !self.thawed
            && let Err(error) = thaw(self.freezer.state.as_fd())
        {
            // The cgroup was removed, as a rule.
            tracing::error!(%error, "a worker's cgroup could not be thawed");
        }
    }
}

/// Thaws the cgroup whose `freezer.state` this is. Needs no descriptor but this one: there may be none left.
///
/// # Errors
/// The kernel refuses: the cgroup is gone.
pub fn thaw(state: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::retry_on_intr(|| rustix::io::pwrite(state, THAWED.as_bytes(), 0))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;
    use crate::kill::alone::tests;

    fn cgroup(state: &str) -> Option<tempfile::TempDir> {
        tests::cgroup(&[("cgroup.procs", "7\n"), ("tasks", "7\n"), ("freezer.state", state)])
    }

    fn state(dir: &tempfile::TempDir) -> String {
        fs::read_to_string(dir.path().join("freezer.state")).unwrap().trim().to_owned()
    }

    #[test]
    fn it_is_frozen_only_with_somebody_to_thaw_it_and_thawed_in_the_end() {
        let Some(dir) = cgroup(THAWED) else { return };
        let own = Arc::new(OwnFreezer::open(dir.path(), |_| true).unwrap());
        let nobody = own.freeze(|_| true, |_| Err(io::ErrorKind::BrokenPipe.into()));
        assert!(matches!(nobody, Err(NotOwn::NoThawer(_))), "{nobody:?}");
        assert_eq!(state(&dir), THAWED);
        let before = Cell::new(None);
        let frozen = own.freeze(
            |_| true,
            |_| {
                before.set(Some(state(&dir)));
                Ok(())
            },
        );
        assert_eq!((before.take().as_deref(), state(&dir).as_str()), (Some(THAWED), FROZEN));
        assert_eq!(frozen.as_ref().unwrap().members().unwrap(), [Pid(7)]);
        drop(frozen);
        assert_eq!(state(&dir), THAWED);
    }

    #[test]
    fn it_is_thawed_also_when_no_descriptor_is_left() {
        use std::os::unix::process::CommandExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), FROZEN).unwrap();
        let state = file.reopen().unwrap();
        let mut child = std::process::Command::new("/proc/self/exe");
        let without_descriptors = move || {
            let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, none)?;
            thaw(state.as_fd())
        };
        // SAFETY: between fork and exec only system calls are made: no allocation, no lock.
        unsafe { child.pre_exec(without_descriptors) };
        // What it executes then cannot open its libraries; an error of what comes before is one of the start.
        child.stderr(std::process::Stdio::null()).spawn().unwrap().wait().unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), THAWED);
    }

    #[test]
    fn what_is_frozen_already_and_where_a_stranger_is_it_is_left_alone() {
        for found in ["FROZEN\n", "FREEZING\n"] {
            let Some(dir) = cgroup(found) else { return };
            let own = Arc::new(OwnFreezer::open(dir.path(), |_| true).unwrap());
            let frozen = own.freeze(|_| true, |_| Ok(()));
            assert!(matches!(&frozen, Err(NotOwn::Frozen(state)) if state == found.trim()), "{frozen:?}");
            assert_eq!(state(&dir), found.trim());
        }
        let Some(dir) = cgroup(THAWED) else { return };
        let own = Arc::new(OwnFreezer::open(dir.path(), |_| true).unwrap());
        assert!(matches!(own.freeze(|_| false, |_| Ok(())), Err(NotOwn::Stranger(Pid(7)))));
        assert_eq!(state(&dir), THAWED);
        std::os::unix::fs::chown(dir.path().join("tasks"), Some(1000), None).unwrap();
        assert!(matches!(OwnFreezer::open(dir.path(), |_| true), Err(NotOwn::Open(_))));
    }
}
