//! A mount namespace of one's own, in which a raylet can be given files that nobody else sees.

use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// It takes CAP_SYS_ADMIN.
    #[error("a mount namespace of its own: {0}")]
    Refused(io::Error),
    /// Its mounts must not spread.
    #[error("cannot keep its mounts to itself: {0}")]
    Propagation(io::Error),
}

/// Moves this process, which has one thread, into a new mount namespace. What the machine mounts later is seen in it; what is
/// mounted in it is not seen by others.
///
/// # Errors
/// The kernel refuses.
pub fn own_mount_namespace() -> Result<(), NamespaceError> {
    // SAFETY: this process has one thread; nothing else uses its mount namespace.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .map_err(|error| NamespaceError::Refused(error.into()))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| NamespaceError::Propagation(error.into()))
}
