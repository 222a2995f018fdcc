//! `process_mrelease(2)`, which neither rustix nor nix has: the one wrapper.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The memory is given back.
    Done,
    /// The process has no memory any more: it is through with its exit.
    AlreadyGone,
    /// This kernel (before 5.15) has no such call.
    Unsupported,
    /// The process shares its memory with one that is not dying, or was not killed; or the kernel gave up.
    Refused(Errno),
}

/// How often it is tried while the kernel says "not now".
const TRIES: u32 = 50;

/// The time between two tries.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// Takes the memory of a process that was sent SIGKILL. Blocks for about 48 ms a GiB. Only after SIGKILL: of a
/// process that is not dying the kernel refuses it with EINVAL (mm/oom_kill.c, kernel 6.18).
#[must_use]
pub fn process_mrelease(process: BorrowedFd<'_>) -> Released {
    for _ in 0..TRIES {
        // SAFETY: takes a descriptor, valid for the call, and no flags; touches no memory of ours.
        let status = unsafe { libc::syscall(libc::SYS_process_mrelease, process.as_raw_fd(), 0) };
        if status == 0 {
            return Released::Done;
        }
        match Errno::from_io_error(&std::io::Error::last_os_error()) {
            // The kernel could not take the lock in time, or another process still uses the pages: try again, as the
            // manual says, but not for ever, because others wait.
            Some(Errno::AGAIN | Errno::INTR) => std::thread::sleep(PAUSE),
            Some(Errno::SRCH) => return Released::AlreadyGone,
            Some(Errno::NOSYS) => return Released::Unsupported,
            Some(error) => return Released::Refused(error),
            None => return Released::Unsupported,
        }
    }
    Released::Refused(Errno::AGAIN)
}
