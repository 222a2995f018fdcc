//! The agent's end of the helper: starts it, asks it, hears it. Waits for nothing.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::helper::SUBCOMMAND;
use super::wire::{self, Answer, Request};

/// Where a helper of the system's listens: a unit of its own, with the privilege that the agent's unit has not.
pub(super) const SOCKET: &str = "/run/monitor-ray/helper.sock";

/// A connection to a helper. Dropped, the helper takes all files away.
pub(super) struct Link {
    socket: OwnedFd,
    /// It was started by this agent.
    child: Option<Child>,
    /// It has said something: it works.
    answered: Cell<bool>,
}

impl Link {
    /// The system's helper if it listens, else one of our own.
    pub(super) fn open(procfs: &Path) -> io::Result<Self> {
        if let Some(socket) = connected() {
            return Ok(Self { socket, child: None, answered: Cell::new(false) });
        }
        let (ours, theirs) = wire::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).arg("--procfs").arg(procfs);
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).current_dir("/");
        // SAFETY: between fork and exec only setsid(2) is called: async-signal-safe, no allocation, no lock.
        unsafe {
            command.pre_exec(|| {
                // Not ended by the terminal's signals to the agent's group.
                rustix::process::setsid()?;
                Ok(())
            });
        }
        Ok(Self { socket: ours, child: Some(command.spawn()?), answered: Cell::new(false) })
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.socket
    }

    pub(super) fn ask(&self, request: &Request) -> io::Result<()> {
        wire::send(&self.socket, request, &[])
    }

    /// The next answer; `Ok(None)`: none is there.
    pub(super) fn hear(&self) -> io::Result<Option<(Answer, Vec<OwnedFd>)>> {
        match wire::receive(&self.socket) {
            Ok(Some(answer)) => {
                self.answered.set(true);
                Ok(Some(answer))
            }
            Ok(None) => Err(io::ErrorKind::ConnectionReset.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn has_answered(&self) -> bool {
        self.answered.get()
    }

    /// Why one that said nothing is gone, most likely.
    pub(super) fn why_gone(&self) -> &'static str {
        match self.child {
            Some(_) => {
                "its helper ended at once, as one does without CAP_SYS_ADMIN. With systemd: systemctl enable --now monitor-ray"
            }
            None => "the system's helper (monitor-ray) serves another agent",
        }
    }

    /// Why the helper that was started ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.child.as_mut()?.try_wait().ok()?.map(|status| status.to_string())
    }
}

fn connected() -> Option<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).ok()?;
    connect(&socket, &SocketAddrUnix::new(SOCKET).ok()?).ok()?;
    Some(socket)
}
