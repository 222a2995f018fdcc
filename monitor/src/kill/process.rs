//! The identity of a process: a pidfd, which never means another process, and the start time that proves which
//! one it was opened for.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::credentials;
use super::error::{OpenError, SignalError};
use crate::units::Pid;

/// A process that can be signalled without mistaking it.
#[derive(Debug, Clone)]
pub struct Process {
    pid: Pid,
    fd: Arc<OwnedFd>,
}

/// What of /proc/PID/stat identifies and excludes.
pub(super) struct Stat {
    state: u8,
    pub(super) flags: u64,
    start_time: u64,
    /// The signals that wait for its first thread, one bit each. SIGKILL waits for each thread of a process
    /// (`complete_signal` in kernel/signal.c).
    pub(super) pending: u64,
}

/// Set for processes that exit (include/linux/sched.h).
pub(super) const PF_EXITING: u64 = 0x4;

/// Set for kernel threads (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

impl Process {
    /// Opens the process that has `pid` and checks that it is the one that started at `start_time` (clock ticks
    /// since boot, field 22 of /proc/PID/stat), if given.
    ///
    /// # Errors
    /// If there is none, it is another one, a zombie, or one that is never a worker.
    pub fn open(procfs: &Path, pid: Pid, start_time: Option<u64>) -> Result<Self, OpenError> {
        if pid.0 == 1 || pid.0 == std::process::id() {
            let what = if pid.0 == 1 { "the init process" } else { "the agent itself" };
            return Err(OpenError::Never { pid, what });
        }
        let process = Self::open_unchecked(pid)?;
        let stat = stat(procfs, pid)?;
        // It lives now, after its file was read: so it was the one the file told of.
        if process.signal_zero().is_err() {
            return Err(OpenError::Gone(pid));
        }
        if stat.flags & PF_KTHREAD != 0 {
            return Err(OpenError::Never { pid, what: "a kernel thread" });
        }
        if let Some(expected) = start_time
            && expected != stat.start_time
        {
            return Err(OpenError::Another { pid, expected, found: stat.start_time });
        }
        if matches!(stat.state, b'Z' | b'X') {
            return Err(OpenError::Zombie(pid));
        }
        Ok(process)
    }

    /// Opens whatever has `pid` now. The caller must prove by other means that it is the right one.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    pub fn open_unchecked(pid: Pid) -> Result<Self, OpenError> {
        let raw =
            i32::try_from(pid.0).ok().and_then(rustix::process::Pid::from_raw).ok_or(OpenError::Gone(pid))?;
        match pidfd_open(raw, PidfdFlags::NONBLOCK) {
            Ok(fd) => Ok(Self { pid, fd: Arc::new(fd) }),
            // EINVAL: the id of a thread that is no process.
            Err(Errno::SRCH | Errno::INVAL) => Err(OpenError::Gone(pid)),
            Err(error) => Err(OpenError::Broken { pid, error: error.into() }),
        }
    }

    /// Its pid, for people and for the kernel programs' map.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The pidfd, to share with whoever waits for it.
    #[must_use]
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Whether it has ended, reaped or not.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.signal_zero().is_err()
    }

    /// The user whose process it is; none if its real, effective, saved and file-system uids differ, as those of
    /// a set-user-id program do: then it is nobody's but root's.
    ///
    /// # Errors
    /// If it is gone, or the kernel does not say.
    pub fn uid(&self, procfs: &Path) -> Result<Option<u32>, OpenError> {
        match self.users(procfs) {
            Ok(users) => Ok(users.only()),
            Err(Errno::SRCH) => Err(OpenError::Gone(self.pid)),
            Err(error) => Err(OpenError::Broken { pid: self.pid, error: error.into() }),
        }
    }

    /// By the pidfd from kernel 6.13 on, by its status file before.
    fn users(&self, procfs: &Path) -> Result<credentials::Users, Errno> {
        match credentials::of_pidfd(self.fd.as_fd()) {
            Err(Errno::NOTTY | Errno::INVAL) => {
                let users = credentials::of_status(procfs, self.pid)?;
                // It lives now, after its file was read: so the file was its own.
                if self.ended() { Err(Errno::SRCH) } else { Ok(users) }
            }
            answer => answer,
        }
    }

    /// Whether a user without privileges could kill it, by the kernel's own rule (`kill_ok_by_cred` in
    /// kernel/signal.c, kernel 6.18): its real or saved user is theirs. Kernels from 6.13 on are asked by pidfd; of
    /// older ones its status file is read. A user's right over their own user namespaces is not known here: what
    /// runs there as another user is refused.
    ///
    /// # Errors
    /// `NotTheirs`, `Gone`, or why it cannot be told.
    pub fn killable_by(&self, uid: u32, procfs: &Path) -> Result<(), SignalError> {
        match self.users(procfs) {
            Ok(users) if users.real == uid || users.saved == uid => Ok(()),
            Ok(users) => Err(SignalError::NotTheirs(users.real)),
            Err(Errno::SRCH) => Err(SignalError::Gone),
            Err(error) => Err(SignalError::Refused(error)),
        }
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// If it is gone, or the kernel refuses.
    pub fn kill(&self) -> Result<(), SignalError> {
        self.signal(Signal::KILL)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If it is gone, or the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        match pidfd_send_signal(self.fd.as_fd(), signal) {
            Ok(()) => Ok(()),
            Err(Errno::SRCH) => Err(SignalError::Gone),
            Err(error) => Err(SignalError::Refused(error)),
        }
    }

    /// Whether it can still be signalled: it has not been reaped.
    fn signal_zero(&self) -> Result<(), Errno> {
        // A pidfd of a reaped process polls readable and hung up; of a zombie readable; of a living one nothing.
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&*self.fd, PollFlags::IN)];
        poll(&mut fds, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        if fds[0].revents().is_empty() { Ok(()) } else { Err(Errno::SRCH) }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The start time of a process, in clock ticks since boot.
///
/// # Errors
/// If there is no such process.
pub fn start_time(procfs: &Path, pid: Pid) -> Result<u64, OpenError> {
    stat(procfs, pid).map(|stat| stat.start_time)
}

/// The state of a process, as field 3 of proc_pid_stat(5) has it: `T` is stopped.
///
/// # Errors
/// If there is no such process.
pub fn state(procfs: &Path, pid: Pid) -> Result<u8, OpenError> {
    stat(procfs, pid).map(|stat| stat.state)
}

/// Whether a process has begun to exit, or is gone: no signal changes anything for it.
#[must_use]
pub fn ending(procfs: &Path, pid: Pid) -> bool {
    match stat(procfs, pid) {
        Ok(stat) => stat.flags & PF_EXITING != 0 || matches!(stat.state, b'Z' | b'X'),
        Err(error) => matches!(error, OpenError::Gone(_)),
    }
}

pub(super) fn stat(procfs: &Path, pid: Pid) -> Result<Stat, OpenError> {
    let path = procfs.join(pid.to_string()).join("stat");
    let text = fs::read(path).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => OpenError::Gone(pid),
        _ => OpenError::Broken { pid, error },
    })?;
    parse_stat(&text).ok_or_else(|| OpenError::Broken {
        pid,
        error: io::Error::new(io::ErrorKind::InvalidData, "its stat file is malformed"),
    })
}

