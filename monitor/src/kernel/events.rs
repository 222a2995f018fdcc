//! What the programs push, and what they could not: the ring buffer and the losses, which one component owns.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use aya::maps::{MapData, RingBuf};

use super::drops::DropMap;

/// See the module.
pub struct Events {
    /// `EVENTS` of the object.
    pub ring: RingBuf<MapData>,
    /// `DROPS` of the object.
    pub drops: DropMap,
}

impl Events {
    /// A descriptor of the ring buffer, readable when there are records.
    ///
    /// # Errors
    /// If it can't be duplicated.
    pub fn fd(&self) -> io::Result<Arc<OwnedFd>> {
        self.ring.as_fd().try_clone_to_owned().map(Arc::new)
    }
}
