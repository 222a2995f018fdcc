//! What test processes that were killed left over. Only names of our own form, and only if their maker is dead.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::{PREFIX, remove_tree};

/// Removes left-over cgroups below `root`, with their members. Says what could not be removed and goes on.
pub(super) fn sweep(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if maker_is_dead(&entry.file_name())
            && let Err(error) = remove_tree(&entry.path())
        {
            eprintln!("left over by an earlier test: {}: {error:#}", entry.path().display());
        }
    }
}

/// Whether the name is of our own form, and no process has the pid in it.
pub(crate) fn maker_is_dead(name: &OsStr) -> bool {
    name.to_str().and_then(maker).is_some_and(is_dead)
}

/// The pid in `monitor-test-PID-N`.
pub(super) fn maker(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('-')?;
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn is_dead(pid: u32) -> bool {
    matches!(Path::new("/proc").join(pid.to_string()).try_exists(), Ok(false))
}
