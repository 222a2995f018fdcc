//! The runner's side of a held start: starts the process that will be the command, holds it until the agent knows
//! it, and tells how it ended. The other side is [`super::stub`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::{Child, Command};

use super::Plan;
use super::signals::Inherited;
use super::stub::UNGUARDED;
use crate::kill::start_time;
use crate::retry::Exit;
use crate::units::Pid;
use crate::worker::WorkerId;

/// The hidden subcommand that runs [`super::stub`].
pub const STUB: &str = "__exec";

/// A process that is, or will be, the command.
pub(super) struct HeldStart {
    child: Child,
    pidfd: OwnedFd,
    pid: Pid,
    start_time: u64,
    /// Our end: the id goes in; out comes the errno of an exec that failed, or nothing but the end.
    channel: UnixStream,
}

/// How the process ended.
pub(super) enum End {
    /// It was the command, and ended thus.
    Ran(Exit),
    /// It could not become the command.
    NotRun(io::Error),
}

impl HeldStart {
    /// Starts a process that waits. Its standard streams are the runner's, but `input` if that is given. Dropped before
    /// [`Self::open`], it ends without having run the command.
    pub(super) fn start(plan: &Plan, inherited: Inherited, input: Option<File>) -> io::Result<Self> {
        let (channel, theirs) = UnixStream::pair()?;
        channel.set_nonblocking(true)?;
        // The only descriptor beyond the standard ones that this child gets.
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
        let mut stub = Command::new("/proc/self/exe");
        stub.arg0("monitor").args([STUB, "--channel", &theirs.as_raw_fd().to_string()]);
        stub.args(["--signals", &inherited.to_string()])
            .args(plan.ends_with_runner.then_some("--ends-with-runner"));
        stub.arg("--socket").arg(&plan.socket.path).arg("--").args(&plan.command);
        if let Some(input) = input {
            stub.stdin(input);
        }
        let child = stub.spawn()?;
        drop(theirs);
        let gone = || io::Error::other("the process ended before it could be registered");
        let id = child.id().ok_or_else(gone)?;
        let raw = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(gone)?;
        // Not reaped yet, so the pid is still this child's.
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let start_time = start_time(Path::new("/proc"), Pid(id)).map_err(io::Error::other)?;
        Ok(Self { child, pidfd, pid: Pid(id), start_time, channel })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// In clock ticks since boot.
    pub(super) fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Lets the command run as this worker; without one, unguarded.
    pub(super) fn open(&mut self, worker: Option<WorkerId>) {
        let word = worker.map_or_else(|| UNGUARDED.to_owned(), |worker| worker.to_string());
        // If the process is gone already, its end tells all there is to tell.
        let _ = self.channel.write_all(format!("{word}\n").as_bytes());
    }

    /// Closes the channel and waits for the process, which has not become the command.
    pub(super) async fn give_up(mut self) {
        drop(self.channel);
        let _ = self.child.wait().await;
    }

    /// Passes a signal on; to a process that is gone, nothing.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Waits for the end. Can be canceled.
    pub(super) async fn end(&mut self) -> io::Result<End> {
        let status = self.child.wait().await?;
        // An errno was written before the process ended, so there is nothing to wait for.
        let mut errno = String::new();
        let _ = Read::by_ref(&mut self.channel).take(16).read_to_string(&mut errno);
        Ok(match errno.trim().parse() {
            Ok(errno) => End::NotRun(io::Error::from_raw_os_error(errno)),
            Err(_) => End::Ran(exit(status)),
        })
    }
}

fn exit(status: ExitStatus) -> Exit {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match status.signal() {
        Some(signal) => Exit::Signal(byte(signal)),
        None => Exit::Code(byte(status.code().unwrap_or(0))),
    }
}
