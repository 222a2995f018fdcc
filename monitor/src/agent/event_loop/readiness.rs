//! Waiting for descriptors on the runtime: the one place that calls tokio's constructor.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that something else owns too; it stays open as long as this lives.
#[derive(Debug)]
pub(in crate::agent) struct Shared(Arc<OwnedFd>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Makes a descriptor's readability something to wait for.
///
/// # Errors
/// If the runtime's poller refuses it (out of memory or descriptors).
pub(in crate::agent) fn readable(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Shared>> {
    // SAFETY: `Shared` always gives the same descriptor, which the `Arc` in it keeps open.
    unsafe { AsyncFd::register_with_interest(Shared(fd), Interest::READABLE) }.map_err(Into::into)
}
