//! Memory cgroups of a test's own. Owns their making, filling and removal; kills only their members. Knows nothing
//! of agents and workers.

mod counters;
mod members;
mod room;
mod stale;

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use monitor::memory::{CgroupPath, Hierarchy, Version};
use monitor::units::Bytes;

use crate::clock::wait_for;

pub(crate) use members::of as members;
pub use room::{may_make, obstacle};
pub(crate) use stale::maker_is_dead;

/// The names of all cgroups made here: this, the pid of their maker, and a number.
pub(crate) const PREFIX: &str = "monitor-test-";

/// How long removal waits for members to die. Long: large processes die slowly on a busy machine.
const REMOVAL: Duration = Duration::from_secs(30);

/// A memory cgroup with a limit and without swap. Dropped, it kills every process in it and below it, and removes
/// itself.
#[derive(Debug)]
pub struct Sandbox {
    version: Version,
    path: CgroupPath,
    dir: PathBuf,
}

impl Sandbox {
    /// A new one below the root of the memory hierarchy. The first call in a process also removes what dead
    /// processes left over.
    ///
    /// # Errors
    /// No memory controller, no root, or a file of the new cgroup that does not take its value.
    pub fn new(limit: Bytes) -> Result<Self> {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let hierarchy = hierarchy()?;
        let root = hierarchy.dir(&CgroupPath::root());
        SWEEP.call_once(|| stale::sweep(&root));
        if hierarchy.version() == Version::V2 {
            enable_memory_below(&root)?;
        }
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self::make(hierarchy.version(), &root, &CgroupPath::root(), &name, Some(limit))
    }

    /// A cgroup in this one. On v2 this one must have no members of its own then.
    ///
    /// # Errors
    /// As [`Sandbox::new`].
    pub fn child(&self, name: &str, limit: Option<Bytes>) -> Result<Self> {
        if self.version == Version::V2 {
            enable_memory_below(&self.dir)?;
        }
        Self::make(self.version, &self.dir, &self.path, name, limit)
    }

    fn make(
        version: Version,
        parent_dir: &Path,
        parent: &CgroupPath,
        name: &str,
        limit: Option<Bytes>,
    ) -> Result<Self> {
        let path = CgroupPath::new(parent.as_path().join(name).as_os_str())?;
        let dir = parent_dir.join(name);
        fs::create_dir(&dir)
            .with_context(|| format!("making the cgroup {} (it needs root)", dir.display()))?;
        // From here on it is removed when anything fails.
        let made = Self { version, path, dir };
        if let Some(limit) = limit {
            made.set_limit(limit)?;
        }
        Ok(made)
    }

    /// Sets the limit, also while it is in use.
    ///
    /// # Errors
    /// The kernel refuses it: more is in use and cannot be reclaimed.
    pub fn set_limit(&self, limit: Bytes) -> Result<()> {
        match self.version {
            Version::V1 => {
                self.write("memory.swappiness", "0")?;
                let memsw = "memory.memsw.limit_in_bytes";
                let both = limit.0.to_string();
                // memsw may never be below the limit: which goes first depends on the direction. Without swap
                // accounting there is no memsw, and swappiness 0 has to do.
                if self.dir.join(memsw).exists() && self.write(memsw, &both).is_err() {
                    self.write("memory.limit_in_bytes", &both)?;
                    return self.write(memsw, &both);
                }
                self.write("memory.limit_in_bytes", &both)
            }
            Version::V2 => {
                if self.dir.join("memory.swap.max").exists() {
                    self.write("memory.swap.max", "0")?;
                }
                self.write("memory.max", &limit.0.to_string())
            }
        }
    }

