//! Cgroups that a program made in every hierarchy of version 1, and left there. Removes empty ones only.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Removes the cgroup of this path, with those in it, from every hierarchy. What has members stays.
pub(crate) fn remove(path: &Path) {
    let relative = path.strip_prefix("/").unwrap_or(path);
    assert!(!relative.as_os_str().is_empty(), "that is the root");
    all().for_each(|hierarchy| remove_tree(&hierarchy.join(relative)));
}

/// Whether a hierarchy has a cgroup of this path.
pub(crate) fn exists(path: &Path) -> bool {
    let relative = path.strip_prefix("/").unwrap_or(path);
    all().any(|hierarchy| hierarchy.join(relative).exists())
}

fn all() -> impl Iterator<Item = PathBuf> {
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies.chain([PathBuf::from(ROOT)])
}

fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Nothing is left to be done about an error.
    let _ = fs::remove_dir(dir);
}
