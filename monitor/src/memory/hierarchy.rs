//! Where the memory controller's cgroups are: which hierarchy, which cgroup a process is in, which of its
//! ancestors have a limit, and the kernel's id of a cgroup. Reads no usage. Cold path: it may allocate.

mod namespace;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{Buffer, Dir};
use super::path::CgroupPath;
use super::{Defect, Limit, ReadError, v1, v2};
use crate::units::{Bytes, Pid};

/// The kernel's id of a cgroup: the inode number of its directory in the memory hierarchy (`cgroup_ino`),
/// which is what the kernel's memory tracepoints carry. Not used again while the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CgroupId(pub u64);

/// The version of the hierarchy that holds the memory controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// A hierarchy of its own for memory.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The controller to find the hierarchy of, as PROCFS/PID/cgroup names it.
const MEMORY: &str = "memory";

/// The hierarchy of the memory controller, as mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    version: Version,
    /// The directory of the root cgroup, as far as this mount shows it.
    root: PathBuf,
    /// Where the mount's root lies, in the paths that PROCFS/PID/cgroup uses. `/` unless a container's mount
    /// shows a part only, or (with `..` in it) more than the container's own cgroup namespace.
    mounted: PathBuf,
    /// Where in the mount the root of this process's cgroup namespace lies, if the mount shows more than the namespace
    /// and it could be found: those names are in no file.
    namespace: Option<CgroupPath>,
    /// v2: `cgroup.controllers` of the root lists `memory`.
    listed: bool,
}

impl Hierarchy {
    /// Looks for the memory controller below `cgroupfs` (docs/behavior.md#interfaces): v2 if there is
    /// `cgroup.controllers`, v1 if there is a directory `memory`; hybrid mounts by which of their two hierarchies has
    /// the controller.
    ///
    /// # Errors
    /// [`ReadError::NoController`] if neither is there; denied or broken if that could not be found out.
    pub fn find(cgroupfs: &Path, procfs: &Path) -> Result<Self, ReadError> {
        let v1 = cgroupfs.join("memory");
        let v1_has_files = exists(&v1.join("memory.limit_in_bytes"))?;
        if let Some(listed) = lists_memory(cgroupfs)?
            // A root without the controller beside a v1 hierarchy that has it: v1 holds the memory.
            && (listed || !v1_has_files)
        {
            return Ok(Self::at(Version::V2, cgroupfs.to_path_buf(), procfs, listed));
        }
        let unified = cgroupfs.join("unified");
        if !v1_has_files && lists_memory(&unified)? == Some(true) {
            return Ok(Self::at(Version::V2, unified, procfs, true));
        }
        if v1.is_dir() {
            return Ok(Self::at(Version::V1, v1, procfs, true));
        }
        Err(ReadError::NoController { path: cgroupfs.into() })
    }

    /// The v2 hierarchy, with or without the memory controller: where processes can be killed by cgroup. `None`: it is
    /// not mounted there.
    #[must_use]
    pub fn unified(cgroupfs: &Path, procfs: &Path) -> Option<Self> {
        let roots = [cgroupfs.to_path_buf(), cgroupfs.join("unified")];
        let root = roots.into_iter().find(|root| root.join("cgroup.controllers").is_file())?;
        Some(Self::at(Version::V2, root, procfs, true))
    }

    fn at(version: Version, root: PathBuf, procfs: &Path, listed: bool) -> Self {
        let mounted = std::fs::read(procfs.join("self/mountinfo"))
            .ok()
            .zip(root.canonicalize().ok())
            .and_then(|(mountinfo, root)| mounted_root(&mountinfo, &root))
            // No mount point: a directory made by hand, or a mount we cannot see. Nothing to take off then;
            // a path that does not fit is found missing.
            .unwrap_or_else(|| "/".into());
        let own = std::fs::read(procfs.join("self/cgroup")).unwrap_or_default();
        let namespace = listed_path(&own, version, MEMORY)
            .and_then(|own| namespace::root_in(&root, &mounted, own, std::process::id()));
        Self { version, root, mounted, namespace, listed }
    }

    /// v1 or v2.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The directory of `cgroup`; it need not exist.
    #[must_use]
    pub fn dir(&self, cgroup: &CgroupPath) -> PathBuf {
        cgroup.below(&self.root)
    }

