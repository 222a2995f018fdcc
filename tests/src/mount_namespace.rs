//! Mounts that only a test's thread and what that starts can see. Nothing of them is left when the thread ends, however it does.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs `test` on a thread with a mount namespace of its own. `None`: the kernel or the container allows none.
///
/// # Errors
/// It cannot be made for another reason, or `test` fails.
///
/// # Panics
/// As `test` does.
pub fn with<T: Send>(test: impl FnOnce() -> Result<T> + Send) -> Result<Option<T>> {
    let work = || {
        // SAFETY: the thread is this function's own, and gives up no descriptor table: only its root, its working directory
        // and its mounts are its own from here on.
        match unsafe { unshare_unsafe(UnshareFlags::NEWNS) } {
            Ok(()) => {}
            Err(Errno::PERM | Errno::INVAL | Errno::NOSYS) => return Ok(None),
            Err(error) => return Err(error).context("a mount namespace"),
        }
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).context("keeping mounts to itself")?;
        test().map(Some)
    };
    let outcome = std::thread::scope(|scope| scope.spawn(work).join());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
