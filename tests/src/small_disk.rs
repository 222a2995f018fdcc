//! A disk of a test's own that is small, and read-only when the test says so: a tmpfs that only the test's thread and
//! what that starts can see. Nothing of it is left when the thread ends, however it does.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::TempDir;

use crate::mount_namespace;

/// What fills it.
const BALLAST: &str = "ballast";

/// See the module.
#[derive(Debug)]
pub struct SmallDisk {
    dir: TempDir,
    size: String,
}

impl SmallDisk {
    /// Runs `test` with a disk of so many KiB, on a thread with a mount namespace of its own. `None`: the kernel or the
    /// container allows none.
    ///
    /// # Errors
    /// It cannot be mounted for another reason.
    ///
    /// # Panics
    /// As `test` does.
    pub fn with<T: Send>(kib: u32, test: impl FnOnce(&Self) -> T + Send) -> Result<Option<T>> {
        mount_namespace::with(|| Ok(test(&Self::mount(kib)?)))
    }

    fn mount(kib: u32) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("monitor-test-disk-").tempdir().context("a directory")?;
        let size = format!("size={kib}k,mode=0700");
        let options = std::ffi::CString::new(size.clone())?;
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), options.as_c_str()).context("a tmpfs")?;
        Ok(Self { dir, size })
    }

    /// Where it is mounted, for this thread and its children.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join(BALLAST)
    }

    /// Leaves no byte free.
    ///
    /// # Errors
    /// It fails otherwise than by being full.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::options().append(true).create(true).open(self.ballast())?;
        loop {
            match file.write(&[b'x'; 4096]) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => return Ok(()),
                Err(error) => return Err(error).context("filling the disk"),
            }
        }
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// It is not full, or read-only.
    pub fn make_room(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("making room")
    }

    /// From now on nothing can be written, or everything again.
    ///
    /// # Errors
    /// A file on it is open for writing, which the kernel does not take away.
    pub fn read_only(&self, read_only: bool) -> Result<()> {
        let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        mount_remount(self.path(), flags, self.size.as_str()).context("mounting it anew")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Otherwise its directory cannot be removed. Who has a file open there keeps it until then.
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
