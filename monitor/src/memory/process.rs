//! The memory of processes, one or a worker's whole tree. A cold path, for reports and for ranking by size:
//! the kernel takes up to 30 ms per GiB to sum up a process's pages.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::Flaw;
use super::{Defect, ReadError, kept};
use crate::proc_threads;
use crate::units::{Bytes, MemoryKind, Pid};

/// The most that a process held at once as far as the kernel knows, less what it has of files now: `VmHWM` less `RssFile`.
/// `None`: it says nothing.
#[must_use]
pub fn peak(procfs: &Path, pid: Pid) -> Option<Bytes> {
    let status = read(procfs.join(pid.to_string()), "status").ok()?;
    let peak = kib(&status, "VmHWM:").ok()??;
    Some(peak.saturating_sub(kib(&status, "RssFile:").ok()?.unwrap_or_default()))
}

/// What processes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProcessMemory {
    /// Bytes, swapped-out memory not included.
    pub bytes: Bytes,
    /// What they are.
    pub measured: MemoryKind,
}

/// The memory of one process: PSS, or RSS where that is denied or the kernel (before 4.14) has none.
///
/// # Errors
/// Gone if it has ended.
pub fn memory(procfs: &Path, pid: Pid) -> Result<ProcessMemory, ReadError> {
    let pss = match pss(pid, procfs.join(pid.to_string())) {
        Ok(bytes) => Ok(bytes),
        // Its first thread has exited, it is not ours to look into, or it is gone.
        Err(error) => match proc_threads::another_speaks(procfs, pid) {
            Some(thread) => pss(pid, thread),
            None => Err(error),
        },
    };
    match pss {
        Ok(bytes) => Ok(ProcessMemory { bytes, measured: MemoryKind::Pss }),
        Err(_) => rss(procfs, pid).map(|bytes| ProcessMemory { bytes, measured: MemoryKind::Rss }),
    }
}

/// The memory of several processes together, as a worker's. Those that have ended count nothing; `measured`
/// is [`MemoryKind::Rss`] if that was taken for any of them.
///
/// # Errors
/// A process that lives can be measured in neither way: the sum is unknown.
pub fn memory_of_all(procfs: &Path, pids: impl IntoIterator<Item = Pid>) -> Result<ProcessMemory, ReadError> {
    let mut sum = ProcessMemory { bytes: Bytes(0), measured: MemoryKind::Pss };
    for pid in pids {
        match memory(procfs, pid) {
            Ok(one) => {
                sum.bytes = sum.bytes.saturating_add(one.bytes);
                if one.measured == MemoryKind::Rss {
                    sum.measured = MemoryKind::Rss;
                }
            }
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// The parent of each process, as PROCFS had it at one look: a child without its parent was adopted by another.
#[derive(Debug)]
pub struct Family {
    children: HashMap<Pid, Vec<Pid>>,
    alive: HashSet<Pid>,
}

impl Family {
    /// Looks at all processes. Those that end meanwhile are left out.
    ///
    /// # Errors
    /// PROCFS cannot be listed.
    pub fn look(procfs: &Path) -> Result<Self, ReadError> {
        let (mut children, mut alive) = (HashMap::<Pid, Vec<Pid>>::new(), HashSet::new());
        for pid in all(procfs)? {
            let Ok(parent) = parent(procfs, pid) else { continue };
            alive.insert(pid);
            if let Some(parent) = parent {
                children.entry(parent).or_default().push(pid);
            }
        }
        Ok(Self { children, alive })
    }

    /// Looks at these processes and what descends from them only, as the kernel lists children (`CONFIG_PROC_CHILDREN`); `None`
    /// where it does not. A child may be missed while one beside it ends.
    #[must_use]
    pub fn below(procfs: &Path, roots: &[Pid]) -> Option<Self> {
        if !procfs.join("thread-self/children").exists() {
            return None;
        }
        let (mut all, mut alive) = (HashMap::<Pid, Vec<Pid>>::new(), HashSet::new());
        let mut todo = roots.to_vec();
        while let Some(pid) = todo.pop() {
            let Some(found) = children(procfs, pid) else {
                // A thread of it ended just now: all processes have to be looked at.
                if procfs.join(pid.to_string()).exists() {
                    return None;
                }
                continue;
            };
            if alive.insert(pid) {
                todo.extend(&found);
                all.insert(pid, found);
            }
        }
        Some(Self { children: all, alive })
    }

    /// Those of these processes that were there, and all that descend from them, in order; but not processes that are
    /// `another's`, nor their descendants.
    #[must_use]
    pub fn with_descendants(&self, roots: &[Pid], anothers: impl Fn(Pid) -> bool) -> Vec<Pid> {
        let mut found = HashSet::new();
        let mut todo: Vec<Pid> = roots.iter().copied().filter(|pid| self.alive.contains(pid)).collect();
        while let Some(pid) = todo.pop() {
            if found.insert(pid) {
                let children = self.children.get(&pid).into_iter().flatten();
                todo.extend(children.filter(|child| !anothers(**child)));
            }
        }
        let mut found: Vec<Pid> = found.into_iter().collect();
        found.sort_unstable();
        found
    }
}

/// The children that a process's threads have now. `None`: it is gone, or this kernel does not tell.
#[must_use]
pub fn children(procfs: &Path, pid: Pid) -> Option<Vec<Pid>> {
    let mut all = Vec::new();
    for thread in fs::read_dir(procfs.join(pid.to_string()).join("task")).ok()?.flatten() {
        let text = match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => text,
            // A thread that ended left its children to another one, which may have been read before.
            Err(_) => return None,
        };
        all.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid));
    }
    Some(all)
}

