//! Whether a worker is alone in a cgroup: asked each time before something is done to the cgroup as a whole.
//!
//! Invariant: only root can put a process into it. Otherwise a user could do so between the check and what
//! follows, and so have a process killed that this user may not kill.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::units::Pid;

/// How often the cgroup is checked: a process that is being made, or ends, is in a cgroup for a moment and not on the books.
const LOOKS: u32 = 16;

/// How deep cgroups below it are looked into.
const DEPTH: u32 = 16;

/// Why a worker's cgroup is left alone.
#[derive(Debug, thiserror::Error)]
pub enum NotOwn {
    /// Another process is in it.
    #[error("process {0} in the cgroup does not belong to the worker")]
    Stranger(Pid),
    /// Users other than root can move processes into it.
    #[error("users other than root may move processes into {0}")]
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

impl NotOwn {
    pub(super) fn unknown(path: &Path, error: io::Error) -> Self {
        Self::Unknown { path: path.display().to_string(), error }
    }
}

/// A cgroup's directory. Held open, so that it never means a cgroup of the same name.
#[derive(Debug)]
pub(super) struct Own {
    dir: File,
}

impl Own {
    /// The cgroup at `dir`.
    pub(super) fn open(dir: &Path) -> Result<Self, NotOwn> {
        Ok(Self { dir: File::open(dir).map_err(|error| NotOwn::unknown(dir, error))? })
    }

    /// The directory that is open, whatever its name is by now.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()))
    }

    /// Whether there is only this worker in it and below, and only root may put processes there.
    pub(super) fn only(&self, worker: &impl Fn(Pid) -> bool) -> Result<(), NotOwn> {
        let look = || {
            let stranger = self.members()?.into_iter().find(|pid| *pid == Pid(0) || !worker(*pid));
            stranger.map_or(Ok(()), |pid| Err(NotOwn::Stranger(pid)))
        };
        let mut found = look();
        for _ in 1..LOOKS {
            if !matches!(found, Err(NotOwn::Stranger(_))) {
                break;
            }
            found = look();
        }
        found
    }

    /// The processes in it and below. 0: one that this pid namespace does not show; its worker cannot be known.
    pub(super) fn members(&self) -> Result<Vec<Pid>, NotOwn> {
        let mut found = Vec::new();
        collect(&self.path(), DEPTH, &mut found)?;
        Ok(found)
    }
}

fn collect(dir: &Path, depth: u32, found: &mut Vec<Pid>) -> Result<(), NotOwn> {
    let procs = dir.join("cgroup.procs");
    // Through `tasks` threads are moved, in version 1 only.
    for (path, needed) in [(dir, true), (&procs, true), (&dir.join("tasks"), false)] {
        match fs::metadata(path) {
            Ok(metadata) if only_root_writes(&metadata) => {}
            Ok(_) => return Err(NotOwn::Open(path.display().to_string())),
            Err(error) if !needed && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(NotOwn::unknown(path, error)),
        }
    }
    let text = fs::read_to_string(&procs).map_err(|error| NotOwn::unknown(&procs, error))?;
    found.extend(text.lines().map(|line| Pid(line.parse().unwrap_or(0))));
    for entry in fs::read_dir(dir).map_err(|error| NotOwn::unknown(dir, error))? {
        let entry = entry.map_err(|error| NotOwn::unknown(dir, error))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let too_deep = || NotOwn::unknown(dir, io::ErrorKind::InvalidInput.into());
            collect(&entry.path(), depth.checked_sub(1).ok_or_else(too_deep)?, found)?;
        }
    }
    Ok(())
}

fn only_root_writes(metadata: &Metadata) -> bool {
    metadata.uid() == 0 && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
pub(super) mod tests {
    /// A directory as a cgroup shows itself, with these files; none without root, which must own these files.
    pub(in crate::kill) fn cgroup(files: &[(&str, &str)]) -> Option<tempfile::TempDir> {
        use std::os::unix::fs::PermissionsExt as _;
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Some(dir)
    }
}
