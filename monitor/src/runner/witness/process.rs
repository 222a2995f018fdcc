//! The process that is the witness. It never reads a terminal or writes one, and ends when the runner does.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, getppid};

use super::Message;
use crate::kill::Process;
use crate::proc_stat::Stat;
use crate::units::Pid;

/// How long a signal to the group may take from the runner to here: the kernel sends it to both in one go.
const SAME_TIME: Duration = Duration::from_millis(2);

/// How often the witness checks whether the runner is stopped. The kernel tells that only to a parent.
const LOOK: Duration = Duration::from_millis(250);

/// The first signal of which the kernel keeps each one that was sent (signal(7)).
const FIRST_QUEUED: u32 = 32;

/// The signals that came and were not asked for. As the kernel does it with pending ones: of the standard signals one
/// each, of the others all.
struct Seen {
    file: SignalFd,
    counts: [u32; 65],
}

impl Seen {
    fn open() -> io::Result<Self> {
        let file = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { file, counts: [0; 65] })
    }

    fn take(&mut self, signal: u8) -> bool {
        self.drain();
        if self.counts.get(usize::from(signal)).is_some_and(|&count| count == 0) {
            wait(&[self.file.as_fd()], Some(SAME_TIME));
            self.drain();
        }
        match self.counts.get_mut(usize::from(signal)) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            Some(_) | None => false,
        }
    }

    fn drain(&mut self) {
        while let Ok(Some(info)) = self.file.read_signal() {
            let index = usize::try_from(info.ssi_signo).unwrap_or(usize::MAX);
            if let Some(count) = self.counts.get_mut(index) {
                *count = if info.ssi_signo < FIRST_QUEUED { 1 } else { count.saturating_add(1) };
            }
        }
    }
}

/// The command, which is held while the runner is.
#[derive(Default)]
struct Command {
    process: Option<Process>,
    held: bool,
}

impl Command {
    /// Does to it what was done to the runner.
    fn follow(&mut self) {
        let Some(process) = &self.process else { return };
        match (stopped(), self.held) {
            (Some(true), false) => {
                self.held = process.signal(Signal::STOP).is_ok();
                // The runner may have been continued meanwhile, and have passed that on before the command was stopped.
                if stopped() == Some(false) {
                    self.let_go();
                }
            }
            (Some(false), true) => self.let_go(),
            (Some(true), true) | (Some(false), false) | (None, _) => {}
        }
    }

    fn let_go(&mut self) {
        if let (true, Some(process)) = (self.held, &self.process) {
            let _ = process.signal(Signal::CONT);
        }
        self.held = false;
    }
}

/// Whether the runner is stopped. `None`: it is gone, or there is no /proc.
fn stopped() -> Option<bool> {
    let pid = u32::try_from(getppid()?.as_raw_nonzero().get()).ok()?;
    Stat::of(Path::new("/proc"), Pid(pid)).ok().map(|stat| stat.state == b'T')
}

/// Until the runner ends. To be called in a process of its own, by the hidden subcommand that the runner starts, with
/// all signals blocked.
///
/// # Errors
/// The descriptor is none of the runner's, or the kernel gives no signals.
pub fn witness(socket: RawFd) -> io::Result<()> {
    let mut socket = take(socket)?;
    let mut seen = Seen::open()?;
    let mut command = Command::default();
    loop {
        let look = command.process.as_ref().map(|_| LOOK);
        if !wait(&[socket.as_fd()], look) {
            command.follow();
            continue;
        }
        let mut bytes = [0; Message::LENGTH];
        if socket.read_exact(&mut bytes).is_err() {
            command.let_go();
            return Ok(());
        }
        match Message::read(bytes) {
            Some(Message::Had { signal, ask }) => {
                let had = seen.take(signal);
                // The command has had it, or gets it from the runner.
                command.held &= i32::from(signal) != libc::SIGCONT;
                // The runner is gone; the next read says so.
                let _ = socket.write_all(&[ask, u8::from(had)]);
                command.follow();
            }
            Some(Message::Command(Pid(0))) => command = Command::default(),
            Some(Message::Command(pid)) => {
                command = Command { process: Process::open_unchecked(pid).ok(), held: false };
            }
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn take(socket: RawFd) -> io::Result<UnixStream> {
    let path = std::fs::read_link(format!("/proc/self/fd/{socket}"))?;
    if socket <= libc::STDERR_FILENO || !path.to_string_lossy().starts_with("socket:") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the descriptor is open (it was just looked at), the runner left it open in this process for this call
    // alone, and nothing else here knows its number.
    Ok(unsafe { UnixStream::from_raw_fd(socket) })
}

/// Whether something can be read, at last after this long.
fn wait(files: &[BorrowedFd<'_>], patience: Option<Duration>) -> bool {
    let mut polls: Vec<PollFd<'_>> =
        files.iter().map(|file| PollFd::from_borrowed_fd(*file, PollFlags::IN)).collect();
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    // Interrupted: by being stopped and continued. What is next tells.
    poll(&mut polls, patience.as_ref()).is_ok_and(|ready| ready > 0)
}
