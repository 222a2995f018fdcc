//! Mounts the file systems that the tests need. One that this kernel lacks is reported, not fatal.

use std::ffi::CStr;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

/// Type and place, in order: some lie inside others. Nothing over /tmp or /run: the root is in memory anyway, and the
/// test programs may lie there, as on the machine that built them.
const MOUNTS: [(&str, &str); 5] = [
    ("sysfs", "/sys"),
    ("tmpfs", "/dev/shm"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("securityfs", "/sys/kernel/security"),
];
const CGROUPS: &str = "/sys/fs/cgroup";
/// On the kernel's command line: memory and freezer as hierarchies of version 1, as many older systems have them.
const V1: &str = "monitor.cgroup=v1";

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
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let v1 = cmdline.split_whitespace().any(|word| word == V1);
    if let Err(error) = if v1 { cgroups_v1() } else { cgroups_v2(CGROUPS) } {
        troubles.push(format!("cgroups: {error:#}"));
    }
    troubles
}

fn put(kind: &str, place: &str) -> Result<()> {
    put_with(kind, place, None)
}

fn put_with(kind: &str, place: &str, options: Option<&CStr>) -> Result<()> {
    // In sysfs the mount points exist or the kernel lacks the file system; making them fails there.
    if !Path::new(place).is_dir() {
        fs::create_dir_all(place).context("this kernel has no such mount point")?;
    }
    match mount(kind, place, kind, MountFlags::empty(), options) {
        // Busy: the kernel mounted it itself, as some do with devtmpfs.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("mounting {kind}")),
    }
}

/// One hierarchy. Children of its root get every controller, so that tests can limit cgroups of their own.
fn cgroups_v2(root: &str) -> Result<()> {
    put("cgroup2", root)?;
    let root = Path::new(root);
    let controllers = fs::read_to_string(root.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
            .with_context(|| controller.to_owned())?;
    }
    Ok(())
}

/// Version 1 for what the tests use, and version 2 with the rest beside it.
fn cgroups_v1() -> Result<()> {
    put("tmpfs", CGROUPS)?;
    put_with("cgroup", "/sys/fs/cgroup/memory", Some(c"memory")).context("memory")?;
    put_with("cgroup", "/sys/fs/cgroup/freezer", Some(c"freezer")).context("freezer")?;
    cgroups_v2("/sys/fs/cgroup/unified")
}