/// The parents of a process, its own first, up to the first that cannot be read: as they are now.
#[must_use]
pub fn ancestors(procfs: &Path, pid: Pid) -> Vec<Pid> {
    /// A chain that is longer was made to be long.
    const MOST: usize = 256;
    let parent = |pid: &Pid| parent_of(procfs, *pid).filter(|parent| parent.0 > 0);
    std::iter::successors(parent(&pid), parent).take(MOST).collect()
}

/// The parent of a process.
pub(crate) fn parent_of(procfs: &Path, pid: Pid) -> Option<Pid> {
    parent(procfs, pid).ok().flatten()
}

/// None if its file does not say.
fn parent(procfs: &Path, pid: Pid) -> Result<Option<Pid>, ReadError> {
    let parent = read(procfs.join(pid.to_string()), "status")?.number("PPid:", b"")?;
    Ok(parent.and_then(|parent| u32::try_from(parent).ok()).map(Pid))
}

/// Every process that PROCFS shows.
///
/// # Errors
/// It cannot be listed.
pub fn all(procfs: &Path) -> Result<Vec<Pid>, ReadError> {
    let entries = fs::read_dir(procfs).map_err(|error| ReadError::from_io(procfs, &error))?;
    Ok(entries.flatten().flat_map(|entry| pids(&entry.file_name().to_string_lossy())).collect())
}

/// The pids in a text of one a line. 0 stands for a process of another pid namespace: nothing to be read.
pub(super) fn pids(text: &str) -> Vec<Pid> {
    text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid).collect()
}

/// Its resident memory; 0 for a process that has none (a kernel thread, a zombie).
pub(crate) fn rss(procfs: &Path, pid: Pid) -> Result<Bytes, ReadError> {
    counted(procfs, pid).map(|(resident, _)| resident)
}

/// What a process holds by the kernel's own counters, in microseconds: all that is resident, and of that what is private
/// (not of files, not shared memory).
///
/// # Errors
/// Gone if it has ended.
pub(crate) fn counted(procfs: &Path, pid: Pid) -> Result<(Bytes, Bytes), ReadError> {
    match of_statm(procfs, pid) {
        Ok((resident, shared)) if resident > Bytes(0) => Ok((resident, resident.saturating_sub(shared))),
        // Its first thread may have exited, which then says nothing, or this PROCFS has no such file. The other one takes the
        // kernel five times as long.
        Ok(_) | Err(_) => {
            let status = status(procfs, pid, "VmRSS:")?;
            let held = |key| Ok(kib(&status, key)?.unwrap_or_default());
            Ok((held("VmRSS:")?, held("RssAnon:")?))
        }
    }
}

