//! Which files a raylet reads for the memory of its node, as Ray decides it: a cgroup's if that has a limit below the host's
//! memory, else /proc/meminfo. Opened beneath the raylet's root, without links, and only if they are the kernel's own.

use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2};
use rustix::io::Errno;

use super::feed::{Kind, meminfo_key};
use crate::units::Bytes;

/// File systems by their numbers (include/uapi/linux/magic.h).
const CGROUP: i64 = 0x0027_e0eb;
const CGROUP2: i64 = 0x6367_7270;
const PROC: i64 = 0x9fa0;
const TMPFS: i64 = 0x0102_1994;

/// What mountinfo says where a file of ours comes from: no program mounts a file system in memory under this name but a helper.
pub(super) const SOURCE: &str = "monitor-ray";

/// Where a kind of files lies, without the leading slash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) kind: Kind,
    pub(super) folder: &'static str,
    pub(super) limit: &'static str,
    pub(super) usage: &'static str,
    /// Empty: there is none.
    pub(super) stat: &'static str,
    magic: i64,
}

pub(super) const V2: Place = Place {
    kind: Kind::V2,
    folder: "sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    stat: "memory.stat",
    magic: CGROUP2,
};

pub(super) const V1: Place = Place {
    kind: Kind::V1,
    folder: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    stat: "memory.stat",
    magic: CGROUP,
};

pub(super) const MEMINFO: Place =
    Place { kind: Kind::Meminfo, folder: "proc", limit: "meminfo", usage: "meminfo", stat: "", magic: PROC };

impl Place {
    /// The names of the files that are replaced.
    pub(super) fn replaced(self) -> impl Iterator<Item = &'static str> {
        [self.usage, self.stat].into_iter().filter(|name| !name.is_empty())
    }
}

/// Why the files cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ViewError {
    #[error("cannot open /{path} as it does: {error}")]
    Open { path: String, error: io::Error },
    #[error("/{path} is not a file of the kernel (file system {magic:#x})")]
    Foreign { path: String, magic: i64 },
    #[error("another agent, which is running, has put its own file at /{path}")]
    Fed { path: String },
    #[error("/{path} is not a file of the kernel: something else than an agent has put its own file there")]
    NotOurs { path: String },
    #[error("/{path} is not what the kernel writes there")]
    Malformed { path: String },
}

/// What it reads, and how much memory it takes for all.
pub(super) struct View {
    pub(super) place: Place,
    pub(super) total: Bytes,
    pub(super) usage: OwnedFd,
    pub(super) stat: Option<OwnedFd>,
}

impl View {
    /// As seen from `root`.
    pub(super) fn open(root: BorrowedFd<'_>) -> Result<Self, ViewError> {
        let meminfo = text(kernels_own(root, MEMINFO, MEMINFO.usage)?, "proc/meminfo")?;
        let host = meminfo_key(&meminfo, "MemTotal:")
            .ok_or(ViewError::Malformed { path: "proc/meminfo".to_owned() })?;
        for place in [V2, V1] {
            // As Ray: the first that is there is the one.
            let limit = match kernels_own(root, place, place.limit) {
                Ok(file) => text(file, place.limit)?,
                Err(ViewError::Open { error, .. }) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let limit = limit.trim().parse::<u64>().ok().filter(|limit| *limit < host.0);
            let Some(limit) = limit else { break };
            return Ok(Self {
                place,
                total: Bytes(limit),
                usage: kernels_own(root, place, place.usage)?,
                stat: Some(kernels_own(root, place, place.stat)?),
            });
        }
        let usage = kernels_own(root, MEMINFO, MEMINFO.usage)?;
        Ok(Self { place: MEMINFO, total: host, usage, stat: None })
    }
}

/// Opens a folder for paths within it.
pub(super) fn folder(root: BorrowedFd<'_>, place: Place) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat2(root, place.folder, flags, Mode::empty(), strictly())?)
}

/// Opens the place of a file, not the file.
pub(super) fn spot(folder: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(folder, name, flags, Mode::empty(), strictly())?)
}

