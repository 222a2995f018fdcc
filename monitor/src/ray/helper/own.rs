//! What the helper has to itself: its signals, a file system that no other process has a path to, and the right to ask
//! which user namespace owns a namespace.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use crate::ray::view::SOURCE;

/// Where the helper keeps the files, in a mount namespace that is its own.
const FOLDER: &str = "/tmp";

/// A descriptor that becomes readable when the helper is to end, of a service; one of an agent ends with that alone: what
/// a service manager or a shell sends to all processes of the agent must not end it before it has cleaned up.
pub(super) fn end_signals(service: bool) -> io::Result<Option<SignalFd>> {
    let ends = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
    for number in ends.into_iter().chain([Signal::SIGPIPE]) {
        // SAFETY: no handler is installed: the signal is ignored.
        unsafe { signal(number, SigHandler::SigIgn)? };
    }
    if !service {
        return Ok(None);
    }
    let mut set = SigSet::empty();
    for number in ends {
        // An ignored signal would not be kept for the descriptor.
        // SAFETY: no handler is installed.
        unsafe { signal(number, SigHandler::SigDfl)? };
        set.add(number);
    }
    set.thread_block()?;
    Ok(Some(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
}

/// A file system in memory in a mount namespace of this process's own: no other process has a path to it.
pub(super) fn own_folder() -> io::Result<OwnedFd> {
    // SAFETY: this process has one thread, which shares its mount namespace with nobody afterwards.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(SOURCE, FOLDER, "tmpfs", flags, Some(c"size=1m,mode=0755"))?;
    Ok(rustix::fs::open(FOLDER, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The user namespace that owns another namespace (ioctl_ns(2)).
pub(super) fn owner_of(namespace: &OwnedFd) -> io::Result<u64> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: the request takes no pointer; it returns a descriptor.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it, and nobody else has it.
    let owner = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(rustix::fs::fstat(&owner)?.st_ino)
}
