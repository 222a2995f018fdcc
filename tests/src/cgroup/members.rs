//! The members of a cgroup: listed, and killed. A member is killed only while it is one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Sandbox, tree};
use crate::clock::scaled;
use crate::process::Process;

impl Sandbox {
    /// The processes in it, those below it not included.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn members(&self) -> Result<Vec<u32>> {
        of(self.dir())
    }
}

/// The members of the cgroup at `dir`. Empty if there is no such cgroup (any more).
pub(crate) fn of(dir: &Path) -> Result<Vec<u32>> {
    let file = dir.join("cgroup.procs");
    match fs::read_to_string(&file) {
        Ok(text) => text.lines().map(|line| line.parse().context("a pid")).collect(),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

/// Kills the members of `dir` and of all below it, those forked meanwhile too, until none is left.
pub(super) fn kill_all(dir: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + scaled(patience);
    loop {
        let mut dying = Vec::new();
        for cgroup in tree(dir)? {
            dying.extend(kill_members(&cgroup)?);
        }
        if dying.is_empty() {
            return Ok(());
        }
        for process in dying {
            if !process.wait_until(deadline)? {
                bail!("{} in {} does not die", process.pid(), dir.display());
            }
        }
        if Instant::now() >= deadline {
            bail!("{} does not get empty", dir.display());
        }
    }
}

fn kill_members(cgroup: &Path) -> Result<Vec<Process>> {
    let mut killed = Vec::new();
    let members = of(cgroup)?;
    for &pid in &members {
        ensure!(pid != 0, "{} has a member in another pid namespace", cgroup.display());
        ensure!(pid != std::process::id(), "this process is in {} itself", cgroup.display());
        let Some(process) = Process::open(pid)? else { continue };
        // Between the list and the pidfd the pid may have changed hands: it must still be listed now that it is held.
        if !of(cgroup)?.contains(&pid) {
            continue;
        }
        process.kill().with_context(|| format!("killing {pid}"))?;
        killed.push(process);
    }
    Ok(killed)
}
