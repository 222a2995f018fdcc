//! Which file a process runs, as the kernel knows it: no server of a network file system, or of a user's own, is asked for anything.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, makedev, statx};

/// Device and inode.
pub(crate) type File = (u64, u64);

/// The file that a link in PROCFS leads to.
pub(crate) fn file(link: &Path) -> Option<File> {
    of(link).map(|(file, _)| file)
}

/// The same with its owner.
pub(crate) fn of(link: &Path) -> Option<(File, u32)> {
    let found = known(CWD, link, AtFlags::empty())?;
    Some((number(&found), found.stx_uid))
}

/// What is known of a file.
pub(crate) fn known(at: impl AsFd, path: &Path, flags: AtFlags) -> Option<Statx> {
    statx(at, path, flags | AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS).ok()
}

/// The file itself.
pub(crate) fn number(found: &Statx) -> File {
    (makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino)
}
