//! The identity of a process: a pidfd, which never means another process, and the start time that proves which
//! one it was opened for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::credentials;
use super::error::{OpenError, SignalError};
use crate::proc_stat::Stat;
use crate::proc_threads;
use crate::units::Pid;

/// A process that can be signaled without mistaking it.
#[derive(Debug, Clone)]
pub struct Process {
    pid: Pid,
    fd: Arc<OwnedFd>,
}

impl Process {
    /// Opens the process that has `pid` and checks that it is the one that started at `start_time` (clock ticks
    /// since boot, field 22 of /proc/PID/stat), if given.
    ///
    /// # Errors
    /// If there is none (a zombie is none), it is another one, or one that is never a worker.
    pub fn open(procfs: &Path, pid: Pid, start_time: Option<u64>) -> Result<Self, OpenError> {
        if pid.0 == 1 || pid.0 == std::process::id() {
            let what = if pid.0 == 1 { "the init process" } else { "the agent itself" };
            return Err(OpenError::Never { pid, what });
        }
        let process = Self::open_unchecked(pid)?;
        let stat = stat(procfs, pid)?;
        // It lives now, after its file was read: so it was the one the file told of. It may be its first thread alone that
        // the file calls a zombie.
        if process.signal_zero().is_err() {
            return Err(OpenError::Gone(pid));
        }
        if stat.of_the_kernel() {
            return Err(OpenError::Never { pid, what: "a kernel thread" });
        }
        if let Some(expected) = start_time
            && expected != stat.start_time
        {
            return Err(OpenError::Another { pid, expected, found: stat.start_time });
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

    /// Opens whatever has `pid` now, and takes it if `proof` says then that the pid still means what it meant: what is
    /// proven after it was opened is what was opened. `None`: it has ended, or is another.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open_proven(pid: Pid, proof: impl FnOnce() -> bool) -> Result<Option<Self>, OpenError> {
        match Self::open_unchecked(pid) {
            Ok(process) => Ok((proof() && !process.ended()).then_some(process)),
            Err(OpenError::Gone(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its pid, for people and for the kernel programs' map.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The pidfd, to share with the task that waits for it.
    #[must_use]
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Whether it has ended, reaped or not.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.signal_zero().is_err()
    }

    /// The user of the process; none if its real, effective, saved and file-system uids differ, as those of
    /// a set-user-id program do: then it is only root's.
    ///
    /// # Errors
    /// If it is gone, or the kernel does not say.
    pub fn uid(&self, procfs: &Path) -> Result<Option<u32>, OpenError> {
        self.users(procfs).map(credentials::Users::only).map_err(|errno| self.unknown(errno))
    }

    /// Its real, effective, saved and file-system users.
    ///
    /// # Errors
    /// If it is gone, or the kernel does not say.
    pub fn uids(&self, procfs: &Path) -> Result<[u32; 4], OpenError> {
        let users = self.users(procfs).map_err(|errno| self.unknown(errno))?;
        Ok([users.real, users.effective, users.saved, users.file_system])
    }

    fn unknown(&self, errno: Errno) -> OpenError {
        match errno {
            Errno::SRCH => OpenError::Gone(self.pid),
            error => OpenError::Broken { pid: self.pid, error: error.into() },
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

    /// Sends SIGCONT to one that was stopped. A refusal is said: nothing else can be done about it.
    pub fn resume(&self) {
        match self.signal(Signal::CONT) {
            Ok(()) | Err(SignalError::Gone) => {}
            Err(error) => tracing::error!(pid = %self.pid, %error, "a paused worker cannot be resumed"),
        }
    }

    /// Whether it can still be signaled: it has not been reaped.
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

/// Whether all threads of a process have begun to exit, or it is gone: no signal changes anything for it.
#[must_use]
pub fn ending(procfs: &Path, pid: Pid) -> bool {
    match Process::open_unchecked(pid) {
        // A process may end during the check, and another may get its pid. The two cannot be told apart, so both are
        // checked again.
        Ok(process) => process.ended() || proc_threads::all(procfs, pid, Stat::ends),
        Err(error) => matches!(error, OpenError::Gone(_)),
    }
}

fn stat(procfs: &Path, pid: Pid) -> Result<Stat, OpenError> {
    Stat::of(procfs, pid).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Gone(pid),
        _ => OpenError::Broken { pid, error },
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

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
        assert!(matches!(Process::open(procfs, pid, Some(started)), Err(OpenError::Gone(_))));
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
