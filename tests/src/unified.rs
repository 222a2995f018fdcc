//! A v2 cgroup of a test's own, for what needs no controller: `cgroup.kill`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::cgroup::{self, PREFIX};
use crate::clock::{PATIENCE, wait_for};

/// Dropped, it is killed whole and removed.
#[derive(Debug)]
pub struct Unified {
    dir: PathBuf,
}

impl Unified {
    /// A new one. `None`: no v2 hierarchy is mounted, or its kernel has no `cgroup.kill`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Option<Self>> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let Some(root) = roots.iter().find(|root| Path::new(root).join("cgroup.controllers").exists()) else {
            return Ok(None);
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(root).join(format!("{PREFIX}unified-{}-{number}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("making {} (it needs root)", dir.display()))?;
        let cgroup = Self { dir };
        Ok(cgroup.dir.join("cgroup.kill").exists().then_some(cgroup))
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Has a command start in it.
    ///
    /// # Errors
    /// Its file cannot be opened.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        cgroup::enter(&self.dir, command)
    }

    /// The processes in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn members(&self) -> Result<Vec<u32>> {
        cgroup::members(&self.dir)
    }
}

impl Drop for Unified {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
        let removed = wait_for("a cgroup to be removed", PATIENCE, || Ok(fs::remove_dir(&self.dir).ok()));
        if let Err(error) = removed {
            eprintln!("left over: {}: {error:#}", self.dir.display());
        }
    }
}
