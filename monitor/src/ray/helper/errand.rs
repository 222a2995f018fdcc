//! The helper's children: one is sent into a mount namespace for one errand, with a time limit.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::mounted::Mounted;
use crate::ray::enter;
use crate::ray::wire::{self, Entered};

/// A child that takes longer is killed.
const LONGEST: Duration = Duration::from_secs(2);

/// What a child is sent for.
pub(super) enum Errand<'a> {
    Attach {
        usage: &'a OwnedFd,
        stat: &'a OwnedFd,
        /// The kinds of files with mounts that would also show our files to others.
        shared: &'a str,
        log: Option<&'a Path>,
    },
    /// Of which kind, or `all`.
    Detach(&'a str),
    /// Only the log is read.
    Look(&'a Path),
}

/// Starts a child in the namespace and waits for what it says.
pub(super) fn enter_with(
    late: &mut Vec<Child>,
    mounted: &Mounted,
    errand: Errand<'_>,
) -> io::Result<(Entered, Vec<OwnedFd>)> {
    let (ours, theirs) = wire::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(enter::SUBCOMMAND);
    let Mounted { namespace, root, files, .. } = mounted;
    // Open across exec in the child alone: this process has one thread, and these are closed again before the next one.
    let mut fds = vec![
        ("--namespace", namespace),
        ("--root", root),
        ("--usage", &files.usage),
        ("--stat", &files.stat),
        ("--reply", &theirs),
    ];
    match errand {
        Errand::Attach { usage, stat, shared, log } => {
            fds.extend([("--usage-mount", usage), ("--stat-mount", stat)]);
            command.arg("--shared").arg(shared);
            command.args(log.iter().flat_map(|log| [OsStr::new("--log"), log.as_os_str()]));
        }
        Errand::Detach(kind) => {
            command.arg("--detach").arg(kind);
        }
        Errand::Look(log) => {
            command.arg("--look").arg("--log").arg(log);
        }
    }
    let mut inherited = Vec::new();
    for (flag, fd) in fds {
        let fd = rustix::io::dup(fd)?;
        command.arg(flag).arg(fd.as_raw_fd().to_string());
        inherited.push(fd);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).env_clear().current_dir("/");
    let mut child = command.spawn()?;
    drop((inherited, theirs));
    let limit = Timespec::try_from(LONGEST).map_err(|_| io::ErrorKind::InvalidInput)?;
    let said = loop {
        match poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&limit)) {
            Err(Errno::INTR) => {}
            Ok(0) | Err(_) => break None,
            Ok(_) => break wire::receive::<Entered>(&ours)?,
        }
    };
    if said.is_none() {
        let _ = child.kill();
    }
    // It ends by itself now, or at its next return from the kernel: that is not waited for.
    late.push(child);
    late.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    said.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "its mount namespace did not answer in time"))
}
