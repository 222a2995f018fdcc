//! The largest users of memory, for reports (docs/behavior.md#records): of the node or of one cgroup. A cold path: it
//! walks PROCFS, allocates, and may take its whole budget of time. Never on the way to a kill.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::process::{self, ProcessMemory};
use super::{CgroupPath, Hierarchy, ReadError};
use super::{kept, meminfo};
use crate::printable::is_hidden;
use crate::proc_threads;
use crate::units::{Bytes, MemoryKind, Pid};

/// docs/behavior.md#records: commands are cut at this many characters.
pub const COMMAND_LENGTH: usize = 100;

/// The most of a command line that is read for that.
const LINE: u64 = 4096;

/// A process and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct User {
    /// The process; null: another user's, which the caller may not see.
    pub pid: Option<Pid>,
    /// The user that it runs as, by PROCFS: root if it may not be looked into. Null: not known, or hidden like the pid.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Bytes it holds.
    pub memory: Bytes,
    /// What `memory` is.
    pub measured: MemoryKind,
    /// Its command line, at most 100 characters, control characters escaped; `[name]` if it has none.
    pub command: String,
}

impl User {
    /// Keeps how much it holds, and hides which process it is.
    pub fn hide(&mut self) {
        (self.pid, self.uid) = (None, None);
        "(another user's process)".clone_into(&mut self.command);
    }
}

/// The largest users found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Users {
    /// Largest first; equal ones by pid.
    pub top: Vec<User>,
    /// False if time ran out: some processes were not looked at, or only their RSS was.
    pub complete: bool,
    /// Of the node: huge pages that are reserved, which no process can give back. Null: of a cgroup, or not known.
    #[serde(default)]
    pub huge_pages: Option<Bytes>,
}

/// The `count` largest processes: all that PROCFS shows, or those in a cgroup and below it.
///
/// Ranks by RSS first, which is cheap, and measures PSS (which takes the kernel up to 30 ms per GiB) of the
/// front-runners only, twice as many as wanted, while `budget` lasts; one measurement may overrun it.
/// Processes that end meanwhile are left out. Of the `dying` only the RSS is read: measuring PSS holds the memory
/// meanwhile, and it would not be freed by their death.
///
/// # Errors
/// PROCFS, or the cgroup's own `cgroup.procs`, cannot be listed.
pub fn top(
    procfs: &Path,
    within: Option<(&Hierarchy, &CgroupPath)>,
    count: usize,
    budget: Duration,
    dying: &[Pid],
) -> Result<Users, ReadError> {
    let started = Instant::now();
    let in_time = || started.elapsed() < budget;
    let pids = match within {
        None => process::all(procfs)?,
        Some((hierarchy, cgroup)) => members(&hierarchy.dir(cgroup))?,
    };
    let mut complete = true;
    let mut sizes: Vec<(Bytes, Pid)> = Vec::new();
    for pid in pids {
        if !in_time() {
            complete = false;
            break;
        }
        // Kernel threads have no memory; unreadable processes cannot be ranked.
        match process::rss(procfs, pid) {
            Ok(rss) if rss > Bytes(0) => sizes.push((rss, pid)),
            Ok(_) => {}
            Err(error) => complete &= error.is_gone(),
        }
    }
    sizes.sort_unstable_by_key(|&(rss, pid)| (std::cmp::Reverse(rss), pid));
    sizes.truncate(count.saturating_mul(2));

    let mut top = Vec::with_capacity(sizes.len());
    for (rss, pid) in sizes {
        let late = !in_time();
        complete &= !late;
        let memory = if late || dying.contains(&pid) {
            Ok(ProcessMemory { bytes: rss, measured: MemoryKind::Rss })
        } else {
            process::memory(procfs, pid)
        };
        let (Ok(ProcessMemory { bytes, measured }), Some(command)) = (memory, command(procfs, pid)) else {
            continue;
        };
        // Its directory belongs to the user of the process (fs/proc/base.c, task_dump_owner).
        let uid = std::fs::metadata(procfs.join(pid.to_string())).ok().map(|dir| dir.uid());
        top.push(User { pid: Some(pid), uid, memory: bytes, measured, command });
    }
    top.sort_unstable_by_key(|user| (std::cmp::Reverse(user.memory), user.pid));
    top.truncate(count);
    let huge_pages = if within.is_none() { meminfo::reserved(procfs) } else { None };
    Ok(Users { top, complete, huge_pages })
}

/// What the processes of the node, or of a cgroup and those below it, hold privately, less those that are left out
/// (in order). A process that ends meanwhile, or cannot be looked into, counts as 0.
///
/// # Errors
/// As [`top`].
pub(crate) fn private_but(
    procfs: &Path,
    within: Option<(&Hierarchy, &CgroupPath)>,
    but: &[Pid],
) -> Result<Bytes, ReadError> {
    let pids = match within {
        None => process::all(procfs)?,
        Some((hierarchy, cgroup)) => members(&hierarchy.dir(cgroup))?,
    };
    let others = pids.into_iter().filter(|pid| but.binary_search(pid).is_err());
    let held = others.map(|pid| process::counted(procfs, pid).map_or(Bytes(0), |(_, private)| private));
    Ok(held.fold(Bytes(0), Bytes::saturating_add))
}

/// The processes of the cgroup at `dir` and of those below it.
///
/// # Errors
/// Its own `cgroup.procs` cannot be read. What cannot be read further down is passed over: it was removed, or
/// is a threaded cgroup, with its processes listed above it.
pub fn members(dir: &Path) -> Result<Vec<Pid>, ReadError> {
    let file = dir.join("cgroup.procs");
    let text = std::fs::read_to_string(&file).map_err(|error| ReadError::from_io(&file, &error))?;
    let mut pids = process::pids(&text);
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let text = std::fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
            pids.extend(process::pids(&text));
            dirs.push(entry.path());
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// What to call a process; `None` if it has ended.
fn command(procfs: &Path, pid: Pid) -> Option<String> {
    let mut dir = procfs.join(pid.to_string());
    let mut line = kept::read(pid, &dir, "cmdline", LINE).unwrap_or_default();
    if line.is_empty()
        && let Some(thread) = proc_threads::another_speaks(procfs, pid)
    {
        line = kept::read(pid, &thread, "cmdline", LINE).unwrap_or_default();
        dir = thread;
    }
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    if !line.is_empty() {
        return Some(printable(line, COMMAND_LENGTH));
    }
    let name = std::fs::read(dir.join("comm")).ok()?;
    Some(format!("[{}]", printable(name.trim_ascii_end(), COMMAND_LENGTH - 2)))
}

/// A command line as one line of at most `length` characters: arguments apart by spaces, control characters
/// escaped, because a process chooses its own name and reports go to terminals and logs.
pub fn printable(line: &[u8], length: usize) -> String {
    let mut out = String::new();
    let mut room = length;
    for character in String::from_utf8_lossy(line).chars() {
        let piece = match character {
            '\0' => " ".to_owned(),
            hidden if is_hidden(hidden) => hidden.escape_unicode().to_string(),
            plain => plain.to_string(),
        };
        let characters = piece.chars().count();
        if characters > room {
            break;
        }
        room -= characters;
        out.push_str(&piece);
    }
    out
}

#[cfg(test)]
#[path = "users/tests.rs"]
mod tests;
