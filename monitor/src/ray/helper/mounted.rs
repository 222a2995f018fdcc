//! What the helper knows of a mount namespace in which files of the agent's are in place.

use std::os::fd::OwnedFd;

use crate::kill::Process;
use crate::ray::feed::Kind;
use crate::units::Bytes;

/// A namespace in which files of ours are in place.
pub(super) struct Mounted {
    /// The raylets that read them, and since when they run.
    pub(super) raylets: Vec<(Process, u64)>,
    pub(super) id: u64,
    pub(super) namespace: OwnedFd,
    pub(super) root: OwnedFd,
    pub(super) files: Files,
    pub(super) kind: Kind,
    pub(super) total: Bytes,
}

/// The files, open to write. Locked as long as this process lives.
pub(super) struct Files {
    pub(super) usage: OwnedFd,
    pub(super) stat: OwnedFd,
}
