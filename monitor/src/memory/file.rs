//! Kernel files that are read again and again: an open descriptor and a reusable buffer.
//! Knows nothing about what is in them.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::{CAPACITY, Defect, Flaw, ReadError};

/// Where a file's text lands; one serves any number of files in turn.
#[derive(Debug)]
pub(crate) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(crate) fn new() -> Self {
        // One byte more than is accepted, so that a text of exactly CAPACITY can be told from a longer one.
        Self(vec![0; CAPACITY + 1].into_boxed_slice())
    }
}

/// A directory held open, so that its files cannot change to those of a later one with the same name.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: Arc<Path>,
}

impl Dir {
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, ReadError> {
        let path: Arc<Path> = path.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&*path, flags, Mode::empty()) {
            Ok(fd) => Ok(Arc::new(Self { fd, path })),
            Err(errno) => Err(ReadError::from_errno(&path, errno)),
        }
    }

    /// The inode number, which for a cgroup's directory is the kernel's id of the cgroup (`cgroup_ino`).
    pub(crate) fn inode(&self) -> Result<u64, ReadError> {
        self.stat().map(|stat| stat.st_ino)
    }

    fn stat(&self) -> Result<Stat, ReadError> {
        rustix::fs::fstat(&self.fd).map_err(|errno| ReadError::from_errno(&self.path, errno))
    }

    /// Whether the path no longer leads to this directory: it was removed, or removed and made again.
    fn is_removed(&self) -> bool {
        match (self.stat(), rustix::fs::stat(&*self.path)) {
            (Ok(held), Ok(found)) => (held.st_dev, held.st_ino) != (found.st_dev, found.st_ino),
            (Ok(_), Err(errno)) => errno == Errno::NOENT,
            (Err(_), _) => false,
        }
    }
}

/// One file of a kernel file system, opened once. One that could not be opened is tried again at each read:
/// a domain that was unknown becomes known when its cause has gone.
#[derive(Debug)]
pub(crate) struct KernelFile {
    dir: Arc<Dir>,
    name: &'static str,
    path: Arc<Path>,
    fd: Option<OwnedFd>,
}

impl KernelFile {
    /// The file `name` in `dir`. It need not exist; the first read that needs it opens it.
    pub(crate) fn new(dir: &Arc<Dir>, name: &'static str) -> Self {
        Self { dir: Arc::clone(dir), name, path: dir.path.join(name).into(), fd: None }
    }

    /// Opens it if it is not open: missing, denied and so on as for a read.
    pub(crate) fn open(&mut self) -> Result<&OwnedFd, ReadError> {
        match self.fd {
            Some(ref fd) => Ok(fd),
            None => {
                let fd = self.open_now()?;
                Ok(self.fd.insert(fd))
            }
        }
    }

    fn open_now(&self) -> Result<OwnedFd, ReadError> {
        // NONBLOCK: should the path be a pipe, it must not hang the agent; kernel files ignore it.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        rustix::fs::openat(&self.dir.fd, self.name, flags, Mode::empty()).map_err(|errno| {
            if errno == Errno::NOENT && self.dir.is_removed() {
                return ReadError::Gone { path: Arc::clone(&self.path) };
            }
            ReadError::from_errno(&self.path, errno)
        })
    }

    /// The whole text as it is now, not empty. No heap allocation.
    fn read<'b>(&mut self, buffer: &'b mut Buffer) -> Result<&'b [u8], ReadError> {
        self.open()?;
        let Some(fd) = self.fd.as_ref() else { return Err(self.flawed(Defect::Empty)) };
        let mut length = 0;
        // The kernel gives these files whole in one read that ends in a newline; only a text that does not
        // is worth the second call that tells a short read from the end.
        loop {
            match rustix::io::pread(fd, &mut buffer.0[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => {
                    length += count;
                    if length > CAPACITY {
                        return Err(self.flawed(Defect::TooLong));
                    }
                    if buffer.0[length - 1] == b'\n' {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(ReadError::from_errno(&self.path, errno)),
            }
        }
        if length == 0 {
            return Err(self.flawed(Defect::Empty));
        }
        Ok(&buffer.0[..length])
    }

    /// Reads it and parses the text.
    pub(crate) fn read_as<T>(
        &mut self,
        buffer: &mut Buffer,
        parse: impl FnOnce(&[u8]) -> Result<T, Flaw>,
    ) -> Result<T, ReadError> {
        let result = self.read(buffer).and_then(|text| parse(text).map_err(|flaw| flaw.at(&self.path)));
        if result.is_err() {
            // Opened anew for the next reading: what is mounted or served there later is another file.
            self.fd = None;
        }
        result
    }

    /// The error for a flaw found in this file's text.
    pub(crate) fn flawed(&self, flaw: impl Into<Flaw>) -> ReadError {
        flaw.into().at(&self.path)
    }
}
