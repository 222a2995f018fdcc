//! Who is on the way out and may hold memory still: killed and not dead, or exiting. Signals nobody.

use std::path::Path;

use super::process::{PF_EXITING, Process, stat};
use crate::memory::process::all;
use crate::units::Pid;

/// SIGKILL among the pending signals.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// All processes that are. Who cannot be looked at is not among them.
#[must_use]
pub fn dying(procfs: &Path) -> Vec<Process> {
    let all = all(procfs).unwrap_or_default();
    all.into_iter().filter(|pid| dies(procfs, *pid)).filter_map(|pid| open(procfs, pid)).collect()
}

fn open(procfs: &Path, pid: Pid) -> Option<Process> {
    let process = Process::open_unchecked(pid).ok()?;
    // Of a process whose first thread is a zombie others may live. Its pidfd says when the last is gone.
    (dies(procfs, pid) && !process.ended()).then_some(process)
}

fn dies(procfs: &Path, pid: Pid) -> bool {
    stat(procfs, pid).is_ok_and(|stat| stat.flags & PF_EXITING != 0 || stat.pending & KILLED != 0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A process that the kernel says is killed, and is held by its v1 freezer, is in `tests/tests/restart.rs`.
    #[test]
    fn neither_who_lives_nor_who_is_dead_is_dying() {
        let procfs = Path::new("/proc");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open_unchecked(Pid(child.id())).unwrap();
        let found = |pid| dying(procfs).iter().any(|process| process.pid() == pid);
        assert!(!found(process.pid()));
        process.kill().unwrap();
        let fd = process.fd();
        rustix::event::poll(&mut [rustix::event::PollFd::new(&*fd, rustix::event::PollFlags::IN)], None)
            .unwrap();
        assert!(!found(process.pid()), "a zombie holds nothing");
        child.wait().unwrap();
    }
}
