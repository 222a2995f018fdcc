//! Which processes open and close a file, by pid: other readers of it are told from the raylet. Made by the helper,
//! which has the privilege for that; read by the agent.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use crate::units::Pid;

/// The length of an event without more information (`struct fanotify_event_metadata`).
const EVENT: usize = 24;

/// What a process did with the file since its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) pid: Pid,
    pub(super) opened: bool,
    pub(super) closed: bool,
}

/// Watches a file.
pub(super) fn watch(file: impl AsFd) -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLOEXEC | libc::FAN_NONBLOCK | libc::FAN_CLASS_NOTIF;
    let event_flags = u32::try_from(libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE).unwrap_or(0);
    // SAFETY: no pointer is passed.
    let fd = unsafe { libc::fanotify_init(flags, event_flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it, and nobody else has it.
    let group = unsafe { OwnedFd::from_raw_fd(fd) };
    let mask = libc::FAN_OPEN | libc::FAN_CLOSE_NOWRITE;
    let file = file.as_fd().as_raw_fd();
    // SAFETY: a null path means the file of the descriptor; both descriptors are open.
    let marked =
        unsafe { libc::fanotify_mark(group.as_raw_fd(), libc::FAN_MARK_ADD, mask, file, std::ptr::null()) };
    if marked < 0 { Err(io::Error::last_os_error()) } else { Ok(group) }
}

/// What happened since the last look.
pub(super) fn events(group: &OwnedFd) -> Vec<Access> {
    let mut all = Vec::new();
    let mut buffer = [0; 64 * EVENT];
    while let Ok(read @ 1..) = rustix::io::read(group, &mut buffer) {
        all.extend(parse(&buffer[..read], |fd| {
            // SAFETY: the kernel opened it for this event, and nobody else knows of it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }));
    }
    all
}

/// `close` gets each event's descriptor.
fn parse(mut bytes: &[u8], close: impl Fn(i32)) -> Vec<Access> {
    let mut all = Vec::new();
    while let Some(event) = bytes.first_chunk::<EVENT>() {
        let word = |at: usize| event[at..at + 4].try_into().map_or(0, i32::from_ne_bytes);
        let length = usize::try_from(word(0)).unwrap_or(0).max(EVENT);
        let mask = event[8..16].try_into().map_or(0, u64::from_ne_bytes);
        let (fd, pid) = (word(16), word(20));
        if fd >= 0 {
            close(fd);
        }
        all.push(Access {
            pid: Pid(u32::try_from(pid).unwrap_or(0)),
            opened: mask & libc::FAN_OPEN != 0,
            closed: mask & libc::FAN_CLOSE_NOWRITE != 0,
        });
        bytes = bytes.get(length..).unwrap_or_default();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_and_their_descriptors_closed() {
        let mut bytes = Vec::new();
        for (mask, fd, pid) in [(libc::FAN_OPEN, 5, 42), (libc::FAN_OPEN | libc::FAN_CLOSE_NOWRITE, -1, 43)] {
            bytes.extend(24_u32.to_ne_bytes());
            bytes.extend([3, 0, 24, 0]);
            bytes.extend(mask.to_ne_bytes());
            bytes.extend(i32::to_ne_bytes(fd));
            bytes.extend(i32::to_ne_bytes(pid));
        }
        let closed = std::cell::RefCell::new(Vec::new());
        let all = parse(&bytes, |fd| closed.borrow_mut().push(fd));
        assert_eq!(closed.into_inner(), [5]);
        let access = |pid, opened, closed| Access { pid: Pid(pid), opened, closed };
        assert_eq!(all, [access(42, true, false), access(43, true, true)]);
        assert_eq!(parse(&bytes[..30], |_| {}).len(), 1, "half an event is none");
    }
}
