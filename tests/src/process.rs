//! A process held by its pidfd: killed and waited for without the danger of meeting another one under its pid.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::clock::{PATIENCE, wait_for};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
};

/// A process, alive or dead, that was alive when it was opened.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    fd: OwnedFd,
}

impl Process {
    /// Opens it by its pid. `None`: there is no such process (any more).
    ///
    /// # Errors
    /// What `pidfd_open(2)` says otherwise.
    pub fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(Self { pid, fd })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Its pid, for messages.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL. Nothing happens if it is dead.
    ///
    /// # Errors
    /// It may not be killed.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends SIGTERM. Nothing happens if it is dead.
    ///
    /// # Errors
    /// It may not be signaled.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends any signal. Nothing happens if it is dead.
    ///
    /// # Errors
    /// It may not be signaled.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it is dead: all its threads ended, reaped or not.
    ///
    /// # Errors
    /// What `poll(2)` says.
    pub fn is_dead(&self) -> io::Result<bool> {
        self.wait_until(Instant::now())
    }

    /// Waits for its death. False: it lives at the deadline.
    ///
    /// # Errors
    /// What `poll(2)` says.
    pub fn wait_until(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Makes the kernel kill what `command` starts when the thread that starts it ends: nothing is left over even if
/// this process is killed.
pub fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec only prctl(2) is called: async-signal-safe, no allocation, no lock.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

/// Waits until the first thread of a process has exited, while others live.
///
/// # Errors
/// It does not exit, or the process is gone.
pub fn wait_for_zombie_leader(pid: u32) -> anyhow::Result<()> {
    wait_for("its first thread to exit", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')).then_some(()))
    })
}

/// Whether there is such a process, and it is not dead. For children that were not waited for, and what else keeps its
/// pid.
///
/// # Errors
/// As [`Process::open`] and [`Process::is_dead`].
pub fn lives(pid: u32) -> io::Result<bool> {
    Process::open(pid)?.map_or(Ok(false), |process| Ok(!process.is_dead()?))
}

/// `sleep`, until it is killed.
#[must_use]
pub fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("infinity");
    command
}

/// A child that is only there, without input. Dropped, it is killed.
#[derive(Debug)]
pub struct Bystander(pub Child);

impl Bystander {
    /// Starts `command`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        die_with_parent(&mut command);
        command.stdin(Stdio::null()).spawn().map(Self)
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
