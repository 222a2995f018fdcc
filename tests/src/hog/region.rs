//! Memory of a chosen kind, mapped but not touched. Owns the mappings and the `unsafe` that they need.

use std::fs::File;
use std::path::Path;
use std::ptr::NonNull;

use anyhow::{Context, Result};
use rustix::fs::{MemfdFlags, memfd_create, statfs};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::Kind;

/// The kernel's 4 KiB: what is charged at once when a byte in it is written.
pub const PAGE: usize = 4096;

/// Whether files in `dir` lie on a disk: only then are their pages page cache that the kernel can drop.
///
/// # Errors
/// There is no such directory.
pub fn is_on_disk(dir: &Path) -> std::io::Result<bool> {
    // include/uapi/linux/magic.h
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    let kind = statfs(dir)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| !IN_MEMORY.contains(&kind)))
}

/// A mapping, `len` bytes from `start`, writable, of this process only or shared with nobody else; or a file in memory
/// that is written to and never mapped.
#[derive(Debug)]
pub struct Region {
    start: NonNull<u8>,
    len: usize,
    written: Option<File>,
}

/// So many pages are written at once.
const CHUNK: usize = 16;

impl Region {
    /// Maps `len` bytes, a multiple of [`PAGE`], more than 0; a file in `dir`.
    ///
    /// # Errors
    /// The kernel refuses the mapping or the file.
    pub fn map(kind: Kind, len: usize, dir: &Path) -> Result<Self> {
        match kind {
            Kind::Anon => Self::private(len, Advice::LinuxNoHugepage),
            Kind::Huge => Self::private(len, Advice::LinuxHugepage),
            Kind::Shmem => Self::shared(
                File::from(memfd_create("hog", MemfdFlags::CLOEXEC).context("memfd_create")?),
                len,
            ),
            Kind::Written => {
                let file = File::from(memfd_create("hog", MemfdFlags::CLOEXEC).context("memfd_create")?);
                Ok(Self { start: NonNull::dangling(), len, written: Some(file) })
            }
            Kind::Shared => {
                // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
                let start = unsafe {
                    let protection = ProtFlags::READ | ProtFlags::WRITE;
                    mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::SHARED)
                };
                Self::new(start.context("mapping memory")?, len)
            }
            Kind::File => {
                let file =
                    tempfile::tempfile_in(dir).with_context(|| format!("a file in {}", dir.display()))?;
                Self::shared(file, len)
            }
        }
    }

    fn private(len: usize, advice: Advice) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .context("mapping memory")?;
        let region = Self::new(start, len)?;
        // SAFETY: the range is the mapping just made; the advice changes the size of its pages, not its contents.
        // A kernel without huge pages refuses it (EINVAL): then they are small anyway.
        let _ = unsafe { madvise(start, len, advice) };
        Ok(region)
    }

    fn shared(file: File, len: usize) -> Result<Self> {
        file.set_len(len as u64).context("sizing the file")?;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; the file is nameless, so that
        // nobody else can shorten it under the mapping.
        let start = unsafe {
            mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &file, 0)
        }
        .context("mapping the file")?;
        Self::new(start, len)
    }

    fn new(start: *mut std::ffi::c_void, len: usize) -> Result<Self> {
        Ok(Self { start: NonNull::new(start.cast()).context("mmap gave null")?, len, written: None })
    }

    /// How many there are.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.len / PAGE
    }

    /// Writes to one page, counted from 0. Beyond the end nothing happens.
    pub fn touch(&mut self, page: usize) {
        use std::os::unix::fs::FileExt as _;
        if let Some(file) = &self.written {
            let pages = CHUNK.min(self.pages().saturating_sub(page));
            if page.is_multiple_of(CHUNK) {
                // What cannot be written is not there: the program that waits for it says so.
                let _ = file.write_all_at(&[1; CHUNK * PAGE][..pages * PAGE], (page * PAGE) as u64);
            }
        } else if page < self.pages() {
            // SAFETY: inside the mapping, which lives as long as `self` and is writable; a byte needs no alignment;
            // `&mut self`: nobody else writes. Volatile: the write is the point.
            unsafe { self.start.add(page * PAGE).write_volatile(1) };
        }
    }
}

// SAFETY: the mapping belongs to this value alone and is not tied to a thread.
unsafe impl Send for Region {}

impl Drop for Region {
    fn drop(&mut self) {
        if self.written.is_some() {
            return;
        }
        // SAFETY: the mapping is ours and whole, and nothing borrows from it: `touch` hands out no reference.
        // It fails only for a range that is not a mapping.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}