/// Fields 3 (state), 9 (flags), 22 (starttime) and 31 (signal) of proc_pid_stat(5). The command in parentheses may hold spaces
/// and parentheses itself: what counts comes after the last one.
fn parse_stat(text: &[u8]) -> Option<Stat> {
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = text.get(end + 2..)?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<u64>().ok();
    let flags = number(fields.nth(5)?)?;
    let start_time = number(fields.nth(12)?)?;
    let pending = number(fields.nth(8)?)?;
    Some(Stat { state, flags, start_time, pending })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_command_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text =
            b"42 (a) b (c)) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 200 3 4 5 6 7 8 256 9";
        let stat = parse_stat(text).unwrap();
        let found = (stat.state, stat.flags, stat.start_time, stat.pending);
        assert_eq!(found, (b'S', 4_194_304, 98765, 256));
        for name in ["a b", ") 1 2", "((", ""] {
            let text =
                format!("17 ({name}) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 99 1 2 3 4 5 6 7 0");
            assert_eq!(parse_stat(text.as_bytes()).map(|stat| stat.start_time), Some(4711), "{name:?}");
        }
        assert!(parse_stat(b"42 (x").is_none());
        assert!(parse_stat(b"42 (x) S 1").is_none());
    }

    #[test]
    fn a_process_is_known_by_its_start_time() {
        let procfs = Path::new("/proc");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid(child.id());
        let started = start_time(procfs, pid).unwrap();
        let process = Process::open(procfs, pid, Some(started)).unwrap();
        assert!(matches!(
            Process::open(procfs, pid, Some(started + 1)),
            Err(OpenError::Another { found, .. }) if found == started
        ));
        process.kill().unwrap();
        // Dead, not reaped: a zombie is no worker, whichever way it is noticed.
        let fd = process.fd();
        rustix::event::poll(&mut [rustix::event::PollFd::new(&*fd, rustix::event::PollFlags::IN)], None)
            .unwrap();
        assert!(matches!(
            Process::open(procfs, pid, Some(started)),
            Err(OpenError::Gone(_) | OpenError::Zombie(_))
        ));
        child.wait().unwrap();
        assert_eq!(process.kill(), Err(SignalError::Gone));
    }

    #[test]
    fn whose_it_is_says_the_process_itself_not_a_file_that_is_stale() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open_unchecked(Pid(child.id())).unwrap();
        let me = rustix::process::geteuid().as_raw();
        // As it was before it became another user's.
        let stale = tempfile::tempdir().unwrap();
        let dir = stale.path().join(child.id().to_string());
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("status"), "Uid:\t7\t7\t7\t7\n").unwrap();
        let by_pidfd = credentials::of_pidfd(process.as_fd()).is_ok();
        let found = process.uid(if by_pidfd { stale.path() } else { Path::new("/proc") }).unwrap();
        assert_eq!(found, Some(me));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(process.uid(Path::new("/proc")), Err(OpenError::Gone(_))));
    }

    #[test]
    fn init_kernel_threads_and_the_agent_are_never_taken() {
        let procfs = Path::new("/proc");
        for pid in [1, std::process::id()] {
            assert!(matches!(Process::open(procfs, Pid(pid), None), Err(OpenError::Never { .. })));
        }
        // pid 2 is kthreadd in the initial pid namespace only.
        if fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm.trim() == "kthreadd") {
            assert!(matches!(Process::open(procfs, Pid(2), None), Err(OpenError::Never { .. })));
        }
    }
}