    /// Takes the limit away.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lift_limit(&self) -> Result<()> {
        match self.version {
            Version::V1 => {
                let memsw = "memory.memsw.limit_in_bytes";
                if self.dir.join(memsw).exists() {
                    self.write(memsw, "-1")?;
                }
                self.write("memory.limit_in_bytes", "-1")
            }
            Version::V2 => self.write("memory.max", "max"),
        }
    }

    /// Its path relative to the root of the memory hierarchy: what `--cgroup` takes (docs/behavior.md#interfaces).
    #[must_use]
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The name of its domain: `cgroup:PATH`.
    #[must_use]
    pub fn domain(&self) -> String {
        format!("cgroup:{}", self.path)
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// v1 or v2.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// A command that is in the cgroup before it runs its program.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn command(&self, program: impl AsRef<Path>) -> Result<Command> {
        let mut command = Command::new(program.as_ref());
        self.enter(&mut command)?;
        Ok(command)
    }

    /// Makes what `command` starts a member before it runs its program.
    ///
    /// # Errors
    /// The cgroup is gone.
    pub fn enter(&self, command: &mut Command) -> Result<()> {
        enter(&self.dir, command)
    }

    /// Moves a running process here. Memory that it has stays charged where it is.
    ///
    /// # Errors
    /// It is gone, or may not be moved.
    pub fn add(&self, pid: u32) -> Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Kills all members, waits for their death, and removes it with all below it. What Drop does, with the error.
    ///
    /// # Errors
    /// A member that does not die, or a directory that cannot be removed.
    pub fn remove(&self) -> Result<()> {
        remove_tree(&self.dir)
    }

    /// Removes it also on a panic that aborts: for programs built without unwinding, where Drop does not run.
    pub fn remove_on_panic(&self) {
        let (dir, before) = (self.dir.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            // Nothing is left to be done about an error: the next sandbox sweeps.
            let _ = remove_tree(&dir);
        }));
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::write(&path, value).with_context(|| format!("writing {value} to {}", path.display()))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("left over: {}: {error:#}", self.dir.display());
        }
    }
}

/// Makes what `command` starts a member of the cgroup at `dir`, of whatever hierarchy, before it runs its program.
pub(crate) fn enter(dir: &Path, command: &mut Command) -> Result<()> {
    let file = dir.join("cgroup.procs");
    let procs = File::options().write(true).open(&file).with_context(|| file.display().to_string())?;
    // SAFETY: between fork and exec only write(2) on a descriptor opened before is called: async-signal-safe,
    // no allocation, no lock. The closure owns the descriptor. "0" is the writing process itself.
    unsafe {
        command.pre_exec(move || match rustix::io::write(&procs, b"0")? {
            1 => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        });
    }
    Ok(())
}

fn hierarchy() -> Result<Hierarchy> {
    Hierarchy::find(Path::new("/sys/fs/cgroup"), Path::new("/proc"))
        .context("looking for the memory controller")
}

/// v2: a cgroup has the files of a controller only if its parent hands it down.
fn enable_memory_below(dir: &Path) -> Result<()> {
    let file = dir.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    if enabled.split_whitespace().any(|name| name == "memory") {
        return Ok(());
    }
    fs::write(&file, "+memory").with_context(|| format!("enabling memory in {}", file.display()))
}

fn remove_tree(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    members::kill_all(dir, REMOVAL)?;
    for below in tree(dir)?.iter().rev() {
        // The kernel takes a moment to let the last member go.
        wait_for("a cgroup to be empty", REMOVAL, || match fs::remove_dir(below) {
            Ok(()) => Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(None),
            Err(error) => bail!("removing {}: {error}", below.display()),
        })?;
    }
    Ok(())
}

/// `dir` and all cgroups below it, parents first.
fn tree(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![dir.to_path_buf()];
    let mut next = 0;
    while let Some(current) = all.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(&current)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                all.push(entry.path());
            }
        }
    }
    Ok(all)
}

/// In a test: a [`Sandbox`] of so many MiB. Where there is an [`obstacle`] the test is skipped and returns.
#[macro_export]
macro_rules! sandbox {
    ($mib:expr) => {{
        let limit = ::monitor::units::Bytes($mib << 20);
        if let Some(why) = $crate::cgroup::obstacle(limit) {
            $crate::skip!($crate::skip::Lacks::Machine, "{why}");
            return;
        }
        match $crate::cgroup::Sandbox::new(limit) {
            Ok(sandbox) => sandbox,
            Err(error) => panic!("{error:#}"),
        }
    }};
}

#[cfg(test)]
mod tests;