/// What lies at a spot: whether it is a file in memory, as those of agents are.
pub(super) fn is_in_memory(spot: impl AsFd) -> io::Result<bool> {
    Ok(magic(spot)? == TMPFS)
}

fn magic(file: impl AsFd) -> io::Result<i64> {
    let magic = fstatfs(file)?.f_type;
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_fallible_conversions,
        reason = "its type differs from machine to machine"
    )]
    i64::try_from(magic).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A file of the kernel's: its file system is asked before it is opened, since opening another may never end.
fn kernels_own(root: BorrowedFd<'_>, place: Place, name: &str) -> Result<OwnedFd, ViewError> {
    let path = format!("{}/{name}", place.folder);
    let failed = |error: io::Error| ViewError::Open { path: path.clone(), error };
    let folder = folder(root, place).map_err(failed)?;
    let spot = spot(folder.as_fd(), name).map_err(failed)?;
    match magic(&spot).map_err(failed)? {
        found if found == place.magic => {}
        TMPFS => return Err(ViewError::Fed { path }),
        magic => return Err(ViewError::Foreign { path, magic }),
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file =
        openat2(&folder, name, flags, Mode::empty(), strictly()).map_err(|error| failed(error.into()))?;
    // It may have been covered meanwhile.
    match magic(&file).map_err(failed)? {
        found if found == place.magic => Ok(file),
        magic => Err(ViewError::Foreign { path, magic }),
    }
}

fn text(file: OwnedFd, path: &str) -> Result<String, ViewError> {
    let mut text = String::new();
    std::fs::File::from(file)
        .read_to_string(&mut text)
        .map_err(|error| ViewError::Open { path: path.to_owned(), error })?;
    Ok(text)
}

fn strictly() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// The first part of a log, if it is a plain file. Links within the root are followed: it is only read.
pub(super) fn log(root: BorrowedFd<'_>, path: &Path) -> io::Result<String> {
    /// What a raylet says at its start.
    const PART: u64 = 256 * 1024;
    let relative = path.strip_prefix("/").map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::File::from(openat2(root, relative, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    let mut bytes = Vec::new();
    file.take(PART).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_view_and_its_files_are_the_kernels_own() {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let view = View::open(root.as_fd()).unwrap();
        assert!(view.total > Bytes(1 << 20));
        assert_eq!(view.stat.is_some(), view.place.kind != Kind::Meminfo);
    }

    #[test]
    fn a_link_and_a_file_of_somebody_else_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", dir.path().join("proc/meminfo")).unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let error = View::open(root.as_fd()).err().unwrap().to_string();
        assert!(error.contains("/proc/meminfo"), "{error}");
        std::fs::remove_file(dir.path().join("proc/meminfo")).unwrap();
        std::fs::write(dir.path().join("proc/meminfo"), "MemTotal: 1 kB\n").unwrap();
        assert!(View::open(root.as_fd()).is_err(), "it is no file of procfs");
        std::fs::remove_dir_all(dir.path().join("proc")).unwrap();
        std::os::unix::fs::symlink("/proc", dir.path().join("proc")).unwrap();
        assert!(View::open(root.as_fd()).is_err(), "a folder that is a link");
    }

    #[test]
    fn a_log_that_is_no_plain_file_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        std::fs::write(dir.path().join("log"), "text").unwrap();
        assert_eq!(log(root.as_fd(), Path::new("/log")).unwrap(), "text");
        std::os::unix::fs::symlink("/log", dir.path().join("link")).unwrap();
        assert_eq!(log(root.as_fd(), Path::new("/link")).unwrap(), "text", "within its own root");
        std::os::unix::fs::symlink("/../../etc/hostname", dir.path().join("out")).unwrap();
        assert!(log(root.as_fd(), Path::new("/out")).is_err());
        rustix::fs::mknodat(&root, "fifo", rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(log(root.as_fd(), Path::new("/fifo")).is_err());
        assert!(log(root.as_fd(), Path::new("relative")).is_err());
    }
}
