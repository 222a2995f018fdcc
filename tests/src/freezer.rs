//! Holds deaths back: a process in a frozen cgroup of the v1 freezer takes SIGKILL only when it is thawed, like one
//! in uninterruptible sleep. (A frozen v2 cgroup does not hold it back: kernel/cgroup/freezer.c lets SIGKILL through.)
//!
//! Declare it after the sandbox of the held process: frozen members would keep that from being removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::cgroup::{self, PREFIX, maker_is_dead};
use crate::clock::{PATIENCE, wait_for};

const ROOT: &str = "/sys/fs/cgroup/freezer";

/// A freezer cgroup. Dropped, it lets its members go.
#[derive(Debug)]
pub struct Freezer {
    dir: PathBuf,
}

impl Freezer {
    /// A new, thawed one. `None`: this machine has no v1 freezer mounted.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Option<Self>> {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new(ROOT);
        if !root.join("cgroup.procs").exists() {
            return Ok(None);
        }
        SWEEP.call_once(|| sweep(root));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("making {} (it needs root)", dir.display()))?;
        Ok(Some(Self { dir }))
    }

    /// Freezes a process at once: from now on neither its program goes on nor does it die.
    ///
    /// # Errors
    /// It is gone.
    pub fn hold(&self, pid: u32) -> Result<()> {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("holding {pid}"))?;
        self.set("FROZEN")?;
        wait_for("all members to be frozen", PATIENCE, || {
            let state = fs::read_to_string(self.dir.join("freezer.state"))?;
            Ok((state.trim() == "FROZEN").then_some(()))
        })
    }

    /// Has a command start in it.
    ///
    /// # Errors
    /// Its file cannot be opened.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        cgroup::enter(&self.dir, command)
    }

    /// `THAWED`, `FREEZING` or `FROZEN`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.join("freezer.state"))?.trim().to_owned())
    }

    /// The processes in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn members(&self) -> Result<Vec<u32>> {
        cgroup::members(&self.dir)
    }

    /// Thaws all members: those that were killed die now.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release(&self) -> Result<()> {
        self.set("THAWED")
    }

    fn set(&self, state: &str) -> Result<()> {
        fs::write(self.dir.join("freezer.state"), state)
            .with_context(|| format!("{state} in {}", self.dir.display()))
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        if let Err(error) = dissolve(&self.dir) {
            eprintln!("left over: {}: {error:#}", self.dir.display());
        }
    }
}

/// Thaws it, sends its members back to the root and removes it.
fn dissolve(dir: &Path) -> Result<()> {
    fs::write(dir.join("freezer.state"), "THAWED").context("thawing")?;
    let root = dir.parent().unwrap_or(Path::new(ROOT));
    wait_for("the freezer to be empty", PATIENCE, || {
        for pid in fs::read_to_string(dir.join("cgroup.procs"))?.lines() {
            match fs::write(root.join("cgroup.procs"), pid) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => bail!("moving {pid} out: {error}"),
            }
        }
        match fs::remove_dir(dir) {
            Ok(()) => Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
            Err(error) => bail!("removing it: {error}"),
        }
    })
}

/// What killed test processes left frozen.
fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten().filter(|entry| maker_is_dead(&entry.file_name())) {
        if let Err(error) = dissolve(&entry.path()) {
            eprintln!("left over by an earlier test: {}: {error:#}", entry.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::clock::scaled;
    use crate::process::Process;
    use crate::skip;
    use crate::skip::Lacks;

    #[test]
    fn a_held_process_dies_of_sigkill_only_when_it_is_released() {
        if !crate::cgroup::may_make() {
            return skip!(Lacks::Machine, "making cgroups needs root");
        }
        let Some(freezer) = Freezer::new().unwrap() else {
            return skip!(Lacks::Kernel, "no v1 freezer");
        };
        let mut child = Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
        let process = Process::open(child.id()).unwrap().unwrap();
        freezer.hold(child.id()).unwrap();
        process.kill().unwrap();
        // SIGKILL is pending, and it has not died of it: what it would have done at once.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:\t")).unwrap();
        assert_eq!(u64::from_str_radix(pending, 16).unwrap(), 1 << 8, "{status}");
        assert!(!process.is_dead().unwrap());
        freezer.release().unwrap();
        assert!(process.wait_until(std::time::Instant::now() + scaled(PATIENCE)).unwrap());
        assert!(!child.wait().unwrap().success());
    }
}
