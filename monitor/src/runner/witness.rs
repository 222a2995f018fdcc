//! The witness: a process of the runner's in the same process group as the runner and the command. It blocks every
//! signal, and so can say whether one that reached the runner was sent to the whole group: then the command has had it.
//! The kernel does not tell this. It also stops the command while the runner is stopped by SIGSTOP, which cannot be
//! caught.
//!
//! Here the runner's end; the process is [`process`]. Without a witness the runner goes by the sender of a signal.

pub mod process;

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, getpgrp, getpid, getsid};

use crate::units::Pid;

/// The hidden subcommand that runs [`process`].
pub const WITNESS: &str = "__witness";

/// How long an answer may take. The witness waits for a signal by far less: it is stopped, or gone.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the runner says to the witness, in [`Message::LENGTH`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// Was this signal sent to you too? Answered by the same bytes of `ask`, and 1 or 0.
    Had { signal: u8, ask: u8 },
    /// This is the command now; 0: there is none.
    Command(Pid),
}

impl Message {
    const LENGTH: usize = 5;

    fn bytes(self) -> [u8; Self::LENGTH] {
        match self {
            Self::Had { signal, ask } => [b'h', signal, ask, 0, 0],
            Self::Command(Pid(pid)) => {
                let [a, b, c, d] = pid.to_le_bytes();
                [b'c', a, b, c, d]
            }
        }
    }

    fn read(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        match bytes {
            [b'h', signal, ask, 0, 0] => Some(Self::Had { signal, ask }),
            [b'c', a, b, c, d] => Some(Self::Command(Pid(u32::from_le_bytes([a, b, c, d])))),
            _ => None,
        }
    }
}

/// The runner's end. Dropped, it ends the witness.
pub(super) struct Witness {
    process: Option<(Child, UnixStream)>,
    asked: u8,
    command: Option<Pid>,
}

impl Witness {
    /// Starts the process. All signals must be blocked.
    pub(super) fn start() -> Self {
        let process = spawn().inspect_err(|error| {
            super::say::line(format_args!(
                "signals to the whole process group may reach the command twice: {error}"
            ));
        });
        Self { process: process.ok(), asked: 0, command: None }
    }

    /// Where it is.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.process.as_ref().map(|(child, _)| Pid(child.id()))
    }

    /// The process that is the command from now on.
    pub(super) fn command(&mut self, pid: Option<Pid>) {
        self.command = pid;
        let _ = self.tell(Message::Command(pid.unwrap_or(Pid(0))));
    }

    /// Whether the command has had this signal, which reached the runner: it was sent to their process group, and the
    /// command is still in it. To be asked of every signal, so that the witness forgets it.
    pub(super) fn had(&mut self, signal: Signal, by_kernel: bool) -> bool {
        let to_group = self.ask(signal).unwrap_or_else(|_| by_kernel && from_terminal(signal));
        to_group && self.in_our_group()
    }

    fn in_our_group(&self) -> bool {
        let raw = self.command.and_then(|pid| i32::try_from(pid.0).ok());
        let command = raw.and_then(rustix::process::Pid::from_raw);
        // Gone, or none: it needs no signal of ours.
        command.is_none_or(|pid| rustix::process::getpgid(Some(pid)).is_ok_and(|group| group == getpgrp()))
    }

    fn ask(&mut self, signal: Signal) -> io::Result<bool> {
        self.asked = self.asked.wrapping_add(1);
        let ask = self.asked;
        let number = u8::try_from(signal.as_raw()).map_err(io::Error::other)?;
        self.tell(Message::Had { signal: number, ask })?;
        let (_, socket) = self.process.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        loop {
            let mut answer = [0; 2];
            socket.read_exact(&mut answer)?;
            // An earlier question's answer, which came too late.
            if answer[0] == ask {
                return Ok(answer[1] != 0);
            }
        }
    }

    fn tell(&mut self, message: Message) -> io::Result<()> {
        let (_, socket) = self.process.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        socket.write_all(&message.bytes())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if let Some((mut child, socket)) = self.process.take() {
            drop(socket);
            // It may be stopped; it has nothing to lose.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn() -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    ours.set_write_timeout(Some(PATIENCE))?;
    rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("monitor").args([WITNESS, "--socket", &theirs.as_raw_fd().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    Ok((command.spawn()?, ours))
}

/// Whether the terminal sends this one, to the process group in its foreground; a hangup first to the session's leader.
fn from_terminal(signal: Signal) -> bool {
    let group =
        [Signal::INT, Signal::QUIT, Signal::TSTP, Signal::TTIN, Signal::TTOU, Signal::WINCH, Signal::CONT];
    let leads = getsid(None).is_ok_and(|session| session == getpid());
    group.contains(&signal) || signal == Signal::HUP && !leads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        for message in [Message::Had { signal: 64, ask: 255 }, Message::Command(Pid(4_194_304))] {
            assert_eq!(Message::read(message.bytes()), Some(message));
        }
        assert_eq!(Message::read([0; 5]), None);
    }
}
