//! Mounts the file systems that the tests need. One that this kernel lacks is reported, not fatal.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// Type and place, in order: some lie inside others. Nothing over /tmp or /run: the root is in memory anyway, and the
/// test programs may lie there, as on the machine that built them.
const MOUNTS: [(&str, &str); 6] = [
    ("sysfs", "/sys"),
    ("tmpfs", "/dev/shm"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("securityfs", "/sys/kernel/security"),
];

/// What is needed before anything is known: `/proc` and `/dev`.
pub(crate) fn early() -> Result<()> {
    put("proc", "/proc").context("/proc")?;
    put("devtmpfs", "/dev").context("/dev")
}

/// The rest. Returns what did not work.
pub(crate) fn all() -> Vec<String> {
    let mut troubles: Vec<String> = MOUNTS
        .into_iter()
        .filter_map(|(kind, place)| put(kind, place).err().map(|error| format!("{place}: {error:#}")))
        .collect();
    if let Err(error) = delegate_controllers() {
        troubles.push(format!("cgroup controllers: {error:#}"));
    }
    troubles
}

fn put(kind: &str, place: &str) -> Result<()> {
    // In sysfs the mount points exist or the kernel lacks the file system; making them fails there.
    if !Path::new(place).is_dir() {
        fs::create_dir_all(place).context("this kernel has no such mount point")?;
    }
    match mount(kind, place, kind, MountFlags::empty(), None) {
        // Busy: the kernel mounted it itself, as some do with devtmpfs.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("mounting {kind}")),
    }
}

/// Children of the root cgroup get every controller, so that tests can limit cgroups of their own.
fn delegate_controllers() -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
            .with_context(|| controller.to_owned())?;
    }
    Ok(())
}