/// What is resident of a process, and of that what is of files or shared memory.
fn of_statm(procfs: &Path, pid: Pid) -> Result<(Bytes, Bytes), ReadError> {
    let statm = read(procfs.join(pid.to_string()), "statm")?;
    let mut pages = statm.text.split(|byte| *byte == b' ').skip(1).map(|digits| {
        let pages = super::parse::number(digits).map_err(|what| statm.malformed("pages", what))?;
        Ok(Bytes(pages.saturating_mul(rustix::param::page_size() as u64)))
    });
    let missing = || Err(Flaw::Missing("pages").at(&statm.path.as_path().into()));
    Ok((pages.next().unwrap_or_else(missing)?, pages.next().unwrap_or_else(missing)?))
}

/// The status file of a thread that has exited says nothing of memory: then another speaks for the process.
fn status(procfs: &Path, pid: Pid, key: &'static str) -> Result<File, ReadError> {
    let first = read(procfs.join(pid.to_string()), "status")?;
    if kib(&first, key)?.is_none()
        && first.has_other_threads()
        && let Some(thread) = proc_threads::another_speaks(procfs, pid)
    {
        return read(thread, "status");
    }
    Ok(first)
}

/// Pss of a smaps_rollup.
fn pss(pid: Pid, dir: PathBuf) -> Result<Bytes, ReadError> {
    let file = read_by(&dir, "smaps_rollup", |name| kept::read(pid, &dir, name, u64::MAX))?;
    let missing = Flaw::Missing("Pss").at(&file.path.as_path().into());
    kib(&file, "Pss:")?.ok_or(missing)
}

fn kib(file: &File, key: &'static str) -> Result<Option<Bytes>, ReadError> {
    match file.number(key, b" kB")? {
        None => Ok(None),
        Some(kib) => match kib.checked_mul(1024) {
            Some(bytes) => Ok(Some(Bytes(bytes))),
            None => Err(file.malformed(key, Defect::TooLarge)),
        },
    }
}

/// A file of a process, read whole.
struct File {
    path: PathBuf,
    text: Vec<u8>,
}

/// A file that is not there while its process is, is missing; without the process it is gone.
fn read(dir: PathBuf, name: &str) -> Result<File, ReadError> {
    read_by(&dir, name, |name| fs::read(dir.join(name)))
}

fn read_by(
    dir: &Path,
    name: &str,
    read: impl FnOnce(&str) -> std::io::Result<Vec<u8>>,
) -> Result<File, ReadError> {
    let path = dir.join(name);
    match read(name) {
        Ok(text) => Ok(File { path, text }),
        Err(error) => Err(match ReadError::from_io(&path, &error) {
            missing if missing.is_missing_file() && !dir.exists() => {
                ReadError::Gone { path: path.as_path().into() }
            }
            other => other,
        }),
    }
}

impl File {
    /// Of a status file: whether the process has threads besides the first.
    fn has_other_threads(&self) -> bool {
        self.number("Threads:", b"").is_ok_and(|threads| threads > Some(1))
    }

    /// The number after `key` (with its colon) and before `unit`; `None` if no line has the key.
    fn number(&self, key: &'static str, unit: &[u8]) -> Result<Option<u64>, ReadError> {
        let Some(value) =
            self.text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key.as_bytes()))
        else {
            return Ok(None);
        };
        let value = value.trim_ascii();
        let digits = value.strip_suffix(unit).ok_or_else(|| self.malformed(key, Defect::NoUnit))?;
        super::parse::number(digits).map(Some).map_err(|what| self.malformed(key, what))
    }

    fn malformed(&self, key: &'static str, what: Defect) -> ReadError {
        Flaw::Malformed(Some(key), what).at(&self.path.as_path().into())
    }
}

#[cfg(test)]
#[path = "process/tests.rs"]
mod tests;