    /// Opens the directory of `cgroup` for reading its memory files.
    pub(super) fn open(&self, cgroup: &CgroupPath) -> Result<std::sync::Arc<Dir>, ReadError> {
        let path = self.dir(cgroup);
        let dir = Dir::open(&path)?;
        // Says what is the matter better than that memory.max is missing.
        if !self.listed && !cgroup.is_root() && !exists(&path.join("memory.max"))? {
            return Err(ReadError::NoController { path: self.root.as_path().into() });
        }
        Ok(dir)
    }

    /// The kernel's id of `cgroup`.
    ///
    /// # Errors
    /// Missing if there is no such cgroup.
    pub fn id(&self, cgroup: &CgroupPath) -> Result<CgroupId, ReadError> {
        Ok(CgroupId(Dir::open(&self.dir(cgroup))?.inode()?))
    }

    /// The cgroup a process is in, from PROCFS/PID/cgroup (cgroups(7)).
    ///
    /// # Errors
    /// Gone if there is no such process (any more), or its cgroup was removed; [`ReadError::Outside`] if the
    /// mount does not show its cgroup; missing if the file names no cgroup of this hierarchy.
    pub fn cgroup_of(&self, procfs: &Path, pid: Pid) -> Result<CgroupPath, ReadError> {
        let file = procfs.join(pid.to_string()).join("cgroup");
        let text = cgroup_file(&file)?;
        // A thread that has exited is in the root (v1), or where it was when it did (v2).
        let may_be_dead = || match self.version {
            Version::V1 => listed_path(&text, self.version, MEMORY) == Some(b"/".as_slice()),
            Version::V2 => true,
        };
        let speaks = if may_be_dead() { crate::proc_threads::another_speaks(procfs, pid) } else { None };
        let (file, text) = match speaks.map(|thread| thread.join("cgroup")) {
            Some(file) => (file.clone(), cgroup_file(&file)?),
            None => (file, text),
        };
        let key = match self.version {
            Version::V1 => MEMORY,
            Version::V2 => "0::",
        };
        let listed = listed_path(&text, self.version, MEMORY)
            .ok_or_else(|| ReadError::Missing { path: file.as_path().into(), key: Some(key) })?;
        let outside = || ReadError::Outside {
            path: file.as_path().into(),
            cgroup: String::from_utf8_lossy(listed).into(),
        };
        let rooted = self.in_mount(Path::new(OsStr::from_bytes(listed))).ok_or_else(outside)?;
        let cgroup = CgroupPath::new(rooted.as_os_str()).map_err(|_| ReadError::Malformed {
            path: file.as_path().into(),
            key: Some(key),
            what: Defect::Impossible("holds no cgroup path"),
        })?;
        // kernel/cgroup/cgroup.c, proc_cgroup_show: the mark of a cgroup removed under its last, dying process.
        if listed.ends_with(b" (deleted)") && !self.dir(&cgroup).exists() {
            return Err(ReadError::Gone { path: self.dir(&cgroup).as_path().into() });
        }
        Ok(cgroup)
    }

    /// Where a cgroup of PROCFS/PID/cgroup, which goes by this process's cgroup namespace, lies in the mount. `None`:
    /// outside of it, or not known.
    fn in_mount(&self, listed: &Path) -> Option<PathBuf> {
        let climbs = |path: &Path| path.components().any(|part| matches!(part, Component::ParentDir));
        match listed.strip_prefix(&self.mounted) {
            Ok(relative) if !climbs(relative) => return Some(Path::new("/").join(relative)),
            Ok(_) | Err(_) => {}
        }
        namespace::resolve(self.namespace.as_ref()?, listed)
    }

