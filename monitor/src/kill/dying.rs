//! Processes on the way out that may still hold memory: killed and not dead, or exiting. Sends no signals.

use std::path::Path;

use super::process::Process;
use crate::memory::process::all;
use crate::proc_stat::Stat;
use crate::proc_threads;
use crate::units::Pid;

/// All such processes; unreadable ones are left out.
#[must_use]
pub fn dying(procfs: &Path) -> Vec<Process> {
    let all = all(procfs).unwrap_or_default();
    all.into_iter().filter(|pid| dies(procfs, *pid)).filter_map(|pid| open(procfs, pid)).collect()
}

fn open(procfs: &Path, pid: Pid) -> Option<Process> {
    // Its pidfd says when the last of its threads is gone.
    Process::open_proven(pid, || dies(procfs, pid)).ok().flatten()
}

/// If the first thread has exited, others may live.
fn dies(procfs: &Path, pid: Pid) -> bool {
    let dies = |thread: &Stat| thread.exits() || thread.killed();
    Stat::of(procfs, pid).is_ok_and(|first| dies(&first)) && proc_threads::all(procfs, pid, dies)
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
