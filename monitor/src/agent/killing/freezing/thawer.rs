//! The thawer: a process of its own that outlives the agent. Before the agent freezes a worker's cgroup it sends the file
//! that thaws it; when the agent is gone (the socket closes) or leaves it frozen for too long, the thawer writes to that
//! file. What is sent waits in the socket, also for a thawer that gets no processor. It signals nobody.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use crate::agent::brake::releaser::ignore_signals;
use crate::kill::thaw;

/// The hidden subcommand by which the agent starts it.
pub(crate) const SUBCOMMAND: &str = "__thawer";

/// It takes the agent milliseconds to find and signal who is in a cgroup. One that takes this long hangs.
const LONGEST: Duration = Duration::from_secs(10);

/// What the agent sends, one byte a packet.
const HOLD: u8 = b'h';
const THAWED: u8 = b't';

/// The agent's handle. Dropped, it lets the thawer end.
#[derive(Debug)]
pub(in crate::agent) struct Thawer {
    child: Child,
    /// Its other end is the thawer's standard input.
    socket: Option<OwnedFd>,
}

impl Thawer {
    /// Starts the process.
    pub(super) fn start() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(SUBCOMMAND).stdin(Stdio::from(theirs)).stdout(Stdio::null()).current_dir("/");
        // SAFETY: between fork and exec only setsid(2) is called: async-signal-safe, no allocation, no lock.
        unsafe {
            // Not ended by the terminal's signals to the agent's group.
            command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
        }
        Ok(Self { child: command.spawn()?, socket: Some(ours) })
    }

    /// Whether it is there still.
    pub(super) fn works(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// From now on it thaws by this file, a cgroup's `freezer.state`, if need be. An error: it does not.
    pub(super) fn hold(&self, state: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        let files = [state];
        with.push(SendAncillaryMessage::ScmRights(&files));
        self.send(HOLD, &mut with)
    }

    /// The agent thawed it.
    pub(super) fn thawed(&self) {
        // Not told, it thaws what is thawed.
        let _ = self.send(THAWED, &mut SendAncillaryBuffer::default());
    }

    fn send(&self, what: u8, with: &mut SendAncillaryBuffer<'_, '_, '_>) -> io::Result<()> {
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(socket, &[IoSlice::new(&[what])], with, flags)?;
        Ok(())
    }
}

impl Drop for Thawer {
    fn drop(&mut self) {
        self.socket = None;
        // Some milliseconds; an error says that it was reaped.
        let _ = self.child.wait();
    }
}

/// What came through the socket.
enum Heard {
    Hold(OwnedFd),
    Thawed,
    /// Nothing within the time.
    Silence,
    /// The agent is gone.
    End,
}

/// Until the agent is gone. Standard input is the socket.
///
/// # Errors
/// It is none.
pub(crate) fn watch() -> Result<(), Box<dyn std::error::Error>> {
    ignore_signals()?;
    // Refused without the privilege: then it is as likely a victim of the kernel as others.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    let _ = rustix::thread::set_name(c"monitor-thawer");
    let socket = std::io::stdin();
    let mut held: Option<OwnedFd> = None;
    loop {
        match hear(socket.as_fd(), held.is_some().then_some(LONGEST))? {
            // The one before was not thawed.
            Heard::Hold(state) => release(held.replace(state)),
            Heard::Thawed => held = None,
            Heard::Silence => release(held.take()),
            Heard::End => {
                release(held);
                return Ok(());
            }
        }
    }
}

/// An error says that the cgroup is gone: nobody is in it.
fn release(held: Option<OwnedFd>) {
    let _ = held.map(|state| thaw(state.as_fd()));
}

fn hear(socket: BorrowedFd<'_>, longest: Option<Duration>) -> Result<Heard, Errno> {
    let time = longest.and_then(|longest| Timespec::try_from(longest).ok());
    match poll(&mut [PollFd::new(&socket, PollFlags::IN)], time.as_ref()) {
        Ok(0) => return Ok(Heard::Silence),
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let length = match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut with, flags) {
        Ok(message) => message.bytes,
        // Killed in the middle of something.
        Err(Errno::CONNRESET) => 0,
        Err(error) => return Err(error),
    };
    let mut file = None;
    for message in with.drain() {
        if let RecvAncillaryMessage::ScmRights(mut files) = message {
            file = files.next();
        }
    }
    Ok(match (length, byte[0], file) {
        (0, _, _) => Heard::End,
        (_, HOLD, Some(state)) => Heard::Hold(state),
        (_, _, _) => Heard::Thawed,
    })
}