    /// What the kernel counts as charged to a cgroup.
    pub(crate) fn usage_file(&self, cgroup: &CgroupPath) -> PathBuf {
        self.dir(cgroup).join(match self.version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        })
    }

    /// The cgroup that memory of a process in `cgroup` is charged to: itself, or where the controller is not
    /// enabled that deep (v2), the nearest ancestor that has it.
    ///
    /// # Errors
    /// Whatever keeps the files from being looked for.
    pub fn charged(&self, cgroup: &CgroupPath) -> Result<CgroupPath, ReadError> {
        for ancestor in cgroup.ancestors() {
            if ancestor.is_root() || exists(&self.usage_file(&ancestor))? {
                return Ok(ancestor);
            }
        }
        Ok(CgroupPath::root())
    }

    /// Every cgroup from `cgroup` up that has a limit now, innermost first: the nested domains of a worker in
    /// it (docs/behavior.md#accounting). Without the root, which has the node's limit. One with an unreadable limit is
    /// listed with the error, because it may have one.
    pub fn limited(&self, cgroup: &CgroupPath) -> Vec<(CgroupPath, Result<Bytes, ReadError>)> {
        let mut buffer = Buffer::new();
        let mut found = Vec::new();
        for ancestor in cgroup.ancestors().filter(|ancestor| !ancestor.is_root()) {
            match self.limit(&ancestor, &mut buffer) {
                Ok(Some(Limit::At(limit))) => found.push((ancestor, Ok(limit))),
                Ok(Some(Limit::Unlimited) | None) => {}
                Err(error) => found.push((ancestor, Err(error))),
            }
        }
        found
    }

    /// `None`: there is no such cgroup (any more), or (v2) the controller is not enabled this deep.
    fn limit(&self, cgroup: &CgroupPath, buffer: &mut Buffer) -> Result<Option<Limit>, ReadError> {
        let dir = match Dir::open(&self.dir(cgroup)) {
            Err(error) if error.is_missing_file() => return Ok(None),
            other => other?,
        };
        let limit = match self.version {
            Version::V1 => v1::Files::new(&dir).limit_in_bytes(buffer),
            Version::V2 => v2::Files::new(&dir).memory_max(buffer),
        };
        match limit {
            Err(error) if error.is_gone() => Ok(None),
            Err(error) if error.is_missing_file() && self.version == Version::V2 => Ok(None),
            other => other.map(Some),
        }
    }
}

/// Whether `root` is a v2 root, and if so whether its controllers include memory.
fn lists_memory(root: &Path) -> Result<Option<bool>, ReadError> {
    let file = root.join("cgroup.controllers");
    match std::fs::read(&file) {
        Ok(text) => Ok(Some(text.split(u8::is_ascii_whitespace).any(|name| name == b"memory"))),
        Err(error) => match ReadError::from_io(&file, &error) {
            missing if missing.is_missing_file() => Ok(None),
            other => Err(other),
        },
    }
}

fn exists(path: &Path) -> Result<bool, ReadError> {
    match path.try_exists() {
        Ok(exists) => Ok(exists),
        Err(error) => match ReadError::from_io(path, &error) {
            missing if missing.is_missing_file() => Ok(false),
            other => Err(other),
        },
    }
}

/// The path in the line of a PROCFS/PID/cgroup file that belongs to a controller:
/// `4:memory:/path` (v1; several controllers may share a line) or `0::/path` (v2).
fn cgroup_file(file: &Path) -> Result<Vec<u8>, ReadError> {
    std::fs::read(file).map_err(|error| match ReadError::from_io(file, &error) {
        missing if missing.is_missing_file() => ReadError::Gone { path: file.into() },
        other => other,
    })
}

fn listed_path<'a>(text: &'a [u8], version: Version, controller: &str) -> Option<&'a [u8]> {
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = match version {
            Version::V1 => controllers.split(|byte| *byte == b',').any(|name| name == controller.as_bytes()),
            Version::V2 => id == b"0" && controllers.is_empty(),
        };
        (ours && path.starts_with(b"/")).then_some(path)
    })
}

/// The fourth field (root within the file system) of the last mount at `point` (proc_pid_mountinfo(5)).
fn mounted_root(mountinfo: &[u8], point: &Path) -> Option<PathBuf> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ').skip(3);
            let (root, at) = (unescape(fields.next()?), unescape(fields.next()?));
            (Path::new(OsStr::from_bytes(&at)) == point).then(|| PathBuf::from(OsStr::from_bytes(&root)))
        })
        .next_back()
}

/// Undoes the octal escapes (`\040` for a space) of mountinfo.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            Some(_) | None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
#[path = "hierarchy/tests.rs"]
mod tests;
